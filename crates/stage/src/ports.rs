//! Ports inside: a connection to one, made here because only here is this network, and the list of those that somebody
//! listens on. The ports that lead to the broker belong to nobody inside: their listeners hold every address.

use crate::sys::{At, Outcome, fault};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// What is read of one table of sockets: about 7,000 of them.
const TABLE_BYTES: u64 = 1024 * 1024;
const LISTEN: &str = "0A";

/// A socket connected to the port, on 127.0.0.1 or else on ::1. Under way still when the listener's queue is full; whoever
/// takes it waits.
pub(crate) fn open(port: u16) -> Outcome<OwnedFd> {
    let addresses: [SocketAddr; 2] = [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()];
    let path = format!("127.0.0.1:{port}");
    for address in addresses {
        match open_at(address) {
            Err(Errno::CONNREFUSED | Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL | Errno::NETUNREACH) => {}
            other => return other.at("connect", &path),
        }
    }
    Err(fault("connect", &path, libc::ECONNREFUSED))
}

fn open_at(address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &address) {
        Ok(()) => return Ok(socket),
        Err(Errno::INPROGRESS) => {}
        Err(errno) => return Err(errno),
    }
    // Loopback answers within the call; only the result is read later.
    let mut polled = [PollFd::new(&socket, PollFlags::OUT)];
    if poll(&mut polled, Some(&Timespec::default()))? > 0 {
        socket_error(&socket)??;
    }
    Ok(socket)
}

/// Ports that `open` reaches, in ascending order, without those in `own`.
pub(crate) fn listening(own: &BTreeSet<u16>) -> Outcome<Vec<u16>> {
    let mut ports = BTreeSet::new();
    for path in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let mut table = String::new();
        match File::open(path) {
            Ok(file) => drop(file.take(TABLE_BYTES).read_to_string(&mut table).at("read", path)?),
            // A kernel without IPv6.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).at("open", path),
        }
        ports.extend(table.lines().filter_map(listener));
    }
    Ok(ports.difference(own).copied().collect())
}

/// `sl local_address rem_address st …`, addresses as hexadecimal words in the machine's order.
fn listener(line: &str) -> Option<u16> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    let is_listening = fields.nth(1)? == LISTEN;
    (is_listening && is_reached(address)).then(|| u16::from_str_radix(port, 16).ok())?
}

/// Every address, or that of this host, in either family.
fn is_reached(address: &str) -> bool {
    let words: Option<Vec<u8>> = (0..address.len() / 8)
        .map(|at| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok())
        .map(|word| word.map(u32::to_ne_bytes))
        .collect::<Option<Vec<_>>>()
        .map(|words| words.concat());
    let Some(bytes) = words else { return false };
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes.as_slice()) {
        let address = Ipv4Addr::from(bytes);
        return address.is_unspecified() || address == Ipv4Addr::LOCALHOST;
    }
    let Ok(bytes) = <[u8; 16]>::try_from(bytes.as_slice()) else { return false };
    let address = Ipv6Addr::from(bytes);
    address.is_unspecified()
        || address.is_loopback()
        || address.to_ipv4_mapped().is_some_and(|v4| v4 == Ipv4Addr::LOCALHOST || v4.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listeners_that_a_connection_reaches_are_listed() {
        let lines = [
            (
                "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1",
                Some(8080),
            ),
            (
                "   1: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2",
                Some(3000),
            ),
            (
                "   2: 0500000A:0BB9 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3",
                None,
            ),
            (
                "   3: 0100007F:0BB8 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4",
                None,
            ),
            (
                "   0: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0",
                Some(80),
            ),
            (
                "   0: 00000000000000000000000000000000:1388 00000000000000000000000000000000:0000 0A 0:0",
                Some(5000),
            ),
            (
                "   0: 0000000000000000FFFF00000100007F:1389 00000000000000000000000000000000:0000 0A 0:0",
                Some(5001),
            ),
            (
                "   0: B80D0120000000000000000001000000:1388 00000000000000000000000000000000:0000 0A 0:0",
                None,
            ),
            ("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid", None),
            ("é: éééé:0050 x 0A", None),
        ];
        for (line, port) in lines {
            assert_eq!(listener(line), port, "{line}");
        }
    }
}

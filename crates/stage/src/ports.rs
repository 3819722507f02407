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
    // The tables in /proc cost a walk over the whole machine's connections: 18 ms here.
    let ports = asked().or_else(|_| read())?;
    Ok(ports.difference(own).copied().collect())
}

/// By sock_diag(7), which looks at listeners alone.
fn asked() -> rustix::io::Result<BTreeSet<u16>> {
    let protocol = Some(rustix::net::netlink::SOCK_DIAG);
    let netlink = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    let mut ports = BTreeSet::new();
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        rustix::io::write(&netlink, &diag_request(family))?;
        let mut answer = vec![0; 32 * 1024];
        for _ in 0..MAX_ANSWERS {
            let length = rustix::io::read(&netlink, &mut *answer)?;
            if take_listeners(&answer[..length], &mut ports)? {
                break;
            }
        }
    }
    Ok(ports)
}

const MAX_ANSWERS: usize = 64;
const NETLINK_HEADER: usize = 16;

/// A netlink header, and `struct inet_diag_req_v2`: every TCP socket of a family that listens.
fn diag_request(family: u8) -> Vec<u8> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const REQUEST_DUMP: u16 = 0x1 | 0x300;
    const LISTENING: u32 = 1 << 10;
    const SOCKET_ID: usize = 48;
    let length = NETLINK_HEADER + 8 + SOCKET_ID;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST_DUMP.to_ne_bytes());
    bytes.extend([0; 8]); // sequence, port
    bytes.extend([family, libc::IPPROTO_TCP as u8, 0, 0]);
    bytes.extend(LISTENING.to_ne_bytes());
    bytes.extend([0; SOCKET_ID]);
    bytes
}

/// One packet of `struct inet_diag_msg`s. True when it was the last.
fn take_listeners(packet: &[u8], ports: &mut BTreeSet<u16>) -> rustix::io::Result<bool> {
    const ERROR: u16 = 2;
    const DONE: u16 = 3;
    let mut rest = packet;
    while let Some(header) = rest.get(..NETLINK_HEADER) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let body = rest.get(NETLINK_HEADER..length).ok_or(Errno::PROTO)?;
        match u16::from_ne_bytes([header[4], header[5]]) {
            DONE => return Ok(true),
            ERROR => return Err(Errno::OPNOTSUPP),
            _ => ports.extend(diag_listener(body)),
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// Family, state, timer, retransmissions; source port, destination port, source address (four words), ….
fn diag_listener(body: &[u8]) -> Option<u16> {
    let port = u16::from_be_bytes([*body.get(4)?, *body.get(5)?]);
    let length = if i32::from(*body.first()?) == libc::AF_INET { 4 } else { 16 };
    is_reached(body.get(8..8 + length)?).then_some(port)
}

/// From /proc, where the kernel has no socket diagnosis.
fn read() -> Outcome<BTreeSet<u16>> {
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
    Ok(ports)
}

/// `sl local_address rem_address st …`, addresses as hexadecimal words in the machine's order.
fn listener(line: &str) -> Option<u16> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    let is_listening = fields.nth(1)? == LISTEN;
    let words =
        (0..address.len() / 8).map(|at| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok());
    let bytes = words.map(|word| word.map(u32::to_ne_bytes)).collect::<Option<Vec<_>>>()?.concat();
    (is_listening && is_reached(&bytes)).then(|| u16::from_str_radix(port, 16).ok())?
}

/// Every address, or that of this host, in either family.
fn is_reached(address: &[u8]) -> bool {
    if let Ok(bytes) = <[u8; 4]>::try_from(address) {
        let address = Ipv4Addr::from(bytes);
        return address.is_unspecified() || address == Ipv4Addr::LOCALHOST;
    }
    let Ok(bytes) = <[u8; 16]>::try_from(address) else { return false };
    let address = Ipv6Addr::from(bytes);
    address.is_unspecified()
        || address.is_loopback()
        || address.to_ipv4_mapped().is_some_and(|v4| v4 == Ipv4Addr::LOCALHOST || v4.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_asking_name_the_same_listeners() {
        let listeners = ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "127.0.0.7:0"];
        let listeners = listeners.map(|address| std::net::TcpListener::bind(address).unwrap());
        let [local, any, local6, elsewhere] =
            listeners.each_ref().map(|one| one.local_addr().unwrap().port());
        let (asked, read) = (asked().unwrap(), read().unwrap());
        for ports in [&asked, &read] {
            assert!([local, any, local6].iter().all(|port| ports.contains(port)), "{ports:?}");
            assert!(!ports.contains(&elsewhere));
        }
    }

    #[test]
    fn a_packet_that_lies_about_its_length_is_refused() {
        let mut packet = diag_request(libc::AF_INET as u8);
        packet[0] = 255;
        assert!(take_listeners(&packet, &mut BTreeSet::new()).is_err());
        assert!(take_listeners(&[0; 16], &mut BTreeSet::new()).is_err());
    }

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

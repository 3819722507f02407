//! The network inside: `lo` alone, on which every address is local (AnyIP), and listeners on the ports that lead out.

use crate::sys::{At, Outcome};
use greenroom_stage::protocol::{EGRESS_TCP_PORTS, EGRESS_UDP_PORT, Gap, Listener, Transport};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

const LO_INDEX: u32 = 1;
const BACKLOG: i32 = 128;

pub(crate) fn open(gaps: &mut Vec<Gap>) -> Outcome<Vec<(Listener, OwnedFd)>> {
    let netlink = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .at("socket", "rtnetlink")?;
    request(&netlink, &lo_up()).at("rtnetlink", "lo up")?;
    request(&netlink, &local_route(libc::AF_INET as u8)).at("rtnetlink", "local 0.0.0.0/0")?;
    let has_v6 = request(&netlink, &local_route(libc::AF_INET6 as u8)).is_ok();
    if !has_v6 {
        gaps.push(Gap { name: "ipv6".into(), detail: "no IPv6 inside sandboxes on this kernel".into() });
    }
    let mut listeners = Vec::new();
    for is_v6 in [false, true].into_iter().filter(|is_v6| has_v6 || !is_v6) {
        for port in EGRESS_TCP_PORTS {
            listeners.push(open_listener(Listener { transport: Transport::Tcp, is_v6, port })?);
        }
        listeners.push(open_listener(Listener { transport: Transport::Udp, is_v6, port: EGRESS_UDP_PORT })?);
    }
    Ok(listeners)
}

/// More listeners of that kind, on both families where both are there.
pub(crate) fn open_ports(ports: &[u16]) -> Outcome<Vec<(Listener, OwnedFd)>> {
    let mut listeners = Vec::new();
    for port in ports {
        listeners.push(open_listener(Listener { transport: Transport::Tcp, is_v6: false, port: *port })?);
        let v6 = Listener { transport: Transport::Tcp, is_v6: true, port: *port };
        match open_listener(v6) {
            Ok(opened) => listeners.push(opened),
            Err(fault) if fault.errno == libc::EAFNOSUPPORT => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(listeners)
}

fn open_listener(listener: Listener) -> Outcome<(Listener, OwnedFd)> {
    let name = format!("{listener:?}");
    let family = if listener.is_v6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let kind = if listener.transport == Transport::Tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, kind, flags, None).at("socket", &name)?;
    let any: SocketAddr = if listener.is_v6 {
        rustix::net::sockopt::set_ipv6_v6only(&socket, true).at("setsockopt", &name)?;
        (Ipv6Addr::UNSPECIFIED, listener.port).into()
    } else {
        (Ipv4Addr::UNSPECIFIED, listener.port).into()
    };
    bind(&socket, &any).at("bind", &name)?;
    match listener.transport {
        Transport::Tcp => listen(&socket, BACKLOG).at("listen", &name)?,
        Transport::Udp => report_destination(&socket, listener.is_v6).at("setsockopt", &name)?,
    }
    Ok((listener, socket))
}

/// Each datagram then says which address it was sent to, and answers may leave from an address no interface has.
fn report_destination(socket: &OwnedFd, is_v6: bool) -> rustix::io::Result<()> {
    if is_v6 {
        switch_on(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)?;
        return switch_on(socket, libc::IPPROTO_IPV6, libc::IPV6_FREEBIND);
    }
    switch_on(socket, libc::IPPROTO_IP, libc::IP_PKTINFO)?;
    switch_on(socket, libc::IPPROTO_IP, libc::IP_FREEBIND)
}

fn switch_on(socket: &OwnedFd, level: libc::c_int, option: libc::c_int) -> rustix::io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: value and size describe one live integer.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(Errno::INVAL) }
}

const NEW_LINK: u16 = 16;
const NEW_ROUTE: u16 = 24;
const REQUEST_WITH_ACK: u16 = 0x1 | 0x4;
const CREATE: u16 = 0x400;

fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + payload.len());
    bytes.extend(((16 + payload.len()) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0u8; 8]); // sequence, port
    bytes.extend(payload);
    bytes
}

fn lo_up() -> Vec<u8> {
    let mut payload = vec![0u8; 4]; // family, padding, type
    payload.extend(LO_INDEX.to_ne_bytes());
    payload.extend((libc::IFF_UP as u32).to_ne_bytes());
    payload.extend((libc::IFF_UP as u32).to_ne_bytes());
    message(NEW_LINK, REQUEST_WITH_ACK, &payload)
}

/// `ip route add local default dev lo table local`
fn local_route(family: u8) -> Vec<u8> {
    const TABLE_LOCAL: u8 = 255;
    const PROTOCOL_BOOT: u8 = 3;
    const SCOPE_HOST: u8 = 254;
    const TYPE_LOCAL: u8 = 2;
    const OUTPUT_INTERFACE: u16 = 4;
    let mut payload = vec![family, 0, 0, 0, TABLE_LOCAL, PROTOCOL_BOOT, SCOPE_HOST, TYPE_LOCAL];
    payload.extend([0u8; 4]); // flags
    payload.extend(8u16.to_ne_bytes());
    payload.extend(OUTPUT_INTERFACE.to_ne_bytes());
    payload.extend(LO_INDEX.to_ne_bytes());
    message(NEW_ROUTE, REQUEST_WITH_ACK | CREATE, &payload)
}

fn request(netlink: &OwnedFd, message: &[u8]) -> rustix::io::Result<()> {
    rustix::io::write(netlink, message)?;
    let mut answer = [0u8; 512];
    let length = rustix::io::read(netlink, &mut answer)?;
    // An acknowledgement is an error message (type 2) that carries a negative errno, or 0.
    let errno = answer.get(16..20).filter(|_| length >= 20).and_then(|bytes| bytes.try_into().ok());
    match errno.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(errno) => Err(Errno::from_raw_os_error(-errno)),
        None => Err(Errno::PROTO),
    }
}

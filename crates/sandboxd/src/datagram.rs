//! Datagrams with the address they were sent to, and answers that come from that address: on a network where every
//! address is local, the socket alone knows neither.

use rustix::fd::{AsRawFd, BorrowedFd};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peers {
    pub(crate) from: SocketAddr,
    pub(crate) to: IpAddr,
}

/// Room for one packet information message of either family, aligned for its header.
type Control = [u64; 8];

pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Peers)> {
    // SAFETY: all-zero is a valid value of these plain structures.
    let (mut name, mut header) = unsafe { std::mem::zeroed::<(libc::sockaddr_storage, libc::msghdr)>() };
    let mut control: Control = [0; 8];
    let mut piece = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = size_of_val(&name) as libc::socklen_t;
    header.msg_iov = &raw mut piece;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    // SAFETY: `header` points to live buffers with their true sizes.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    let unknown = || io::Error::new(io::ErrorKind::InvalidData, "a datagram without addresses");
    let from = source(&name).ok_or_else(unknown)?;
    let to = destination(&header).ok_or_else(unknown)?;
    Ok((length as usize, Peers { from, to }))
}

fn source(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage holds a sockaddr_in, which is smaller.
            let name = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let address = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddrV4::new(address, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for sockaddr_in6.
            let name = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            let address = Ipv6Addr::from(name.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(address, u16::from_be(name.sin6_port), 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn destination(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the kernel filled `header`; CMSG_FIRSTHDR checks its length and gives null when there is no message.
    let message = unsafe { libc::CMSG_FIRSTHDR(header).as_ref() }?;
    // SAFETY: the data follows the header in the same buffer.
    let data = unsafe { libc::CMSG_DATA(message) };
    match (message.cmsg_level, message.cmsg_type) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            // SAFETY: this message type carries an in_pktinfo; read without assuming alignment.
            let information = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(information.ipi_addr.s_addr)).into())
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            // SAFETY: this message type carries an in6_pktinfo; read without assuming alignment.
            let information = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
            Some(Ipv6Addr::from(information.ipi6_addr.s6_addr).into())
        }
        _ => None,
    }
}

/// Answers `peers.from`, as if from `peers.to`.
pub(crate) fn answer(socket: BorrowedFd<'_>, bytes: &[u8], peers: Peers) -> io::Result<()> {
    match (peers.from, peers.to) {
        (SocketAddr::V4(from), IpAddr::V4(to)) => {
            let name = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: from.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*from.ip()).to_be() },
                sin_zero: [0; 8],
            };
            let information = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(to).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            send(socket, bytes, &name, (libc::IPPROTO_IP, libc::IP_PKTINFO), information)
        }
        (SocketAddr::V6(from), IpAddr::V6(to)) => {
            let name = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: from.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: from.ip().octets() },
                sin6_scope_id: from.scope_id(),
            };
            let information =
                libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: to.octets() }, ipi6_ifindex: 0 };
            send(socket, bytes, &name, (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO), information)
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn send<N, I>(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    name: &N,
    kind: (libc::c_int, libc::c_int),
    information: I,
) -> io::Result<()> {
    const { assert!(size_of::<I>() <= 24, "fits the control buffer with its header") };
    let mut control: Control = [0; 8];
    let mut piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero is a valid msghdr.
    let mut header = unsafe { std::mem::zeroed::<libc::msghdr>() };
    header.msg_name = std::ptr::from_ref(name).cast_mut().cast();
    header.msg_namelen = size_of::<N>() as libc::socklen_t;
    header.msg_iov = &raw mut piece;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    // SAFETY: pure arithmetic on sizes.
    header.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<I>() as u32) } as _;
    // SAFETY: the control buffer is aligned and holds at least CMSG_SPACE(24) bytes, so the first header and its data
    // lie within it.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(&raw const header);
        (*message).cmsg_level = kind.0;
        (*message).cmsg_type = kind.1;
        (*message).cmsg_len = libc::CMSG_LEN(size_of::<I>() as u32) as _;
        libc::CMSG_DATA(message).cast::<I>().write_unaligned(information);
    }
    // SAFETY: `header` points to live buffers with their true sizes; the kernel only reads them.
    let sent = unsafe {
        libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

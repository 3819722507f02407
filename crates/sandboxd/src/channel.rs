//! The server's end of a SEQPACKET socket: framed messages, asynchronous, with descriptors.

use greenroom_stage::frame::{Assembler, BadFrame, MAX_PACKET, Message, packets};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;

const MAX_DESCRIPTORS: usize = 16;

#[derive(Debug)]
pub(crate) struct Channel {
    socket: AsyncFd<OwnedFd>,
    /// Held for a whole message, so that packets of two never mix.
    sending: Mutex<()>,
    receiving: Mutex<Assembler>,
}

thread_local! {
    /// A packet as it is read, before the assembler copies it: one for each thread, since most channels are silent.
    static PACKET: RefCell<Box<[u8]>> = RefCell::new(vec![0; MAX_PACKET].into());
}

/// Our end, and the end to give away.
pub(crate) fn pair() -> io::Result<(Channel, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    let channel = Channel {
        socket: register(ours, Interest::READABLE | Interest::WRITABLE)?,
        sending: Mutex::new(()),
        receiving: Mutex::default(),
    };
    Ok((channel, theirs))
}

/// Watches a descriptor until the result is dropped.
pub(crate) fn register(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` keeps one descriptor open, and the same, for as long as it lives.
    unsafe { AsyncFd::register_with_interest(descriptor, interest) }.map_err(Into::into)
}

fn io_error(error: BadFrame) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Channel {
    pub(crate) async fn send<T: Serialize>(
        &self,
        header: &T,
        body: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let packets = packets(header, body).map_err(io_error)?;
        let _sending = self.sending.lock().await;
        for (index, packet) in packets.iter().enumerate() {
            let descriptors = if index == 0 { descriptors } else { &[] };
            loop {
                match send_packet(self.socket.get_ref().as_fd(), packet, descriptors) {
                    Err(Errno::AGAIN) => self.wait_writable().await?,
                    other => break other?,
                }
            }
        }
        Ok(())
    }

    async fn wait_writable(&self) -> io::Result<()> {
        let mut guard = self.socket.writable().await?;
        // A spurious wake only costs one more try; clearing makes the next wait a real one.
        if rustix::event::poll(
            &mut [rustix::event::PollFd::new(self.socket.get_ref(), rustix::event::PollFlags::OUT)],
            Some(&rustix::event::Timespec::default()),
        )? == 0
        {
            guard.clear_ready();
        }
        Ok(())
    }

    /// The next whole message; an error of kind `UnexpectedEof` when the other side is gone.
    pub(crate) async fn receive(&self) -> io::Result<(Message, Vec<OwnedFd>)> {
        let mut assembler = self.receiving.lock().await;
        let mut descriptors = Vec::new();
        loop {
            let mut guard = self.socket.readable().await?;
            let read = guard.try_io(|socket| {
                PACKET.with_borrow_mut(|packet| {
                    match receive_packet(socket.get_ref().as_fd(), packet, &mut descriptors)? {
                        0 => Err(io::ErrorKind::UnexpectedEof.into()),
                        length => assembler.push(&packet[..length]).map_err(io_error),
                    }
                })
            });
            match read {
                Err(_would_block) => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Ok(Ok(None)) => {}
                Ok(Ok(Some(message))) => return Ok((message, descriptors)),
            }
        }
    }
}

fn send_packet(socket: BorrowedFd<'_>, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::TOOMANYREFS);
    }
    loop {
        match sendmsg(
            socket,
            &[IoSlice::new(packet)],
            &mut ancillary,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        ) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn receive_packet(
    socket: BorrowedFd<'_>,
    scratch: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(socket, &mut [IoSliceMut::new(scratch)], &mut ancillary, flags)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_large_message_and_its_descriptor_arrive() {
        let (ours, theirs) = pair().unwrap();
        rustix::io::ioctl_fionbio(&theirs, true).unwrap();
        let theirs = Channel {
            socket: register(theirs, Interest::READABLE | Interest::WRITABLE).unwrap(),
            sending: Mutex::new(()),
            receiving: Mutex::default(),
        };
        let body = vec![7u8; 3_000_000];
        let file = tempfile::tempfile().unwrap();
        let descriptors = [file.as_fd()];
        let (sent, received) = tokio::join!(ours.send(&"hi", &body, &descriptors), theirs.receive());
        sent.unwrap();
        let (message, descriptors) = received.unwrap();
        assert_eq!(message.header::<String>().unwrap(), "hi");
        assert_eq!(message.body(), body);
        assert_eq!(descriptors.len(), 1);
    }
}

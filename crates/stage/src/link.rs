//! A SEQPACKET socket that carries framed messages and descriptors; blocking (zygote) or queued (stage).

use greenroom_stage::frame::{Assembler, BadFrame, MAX_PACKET, Message, packets};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;

/// More descriptors than any message carries.
const MAX_DESCRIPTORS: usize = 16;

#[derive(Debug)]
pub(crate) struct Link {
    socket: OwnedFd,
    assembler: Assembler,
    /// Packets, each with the descriptors that go along.
    outgoing: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    scratch: Vec<u8>,
}

pub(crate) enum Received {
    Message(Message, Vec<OwnedFd>),
    /// Nothing there now.
    Nothing,
    /// The other side is gone, or speaks nonsense: the same to us.
    Closed,
}

impl Link {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            assembler: Assembler::default(),
            outgoing: VecDeque::new(),
            scratch: vec![0; MAX_PACKET],
        }
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Waits for a whole message.
    pub(crate) fn receive(&mut self) -> Received {
        let mut descriptors = Vec::new();
        loop {
            match self.packet(RecvFlags::CMSG_CLOEXEC, &mut descriptors) {
                Ok(Some(message)) => return Received::Message(message, descriptors),
                Ok(None) => {}
                Err(Errno::INTR) => {}
                Err(_) => return Received::Closed,
            }
        }
    }

    /// Takes what is there.
    pub(crate) fn try_receive(&mut self) -> Received {
        let mut descriptors = Vec::new();
        loop {
            match self.packet(RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT, &mut descriptors) {
                Ok(Some(message)) => return Received::Message(message, descriptors),
                Ok(None) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Received::Nothing,
                Err(_) => return Received::Closed,
            }
        }
    }

    fn packet(&mut self, flags: RecvFlags, descriptors: &mut Vec<OwnedFd>) -> Result<Option<Message>, Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(&self.socket, &mut [IoSliceMut::new(&mut self.scratch)], &mut ancillary, flags)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Err(Errno::PIPE);
        }
        self.assembler.push(&self.scratch[..received.bytes]).map_err(|_| Errno::PROTO)
    }

    /// Sends a message and waits until the kernel has it. Descriptors go with the first packet.
    pub(crate) fn send<T: Serialize>(
        &mut self,
        header: &T,
        body: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Errno> {
        let packets = packets(header, body).map_err(|_: BadFrame| Errno::MSGSIZE)?;
        for (index, packet) in packets.iter().enumerate() {
            let descriptors = if index == 0 { descriptors } else { &[] };
            self.send_packet(packet, descriptors, SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }

    /// Puts a message behind those that wait, and sends what the socket takes.
    pub(crate) fn queue<T: Serialize>(&mut self, header: &T, body: &[u8]) -> Result<(), Errno> {
        self.queue_with(header, body, Vec::new())
    }

    /// The same with descriptors, which are closed here once they are sent.
    pub(crate) fn queue_with<T: Serialize>(
        &mut self,
        header: &T,
        body: &[u8],
        mut descriptors: Vec<OwnedFd>,
    ) -> Result<(), Errno> {
        let packets = packets(header, body).map_err(|_| Errno::MSGSIZE)?;
        self.outgoing.extend(packets.into_iter().map(|packet| (packet, std::mem::take(&mut descriptors))));
        self.flush()
    }

    pub(crate) fn flush(&mut self) -> Result<(), Errno> {
        while let Some((packet, descriptors)) = self.outgoing.front() {
            let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            match self.send_packet(packet, &descriptors, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(()) => drop(self.outgoing.pop_front()),
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    pub(crate) fn waiting_packets(&self) -> usize {
        self.outgoing.len()
    }

    fn send_packet(
        &self,
        packet: &[u8],
        descriptors: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(Errno::TOOMANYREFS);
        }
        loop {
            match sendmsg(&self.socket, &[IoSlice::new(packet)], &mut ancillary, flags) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

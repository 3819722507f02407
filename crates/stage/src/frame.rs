//! Framing on a SEQPACKET socket. A message is `header length (u32 LE) · JSON header · body`, cut into packets of at
//! most `MAX_PACKET` bytes whose first byte says whether more follow. Messages of one sender are never interleaved.

use serde::{Serialize, de::DeserializeOwned};

pub const MAX_PACKET: usize = 64 * 1024;
/// A peer that sends more than this in one message is cut off.
pub const MAX_MESSAGE: usize = 8 * 1024 * 1024;

const LAST: u8 = 1;
const MORE: u8 = 0;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadFrame(pub &'static str);

impl std::fmt::Display for BadFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadFrame {}

/// The packets of one message, in order.
pub fn packets<T: Serialize>(header: &T, body: &[u8]) -> Result<Vec<Vec<u8>>, BadFrame> {
    let header = serde_json::to_vec(header).map_err(|_| BadFrame("the header cannot be written as JSON"))?;
    let total = 4 + header.len() + body.len();
    if total > MAX_MESSAGE {
        return Err(BadFrame("the message is larger than 8 MiB"));
    }
    let mut whole = Vec::with_capacity(total);
    whole.extend_from_slice(&(header.len() as u32).to_le_bytes());
    whole.extend_from_slice(&header);
    whole.extend_from_slice(body);
    let pieces = whole.chunks(MAX_PACKET - 1);
    let last = pieces.len() - 1;
    Ok(pieces.enumerate().map(|(index, piece)| packet(piece, index == last)).collect())
}

fn packet(piece: &[u8], is_last: bool) -> Vec<u8> {
    let mut packet = Vec::with_capacity(piece.len() + 1);
    packet.push(if is_last { LAST } else { MORE });
    packet.extend_from_slice(piece);
    packet
}

/// Puts packets together again.
#[derive(Debug, Default)]
pub struct Assembler {
    buffer: Vec<u8>,
}

impl Assembler {
    pub fn push(&mut self, packet: &[u8]) -> Result<Option<Message>, BadFrame> {
        let (flag, piece) = packet.split_first().ok_or(BadFrame("an empty packet"))?;
        if self.buffer.len() + piece.len() > MAX_MESSAGE {
            return Err(BadFrame("a message larger than 8 MiB"));
        }
        self.buffer.extend_from_slice(piece);
        match *flag {
            LAST => Message::split(std::mem::take(&mut self.buffer)).map(Some),
            MORE => Ok(None),
            _ => Err(BadFrame("an unknown packet flag")),
        }
    }
}

/// A received message whose header is not read yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    bytes: Vec<u8>,
    body_at: usize,
}

impl Message {
    fn split(bytes: Vec<u8>) -> Result<Self, BadFrame> {
        let length = bytes.first_chunk::<4>().ok_or(BadFrame("a message without header"))?;
        let body_at = 4usize.saturating_add(u32::from_le_bytes(*length) as usize);
        if body_at > bytes.len() {
            return Err(BadFrame("a header longer than its message"));
        }
        Ok(Self { bytes, body_at })
    }

    pub fn header<T: DeserializeOwned>(&self) -> Result<T, BadFrame> {
        serde_json::from_slice(&self.bytes[4..self.body_at])
            .map_err(|_| BadFrame("a header of unknown shape"))
    }

    pub fn body(&self) -> &[u8] {
        &self.bytes[self.body_at..]
    }

    pub fn into_body(mut self) -> Vec<u8> {
        self.bytes.drain(..self.body_at);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(header: &str, body: &[u8]) -> Message {
        let mut assembler = Assembler::default();
        let mut whole = None;
        for packet in packets(&header, body).unwrap() {
            assert!(packet.len() <= MAX_PACKET);
            assert_eq!(whole, None);
            whole = assembler.push(&packet).unwrap();
        }
        whole.unwrap()
    }

    #[test]
    fn a_message_survives_packets() {
        for size in [0, 1, MAX_PACKET - 1, MAX_PACKET, 300_000] {
            let body: Vec<u8> = (0..size).map(|n| n as u8).collect();
            let message = through("hello", &body);
            assert_eq!(message.header::<String>().unwrap(), "hello");
            assert_eq!(message.body(), body);
        }
    }

    #[test]
    fn malformed_packets_are_refused() {
        let mut assembler = Assembler::default();
        assert!(assembler.push(&[]).is_err());
        assert!(assembler.push(&[7, 0, 0, 0, 0]).is_err());
        assert!(Assembler::default().push(&[LAST, 255, 255, 255, 255, 0]).is_err());
        assert!(Assembler::default().push(&[LAST, 0, 0]).is_err());
    }

    #[test]
    fn an_endless_message_is_cut_off() {
        let mut assembler = Assembler::default();
        let packet = vec![MORE; MAX_PACKET];
        let refused = (0..=MAX_MESSAGE / (MAX_PACKET - 1) + 1).any(|_| assembler.push(&packet).is_err());
        assert!(refused);
    }
}

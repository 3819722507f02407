//! git's pkt-line framing (gitprotocol-common(5)): four hexadecimal digits of length, then the bytes.

use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest packet, its four digits included.
const LONGEST: usize = 65520;
/// What fits a packet of side-band-64k beside its length and band.
const BAND_PAYLOAD: usize = LONGEST - 5;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PktError {
    #[error("the request ended early")]
    Ended(#[source] std::io::Error),
    #[error("a packet's length is not valid")]
    Length,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    Flush,
    /// Delimiters of protocol version 2.
    Special(u8),
    Data(Vec<u8>),
}

pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Packet, PktError> {
    let mut digits = [0u8; 4];
    from.read_exact(&mut digits).await.map_err(PktError::Ended)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(PktError::Length);
    }
    let length = std::str::from_utf8(&digits).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
    match length.ok_or(PktError::Length)? {
        0 => Ok(Packet::Flush),
        short @ 1..=3 => Ok(Packet::Special(u8::try_from(short).expect("at most 3"))),
        length if length <= LONGEST => {
            let mut data = vec![0; length - 4];
            from.read_exact(&mut data).await.map_err(PktError::Ended)?;
            Ok(Packet::Data(data))
        }
        _ => Err(PktError::Length),
    }
}

pub(crate) fn write(to: &mut Vec<u8>, data: &[u8]) {
    debug_assert!(data.len() + 4 <= LONGEST);
    to.extend_from_slice(format!("{:04x}", data.len() + 4).as_bytes());
    to.extend_from_slice(data);
}

pub(crate) fn flush(to: &mut Vec<u8>) {
    to.extend_from_slice(b"0000");
}

/// Splits `data` over packets of one side band: 1 is data, 2 is progress for people.
pub(crate) fn write_band(to: &mut Vec<u8>, band: u8, data: &[u8]) {
    for part in data.chunks(BAND_PAYLOAD) {
        to.extend_from_slice(format!("{:04x}", part.len() + 5).as_bytes());
        to.push(band);
        to.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packets_survive_their_framing() {
        let mut bytes = Vec::new();
        write(&mut bytes, b"hello\n");
        flush(&mut bytes);
        bytes.extend_from_slice(b"0001");
        let mut from = bytes.as_slice();
        assert_eq!(read(&mut from).await.unwrap(), Packet::Data(b"hello\n".to_vec()));
        assert_eq!(read(&mut from).await.unwrap(), Packet::Flush);
        assert_eq!(read(&mut from).await.unwrap(), Packet::Special(1));
        assert!(matches!(read(&mut from).await, Err(PktError::Ended(_))));
    }

    #[tokio::test]
    async fn hostile_lengths_are_refused() {
        for bad in ["ffff", "+123", "zzzz", "-001", " 12a"] {
            assert!(matches!(read(&mut bad.as_bytes()).await, Err(PktError::Length)), "{bad}");
        }
        assert!(matches!(read(&mut &b"0010abc"[..]).await, Err(PktError::Ended(_))));
    }
}

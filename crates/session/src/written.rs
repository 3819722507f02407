//! A frame's form for viewers, made once for all of them: its text, and compressed for those who take it so.

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};
use std::cell::RefCell;
use std::sync::OnceLock;

/// Shorter ones gain little.
const PACK_FROM: usize = 1024;

/// Each frame by itself: a stream's window would be 300 KB for every viewer, and another result for each.
#[derive(Debug)]
pub struct Written {
    text: Bytes,
    packed: OnceLock<Option<Bytes>>,
}

impl Written {
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    /// Raw deflate (RFC 1951), made when somebody first asks; `None` where it would gain nothing.
    pub fn packed(&self) -> Option<Bytes> {
        self.packed.get_or_init(|| pack(&self.text)).clone()
    }
}

impl From<Bytes> for Written {
    fn from(text: Bytes) -> Self {
        Self { text, packed: OnceLock::new() }
    }
}

fn pack(text: &[u8]) -> Option<Bytes> {
    thread_local! {
        static DEFLATE: RefCell<Compress> = RefCell::new(Compress::new(Compression::fast(), false));
    }
    if text.len() < PACK_FROM {
        return None;
    }
    DEFLATE.with_borrow_mut(|deflate| {
        deflate.reset();
        // What does not fit gains nothing.
        let mut packed = Vec::with_capacity(text.len() - PACK_FROM / 8);
        let status = deflate.compress_vec(text, &mut packed, FlushCompress::Finish);
        matches!(status, Ok(Status::StreamEnd)).then(|| Bytes::from(packed.into_boxed_slice()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn unpacked(packed: &[u8]) -> Vec<u8> {
        let mut text = vec![];
        flate2::read::DeflateDecoder::new(packed).read_to_end(&mut text).unwrap();
        text
    }

    #[test]
    fn a_long_frame_is_packed_once_and_says_the_same() {
        let text = Bytes::from("a line that comes again \u{e9}\n".repeat(4000));
        for _ in 0..2 {
            let written = Written::from(text.clone());
            let packed = written.packed().unwrap();
            assert_eq!(unpacked(&packed), text);
            assert!(packed.len() < text.len() / 20, "{}", packed.len());
            assert_eq!(written.packed().unwrap().as_ptr(), packed.as_ptr());
        }
    }

    #[test]
    fn what_gains_nothing_stays_as_it_is() {
        assert_eq!(Written::from(Bytes::from("x".repeat(PACK_FROM - 1))).packed(), None);
        // Of a generator, so that nothing of it repeats.
        let noise = std::iter::successors(Some(1_u64), |last| {
            Some(last.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
        });
        let noise: Vec<u8> = noise.take(4000).map(|number| (number >> 56) as u8).collect();
        assert_eq!(Written::from(Bytes::from(noise)).packed(), None);
    }
}

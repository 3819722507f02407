//! Takes secrets out of what comes back. A matched byte becomes `*`, so that lengths, and with them `Content-Length`,
//! stay as they are. Works on a stream: only what may be the beginning of a secret is held back.

use aho_corasick::{AhoCorasick, MatchKind};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// Shorter ones would be found everywhere by chance.
const SHORTEST: usize = 6;

#[derive(Clone)]
pub(crate) struct Mask {
    automaton: AhoCorasick,
    patterns: Vec<Vec<u8>>,
    held: Vec<u8>,
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mask(…)") // holds what it hides
    }
}

impl Mask {
    /// `None` when there is nothing to take out.
    pub(crate) fn new(patterns: impl IntoIterator<Item = Vec<u8>>) -> Option<Self> {
        let mut patterns: Vec<Vec<u8>> =
            patterns.into_iter().filter(|pattern| pattern.len() >= SHORTEST).collect();
        patterns.sort();
        patterns.dedup();
        if patterns.is_empty() {
            return None;
        }
        let automaton =
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&patterns).ok()?;
        Some(Self { automaton, patterns, held: Vec::new() })
    }

    /// A whole text at once.
    pub(crate) fn whole(&self, bytes: &[u8]) -> Vec<u8> {
        let mut masked = bytes.to_vec();
        self.cover(&mut masked);
        masked
    }

    /// In a name that has lost its capitals.
    pub(crate) fn finds_in_name(&self, name: &str) -> bool {
        let holds = |pattern: &Vec<u8>| {
            name.as_bytes().windows(pattern.len()).any(|part| part.eq_ignore_ascii_case(pattern))
        };
        self.patterns.iter().any(holds)
    }

    /// The next part of a stream; gives what can go on.
    fn push(&mut self, bytes: &[u8]) -> Bytes {
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        self.cover(&mut held);
        let keep = self.open_end(&held);
        self.held = held.split_off(held.len() - keep);
        held.into()
    }

    fn finish(&mut self) -> Bytes {
        std::mem::take(&mut self.held).into()
    }

    fn cover(&self, bytes: &mut [u8]) {
        let found: Vec<_> = self.automaton.find_iter(&*bytes).map(|found| found.range()).collect();
        for range in found {
            bytes[range].fill(b'*');
        }
    }

    /// How many of the last bytes are the beginning of a pattern.
    fn open_end(&self, bytes: &[u8]) -> usize {
        let longest = |pattern: &Vec<u8>| {
            let most = bytes.len().min(pattern.len() - 1);
            (1..=most).rev().find(|length| pattern.starts_with(&bytes[bytes.len() - length..])).unwrap_or(0)
        };
        self.patterns.iter().map(longest).max().unwrap_or(0)
    }
}

/// A body with the secrets taken out.
#[derive(Debug)]
pub(crate) struct Masked<B> {
    body: B,
    mask: Mask,
    has_ended: bool,
}

impl<B> Masked<B> {
    pub(crate) fn new(body: B, mask: Mask) -> Self {
        Self { body, mask, has_ended: false }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Masked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        while !this.has_ended {
            match std::task::ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let out = this.mask.push(&data);
                        if !out.is_empty() {
                            return Poll::Ready(Some(Ok(Frame::data(out))));
                        }
                    }
                    // Trailers are the last frame. Nobody needs them of a host that is trusted with a secret.
                    Err(_) => this.has_ended = true,
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => this.has_ended = true,
            }
        }
        let rest = this.mask.finish();
        if !rest.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.mask.held.is_empty() && (self.has_ended || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask() -> Mask {
        Mask::new([b"secret-one".to_vec(), b"sesame-two".to_vec(), b"x".to_vec()]).unwrap()
    }

    #[test]
    fn a_secret_is_covered_however_the_stream_is_cut() {
        let text = b"a secret-one and sesame-two and secre but not x, se".as_slice();
        let wanted = b"a ********** and ********** and secre but not x, se".as_slice();
        assert_eq!(mask().whole(text), wanted);
        for cut in 0..text.len() {
            for second in cut..text.len() {
                let mut mask = mask();
                let mut out = Vec::new();
                for part in [&text[..cut], &text[cut..second], &text[second..]] {
                    out.extend_from_slice(&mask.push(part));
                }
                out.extend_from_slice(&mask.finish());
                assert_eq!(out, wanted, "{cut} {second}");
            }
        }
    }

    #[test]
    fn what_cannot_become_a_secret_is_not_held_back() {
        assert_eq!(&mask().push(b"data: 1\n\n")[..], b"data: 1\n\n");
    }

    #[test]
    fn nothing_to_hide_needs_no_mask() {
        assert!(Mask::new([b"short".to_vec()]).is_none());
    }
}

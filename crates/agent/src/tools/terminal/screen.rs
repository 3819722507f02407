//! What a program wrote since the last look, as plain text: bounded, without control sequences, and of a line that was
//! written over only what stands there at last.

use greenroom_sandbox::ExitReason;

/// Of what is not looked at, the newest is kept.
const KEPT_BYTES: usize = 256 * 1024;

#[derive(Debug, Default)]
pub(super) struct Screen {
    news: Vec<u8>,
    left_out: u64,
    /// The inner is none when the end was not told.
    pub(super) end: Option<Option<ExitReason>>,
}

impl Screen {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.news.extend_from_slice(bytes);
        // Seldom, so that moving the rest costs little for each byte.
        if self.news.len() > 2 * KEPT_BYTES {
            let over = self.news.len() - KEPT_BYTES;
            self.news.drain(..over);
            self.left_out += over as u64;
        }
    }

    pub(super) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// The text, and how many bytes before it were left out.
    pub(super) fn take(&mut self) -> (String, u64) {
        let mut bytes = std::mem::take(&mut self.news);
        let over = bytes.len().saturating_sub(KEPT_BYTES);
        bytes.drain(..over);
        (plain(&bytes), std::mem::take(&mut self.left_out) + over as u64)
    }
}

fn plain(bytes: &[u8]) -> String {
    let text =
        String::from_utf8_lossy(&strip_ansi_escapes::strip(keeping_returns(bytes))).replace(RETURN, "\r");
    let lines = text.split('\n').map(|line| {
        let line = line.trim_end_matches('\r');
        line.rsplit_once('\r').map_or(line, |(_, last)| last)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The library drops carriage returns with the control sequences.
const RETURN: char = '\u{f8ff}';

fn keeping_returns(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\r' => kept.extend_from_slice(RETURN.encode_utf8(&mut [0; 4]).as_bytes()),
            byte => kept.push(*byte),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> String {
        let mut screen = Screen::default();
        screen.push(bytes);
        screen.take().0
    }

    #[test]
    fn text_is_plain() {
        assert_eq!(shown(b"a\r\nb\r\n"), "a\nb\n");
        assert_eq!(shown(b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07x"), "red x");
        assert_eq!(shown(b"10%\r50%\r100%\r\ndone"), "100%\ndone");
        assert_eq!(shown("é\u{fffd}".as_bytes()), "é\u{fffd}");
        assert_eq!(shown(b"a\xffb"), "a\u{fffd}b");
    }

    #[test]
    fn the_newest_is_kept_and_the_rest_counted() {
        let mut screen = Screen::default();
        for _ in 0..1000 {
            screen.push(&[b'x'; 1024]);
        }
        screen.push(b"end");
        let (text, left_out) = screen.take();
        assert_eq!((text.len(), left_out), (KEPT_BYTES, 1_024_003 - KEPT_BYTES as u64));
        assert!(text.ends_with("end") && !screen.has_news());
        assert_eq!(screen.take(), (String::new(), 0));
    }
}

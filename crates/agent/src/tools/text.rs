//! A text file's bytes with line endings and byte order mark set aside: matching works on plain `\n` text, and what is
//! written back keeps every untouched byte.

const BOM: &str = "\u{feff}";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileText {
    raw: String,
    /// `raw` without byte order mark, with `\r\n` as `\n`.
    plain: String,
    /// Positions in `plain` of each `\n` that was `\r\n`.
    crlf: Vec<usize>,
}

impl FileText {
    /// The error is for the model.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        if bytes.contains(&0) {
            return Err("it is a binary file".to_owned());
        }
        let raw =
            String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text; change it with a command instead")?;
        let body = raw.strip_prefix(BOM).unwrap_or(&raw);
        let mut plain = String::with_capacity(body.len());
        let mut crlf = Vec::new();
        let mut lines = body.split("\r\n").peekable();
        while let Some(line) = lines.next() {
            plain.push_str(line);
            if lines.peek().is_some() {
                crlf.push(plain.len());
                plain.push('\n');
            }
        }
        Ok(Self { plain, crlf, raw })
    }

    pub(super) fn plain(&self) -> &str {
        &self.plain
    }

    /// The file with ranges of `plain` replaced (in order, not overlapping). New lines end as the file's lines do.
    pub(super) fn replace(&self, edits: &[(std::ops::Range<usize>, String)]) -> String {
        let mut out = String::with_capacity(self.raw.len());
        let mut done = 0;
        for (range, new) in edits {
            out.push_str(&self.raw[done..self.raw_at(range.start)]);
            out.push_str(&self.with_endings(new));
            done = self.raw_at(range.end);
        }
        out.push_str(&self.raw[done..]);
        out
    }

    /// `text` (with plain line endings) as this file's lines end; nothing is said about a byte order mark.
    pub(super) fn with_endings(&self, text: &str) -> String {
        let newlines = self.plain.matches('\n').count();
        if self.crlf.len() * 2 > newlines { text.replace('\n', "\r\n") } else { text.to_owned() }
    }

    /// The whole file made of `text`, with the endings and the mark that this file has.
    pub(super) fn rewritten(&self, text: &str) -> String {
        let body = self.with_endings(text);
        if self.has_bom() { format!("{BOM}{body}") } else { body }
    }

    fn has_bom(&self) -> bool {
        self.raw.starts_with(BOM)
    }

    fn raw_at(&self, plain_at: usize) -> usize {
        let mark = if self.has_bom() { BOM.len() } else { 0 };
        mark + plain_at + self.crlf.partition_point(|at| *at < plain_at)
    }
}

/// What a model writes, with plain line endings and without a byte order mark.
pub(super) fn plain(text: &str) -> String {
    text.strip_prefix(BOM).unwrap_or(text).replace("\r\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> FileText {
        FileText::parse(text.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn endings_and_mark_are_kept() {
        let text = file("\u{feff}a\r\nb\r\nc");
        assert_eq!(text.plain(), "a\nb\nc");
        assert_eq!(text.replace(&[(2..3, "x\ny".to_owned())]), "\u{feff}a\r\nx\r\ny\r\nc");
        assert_eq!(text.rewritten("z\n"), "\u{feff}z\r\n");
    }

    #[test]
    fn mixed_endings_keep_every_untouched_byte() {
        let text = file("a\r\nb\nc\r\nd\n");
        assert_eq!(text.replace(&[(2..4, "B\n".to_owned())]), "a\r\nB\nc\r\nd\n");
        assert_eq!(text.replace(&[]), "a\r\nb\nc\r\nd\n");
        assert_eq!(text.replace(&[(1..2, String::new()), (7..8, String::new())]), "ab\nc\r\nd");
    }

    #[test]
    fn a_lone_carriage_return_is_text() {
        let text = file("a\rb\n");
        assert_eq!(text.plain(), "a\rb\n");
    }

    proptest::proptest! {
        #[test]
        fn what_is_outside_of_an_edit_keeps_its_bytes(raw in "\u{feff}?([a-b\r]|\n|\r\n|é){0,20}", at in 0..20usize, len in 0..5usize) {
            let text = file(&raw);
            proptest::prop_assert_eq!(text.replace(&[]), raw.clone());
            let start = text.plain().floor_char_boundary(at.min(text.plain().len()));
            let end = text.plain().floor_char_boundary((start + len).min(text.plain().len())).max(start);
            let edited = text.replace(&[(start..end, "X".to_owned())]);
            let (before, after) = edited.split_once('X').unwrap();
            proptest::prop_assert!(raw.starts_with(before) && raw.ends_with(after));
            let gone = &raw[before.len()..raw.len() - after.len()];
            proptest::prop_assert_eq!(gone.replace("\r\n", "\n"), &text.plain()[start..end]);
        }
    }

    #[test]
    fn binary_and_other_encodings_are_refused() {
        assert!(FileText::parse(vec![1, 0, 2]).is_err());
        assert!(FileText::parse(vec![0xe9, b'a']).is_err());
    }
}

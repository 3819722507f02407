//! An incremental parser of server-sent events (WHATWG HTML, section 9.2.6) for untrusted bytes. Pure: bytes in, events
//! out, bounded. `id` and `retry` fields mean nothing to a model's answer and are skipped.

/// One event. `data` holds the `data` fields joined by line feeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The `event` field; empty when the server sent none.
    pub name: String,
    pub data: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {limit} bytes")]
pub struct TooLarge {
    pub limit: usize,
}

/// Holds what has not become an event yet: at most `limit` bytes.
#[derive(Debug)]
pub struct Parser {
    limit: usize,
    line: Vec<u8>,
    after_return: bool,
    at_start: bool,
    name: String,
    data: Vec<u8>,
    has_data: bool,
}

impl Parser {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            after_return: false,
            at_start: true,
            name: String::new(),
            data: Vec::new(),
            has_data: false,
        }
    }

    /// Takes the next bytes, however they were cut, and returns the events they complete. What follows the last blank
    /// line of a stream is never an event.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLarge> {
        let mut events = Vec::new();
        let mut rest = bytes;
        if self.after_return && rest.first() == Some(&b'\n') {
            rest = &rest[1..];
        }
        if !bytes.is_empty() {
            self.after_return = false;
        }
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.extend_line(&rest[..end])?;
            let is_return = rest[end] == b'\r';
            rest = &rest[end + 1..];
            if is_return {
                match rest.first() {
                    Some(b'\n') => rest = &rest[1..],
                    None => self.after_return = true,
                    Some(_) => {}
                }
            }
            events.extend(self.end_line());
        }
        self.extend_line(rest)?;
        Ok(events)
    }

    fn extend_line(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        if self.line.len() + self.data.len() + bytes.len() > self.limit {
            return Err(TooLarge { limit: self.limit });
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(without_mark) if self.at_start => without_mark,
            _ => &line,
        };
        self.at_start = false;
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        std::mem::take(&mut self.has_data)
            .then(|| Event { name, data: String::from_utf8_lossy(&data).into_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] =
        "\u{feff}event: a\ndata: {\"x\":1}\n\n: comment\r\ndata:one\r\ndata: two\r\rid: 7\nretry: 9\n\
        event: lost\n\nevent: é\r\ndata: grün 🌱\r\n\r\ndata\n\ndata:  two spaces\n\ndata: never finished\n"
            .as_bytes();

    fn expected() -> Vec<Event> {
        let event = |name: &str, data: &str| Event { name: name.into(), data: data.into() };
        vec![
            event("a", "{\"x\":1}"),
            event("", "one\ntwo"),
            event("é", "grün 🌱"),
            event("", ""),
            event("", " two spaces"),
        ]
    }

    fn parse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
        let mut parser = Parser::new(1024);
        pieces.into_iter().flat_map(|piece| parser.feed(piece).unwrap()).collect()
    }

    #[test]
    fn fields_comments_line_ends_and_the_byte_order_mark_are_understood() {
        assert_eq!(parse([STREAM]), expected());
    }

    #[test]
    fn any_two_cuts_give_the_same_events() {
        for first in 0..=STREAM.len() {
            for second in first..=STREAM.len() {
                let pieces = [&STREAM[..first], &STREAM[first..second], &STREAM[second..]];
                assert_eq!(parse(pieces), expected(), "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn single_bytes_with_empty_pieces_between_give_the_same_events() {
        let pieces = STREAM.chunks(1).flat_map(|byte| [byte, &[][..]]);
        assert_eq!(parse(pieces), expected());
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut state = 7u32;
        for _ in 0..2_000 {
            let mut bytes = Vec::new();
            for _ in 0..64 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let pick = (state >> 24) as u8;
                bytes.push(if pick < 96 { b"\r\n:datevn \xff"[usize::from(pick) % 11] } else { pick });
            }
            let whole = parse([&bytes[..]]);
            let cut = (state >> 8) as usize % bytes.len();
            assert_eq!(parse([&bytes[..cut], &bytes[cut..]]), whole, "{bytes:?} cut at {cut}");
        }
    }

    #[test]
    fn a_line_or_an_event_over_the_limit_is_refused() {
        let mut parser = Parser::new(16);
        assert_eq!(parser.feed(b"data: 0123456789ABCDEF"), Err(TooLarge { limit: 16 }));
        let mut parser = Parser::new(16);
        assert_eq!(parser.feed(b"data: 01234\ndata: 56789\ndata: ABCDE\n"), Err(TooLarge { limit: 16 }));
        let mut parser = Parser::new(16);
        assert_eq!(parser.feed(b"data: 01234\n\ndata: 56789\n\n").unwrap().len(), 2);
    }
}

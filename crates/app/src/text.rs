//! Text that arrives in pieces of bytes: a character may be cut between two of them.

/// Takes the text of all complete characters and leaves the beginning of one that is cut, at most three bytes. Bytes
/// that are no text become replacement characters.
pub(crate) fn take_complete(bytes: &mut Vec<u8>) -> String {
    let rest = bytes.split_off(bytes.len() - cut_tail(bytes));
    let text = String::from_utf8_lossy(bytes).into_owned();
    *bytes = rest;
    text
}

/// How many bytes at the end begin a character that is not complete.
fn cut_tail(bytes: &[u8]) -> usize {
    let is_continuation = |byte: u8| byte & 0b1100_0000 == 0b1000_0000;
    let lead = (1..=3.min(bytes.len())).find(|back| !is_continuation(bytes[bytes.len() - back]));
    let Some(back) = lead else { return 0 };
    let length = match bytes[bytes.len() - back] {
        0xf0..=0xf7 => 4,
        0xe0..=0xef => 3,
        0xc0..=0xdf => 2,
        _ => 1,
    };
    if back < length { back } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::take_complete;

    #[test]
    fn any_cut_gives_the_same_text() {
        let whole = "aé€😀z";
        for cut in 0..=whole.len() {
            let mut bytes = whole.as_bytes()[..cut].to_vec();
            let mut text = take_complete(&mut bytes);
            bytes.extend(&whole.as_bytes()[cut..]);
            text.push_str(&take_complete(&mut bytes));
            assert_eq!((text.as_str(), bytes.len()), (whole, 0), "cut at {cut}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_do_not_wait_for_more() {
        let mut bytes = vec![b'a', 0xff, b'b'];
        assert_eq!(take_complete(&mut bytes), "a\u{fffd}b");
        assert!(bytes.is_empty());
        let mut bytes = vec![0x80; 9];
        assert_eq!(take_complete(&mut bytes), "\u{fffd}".repeat(9));
    }
}

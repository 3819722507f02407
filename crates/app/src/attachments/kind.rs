//! What a file is, by its content. Names and declarations of senders count for nothing: what a browser could run as a page
//! of ours (HTML, SVG, XML) is plain text here.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// Enough for every signature, and for telling text from bytes.
const HEAD: u64 = 64 * 1024;
const BYTES: &str = "application/octet-stream";
const TEXT: &str = "text/plain";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) media_type: &'static str,
    /// Width and height of a picture, in pixels.
    pub(super) size: Option<(u32, u32)>,
}

/// The file is given back at its beginning.
pub(super) async fn of(mut file: File) -> io::Result<(File, Kind)> {
    let looked = tokio::task::spawn_blocking(move || {
        let kind = look(&mut file)?;
        file.seek(SeekFrom::Start(0))?;
        Ok((file, kind))
    });
    looked.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn look(file: &mut File) -> io::Result<Kind> {
    let mut head = Vec::new();
    Read::take(&mut *file, HEAD).read_to_end(&mut head)?;
    let media_type = media_type(&head, head.len() as u64 == HEAD);
    let mut size = None;
    if greenroom_domain::attachment::is_picture(media_type) {
        file.seek(SeekFrom::Start(0))?;
        // A picture that says no size is not shown; it stays a file.
        let found = imagesize::reader_size(BufReader::new(file)).ok();
        size = found.and_then(|size| Some((size.width.try_into().ok()?, size.height.try_into().ok()?)));
    }
    Ok(Kind { media_type, size })
}

fn media_type(head: &[u8], is_cut: bool) -> &'static str {
    // A list of its own: what a library calls HTML or SVG must not reach a browser as such.
    match infer::get(head).map(|found| found.mime_type()) {
        Some(
            known @ ("image/png"
            | "image/jpeg"
            | "image/gif"
            | "image/webp"
            | "application/pdf"
            | "application/zip"
            | "application/gzip"
            | "application/zstd"
            | "application/x-tar"
            | "application/x-xz"
            | "application/x-bzip2"
            | "video/mp4"
            | "video/webm"
            | "audio/mpeg"),
        ) => known,
        _ if is_text(head, is_cut) => TEXT,
        _ => BYTES,
    }
}

/// UTF-8 without control characters that texts do not have. The end may be cut within a character.
fn is_text(head: &[u8], is_cut: bool) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if is_cut && error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{c}' | '\u{1b}'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn kind(bytes: &[u8]) -> Kind {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        look(&mut file).unwrap()
    }

    #[test]
    fn a_picture_is_known_by_its_bytes_and_says_its_size() {
        let png = [&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01\0\0\0\0\x80\x08\x06\0\0\0"[..], &[0; 8]].concat();
        assert_eq!(kind(&png), Kind { media_type: "image/png", size: Some((256, 128)) });
        assert_eq!(kind(b"\x89PNG\r\n\x1a\n").size, None);
    }

    #[test]
    fn what_a_browser_would_run_is_text_or_bytes() {
        for page in [
            &b"<!DOCTYPE html><script>alert(1)</script>"[..],
            b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
            b"<?xml version='1.0'?><svg/>",
            b"%!PS-Adobe",
        ] {
            assert_eq!(kind(page).media_type, TEXT);
        }
        assert_eq!(kind(b"\0asm\x01\0\0\0").media_type, BYTES);
        assert_eq!(kind(b"\x7fELF\x02\x01\x01").media_type, BYTES);
        assert_eq!(kind("zwölf\n".as_bytes()).media_type, TEXT);
        assert_eq!(kind(b"latin \xfc").media_type, BYTES);
    }

    #[test]
    fn a_long_text_may_be_cut_within_a_character() {
        let text = format!("x{}", "é".repeat(HEAD as usize));
        assert_eq!(kind(text.as_bytes()).media_type, TEXT);
    }
}

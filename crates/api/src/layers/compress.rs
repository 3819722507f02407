//! Answers of the API compressed by gzip, for callers who accept it.
//!
//! A whole answer goes through one compressor. A stream must not: it would hold 300 KB for each reader, however quiet
//! the stream is. Its pieces are compressed each by itself, short ones not at all, and can be read when they came: blocks
//! of deflate (RFC 1951) that end on a byte and look at nothing before them, in one gzip member (RFC 1952).

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use flate2::{Compress, Compression, Crc, FlushCompress};
use futures::{StreamExt, stream};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{Extensions, HeaderMap, HeaderValue, StatusCode, Version};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{Predicate, SizeAbove};

/// Shorter answers, and pieces of streams, gain little.
const FROM: u16 = 1024;
/// Of one stored block.
const STORED: usize = 0xFFFF;
/// No name, no time, unknown system.
const GZIP_HEADER: [u8; 10] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF];
/// An empty block that is the last.
const LAST_BLOCK: [u8; 2] = [0x03, 0x00];

/// For answers that are whole: JSON only, since attached and published files are mostly packed already.
pub(crate) fn whole() -> CompressionLayer<impl Predicate> {
    let is_json = |status: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions| {
        status.is_success() && headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json")
    };
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(FROM).and(is_json))
}

/// For server-sent events.
pub(crate) async fn streamed(request: Request, next: Next) -> Response {
    let is_accepted = accepts_gzip(request.headers());
    let mut response = next.run(request).await;
    let kind = response.headers().get(CONTENT_TYPE);
    if kind.is_none_or(|kind| kind != "text/event-stream") {
        return response;
    }
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
    if !is_accepted {
        return response;
    }
    response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.map(packed)
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|offer| {
        let (name, quality) = offer.trim().split_once(';').unwrap_or((offer.trim(), ""));
        name == "gzip" && !matches!(quality.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
    })
}

fn packed(body: Body) -> Body {
    let begin = (Some(body.into_data_stream()), Crc::new());
    let pieces = stream::unfold(begin, async |(pieces, mut crc)| {
        let mut pieces = pieces?;
        match pieces.next().await {
            Some(Ok(piece)) => {
                crc.update(&piece);
                Some((Ok(blocks(&piece)), (Some(pieces), crc)))
            }
            // A broken stream has no end that says it is whole.
            Some(Err(error)) => Some((Err(error), (None, crc))),
            None => Some((Ok(end(&crc)), (None, crc))),
        }
    });
    let header = stream::iter([Ok::<_, axum::Error>(Bytes::from_static(&GZIP_HEADER))]);
    Body::from_stream(header.chain(pieces))
}

fn blocks(piece: &[u8]) -> Bytes {
    if piece.len() < FROM.into() {
        return stored(piece);
    }
    let mut compress = Compress::new(Compression::fast(), false);
    let mut packed = Vec::with_capacity(piece.len() + 64);
    let is_packed = compress.compress_vec(piece, &mut packed, FlushCompress::Sync).is_ok();
    // With room left nothing is held back.
    match is_packed && compress.total_in() == piece.len() as u64 && packed.len() < packed.capacity() {
        true => packed.into(),
        false => stored(piece),
    }
}

fn stored(piece: &[u8]) -> Bytes {
    let mut blocks = Vec::with_capacity(piece.len() + 5 * piece.len().div_ceil(STORED));
    for part in piece.chunks(STORED) {
        let length = u16::try_from(part.len()).expect("a block's length fits");
        blocks.push(0);
        blocks.extend(length.to_le_bytes());
        blocks.extend((!length).to_le_bytes());
        blocks.extend(part);
    }
    blocks.into()
}

fn end(crc: &Crc) -> Bytes {
    [&LAST_BLOCK[..], &crc.sum().to_le_bytes(), &crc.amount().to_le_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use http_body_util::BodyExt;
    use std::io::Read;

    fn pieces() -> Vec<Bytes> {
        let noise = (0..200_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8);
        let line = "data: {\"type\":\"delta\"}\n\n";
        vec![line.into(), line.repeat(5000).into(), Bytes::new(), noise.collect(), ":\n\n".into()]
    }

    #[test]
    fn a_stream_is_one_gzip_member_that_says_the_same() {
        let body = packed(Body::from_stream(stream::iter(pieces().into_iter().map(Ok::<_, axum::Error>))));
        let bytes = block_on(body.collect()).unwrap().to_bytes();
        let mut text = vec![];
        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut text).unwrap();
        assert_eq!(text, pieces().concat());
        assert!(bytes.len() < text.len() * 3 / 4, "{} of {}", bytes.len(), text.len());
    }

    #[test]
    fn each_piece_can_be_read_when_it_came() {
        let mut inflate = flate2::Decompress::new(false);
        for piece in pieces() {
            let mut text = Vec::with_capacity(piece.len() + 1);
            inflate.decompress_vec(&blocks(&piece), &mut text, flate2::FlushDecompress::Sync).unwrap();
            assert_eq!(text, piece);
        }
    }

    #[test]
    fn gzip_is_for_those_who_accept_it() {
        for (said, accepts) in [
            ("gzip", true),
            ("br, gzip;q=0.5", true),
            ("gzip;q=0, br", false),
            ("x-gzip", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(said))]);
            assert_eq!(accepts_gzip(&headers), accepts, "{said}");
        }
    }
}

//! Reads the server name from a TLS ClientHello (RFC 8446 §4.1.2, RFC 6066 §3) without answering it. The input is
//! hostile: every length is checked, the whole is bounded, and what is malformed is refused rather than guessed at.
//!
//! With Encrypted Client Hello only the outer name is seen. That name is also the one that is resolved and dialled, so
//! it decides which provider is reached; what is asked of that provider stays unseen, as with any TLS.

/// Of everything up to the end of the ClientHello.
pub(crate) const LONGEST: usize = 32 * 1024;
/// A fatal alert `access_denied`, which clients print.
pub(crate) const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];
const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const LONGEST_RECORD: usize = 16 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    /// At least this many bytes in total are needed to go on.
    Incomplete(usize),
    Complete(Option<String>),
    Invalid(&'static str),
}

/// Looks at what has arrived so far.
pub(crate) fn read_hello(bytes: &[u8]) -> Hello {
    match handshake(bytes) {
        Ok(message) => server_name(&message).map_or_else(Hello::Invalid, Hello::Complete),
        Err(other) => other,
    }
}

/// Joins the records' fragments until the first handshake message is whole; gives its body.
fn handshake(bytes: &[u8]) -> Result<Vec<u8>, Hello> {
    let mut message: Vec<u8> = Vec::new();
    let mut at = 0;
    loop {
        if let [kind, rest @ ..] = message.as_slice()
            && *kind != CLIENT_HELLO
        {
            let _ = rest;
            return Err(Hello::Invalid("not a ClientHello"));
        }
        if let [_, a, b, c, body @ ..] = message.as_slice() {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            if length > LONGEST {
                return Err(Hello::Invalid("the ClientHello is too long"));
            }
            if body.len() >= length {
                return Ok(body[..length].to_vec());
            }
        }
        let Some(header) = bytes.get(at..at + 5) else { return Err(incomplete(at + 5)) };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if header[0] != HANDSHAKE_RECORD || header[1] != 3 || length == 0 || length > LONGEST_RECORD {
            return Err(Hello::Invalid("not a TLS handshake"));
        }
        let end = at + 5 + length;
        let Some(fragment) = bytes.get(at + 5..end) else { return Err(incomplete(end)) };
        message.extend_from_slice(fragment);
        at = end;
    }
}

fn incomplete(needed: usize) -> Hello {
    if needed > LONGEST { Hello::Invalid("the ClientHello is too long") } else { Hello::Incomplete(needed) }
}

fn server_name(body: &[u8]) -> Result<Option<String>, &'static str> {
    let mut hello = Reader(body);
    hello.take(2 + 32)?; // version, random
    hello.vector8()?; // session id
    hello.vector16()?; // cipher suites
    hello.vector8()?; // compression methods
    if hello.0.is_empty() {
        return Ok(None);
    }
    let mut extensions = Reader(hello.vector16()?);
    if !hello.0.is_empty() {
        return Err("bytes after the extensions");
    }
    let mut name = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let content = extensions.vector16()?;
        if kind == SERVER_NAME && name.replace(host_name(content)?).is_some() {
            return Err("two server name extensions");
        }
    }
    Ok(name)
}

/// Exactly one name, of the only type there is.
fn host_name(content: &[u8]) -> Result<String, &'static str> {
    let mut content = Reader(content);
    let mut list = Reader(content.vector16()?);
    let kind = list.take(1)?[0];
    let name = list.vector16()?;
    if kind != 0 || !list.0.is_empty() || !content.0.is_empty() {
        return Err("the server name is malformed");
    }
    String::from_utf8(name.to_vec()).map_err(|_| "the server name is malformed")
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("a length exceeds its message")?;
        self.0 = rest;
        Ok(taken)
    }

    fn number16(&mut self) -> Result<u16, &'static str> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Result<&'a [u8], &'static str> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Result<&'a [u8], &'static str> {
        let length = self.number16()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// As a real client writes it.
    fn real_hello(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same handshake in records of `size` bytes.
    fn refragmented(hello: &[u8], size: usize) -> Vec<u8> {
        let fragments = hello[5..].chunks(size);
        fragments
            .flat_map(|part| {
                let length = u16::try_from(part.len()).unwrap().to_be_bytes();
                [&[22, 3, 1, length[0], length[1]], part].concat()
            })
            .collect()
    }

    #[test]
    fn the_name_of_a_real_client_is_read() {
        let hello = real_hello("index.example.com");
        assert_eq!(read_hello(&hello), Hello::Complete(Some("index.example.com".into())));
        let with_more = [hello.as_slice(), b"early data"].concat();
        assert_eq!(read_hello(&with_more), Hello::Complete(Some("index.example.com".into())));
    }

    #[test]
    fn a_client_that_names_an_address_sends_no_name() {
        assert_eq!(read_hello(&real_hello("192.0.2.1")), Hello::Complete(None));
    }

    #[test]
    fn fragments_are_joined_at_every_size() {
        let hello = real_hello("example.com");
        for size in [1, 2, 3, 5, 17, 100] {
            let parts = refragmented(&hello, size);
            assert_eq!(read_hello(&parts), Hello::Complete(Some("example.com".into())), "{size}");
        }
    }

    #[test]
    fn every_prefix_asks_for_more_than_it_has() {
        let hello = refragmented(&real_hello("example.com"), 50);
        for end in 0..hello.len() {
            match read_hello(&hello[..end]) {
                Hello::Incomplete(needed) => assert!(needed > end && needed <= hello.len()),
                other => panic!("{end}: {other:?}"),
            }
        }
    }

    #[test]
    fn damaged_hellos_never_panic_and_never_give_a_different_length() {
        let hello = real_hello("example.com");
        for at in 0..hello.len() {
            for value in [0u8, 1, 0x7f, 0xff] {
                let mut bytes = hello.clone();
                bytes[at] = value;
                let _ = read_hello(&bytes);
            }
        }
    }

    #[test]
    fn what_is_not_tls_is_refused() {
        assert!(matches!(read_hello(b"GET / HTTP/1.1\r\n"), Hello::Invalid(_)));
        assert!(matches!(read_hello(&[22, 3, 1, 0xff, 0xff]), Hello::Invalid(_)));
        assert!(matches!(read_hello(&[22, 3, 1, 0, 0]), Hello::Invalid(_)));
        assert!(matches!(read_hello(&[22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff]), Hello::Invalid(_)));
        assert!(matches!(read_hello(&[22, 3, 1, 0, 4, 2, 0, 0, 0]), Hello::Invalid(_)));
    }

    #[test]
    fn two_names_are_refused() {
        let name = |text: &str| {
            let length = u16::try_from(text.len()).unwrap();
            [&[0u8][..], &length.to_be_bytes(), text.as_bytes()].concat()
        };
        let list = [name("a.org"), name("b.org")].concat();
        let length = u16::try_from(list.len()).unwrap();
        assert!(host_name(&[&length.to_be_bytes()[..], &list].concat()).is_err());
    }
}

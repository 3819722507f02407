//! The key of a layer: a digest over everything that its contents depend on. What that is for each part of a build is
//! said in `build::keys`.

use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// 64 hexadecimal digits in lower case; also the layer's directory name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct LayerKey(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a layer key")]
pub struct InvalidKey;

impl LayerKey {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LayerKey {
    type Err = InvalidKey;
    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let is_hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if text.len() == 64 && is_hex { Ok(Self(text.to_owned())) } else { Err(InvalidKey) }
    }
}

impl fmt::Display for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for LayerKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Digest of named parts, each with its length, so that no two lists of parts run together.
#[derive(Clone, Debug)]
pub struct KeyHasher(Sha256);

impl KeyHasher {
    pub fn new(kind: &str) -> Self {
        Self(Sha256::new()).part("greenroom", kind)
    }

    #[must_use]
    pub fn part(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        for bytes in [name.as_bytes(), value.as_ref()] {
            self.0.update((bytes.len() as u64).to_be_bytes());
            self.0.update(bytes);
        }
        self
    }

    pub fn finish(self) -> LayerKey {
        use fmt::Write;
        let digest = self.0.finalize();
        LayerKey(digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        let one = KeyHasher::new("k").part("a", "bc").finish();
        assert_ne!(one, KeyHasher::new("k").part("ab", "c").finish());
        assert_ne!(one, KeyHasher::new("k").part("a", "b").part("c", "").finish());
        assert_eq!(one, one.to_string().parse().unwrap());
    }

    #[test]
    fn a_key_is_never_a_path() {
        for bad in ["", "..", "a/b", &"A".repeat(64), &"g".repeat(64)] {
            assert!(bad.parse::<LayerKey>().is_err());
        }
    }
}

//! Many layers as one, because every layer of a chain costs each start and each file that is not found. The new layer's key
//! covers the chain, so a second squash of the same chain finds it.

use super::{LayerStore, Result, at};
use crate::key::{KeyHasher, LayerKey};
use greenroom_sandbox::LayerCopy;
use std::path::Path;

/// A chain of so many layers is worth squashing.
pub const LONG_CHAIN: usize = 32;

/// The key of what a chain, lowest first, is squashed into.
pub fn squashed_key(chain: &[LayerKey]) -> LayerKey {
    let hasher = KeyHasher::new("squash");
    chain.iter().fold(hasher, |hasher, key| hasher.part("layer", key.as_str())).finish()
}

impl LayerStore {
    /// Publishes one layer that over anything is what the chain is, lowest first. The chain stays, for who stands on it.
    /// The checks' verdicts are those of the uppermost layer that has any. Copies everything: for a background thread,
    /// while a `Hold` keeps the chain.
    pub fn squash(&self, chain: &[LayerKey], step: &str, created_at_ms: i64) -> Result<LayerKey> {
        let key = squashed_key(chain);
        let _hold = self.hold(chain.iter().cloned().chain([key.clone()]));
        if self.get(&key).is_some() {
            return Ok(key);
        }
        let checks = chain.iter().rev().filter_map(|key| self.get(key)).map(|meta| meta.checks);
        let checks = checks.into_iter().find(|checks| !checks.is_empty()).unwrap_or_default();
        let builds = self.storage().builds();
        let unused =
            tempfile::Builder::new().prefix("squash-").tempdir_in(&builds).map_err(at("make", &builds))?;
        let target = unused.path().join("layer");
        let paths: Vec<_> = chain.iter().map(|key| self.path(key)).collect();
        let layers: Vec<&Path> = paths.iter().map(|path| path.as_path()).collect();
        LayerCopy::new(&layers, &target)
            .and_then(|mut copy| copy.update().and_then(|()| copy.finish()))
            .map_err(at("squash into", &target))?;
        self.publish(&key, &target, step, checks, created_at_ms)?;
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{key, made};
    use std::fs;

    #[test]
    fn a_squashed_chain_is_one_layer_and_squashed_once() {
        let data = tempfile::tempdir().unwrap();
        let store = LayerStore::open(data.path()).unwrap();
        let chain = ['a', 'b'].map(key);
        for (digit, text) in chain.iter().zip(["low", "high"]) {
            let layer = made(data.path(), text);
            fs::create_dir(layer.join("root")).unwrap();
            fs::write(layer.join("root").join(text), text).unwrap();
            store.publish(digit, &layer, text, Vec::new(), 1).unwrap();
        }
        let squashed = store.squash(&chain, "squashed", 2).unwrap();
        for text in ["low", "high"] {
            assert_eq!(fs::read_to_string(store.path(&squashed).join("root").join(text)).unwrap(), text);
        }
        assert_eq!(fs::read_to_string(store.path(&squashed).join("file")).unwrap(), "high");
        assert_eq!(store.squash(&chain, "squashed", 3).unwrap(), squashed);
        assert_eq!(store.get(&squashed).unwrap().created_at_ms, 2);
        assert_eq!(store.storage().builds().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_squash_that_fails_leaves_nothing() {
        let data = tempfile::tempdir().unwrap();
        let store = LayerStore::open(data.path()).unwrap();
        store.squash(&[key('a')], "squashed", 1).unwrap_err();
        assert_eq!(store.storage().builds().read_dir().unwrap().count(), 0);
        assert!(store.list().unwrap().is_empty());
    }
}

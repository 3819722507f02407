//! Which layers may go. Who stands on a layer says so: images by their manifests (the caller knows them), running builds and
//! sandboxes by a `Hold`. A collection is begun before its caller looks at the images, and spares whatever was found,
//! published, held or let go since: a build that ends in between has its manifest in time or its layers spared.

use super::{LayerStore, Result};
use crate::key::LayerKey;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the living process knows of its layers.
#[derive(Debug, Default)]
pub(super) struct Uses {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: HashMap<LayerKey, usize>,
    /// When each was last used, in steps of `now`. Emptied by every collection.
    touched: HashMap<LayerKey, u64>,
    now: u64,
}

impl Uses {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Changed by single calls, so it is whole even after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn touch(&self, key: &LayerKey) {
        let mut state = self.lock();
        let now = state.now;
        state.touched.insert(key.clone(), now);
    }
}

/// Keeps layers from being collected until it is dropped.
#[derive(Debug)]
pub struct Hold {
    uses: Arc<Uses>,
    keys: Mutex<Vec<LayerKey>>,
}

impl Hold {
    /// Holds one more, whether or not there is such a layer yet. Who looks for a layer holds it first: found is then kept.
    pub fn add(&self, key: &LayerKey) {
        *self.uses.lock().held.entry(key.clone()).or_default() += 1;
        self.keys().push(key.clone());
    }

    fn keys(&self) -> MutexGuard<'_, Vec<LayerKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let keys = std::mem::take(&mut *self.keys());
        let mut state = self.uses.lock();
        let now = state.now;
        for key in keys {
            if let Some(count) = state.held.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    state.held.remove(&key);
                }
            }
            state.touched.insert(key, now);
        }
    }
}

/// Begun before the caller asks which images are kept.
#[derive(Debug)]
pub struct Collection {
    store: LayerStore,
    begun: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    pub layers: usize,
    pub bytes: u64,
}

impl LayerStore {
    /// Keys that need not exist yet: a build holds what it is going to publish.
    pub fn hold(&self, keys: impl IntoIterator<Item = LayerKey>) -> Hold {
        let hold = Hold { uses: Arc::clone(self.uses()), keys: Mutex::default() };
        keys.into_iter().for_each(|key| hold.add(&key));
        hold
    }

    pub fn begin_collection(&self) -> Collection {
        let mut state = self.uses().lock();
        state.now += 1;
        Collection { store: self.clone(), begun: state.now }
    }
}

impl Collection {
    /// Removes the layers that no key of `live` names, that were made before `made_before_ms`, and that nobody used since
    /// the collection was begun. Blocking.
    pub fn remove_unused(self, live: &HashSet<LayerKey>, made_before_ms: i64) -> Result<Collected> {
        let mut collected = Collected::default();
        for layer in self.store.list()? {
            if live.contains(&layer.key) || layer.meta.created_at_ms >= made_before_ms {
                continue;
            }
            // Held while it is renamed away, so that nobody finds it meanwhile.
            let state = self.store.uses().lock();
            let is_used = state.held.contains_key(&layer.key)
                || state.touched.get(&layer.key).is_some_and(|touched| *touched >= self.begun);
            if is_used {
                continue;
            }
            self.store.remove(&layer.key)?;
            collected.layers += 1;
            collected.bytes += layer.meta.size_bytes;
        }
        let begun = self.begun;
        self.store.uses().lock().touched.retain(|_, touched| *touched >= begun);
        Ok(collected)
    }
}

/// An image as the quota sees it.
#[derive(Clone, Debug)]
pub struct StoredImage<Id> {
    pub id: Id,
    pub created_at_ms: i64,
    pub layers: Vec<LayerKey>,
    /// The newest good one of its repository, or one that a session stands on: never removed for space.
    pub is_needed: bool,
}

/// Which images have to go so that the layers fit into `quota_bytes`: oldest first, needed ones never. When even that is
/// not enough, all that may go are answered with `false`: no build should begin.
pub fn over_quota<Id: Clone>(
    images: &[StoredImage<Id>],
    sizes: &HashMap<LayerKey, u64>,
    quota_bytes: u64,
) -> (Vec<Id>, bool) {
    let mut users: HashMap<&LayerKey, usize> = HashMap::new();
    for key in images.iter().flat_map(|image| &image.layers) {
        *users.entry(key).or_default() += 1;
    }
    let size = |key: &LayerKey| sizes.get(key).copied().unwrap_or(0);
    let mut total: u64 = users.keys().map(|key| size(key)).sum();
    let mut candidates: Vec<_> = images.iter().filter(|image| !image.is_needed).collect();
    candidates.sort_by_key(|image| image.created_at_ms);
    let mut gone = Vec::new();
    for image in candidates {
        if total <= quota_bytes {
            break;
        }
        for key in &image.layers {
            let count = users.entry(key).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                total = total.saturating_sub(size(key));
            }
        }
        gone.push(image.id.clone());
    }
    (gone, total <= quota_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{key, made};

    fn published(store: &LayerStore, data: &std::path::Path, digit: char) -> LayerKey {
        let key = key(digit);
        store.publish(&key, &made(data, &digit.to_string()), "s", Vec::new(), 1).unwrap();
        key
    }

    #[test]
    fn layers_that_nothing_names_are_collected_and_others_stay() {
        let data = tempfile::tempdir().unwrap();
        let store = LayerStore::open(data.path()).unwrap();
        let [live, young, gone] = ['a', 'b', 'c'].map(|digit| published(&store, data.path(), digit));
        store.publish(&key('d'), &made(data.path(), "d"), "s", Vec::new(), 99).unwrap();
        store.remove(&young).unwrap();
        let collection = store.begin_collection();
        let collected = collection.remove_unused(&HashSet::from([live.clone()]), 50).unwrap();
        assert_eq!(collected.layers, 1);
        assert!(store.get(&live).is_some() && store.get(&key('d')).is_some() && store.get(&gone).is_none());
    }

    #[test]
    fn a_layer_that_a_build_holds_or_let_go_meanwhile_is_spared_until_the_next_collection() {
        let data = tempfile::tempdir().unwrap();
        let store = LayerStore::open(data.path()).unwrap();
        let layer = published(&store, data.path(), 'a');
        let hold = store.hold([layer.clone()]);
        store.begin_collection().remove_unused(&HashSet::new(), 50).unwrap();
        assert!(store.get(&layer).is_some());
        let collection = store.begin_collection();
        drop(hold);
        collection.remove_unused(&HashSet::new(), 50).unwrap();
        assert!(store.get(&layer).is_some(), "its build may have ended after the images were asked for");
        store.begin_collection().remove_unused(&HashSet::new(), 50).unwrap();
        assert!(store.get(&layer).is_none());
    }

    #[test]
    fn a_layer_that_a_build_found_meanwhile_is_spared() {
        let data = tempfile::tempdir().unwrap();
        let store = LayerStore::open(data.path()).unwrap();
        let layer = published(&store, data.path(), 'a');
        let collection = store.begin_collection();
        assert!(store.get(&layer).is_some());
        collection.remove_unused(&HashSet::new(), 50).unwrap();
        assert!(store.get(&layer).is_some());
    }

    #[test]
    fn the_oldest_images_go_for_space_and_needed_ones_never() {
        let image = |id, created_at_ms, layers: &str, is_needed| StoredImage {
            id,
            created_at_ms,
            layers: layers.chars().map(key).collect(),
            is_needed,
        };
        let sizes = "abcd".chars().map(|digit| (key(digit), 10)).collect();
        let images = [
            image(1, 1, "ab", false),
            image(2, 2, "ac", false),
            image(3, 3, "ad", true),
            image(4, 0, "a", true),
        ];
        assert_eq!(over_quota(&images, &sizes, 40), (vec![], true));
        assert_eq!(over_quota(&images, &sizes, 30), (vec![1], true));
        assert_eq!(over_quota(&images, &sizes, 20), (vec![1, 2], true));
        assert_eq!(over_quota(&images, &sizes, 19), (vec![1, 2], false));
    }
}

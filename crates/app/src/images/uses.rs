//! Images that something of this process stands on before any log says so: a session's first sandbox in the making, a warm
//! one. Whoever takes an image holds it first; whoever removes images begins, looks at the logs, and then may remove only
//! those that nobody held or let go since it began.

use greenroom_domain::ImageId;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Debug, Default)]
pub(crate) struct ImageUses(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    held: HashMap<ImageId, usize>,
    /// Held or let go since the removal that is under way began.
    touched: HashSet<ImageId>,
    leaving: HashSet<ImageId>,
}

/// Keeps an image until it is dropped.
#[derive(Debug)]
pub(crate) struct ImageUse {
    uses: ImageUses,
    image: ImageId,
}

impl Drop for ImageUse {
    fn drop(&mut self) {
        let mut state = self.uses.lock();
        if let Some(count) = state.held.get_mut(&self.image) {
            *count -= 1;
            if *count == 0 {
                state.held.remove(&self.image);
            }
        }
        state.touched.insert(self.image);
    }
}

impl ImageUses {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Changed by single calls, so it is whole even after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None`: it is being removed.
    pub(crate) fn hold(&self, image: ImageId) -> Option<ImageUse> {
        let mut state = self.lock();
        if state.leaving.contains(&image) {
            return None;
        }
        *state.held.entry(image).or_default() += 1;
        state.touched.insert(image);
        Some(ImageUse { uses: self.clone(), image })
    }

    /// Before the logs are asked. One removal at a time.
    pub(super) fn begin_removal(&self) {
        let mut state = self.lock();
        state.touched.clear();
        state.leaving.clear();
    }

    /// Those that may go now: nobody can hold them from here on, until the next removal begins.
    pub(super) fn part_with(&self, images: Vec<ImageId>) -> Vec<ImageId> {
        let mut state = self.lock();
        let is_used = |image: &ImageId| state.held.contains_key(image) || state.touched.contains(image);
        let gone: Vec<ImageId> = images.into_iter().filter(|image| !is_used(image)).collect();
        state.leaving.extend(&gone);
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(number: u64) -> ImageId {
        ImageId::from_parts(number, 0)
    }

    #[test]
    fn what_is_held_or_was_since_the_removal_began_stays() {
        let uses = ImageUses::default();
        let old = uses.hold(image(1)).unwrap();
        drop(uses.hold(image(4)));
        uses.begin_removal();
        let new = uses.hold(image(2)).unwrap();
        drop(new);
        let all = (1..=4).map(image).collect();
        assert_eq!(uses.part_with(all), [image(3), image(4)]);
        assert!(uses.hold(image(3)).is_none() && uses.hold(image(2)).is_some());
        drop(old);
        uses.begin_removal();
        assert_eq!(uses.part_with(vec![image(1)]), [image(1)]);
    }
}

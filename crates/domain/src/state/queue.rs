//! The prompts that wait: who may do what to whose, and which is answered next. The rules in words are at
//! [`Command`](crate::Command).
//!
//! Each waiting prompt becomes a turn of its own, in the queue's order, so that every turn begins in one person's name.
//! Those with `insert` delivery join the running turn at its next step, if it has one; until then they keep their place.

use super::{Asking, Ids, QueuedPrompt, SessionState, check_prompt, start_turn};
use crate::event::Event;
use crate::{Delivery, ErrorCode, Problem, PromptId, TurnId};

impl SessionState {
    pub(super) fn decide_edit(
        &self,
        prompt: PromptId,
        text: &str,
        asking: &Asking,
    ) -> Result<Vec<Event>, Problem> {
        check_prompt(text)?;
        let (_, queued) = self.queued(prompt)?;
        if !queued.is_of(asking) {
            return Err(Problem::new(
                ErrorCode::NotAllowed,
                format!("Only {} can change the words of this prompt.", queued.author.name),
            )
            .hint("What comes of a prompt is committed in its author's name. Send one of your own."));
        }
        if queued.text == text {
            return Ok(vec![]);
        }
        Ok(vec![Event::PromptEdited { prompt, text: text.to_owned(), by: asking.author.on_behalf_of }])
    }

    pub(super) fn decide_delivery(
        &self,
        prompt: PromptId,
        delivery: Delivery,
        asking: &Asking,
    ) -> Result<Vec<Event>, Problem> {
        let (_, queued) = self.changeable(prompt, asking)?;
        if queued.delivery == delivery {
            return Ok(vec![]);
        }
        Ok(vec![Event::DeliverySet { prompt, delivery, by: asking.author.on_behalf_of }])
    }

    pub(super) fn decide_withdraw(&self, prompt: PromptId, asking: &Asking) -> Result<Vec<Event>, Problem> {
        self.changeable(prompt, asking)?;
        Ok(vec![Event::PromptWithdrawn { prompt, by: asking.author.on_behalf_of }])
    }

    pub(super) fn decide_move(
        &self,
        prompt: PromptId,
        before: Option<PromptId>,
        asking: &Asking,
    ) -> Result<Vec<Event>, Problem> {
        let (from, _) = self.changeable(prompt, asking)?;
        let to = match before {
            Some(before) => self.queued(before)?.0,
            None => self.queue.len(),
        };
        if to == from || to == from + 1 {
            return Ok(vec![]);
        }
        // Empty when it moves towards the end.
        let passed = self.queue.get(to..from).unwrap_or_default();
        match passed.iter().find(|other| !other.is_of(asking)) {
            Some(other) if !asking.is_admin() => Err(Problem::new(
                ErrorCode::NotAllowed,
                format!("Your prompt cannot go ahead of one that {} sent.", other.author.name),
            )
            .hint("Let it join the running turn instead, or ask an admin to move it.")),
            _ => Ok(vec![Event::PromptMoved { prompt, before, by: asking.author.on_behalf_of }]),
        }
    }

    /// Empty when nothing is held back.
    pub(super) fn decide_release(&self, asking: &Asking, ids: Ids) -> Vec<Event> {
        if !self.queue.iter().any(|queued| queued.is_held) {
            return vec![];
        }
        let (by, name) = (asking.author.on_behalf_of, asking.author.name.clone());
        let mut events = vec![Event::QueueReleased { by, name }];
        if let (None, Some(first)) = (&self.running, self.queue.first()) {
            events.extend(start_turn(ids.turn, vec![first.prompt], asking.model.as_deref()));
        }
        events
    }

    /// A waiting prompt and its place.
    fn queued(&self, prompt: PromptId) -> Result<(usize, &QueuedPrompt), Problem> {
        self.queue.iter().enumerate().find(|(_, queued)| queued.prompt == prompt).ok_or_else(|| {
            Problem::new(ErrorCode::PromptNotQueued, "This prompt is not waiting any more.")
                .hint("A prompt can be changed until its turn begins; stop the turn and send another.")
        })
    }

    /// A waiting prompt that is the asking person's, or any for an admin.
    fn changeable(&self, prompt: PromptId, asking: &Asking) -> Result<(usize, &QueuedPrompt), Problem> {
        let found = self.queued(prompt)?;
        if found.1.is_of(asking) || asking.is_admin() {
            return Ok(found);
        }
        Err(Problem::new(
            ErrorCode::NotAllowed,
            format!("Only {} or an admin can do this to this prompt.", found.1.author.name),
        ))
    }

    /// What follows a finished turn: the first waiting prompt that is not held back becomes the next one. Empty while a
    /// turn runs.
    pub fn next_turn(&self, turn: TurnId, model: Option<&str>) -> Vec<Event> {
        match self.queue.iter().find(|queued| !queued.is_held) {
            Some(first) if self.running.is_none() => start_turn(turn, vec![first.prompt], model),
            _ => vec![],
        }
    }

    /// Waiting prompts that asked to join the running turn, in the queue's order.
    pub fn inserts(&self) -> Vec<Event> {
        let Some(running) = &self.running else { return vec![] };
        self.queue
            .iter()
            .filter(|queued| queued.delivery == Delivery::Insert && !queued.is_held)
            .map(|queued| Event::PromptInserted { turn: running.turn, prompt: queued.prompt })
            .collect()
    }

    pub(super) fn step_queue(&mut self, event: &Event) {
        match event {
            Event::PromptAccepted { prompt, author, text, delivery, attachments } => {
                self.queue.push(QueuedPrompt {
                    prompt: *prompt,
                    author: author.clone(),
                    text: text.clone(),
                    delivery: *delivery,
                    is_held: false,
                    attachments: attachments.clone(),
                });
            }
            Event::PromptEdited { prompt, text, .. } => {
                self.change_queued(*prompt, |queued| queued.text.clone_from(text));
            }
            Event::DeliverySet { prompt, delivery, .. } => {
                self.change_queued(*prompt, |queued| queued.delivery = *delivery);
            }
            Event::PromptMoved { prompt, before, .. } => self.move_queued(*prompt, *before),
            Event::PromptWithdrawn { prompt, .. } => self.queue.retain(|queued| queued.prompt != *prompt),
            Event::QueueHeld { .. } => self.queue.iter_mut().for_each(|queued| queued.is_held = true),
            Event::QueueReleased { .. } => self.queue.iter_mut().for_each(|queued| queued.is_held = false),
            _ => {}
        }
    }

    fn change_queued(&mut self, prompt: PromptId, change: impl FnOnce(&mut QueuedPrompt)) {
        if let Some(queued) = self.queue.iter_mut().find(|queued| queued.prompt == prompt) {
            change(queued);
        }
    }

    fn move_queued(&mut self, prompt: PromptId, before: Option<PromptId>) {
        for moved in self.take_queued(&[prompt]) {
            let place = self.queue.iter().position(|queued| Some(queued.prompt) == before);
            self.queue.insert(place.unwrap_or(self.queue.len()), moved);
        }
    }

    pub(super) fn take_queued(&mut self, prompts: &[PromptId]) -> Vec<QueuedPrompt> {
        let (taken, left) =
            std::mem::take(&mut self.queue).into_iter().partition(|q| prompts.contains(&q.prompt));
        self.queue = left;
        taken
    }
}

impl QueuedPrompt {
    fn is_of(&self, asking: &Asking) -> bool {
        self.author.on_behalf_of == asking.author.on_behalf_of
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;

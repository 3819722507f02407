//! What a turn asks of people: put into the log once for each call, answered by the first command that does, or closed when
//! its time is up. The turn waits outside the mailbox.

use super::{Flow, SessionActor};
use crate::log::LogError;
use crate::message::Message;
use greenroom_domain::state::AskEnd;
use greenroom_domain::{AskId, Asked, Durability, Event, TurnId};
use std::time::Duration;
use tokio::sync::oneshot;

/// After a restart people have so long at least, however long ago they were asked.
const AFTER_RESTART: Duration = Duration::from_secs(60);

/// What is asked for a call.
#[derive(Debug)]
pub(crate) struct NewAsk {
    pub(crate) call: String,
    pub(crate) of: Asked,
    /// How long people are waited for.
    pub(crate) patience: Duration,
}

/// Who waits for the end of an ask. At most one for each open ask of the running turn.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Vec<(AskId, oneshot::Sender<AskEnd>)>);

impl SessionActor {
    /// The same call again is told what became of its ask, or goes on waiting: so it is after a restart.
    pub(super) async fn open_ask(
        &mut self,
        turn: TurnId,
        new: NewAsk,
        reply: oneshot::Sender<AskEnd>,
    ) -> Flow {
        if self.state.running.as_ref().is_none_or(|running| running.turn != turn) {
            return Flow::Continue;
        }
        let now_ms = self.clock.now_ms();
        if let Some(known) = self.state.ask_of_call(&new.call) {
            let rest_ms = u64::try_from(known.expires_at_ms - now_ms).unwrap_or(0);
            let rest = Duration::from_millis(rest_ms).max(AFTER_RESTART.min(new.patience));
            self.wait_for(turn, known.ask, rest, reply);
            return Flow::Continue;
        }
        if self.state.asks_too_much() {
            let _ = reply.send(AskEnd::Expired);
            return Flow::Continue;
        }
        let ask = AskId::from_parts(u64::try_from(now_ms).unwrap_or(0), self.clock.random());
        let patience_ms = i64::try_from(new.patience.as_millis()).unwrap_or(i64::MAX);
        let expires_at_ms = now_ms.saturating_add(patience_ms);
        let opened = Event::AskOpened { turn, ask, call: new.call, of: new.of, expires_at_ms };
        let committed = self.commit(vec![opened], Durability::Synced, None).await;
        match &committed {
            Ok(()) => self.wait_for(turn, ask, new.patience, reply),
            // Without an answer the turn gives up; this says how it ends.
            Err(LogError::Full) => self.starved.turn = Some(turn),
            Err(_) => {}
        }
        self.flow_after_log(committed)
    }

    pub(super) async fn ask_overdue(&mut self, turn: TurnId, ask: AskId) -> Flow {
        let expired = self.commit(self.state.decide_expiry(turn, ask), Durability::Synced, None).await;
        if matches!(expired, Err(LogError::Full)) {
            self.watch_ask(turn, ask, super::SPACE_PAUSE);
        }
        self.flow_after_log(expired)
    }

    fn wait_for(&mut self, turn: TurnId, ask: AskId, rest: Duration, reply: oneshot::Sender<AskEnd>) {
        self.waiting.0.push((ask, reply));
        self.watch_ask(turn, ask, rest);
        self.tell_waiting();
    }

    /// After every append that may have ended an ask. Whoever waited for one of a turn that is over is told nothing more.
    pub(super) fn tell_waiting(&mut self) {
        for (ask, reply) in std::mem::take(&mut self.waiting.0) {
            match self.state.ask(ask).map(|standing| standing.end.clone()) {
                Some(None) if !reply.is_closed() => self.waiting.0.push((ask, reply)),
                Some(Some(end)) => drop(reply.send(end)),
                Some(None) | None => {}
            }
        }
    }

    fn watch_ask(&self, turn: TurnId, ask: AskId, rest: Duration) {
        let mailbox = self.messages.clone();
        tokio::spawn(async move {
            tokio::time::sleep(rest).await;
            if let Some(mailbox) = mailbox.upgrade() {
                let _ = mailbox.send(Message::AskOverdue { turn, ask }).await;
            }
        });
    }
}

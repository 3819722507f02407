//! A session's stream for one connection: its log, then live, and beside it who is here and what the person's other
//! clients do. What is not of the log is always the newest and may come between any two entries.

use crate::own::{Own, draft_of};
use crate::rooms::Seat;
use crate::{App, Result, SharedFrame};
use greenroom_directory::DraftPlace;
use greenroom_domain::{Person, PersonId, Right, SessionId};
use greenroom_session::{Live, Subscription};
use greenroom_wire::{ClientKind, DraftAnswer, Frame, ReadPosition};
use std::collections::VecDeque;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Entries.
const WINDOW_LIMIT: u32 = 1000;

/// A session's stream in the contract's frames. While it lives, its person is here.
#[derive(Debug)]
pub struct FrameStream {
    app: App,
    person: PersonId,
    session: SessionId,
    inner: Subscription,
    seat: Seat,
    own: broadcast::Receiver<Own>,
    /// What the person's clients did was missed, or was never told: it is read again.
    must_read_own: bool,
    waiting: VecDeque<Frame>,
}

impl App {
    /// The person's own position and draft, everything after `after`, then live; with a window a snapshot and the newest
    /// entries, for who is further behind.
    pub async fn subscribe(
        &self,
        caller: &Person,
        id: SessionId,
        after: u64,
        window: Option<u32>,
        client: ClientKind,
    ) -> Result<FrameStream> {
        let handle = self.open(caller, Right::View, id).await?;
        self.warm_model_of(&handle);
        // Before anything is read, so that nothing is missed.
        let own = self.inner.own.follow(caller.id);
        let known = self.inner.directory.readers(id, crate::rooms::NAMED as u32);
        let log = async {
            match window {
                Some(window) => handle.subscribe_window(after, window.clamp(1, WINDOW_LIMIT).into()).await,
                None => handle.subscribe(after).await,
            }
        };
        let (inner, known) = tokio::join!(log, known);
        let (inner, known) = (inner?, known?);
        let seat = self.inner.enter_room(id, caller, client, inner.head_seq, known);
        let mut stream = FrameStream {
            app: self.clone(),
            person: caller.id,
            session: id,
            inner,
            seat,
            own,
            must_read_own: false,
            waiting: VecDeque::new(),
        };
        stream.read_own().await?;
        Ok(stream)
    }
}

impl FrameStream {
    pub fn head_seq(&self) -> u64 {
        self.inner.head_seq
    }

    pub fn epoch(&self) -> u64 {
        self.inner.epoch
    }

    /// The next frame; `None` at the end. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<SharedFrame>> {
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                if self.waiting.is_empty() {
                    // A quiet stream holds no room for frames.
                    self.waiting = VecDeque::new();
                }
                return Some(Ok(frame.into()));
            }
            if self.must_read_own {
                // Seldom, and large: no part of every stream's own size.
                if let Err(problem) = Box::pin(self.read_own()).await {
                    return Some(Err(problem));
                }
                continue;
            }
            tokio::select! {
                live = self.inner.next() => return match live {
                    Ok(told) => told.map(|told| {
                        if let Live::Entry(entry) = told.live() {
                            self.seat.saw(entry.seq);
                        }
                        Ok(SharedFrame::from(&told))
                    }),
                    Err(problem) => Some(Err(problem)),
                },
                Ok(()) = self.seat.presence.changed() => {
                    let presence = (**self.seat.presence.borrow_and_update()).clone();
                    return Some(Ok(Frame::Presence(presence).into()));
                }
                Ok(()) = self.seat.readers.changed() => {
                    let readers = (**self.seat.readers.borrow_and_update()).clone();
                    return Some(Ok(Frame::Readers(readers).into()));
                }
                own = self.own.recv() => match own {
                    Ok(own) => self.waiting.extend(self.frame_of_own(own)),
                    Err(RecvError::Lagged(_)) => self.must_read_own = true,
                    Err(RecvError::Closed) => return None,
                },
            }
        }
    }

    fn frame_of_own(&self, own: Own) -> Option<Frame> {
        match own {
            Own::Draft(draft) if draft.session == Some(self.session) => {
                Some(Frame::Draft(DraftAnswer { draft: (*draft).clone(), is_refused: false }))
            }
            Own::Read(position) if position.session == self.session => Some(Frame::Read(position)),
            _ => None,
        }
    }

    async fn read_own(&mut self) -> Result<()> {
        let (directory, person, session) = (&self.app.inner.directory, self.person, self.session);
        let place = DraftPlace::Session(session);
        let (seq, draft) =
            tokio::join!(directory.read_position(person, session), directory.draft(person, place));
        let draft = draft_of(Some(session), None, draft?);
        let seq = seq?.unwrap_or(0);
        self.waiting.push_back(Frame::Read(ReadPosition { session, seq }));
        self.waiting.push_back(Frame::Draft(DraftAnswer { draft, is_refused: false }));
        self.must_read_own = false;
        Ok(())
    }
}

//! A session among those that its agent, or that of its parent, began: as the index has them.

use crate::access::onlooker;
use crate::sessions::view_of_row;
use crate::{App, Result};
use greenroom_domain::{Person, Right, SessionId};
use greenroom_wire::{SessionTree, SessionView};

/// Sessions that are followed upwards, and down again: more than any setting should allow.
const LEVELS: usize = 8;
const SESSIONS: usize = 500;

impl App {
    /// The whole tree that the session is in, as far as the caller may see it: parents before their children, each level
    /// oldest first. At most 500 sessions.
    pub async fn session_tree(&self, caller: &Person, id: SessionId) -> Result<SessionTree> {
        let handle = self.open(caller, Right::View, id).await?;
        let own = self.inner.session_view(caller, &handle).await?;
        let mut root = own.clone();
        for _ in 0..LEVELS {
            let Some(parent) = root.parent else { break };
            let Ok(handle) = self.open(caller, Right::View, parent).await else { break };
            root = self.inner.session_view(caller, &handle).await?;
        }
        let (root_id, mut level) = (root.id, vec![root.id]);
        let mut sessions: Vec<SessionView> = vec![root];
        for _ in 0..LEVELS {
            let rows = self.inner.directory.children_of(onlooker(caller), level).await?;
            if rows.is_empty() || sessions.len() >= SESSIONS {
                break;
            }
            level = rows.iter().map(|row| row.id).collect();
            sessions.extend(rows.into_iter().map(view_of_row));
        }
        // The index may be a moment behind.
        match sessions.iter_mut().find(|session| session.id == id) {
            Some(known) => *known = own,
            None => sessions.push(own),
        }
        sessions.truncate(SESSIONS);
        Ok(SessionTree { root: root_id, sessions })
    }
}

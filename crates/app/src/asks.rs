//! What the agent asks people: the rules that make it ask, and what is open. Asks are opened by the turn and answered by
//! commands.

use crate::{App, Inner, Result};
use greenroom_agent::{Permissions, Unattended};
use greenroom_domain::access::unknown_session;
use greenroom_domain::permission::{self, Action, Rule};
use greenroom_domain::state::StandingAsk;
use greenroom_domain::{Person, Right, SessionId, SessionState};
use greenroom_forge::Error;
use greenroom_wire::AskView;
use serde::Deserialize;
use std::time::Duration;

/// A repository's own rules, at its base branch's head: they are reviewed as everything else there.
const RULES_FILE: &str = ".greenroom/permissions.toml";
const RULES_LIMIT_BYTES: u64 = 64 * 1024;

/// What the installation says about asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskSettings {
    /// How long people are waited for.
    pub patience: Duration,
    pub unattended: Unattended,
    /// The last one that matches counts; without any everything is allowed.
    pub rules: Vec<Rule>,
}

impl Default for AskSettings {
    fn default() -> Self {
        Self { patience: Duration::from_secs(10 * 60), unattended: Unattended::default(), rules: vec![] }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesFile {
    #[serde(default)]
    permissions: Vec<Rule>,
}

impl App {
    /// What waits for people in a session, oldest first.
    pub async fn asks(&self, caller: &Person, id: SessionId) -> Result<Vec<AskView>> {
        let handle = self.open(caller, Right::View, id).await?;
        handle.look(|state| state.open_asks().map(view).collect()).await
    }
}

fn view(standing: &StandingAsk) -> AskView {
    AskView {
        ask: standing.ask,
        of: standing.of.clone(),
        opened_at_ms: standing.opened_at_ms,
        expires_at_ms: standing.expires_at_ms,
    }
}

impl Inner {
    /// For a turn that begins now.
    pub(crate) fn permissions(&self, state: &SessionState, repository: &[Rule]) -> Permissions {
        let AskSettings { unattended, rules, .. } = &self.config.asks;
        Permissions {
            installation: rules.clone(),
            repository: repository.to_vec(),
            grants: state.grants.clone(),
            unattended: *unattended,
        }
    }

    /// Of the repository; and a remark for the agent where they cannot be used: then everything asks.
    pub(crate) async fn repository_rules(&self, state: &SessionState) -> Result<(Vec<Rule>, Option<String>)> {
        let origin = state.origin.as_ref().ok_or_else(unknown_session)?;
        let Some(head) = self.forge.branch_head(origin.repository, &origin.base_branch).await? else {
            return Ok((vec![], None));
        };
        let read = self.forge.read_file(origin.repository, &head, RULES_FILE, RULES_LIMIT_BYTES).await;
        let parsed = match read {
            Ok(None) => return Ok((vec![], None)),
            Ok(Some(bytes)) => parse(&bytes),
            Err(Error::Refused(problem)) => Err(problem.message),
            Err(error) => return Err(error.into()),
        };
        Ok(match parsed {
            Ok(rules) => (rules, None),
            Err(reason) => {
                let everything = || "*".to_owned();
                let asks = Rule { permission: everything(), pattern: everything(), action: Action::Ask };
                let remark = format!(
                    "{RULES_FILE} cannot be used, so every call asks people until it is repaired: {reason}"
                );
                (vec![asks], Some(remark))
            }
        })
    }
}

fn parse(bytes: &[u8]) -> std::result::Result<Vec<Rule>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no text.".to_owned())?;
    let file: RulesFile = toml::from_str(text).map_err(|error| error.message().replace('\n', "; "))?;
    permission::check(&file.permissions)?;
    Ok(file.permissions)
}

#[cfg(test)]
mod tests;

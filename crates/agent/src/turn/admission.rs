//! What is between a call and its run: the rules, and people where the rules or the call itself want them. A call that waits
//! here has not begun: after a restart it waits on, and its intent is written only when it may run.

use super::calls::{Plan, Planned};
use super::{Turn, failed};
use crate::permissions::{Unattended, Verdict};
use crate::ports::TurnEnded;
use crate::tools::{Call, question};
use greenroom_domain::event::{Durability, ToolOutcome, TurnOutcome};
use greenroom_domain::permission::Action;
use greenroom_domain::state::AskEnd;
use greenroom_domain::{Answer, Asked, ErrorCode, Problem};

impl Turn {
    /// Calls that may not run are answered instead. The outcome is the turn's, where it ends here.
    pub(super) async fn admit(&mut self, group: &mut [Planned]) -> Result<Option<TurnOutcome>, TurnEnded> {
        for at in 0..group.len() {
            if let Some(end) = self.admit_call(&mut group[at]).await? {
                group[at..].iter_mut().for_each(|planned| planned.call_off(&end));
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    async fn admit_call(&mut self, planned: &mut Planned) -> Result<Option<TurnOutcome>, TurnEnded> {
        let Plan::Run(call) = &planned.plan else { return Ok(None) };
        let verdict = self.context.permissions.judge(&call.needs(&planned.name));
        if verdict.action == Action::Deny {
            planned.plan = Plan::Answer(ToolOutcome::Failed, denied_by_rules(&verdict));
            return Ok(None);
        }
        if let Call::Question(input) = call {
            let (input, id) = (input.clone(), planned.id.clone());
            let asked = match question::asked(&input) {
                Ok(asked) => asked,
                Err(words) => {
                    planned.plan = Plan::Answer(ToolOutcome::Failed, words);
                    return Ok(None);
                }
            };
            return Ok(match self.ask_people(&id, asked).await? {
                Ok(end) => {
                    let (outcome, text) = question::told(&input, &end);
                    planned.plan = Plan::Answer(outcome, text);
                    self.after_silence(&end)
                }
                Err(halted) => Some(halted),
            });
        }
        if verdict.action == Action::Allow {
            return Ok(None);
        }
        let asked = Asked::Permission {
            permission: call.needs(&planned.name).permission,
            title: planned.title.clone(),
            subjects: verdict.subjects,
            grants: verdict.grants.clone(),
        };
        let end = match self.ask_people(&planned.id.clone(), asked).await? {
            Ok(end) => end,
            Err(halted) => return Ok(Some(halted)),
        };
        match &end {
            AskEnd::Answered { answer: Answer::Once {}, .. } => {}
            AskEnd::Answered { answer: Answer::Always {}, .. } => {
                self.context.permissions.grants.extend(verdict.grants);
            }
            end => planned.plan = Plan::Answer(ToolOutcome::Failed, denied_by_people(end)),
        }
        Ok(self.after_silence(&end))
    }

    /// Waits for people, without time of the turn's budget passing. What the call is part of is durable before.
    async fn ask_people(&mut self, call: &str, of: Asked) -> Result<Result<AskEnd, TurnOutcome>, TurnEnded> {
        self.flush(Durability::Synced).await?;
        let from_ms = self.context.clock.now_ms();
        let waited = self.halt.unless_stopped(self.context.log.ask_people(call, of)).await;
        self.waits(from_ms);
        match waited {
            Ok(end) => Ok(Ok(end?)),
            Err(halted) => Ok(Err(self.halted(halted))),
        }
    }

    fn waits(&mut self, from_ms: i64) {
        let waited_ms = u64::try_from(self.context.clock.now_ms() - from_ms).unwrap_or(0);
        self.waited_ms += waited_ms;
        self.halt.extend(waited_ms);
    }

    fn after_silence(&self, end: &AskEnd) -> Option<TurnOutcome> {
        let ends = *end == AskEnd::Expired && self.context.permissions.unattended == Unattended::EndTurn;
        ends.then(|| {
            failed(
                Problem::new(ErrorCode::Unattended, "Nobody answered what the agent asked.")
                    .hint("Send a prompt with the answer, and the agent goes on."),
            )
        })
    }
}

fn denied_by_rules(verdict: &Verdict) -> String {
    format!(
        "Not allowed, so nothing was run: the rules of this installation or repository deny {}. Do it another way, or say \
         what you would need.",
        quoted(&verdict.subjects)
    )
}

fn denied_by_people(end: &AskEnd) -> String {
    match end {
        AskEnd::Answered { answer: Answer::Deny { feedback }, name, .. } => {
            let said = feedback.as_deref().map(str::trim).filter(|said| !said.is_empty());
            let said = said.map_or_else(String::new, |said| format!(" They said: {said}"));
            format!("Not allowed, so nothing was run: {name} denied this call.{said}")
        }
        _ => "Not allowed, so nothing was run: this needs a person's leave, and nobody answered in time. Do it another way, \
             or go on without it and say what is left to do."
            .to_owned(),
    }
}

fn quoted(subjects: &[String]) -> String {
    match subjects {
        [] => "this call".to_owned(),
        subjects => subjects.iter().map(|subject| format!("`{subject}`")).collect::<Vec<_>>().join(", "),
    }
}

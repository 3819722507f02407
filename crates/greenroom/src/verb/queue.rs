//! `session queue …`

use super::{Desk, prompt_text};
use crate::cli::Queue;
use crate::exit::{Exit, Failure};
use crate::render::table::Table;
use crate::render::text::one_line;
use greenroom_client::new_key;
use greenroom_domain::{Command, Delivery, SessionId};
use greenroom_wire::QueuedPromptView;

pub(crate) async fn perform(desk: &Desk, verb: Queue) -> Result<Exit, Failure> {
    let (session, command, said) = match verb {
        Queue::List { session } => return list(desk, session).await,
        Queue::Edit { session, prompt, text } => {
            let text = prompt_text(text)?;
            (session, Command::EditPrompt { prompt, text }, "The prompt is changed.")
        }
        Queue::Move { session, prompt, before } => {
            (session, Command::MovePrompt { prompt, before }, "The prompt is moved.")
        }
        Queue::Insert { session, prompt } => {
            let command = Command::SetDelivery { prompt, delivery: Delivery::Insert };
            (session, command, "The prompt joins the running turn at its next step.")
        }
        Queue::Wait { session, prompt } => {
            let command = Command::SetDelivery { prompt, delivery: Delivery::Queue };
            (session, command, "The prompt waits for the end of the turn.")
        }
        Queue::Withdraw { session, prompt } => {
            (session, Command::WithdrawPrompt { prompt }, "The prompt is withdrawn.")
        }
        Queue::Release { session } => (session, Command::ReleaseQueue {}, "Nothing is held back."),
    };
    submit(desk, session, &command, said).await
}

async fn list(desk: &Desk, session: SessionId) -> Result<Exit, Failure> {
    let queue = desk.client.session_queue(session).await?;
    desk.out.document(&queue, |queue| {
        let head = ["PROMPT", "BY", "ANSWERED", "TEXT"];
        let rows = |queued: &QueuedPromptView| {
            vec![
                queued.prompt.to_string(),
                one_line(&queued.author.name, 24),
                when(queued).to_owned(),
                one_line(&queued.text, 60),
            ]
        };
        Table::new(&head, "No prompt waits.").rows(queue, rows).text()
    })?;
    Ok(Exit::Done)
}

fn when(queued: &QueuedPromptView) -> &'static str {
    match (queued.is_held, queued.delivery) {
        (true, _) => "held back",
        (false, Delivery::Insert) => "at the next step",
        (false, Delivery::Queue) => "in its turn",
    }
}

/// Gives a command under a new key; a refusal is the verb's failure.
pub(super) async fn submit(
    desk: &Desk,
    session: SessionId,
    command: &Command,
    said: &str,
) -> Result<Exit, Failure> {
    let receipt = desk.client.submit(session, &new_key(), command).await?;
    if let Some(problem) = receipt.problem {
        return Err(problem.into());
    }
    desk.out.document(&receipt, |_| format!("{said}\n"))?;
    Ok(Exit::Done)
}

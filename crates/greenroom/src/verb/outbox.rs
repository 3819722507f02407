//! `session outbox`

use super::Desk;
use crate::exit::{Exit, Failure};
use crate::render::problem;
use crate::render::table::Table;
use crate::render::text::{duration, one_line};
use greenroom_client::new_key;
use greenroom_domain::{Command, Consumer, SessionId};
use greenroom_wire::{ConsumerStatus, ConsumerView, OutboxView};

pub(super) async fn perform(desk: &Desk, session: SessionId, retry: bool) -> Result<Exit, Failure> {
    if retry {
        for dead in unreached(&desk.client.session_outbox(session).await?) {
            let command = Command::RetryDeadLetter { consumer: dead };
            if let Some(problem) = desk.client.submit(session, &new_key(), &command).await?.problem {
                return Err(problem.into());
            }
        }
    }
    let outbox = desk.client.session_outbox(session).await?;
    desk.out.document(&outbox, text)?;
    Ok(Exit::Done)
}

fn unreached(outbox: &OutboxView) -> Vec<Consumer> {
    let is_unreached =
        |one: &&ConsumerView| matches!(one.status, ConsumerStatus::Dead | ConsumerStatus::Retrying);
    outbox.consumers.iter().filter(is_unreached).map(|one| one.consumer).collect()
}

fn text(outbox: &OutboxView) -> String {
    let head = ["CONSUMER", "STATUS", "TOLD UP TO", "ATTEMPTS", "NEXT"];
    let rows = |one: &ConsumerView| {
        vec![
            one.consumer.as_str().to_owned(),
            status(one.status).to_owned(),
            one.seq.map_or_else(|| "-".to_owned(), |seq| format!("{seq} of {}", outbox.head_seq)),
            one.attempts.to_string(),
            one.next_attempt_ms.map_or_else(|| "-".to_owned(), |ms| format!("in {}", duration(ms))),
        ]
    };
    let mut text = Table::new(&head, "Nobody is told of sessions.").rows(&outbox.consumers, rows).text();
    for one in &outbox.consumers {
        if let Some(failure) = &one.problem {
            text += &format!("\n{}: {}\n", one_line(one.consumer.as_str(), 20), problem(failure));
        }
    }
    if !unreached(outbox).is_empty() {
        text += "\nTry again now: greenroom session outbox SESSION --retry\n";
    }
    text
}

fn status(status: ConsumerStatus) -> &'static str {
    match status {
        ConsumerStatus::Settled => "settled",
        ConsumerStatus::Waiting => "waiting",
        ConsumerStatus::Retrying => "retrying",
        ConsumerStatus::Dead => "dead letter",
    }
}

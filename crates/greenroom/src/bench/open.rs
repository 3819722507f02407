//! `bench open`: a long session from asking for it over the API to its present and newest entries: the whole log, a
//! window over its end, and the window where the session has to be woken.

use super::idle::{follow, until_asleep};
use super::served::Knobs;
use super::stats::Report;
use super::world::World;
use crate::cli::Global;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use greenroom_client::new_key;
use greenroom_domain::event::{BlockKind, ToolOutcome, TurnOutcome};
use greenroom_domain::message::{Content, StopReason};
use greenroom_domain::money::Usage;
use greenroom_domain::{
    Author, BlockId, Delivery, Durability, ErrorCode, Event, PersonId, Problem, PromptId, SessionId, TurnId,
    Via,
};
use greenroom_session::{Append, FileSessions, SessionDirectory};
use greenroom_wire::CreateSession;
use std::path::Path;
use std::time::{Duration, Instant};

const WINDOW: u32 = 200;
/// Entries of each turn.
const TURN: u64 = 50;
const TURNS_AT_ONCE: usize = 200;

pub(crate) async fn run(global: &Global, out: Output, entries: u64, n: u32) -> Result<Exit, Failure> {
    let knobs = Knobs { blanks: Some(0), session_idle_seconds: Some(1), ..Knobs::usual(1).without_pool() };
    let world = World::start(global, out, knobs, &[("tracked.txt", "x\n")]).await?;
    let body = CreateSession {
        repository: world.repository.clone(),
        prompt: None,
        attachments: vec![],
        title: Some("A long session".to_owned()),
        model: None,
        effort: None,
        base_branch: None,
        budget: None,
        team_access: Default::default(),
    };
    let session = world.desk.client.create_session(&new_key(), &body).await?.id;
    out.progress(&format!("a log of {entries} entries…\n"));
    let world = world.again_after(knobs, async |data: &Path| write_log(data, session, entries).await).await?;
    let measured = measure(&world, out, session, entries, n).await;
    world.stop().await;
    let report = measured?;
    out.document(&report.json(), |_| report.text())?;
    Ok(Exit::Done)
}

async fn measure(
    world: &World,
    out: Output,
    session: SessionId,
    entries: u64,
    n: u32,
) -> Result<Report, Failure> {
    let process = world.process()?;
    let token = world.token(1).await?;
    let mut report = Report::default();
    report.fact("entries", entries);
    report.fact("window", WINDOW);
    for (name, window) in [("whole", None), ("windowed", Some(WINDOW))] {
        out.progress(&format!("{name}…\n"));
        let (mut samples, mut seen) = (vec![], 0);
        for _ in 0..n {
            let (took, entries) = open(world, &token, session, window).await?;
            samples.push(took);
            seen = entries;
        }
        report.fact(&format!("entries_{name}"), seen);
        report.row(name, samples);
    }
    out.progress("windowed, of a session that sleeps…\n");
    let mut samples = vec![];
    for _ in 0..n.min(10) {
        until_asleep(&process).await?;
        samples.push(open(world, &token, session, Some(WINDOW)).await?.0);
    }
    report.row("windowed_asleep", samples);
    Ok(report)
}

/// From connecting to having all that was asked for, as the page does.
async fn open(
    world: &World,
    token: &str,
    session: SessionId,
    window: Option<u32>,
) -> Result<(Duration, u64), Failure> {
    let begun = Instant::now();
    let (_, entries) = follow(world.address(), token, session, window).await?;
    Ok((begun.elapsed(), entries))
}

/// As turns leave it: streamed text, answers, tool calls with some output.
async fn write_log(data: &Path, session: SessionId, entries: u64) -> Result<(), Failure> {
    let unusable = |error: &dyn std::fmt::Display| {
        Problem::new(ErrorCode::Internal, format!("The log to measure with was not written: {error}."))
    };
    let files = FileSessions::open(data.join("sessions"))?;
    let owned = files.acquire(session).await.map_err(|error| unusable(&error))?;
    let mut head = owned.log.read(0, 1000).await.map_err(|error| unusable(&error))?.len() as u64;
    // Whole turns: one that is cut off would be run again.
    let mut turns = 0..entries.saturating_sub(head).div_ceil(TURN);
    loop {
        let batch: Vec<Event> = turns.by_ref().take(TURNS_AT_ONCE).flat_map(turn_of).collect();
        if batch.is_empty() {
            break;
        }
        let append = Append {
            epoch: owned.epoch,
            expected_head: head,
            at_ms: 1,
            events: batch,
            durability: Durability::Synced,
            receipt: None,
        };
        head += owned.log.append(append).await.map_err(|error| unusable(&error))?.len() as u64;
    }
    files.close().await;
    Ok(())
}

/// `TURN` entries.
fn turn_of(number: u64) -> Vec<Event> {
    let (prompt, turn) = (PromptId::from_parts(number + 1, 1), TurnId::from_parts(number + 1, 1));
    let author = Author {
        on_behalf_of: PersonId::from_parts(1, 1),
        via: Via::Person,
        name: "Bench".to_owned(),
        email: "bench@example.org".to_owned(),
    };
    let text = "Some words of an answer that is neither long nor short, as they usually are. ";
    let mut events = vec![
        Event::PromptAccepted {
            prompt,
            author,
            text: format!("Task {number}"),
            delivery: Delivery::Queue,
            attachments: vec![],
        },
        Event::TurnStarted { turn, prompts: vec![prompt] },
    ];
    for step in 0..4 {
        let block = BlockId::from_parts(number + 1, step);
        let call = format!("call-{number}-{step}");
        events.push(Event::ModelRequested { turn, model: "bench".to_owned(), attempt: 1 });
        events.push(Event::BlockOpened { turn, block, kind: BlockKind::Text });
        for piece in 0..6 {
            let offset = piece * text.len() as u64;
            events.push(Event::BlockText { block, offset, text: text.to_owned() });
        }
        events.push(Event::AssistantMessage {
            turn,
            content: vec![Content::Text { text: text.repeat(6) }],
            blocks: vec![block],
            raw: None,
            stop_reason: StopReason::EndTurn,
            usage: Usage::default(),
            model: "bench".to_owned(),
        });
        events.push(Event::ToolStarted {
            turn,
            call: call.clone(),
            name: "bash".to_owned(),
            title: "Run".to_owned(),
        });
        events.push(Event::ToolFinished {
            turn,
            call,
            outcome: ToolOutcome::Succeeded,
            text: "a line of output\n".repeat(20),
            display: None,
            duration_ms: 5,
        });
    }
    let notices = TURN as usize - events.len() - 1;
    events.extend((0..notices).map(|_| Event::NoticeGiven { turn, text: "A file changed.".to_owned() }));
    events.push(Event::TurnFinished {
        turn,
        outcome: TurnOutcome::Completed,
        usage: Usage::default(),
        duration_ms: 5,
    });
    events
}

//! `session search`

use super::Desk;
use crate::exit::{Exit, Failure};
use crate::render::text::{BOLD, DIM, NOTE, ago, one_line, paint};
use greenroom_domain::RepositoryName;
use greenroom_wire::{FoundIn, SearchHit, SearchMatch};

pub(super) async fn perform(
    desk: &Desk,
    words: &[String],
    repository: Option<&RepositoryName>,
) -> Result<Exit, Failure> {
    let hits = desk.client.search(&words.join(" "), repository).await?;
    let now_ms = super::now_ms();
    desk.out.document(&hits, |hits| match hits.as_slice() {
        [] => "No session has all these words.\n".to_owned(),
        hits => hits.iter().map(|hit| text(hit, now_ms)).collect(),
    })?;
    Ok(Exit::Done)
}

fn text(hit: &SearchHit, now_ms: i64) -> String {
    let session = &hit.session;
    let archived = if session.is_archived { " · archived" } else { "" };
    let about = format!(
        "{} · {} · {}{archived}",
        session.repository,
        one_line(&session.created_by_name, 24),
        ago(session.updated_at_ms, now_ms)
    );
    let head =
        format!("{}  {}\n  {}\n", session.id, paint(BOLD, one_line(&session.title, 80)), paint(DIM, about));
    let lines = hit.matches.iter().map(|found| format!("  {}: {}\n", place(found.found_in), snippet(found)));
    head + &lines.collect::<String>()
}

fn snippet(found: &SearchMatch) -> String {
    let parts = found.snippet.iter().map(|part| {
        // A part's spaces at its ends belong to the sentence.
        let text: String = part.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if part.is_match { paint(NOTE, text) } else { text }
    });
    parts.collect()
}

fn place(found: FoundIn) -> &'static str {
    match found {
        FoundIn::Title => "title",
        FoundIn::Repository => "repository",
        FoundIn::Branch => "branch",
        FoundIn::Prompt => "prompt",
        FoundIn::Answer => "answer",
    }
}

//! `session blame`

use super::Desk;
use crate::exit::{Exit, Failure};
use crate::render::text::{DIM, NOTE, one_line, paint};
use greenroom_domain::SessionId;
use greenroom_wire::{Blame, BlamedOn};

const WHO_CHARS: usize = 48;

pub(crate) async fn blame(desk: &Desk, session: SessionId, path: &str) -> Result<Exit, Failure> {
    let blame = desk.client.session_blame(session, path).await?;
    desk.out.document(&blame, text)?;
    Ok(Exit::Done)
}

/// Who asked, on the first line of each part; then the lines.
fn text(blame: &Blame) -> String {
    let mut text = String::new();
    for part in &blame.parts {
        let is_ours = !matches!(part.by, BlamedOn::BeforeSession { .. });
        let style = if is_ours { NOTE } else { DIM };
        for (line, offset) in part.lines.iter().zip(0u32..) {
            let who = if offset == 0 { one_line(&said(&part.by, blame), WHO_CHARS) } else { String::new() };
            let number = part.first_line + offset;
            let line = crate::render::text::clean(line);
            text.push_str(&format!("{} {number:>5}  {line}\n", paint(style, format!("{who:<WHO_CHARS$}"))));
        }
    }
    text
}

fn said(by: &BlamedOn, blame: &Blame) -> String {
    match by {
        BlamedOn::BeforeSession { author, summary, .. } => format!("{author}, {summary}"),
        BlamedOn::Prompts { prompts, is_running, .. } => {
            let found =
                prompts.iter().filter_map(|id| blame.prompts.iter().find(|known| known.prompt == *id));
            let asked: Vec<_> =
                found.map(|prompt| format!("{}: {}", prompt.author.name, prompt.text)).collect();
            format!("{}{}", if *is_running { "(now) " } else { "" }, asked.join("; "))
        }
        BlamedOn::Command { name, .. } => format!("{name}, by a command"),
        BlamedOn::Unmarked => "(since the last turn)".to_owned(),
    }
}

//! Watching a session or a build on the terminal.

use super::Desk;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::render::Transcript;
use crate::render::table::Table;
use crate::render::text::{BAD, GOOD, clean, duration, paint};
use crate::watch::{Answered, TurnWatch};
use futures::StreamExt;
use greenroom_domain::{ImageId, SessionId};
use greenroom_wire::{BuildFrame, Frame, ImageState, ImageView};

/// How watching a session ended.
pub(crate) enum Watched {
    Answered(Answered),
    Interrupted,
}

/// Writes the frames after `after` until the watched turn ends, or for ever.
pub(crate) async fn session(
    desk: &Desk,
    id: SessionId,
    after: u64,
    mut watch: Option<TurnWatch>,
) -> Result<Watched, Failure> {
    let mut frames = desk.client.follow(id, after);
    let mut transcript = Transcript::new();
    let mut is_live = false;
    loop {
        let frame = tokio::select! {
            frame = frames.next() => frame.expect("a session's stream ends with an error only")?,
            _ = tokio::signal::ctrl_c() => {
                desk.out.text(&transcript.finish())?;
                return Ok(Watched::Interrupted);
            }
        };
        desk.out.json_line(&frame)?;
        desk.out.text(&transcript.frame(&frame))?;
        is_live |= matches!(frame, Frame::CaughtUp { .. });
        if is_live && desk.out == Output::Human {
            note_read(desk, id, &frame).await;
        }
        if let (Frame::Entry { entry }, Some(watch)) = (&frame, &mut watch)
            && let Some(end) = watch.entry(entry)
        {
            return Ok(Watched::Answered(end));
        }
    }
}

/// What was written on a terminal was seen. A program that takes JSON may not have been.
async fn note_read(desk: &Desk, id: SessionId, frame: &Frame) {
    let seq = match frame {
        Frame::CaughtUp { seq } => *seq,
        Frame::Entry { entry } if entry.event.is_news() => entry.seq,
        _ => return,
    };
    // Watching goes on without it; the next one says more.
    let _ = desk.client.mark_read(id, seq).await;
}

/// Writes a build's output to its end, and the steps with their times.
pub(crate) async fn build(desk: &Desk, id: ImageId) -> Result<Exit, Failure> {
    let mut frames = desk.client.follow_build(id);
    while let Some(frame) = frames.next().await {
        let frame = frame?;
        desk.out.json_line(&frame)?;
        match frame {
            BuildFrame::Output { text } => desk.out.text(&clean(&text))?,
            BuildFrame::Finished { image } => return finished(desk.out, &image),
        }
    }
    Ok(Exit::Failed)
}

fn finished(out: Output, image: &ImageView) -> Result<Exit, Failure> {
    out.text(&format!("\n{}", build_text(image)))?;
    Ok(if image.state == ImageState::Ready { Exit::Done } else { Exit::Failed })
}

/// A build's steps and its end.
pub(crate) fn build_text(image: &ImageView) -> String {
    let table = Table::new(&["STEP", "TIME", ""], "No step was finished.").right(&[1]);
    let table = table.rows(&image.steps, |step| {
        let note = if step.is_reused { "unchanged, used again" } else { "" };
        vec![clean(&step.name).into_owned(), duration(step.duration_ms), note.to_owned()]
    });
    let end = match (image.state, &image.problem) {
        (ImageState::Ready, _) => paint(GOOD, format!("Image {} is ready.", image.id)),
        (ImageState::Building, _) => format!("Image {} is being built.", image.id),
        (ImageState::Failed, Some(problem)) => crate::render::problem(problem),
        (ImageState::Failed, None) => paint(BAD, format!("Image {} failed.", image.id)),
    };
    format!("{}\n{end}\n", table.text())
}

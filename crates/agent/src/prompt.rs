//! The system prompt. The same instructions give the same bytes, so that a provider's cache of the prefix holds for a
//! whole session: the caller keeps one `Instructions` per session, and nothing here reads a clock or a setting.

use crate::context::PartKind;
use std::fmt::Write as _;

const SYSTEM: &str = include_str!("prompt/system.md");
const SESSIONS: &str = include_str!("prompt/sessions.md");
const AGENTS_LIMIT_BYTES: usize = 64 * 1024;
const SKILLS_LIMIT: usize = 100;
const NOTES_LIMIT: usize = 20;
const NOTE_LIMIT_CHARS: usize = 300;
const SERVICE_COMMAND_LIMIT_CHARS: usize = 200;
const SKILL_DESCRIPTION_LIMIT_CHARS: usize = 500;

/// What the repository says about itself, taken from the image's manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instructions {
    /// Text of AGENTS.md at the repository's root.
    pub agents_md: Option<String>,
    pub skills: Vec<Skill>,
    /// Sentences about what of them was cut or left out.
    pub notes: Vec<String>,
    /// Programs of the recipe that run beside the agent's commands.
    pub services: Vec<Service>,
    /// Ports on 127.0.0.1 that the recipe names.
    pub ports: Vec<Port>,
    /// The session may begin others.
    pub can_spawn: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub name: String,
    pub command: String,
    /// Inside the sandbox.
    pub log: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub port: u16,
    pub name: String,
}

/// A skill is a file of guidance that the agent reads when a task needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skill {
    pub name: String,
    pub description: String,
    /// Where the agent reads it, relative to /workspace.
    pub path: String,
}

/// A piece of the system prompt, with whatever separates it from the one before.
pub(crate) struct Piece {
    pub(crate) kind: PartKind,
    pub(crate) text: String,
}

pub fn system(instructions: &Instructions) -> String {
    let mut text: String = parts(instructions).into_iter().map(|piece| piece.text).collect();
    text.push('\n');
    text
}

/// The system prompt in its order, but for the line's end after it.
pub(crate) fn parts(instructions: &Instructions) -> Vec<Piece> {
    let piece = |kind, text| Piece { kind, text };
    let system = match instructions.can_spawn {
        true => format!("{}\n\n{}", SYSTEM.trim_end(), SESSIONS.trim_end()),
        false => SYSTEM.trim_end().to_owned(),
    };
    let mut pieces = vec![piece(PartKind::System, system)];
    let agents_md = instructions.agents_md.as_deref().map(str::trim).filter(|text| !text.is_empty());
    if let Some(agents_md) = agents_md {
        let text = format!("\n\n# The repository's guidance (AGENTS.md)\n{}", bounded(agents_md));
        pieces.push(piece(PartKind::Instructions, text));
    }
    if !instructions.skills.is_empty() {
        let mut text = "\n\n# Skills\nRead a skill's file before you do what it describes.".to_owned();
        for skill in instructions.skills.iter().take(SKILLS_LIMIT) {
            let description: String = skill.description.chars().take(SKILL_DESCRIPTION_LIMIT_CHARS).collect();
            let _ = write!(text, "\n- {} ({}): {}", skill.name, skill.path, description.replace('\n', " "));
        }
        pieces.push(piece(PartKind::Skills, text));
    }
    if !instructions.notes.is_empty() {
        let mut text = "\n\n# Left out above\nRead these files in /workspace when you need them.".to_owned();
        for note in instructions.notes.iter().take(NOTES_LIMIT) {
            let note: String = note.chars().take(NOTE_LIMIT_CHARS).collect();
            let _ = write!(text, "\n- {}", note.replace('\n', " "));
        }
        pieces.push(piece(PartKind::Instructions, text));
    }
    let mut text = String::new();
    services(&mut text, instructions);
    if !text.is_empty() {
        pieces.push(piece(PartKind::Environment, text));
    }
    pieces
}

fn services(text: &mut String, instructions: &Instructions) {
    if !instructions.services.is_empty() {
        text.push_str(
            "\n\n# Services\nThese were started for you and run beside your commands; do not start them yourself.",
        );
        for service in &instructions.services {
            let command: String = service.command.chars().take(SERVICE_COMMAND_LIMIT_CHARS).collect();
            let _ =
                write!(text, "\n- {}: `{}`, log {}", service.name, command.replace('\n', " "), service.log);
        }
    }
    if !instructions.ports.is_empty() {
        text.push_str("\n\n# Ports\nPeople can open these ports of 127.0.0.1 as previews:");
        for port in &instructions.ports {
            let _ = write!(text, "\n- {} ({})", port.port, port.name);
        }
    }
}

fn bounded(agents_md: &str) -> String {
    if agents_md.len() <= AGENTS_LIMIT_BYTES {
        return agents_md.to_owned();
    }
    let cut = &agents_md[..agents_md.floor_char_boundary(AGENTS_LIMIT_BYTES)];
    format!("{cut}\n[AGENTS.md is longer: read the rest of it in /workspace/AGENTS.md.]")
}

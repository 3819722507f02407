//! Terminals, watches and ports of the fake: a terminal answers each line of input with what a run of it prints, a watch
//! tells of every file that a request or a run changed, a port is a closure.

use super::Files;
use crate::{
    ExecSpec, ExitReason, SandboxStream, Terminal, TerminalEvent, TerminalInput, TerminalSpec, WatchEvent,
};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

/// Serves one connection.
pub(super) type Service = dyn Fn(DuplexStream) + Send + Sync;
pub(super) type Services = BTreeMap<u16, Arc<Service>>;

const QUEUE: usize = 64;
const STREAM_BYTES: usize = 64 * 1024;

/// What one sandbox remembers of them.
#[derive(Default)]
pub(super) struct Interactive {
    pub(super) terminals: HashSet<String>,
    watchers: Vec<(String, mpsc::Sender<WatchEvent>)>,
}

impl Interactive {
    pub(super) fn watch(&mut self, path: &str) -> mpsc::Receiver<WatchEvent> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.watchers.push((format!("{}/", path.trim_end_matches('/')), sender));
        receiver
    }

    /// Tells the difference. A watcher whose queue is full hears `Overflow` as soon as there is room.
    pub(super) fn tell(&mut self, before: &Files, after: &Files) {
        let changed = after.iter().filter(|(path, bytes)| before.get(*path) != Some(*bytes));
        let changed = changed.map(|(path, _)| WatchEvent::Changed { path: path.clone() });
        let removed = before.keys().filter(|path| !after.contains_key(*path));
        let removed = removed.map(|path| WatchEvent::Removed { path: path.clone() });
        let events: Vec<WatchEvent> = changed.chain(removed).collect();
        self.watchers.retain(|(below, sender)| {
            for event in &events {
                let (WatchEvent::Changed { path } | WatchEvent::Removed { path }) = event else { continue };
                if path.starts_with(below) && sender.try_send(event.clone()).is_err() {
                    let sender = sender.clone();
                    tokio::spawn(async move { drop(sender.send(WatchEvent::Overflow).await) });
                    break;
                }
            }
            !sender.is_closed()
        });
    }
}

pub(super) fn connect(service: &Service) -> Box<dyn SandboxStream> {
    let (ours, theirs) = tokio::io::duplex(STREAM_BYTES);
    service(theirs);
    Box::new(ours)
}

/// `run` is a run of `sh -c LINE`; `exit CODE` ends the terminal, and so does a dropped input.
pub(super) fn terminal(
    spec: &TerminalSpec,
    run: impl Fn(ExecSpec) -> (Vec<u8>, ExitReason) + Send + 'static,
) -> Terminal {
    let (input, mut inputs) = mpsc::channel(QUEUE);
    let (outputs, output) = mpsc::channel(QUEUE);
    if !spec.argv[0].ends_with("sh") {
        let reason = ExitReason::NotStarted { errno: 2 };
        outputs.try_send(TerminalEvent::Exit { reason }).expect("a new queue has room");
        return Terminal { input, output };
    }
    let spec = spec.clone();
    tokio::spawn(async move {
        let mut typed = Vec::new();
        while let Some(piece) = inputs.recv().await {
            let TerminalInput::Bytes { bytes } = piece else { continue };
            typed.extend(bytes);
            while let Some(end) = typed.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = typed.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                let (bytes, reason) = run(of_line(&spec, &line));
                // As a terminal would: what was typed, then what was printed.
                let shown = [line.as_bytes(), b"\r\n", &bytes].concat();
                if outputs.send(TerminalEvent::Output { bytes: shown }).await.is_err() {
                    return;
                }
                if line.starts_with("exit") {
                    return drop(outputs.send(TerminalEvent::Exit { reason }).await);
                }
            }
        }
        let reason = ExitReason::Signal { signal: 1 };
        drop(outputs.send(TerminalEvent::Exit { reason }).await);
    });
    Terminal { input, output }
}

fn of_line(spec: &TerminalSpec, line: &str) -> ExecSpec {
    ExecSpec {
        call: spec.call.clone(),
        argv: ["/bin/sh", "-c", line].map(String::from).to_vec(),
        cwd: spec.cwd.clone(),
        env: spec.env.clone(),
        stdin: Vec::new(),
        timeout_ms: 1000,
        output_limit_bytes: STREAM_BYTES as u64,
        is_read_only: false,
    }
}

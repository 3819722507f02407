//! Who belongs to a run: its session, its process group, its descendants, and orphans that still carry its marker in
//! their environment. A program that hides from all of these only lives until its sandbox ends.

use crate::sys::{Outcome, fault};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::HashSet;
use std::fs;
use std::time::Duration;

/// Environment variable that every process of a run inherits.
pub(crate) const MARKER: &str = "GREENROOM_RUN";
const STOP_PASSES: usize = 8;
const STILL_TRIES: usize = 100;
const STILL_PAUSE: Duration = Duration::from_millis(1);

struct Process {
    pid: i32,
    parent: i32,
    group: i32,
    session: i32,
}

/// Living processes of the run whose first process is, or was, `leader`.
pub(crate) fn members(leader: i32, marker: &str) -> Vec<i32> {
    let all = processes();
    let mut found: HashSet<i32> = all
        .iter()
        .filter(|process| process.session == leader || process.group == leader || process.pid == leader)
        .map(|process| process.pid)
        .collect();
    let rest: Vec<i32> = all.iter().map(|process| process.pid).filter(|pid| !found.contains(pid)).collect();
    found.extend(rest.into_iter().filter(|pid| carries(*pid, marker)));
    loop {
        let children: Vec<i32> = all
            .iter()
            .filter(|process| found.contains(&process.parent) && !found.contains(&process.pid))
            .map(|process| process.pid)
            .collect();
        if children.is_empty() {
            return found.into_iter().collect();
        }
        found.extend(children);
    }
}

pub(crate) fn signal(members: &[i32], signal: Signal) {
    for pid in members.iter().filter(|pid| **pid > 1).filter_map(|pid| Pid::from_raw(*pid)) {
        // It may have ended meanwhile; that is what the caller wants.
        let _ = kill_process(pid, signal);
    }
}

/// Stops them all first, so that none forks while the others are killed.
pub(crate) fn kill_all(leader: i32, marker: &str) {
    let mut stopped = HashSet::new();
    for _ in 0..STOP_PASSES {
        let fresh: Vec<i32> =
            members(leader, marker).into_iter().filter(|pid| stopped.insert(*pid)).collect();
        if fresh.is_empty() {
            break;
        }
        signal(&fresh, Signal::STOP);
    }
    signal(&stopped.into_iter().collect::<Vec<_>>(), Signal::KILL);
}

/// Stops everything inside but this process, which kill(2) leaves out, and waits until it stands still.
pub(crate) fn stop_everything() -> Outcome<()> {
    signal_all(Signal::STOP)?;
    for _ in 0..STILL_TRIES {
        if is_still() {
            return Ok(());
        }
        #[allow(clippy::disallowed_methods, reason = "nothing tells when a process stands still")]
        std::thread::sleep(STILL_PAUSE);
    }
    // What waits for a disk counts as still: it runs no instruction before it is continued.
    Ok(())
}

pub(crate) fn continue_everything() -> Outcome<()> {
    signal_all(Signal::CONT)
}

fn signal_all(signal: Signal) -> Outcome<()> {
    // SAFETY: plain integers; -1 means every process of this namespace but its first, which this is.
    let sent = unsafe { libc::kill(-1, signal.as_raw()) };
    let errno =
        if sent == 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) };
    // Nobody there is as good.
    if errno == 0 || errno == libc::ESRCH { Ok(()) } else { Err(fault("kill", "-1", errno)) }
}

fn is_still() -> bool {
    let Ok(entries) = fs::read_dir("/proc") else { return true };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| *pid > 1)
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok())
        .filter_map(|stat| stat[stat.rfind(')')? + 1..].trim_start().chars().next())
        .all(|state| matches!(state, 'T' | 't' | 'Z' | 'X'))
}

fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| *pid > 1)
        .filter_map(|pid| parse_stat(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect()
}

/// `pid (name) state ppid pgrp session …`; the name may hold anything, so the fields start after the last `)`.
fn parse_stat(pid: i32, stat: &str) -> Option<Process> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let mut number = || fields.next()?.parse().ok();
    Some(Process { pid, parent: number()?, group: number()?, session: number()? })
}

fn carries(pid: i32, marker: &str) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    let wanted = format!("{MARKER}={marker}");
    environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_is_parsed() {
        let process = parse_stat(7, "7 (a) b) (c) S 1 5 4 0 -1").unwrap();
        assert_eq!((process.pid, process.parent, process.group, process.session), (7, 1, 5, 4));
        assert!(parse_stat(7, "7 (dead) Z 1 5 4 0").is_none());
        assert!(parse_stat(7, "nonsense").is_none());
    }
}

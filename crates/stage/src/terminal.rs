//! Terminals: programs that lead a session on a pseudo-terminal of the sandbox's own devpts. The master leaves the sandbox
//! at once, so this file only starts programs, remembers their ids, and tells how they ended. No byte of a terminal
//! passes through stage.

use crate::processes;
use crate::run::{self, Program, Wiring};
use crate::sys::{At, Outcome};
use greenroom_stage::protocol::{RunEnd, TERMINALS};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, WaitStatus};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// A program that takes no notice of its terminal's end is ended after this.
const HANGUP_GRACE: Duration = Duration::from_secs(3);
/// Call ids that are remembered, so that none starts twice.
const REMEMBERED: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Terminals {
    /// Until the end of each is told.
    open: HashMap<String, Terminal>,
    used: HashSet<String>,
    used_in_order: VecDeque<String>,
}

#[derive(Debug)]
struct Terminal {
    pid: i32,
    end: Option<RunEnd>,
    waiting: Option<u64>,
    kill_at: Option<Instant>,
}

pub(crate) enum Opened {
    Master(OwnedFd),
    NotStarted(i32),
}

/// An answer to a `WaitTerminal`.
pub(crate) type Ended = (u64, RunEnd);

impl Terminals {
    /// Why this id may not be opened now.
    pub(crate) fn refuses(&self, call: &str) -> Option<&'static str> {
        if self.used.contains(call) {
            return Some("this call id had a terminal already; its output is not kept");
        }
        let open = self.open.values().filter(|terminal| terminal.end.is_none()).count();
        (open >= TERMINALS).then_some("32 terminals of this sandbox are open")
    }

    pub(crate) fn knows(&self, call: &str) -> bool {
        self.used.contains(call)
    }

    pub(crate) fn open(
        &mut self,
        call: &str,
        program: &Program<'_>,
        size: Winsize,
        marker: &str,
    ) -> Outcome<Opened> {
        let (master, slave) = pair(size)?;
        if self.open.len() >= 2 * TERMINALS {
            // Ended, and nobody ever asked how.
            self.open.retain(|_, terminal| terminal.end.is_none());
        }
        self.remember(call);
        match run::launch(program, Wiring::Terminal(&slave), marker) {
            Ok(pid) => {
                let terminal = Terminal { pid, end: None, waiting: None, kill_at: None };
                self.open.insert(call.to_owned(), terminal);
                Ok(Opened::Master(master))
            }
            Err(errno) => Ok(Opened::NotStarted(errno.raw_os_error())),
        }
    }

    fn remember(&mut self, call: &str) {
        if self.used_in_order.len() >= REMEMBERED
            && let Some(oldest) = self.used_in_order.pop_front()
        {
            self.used.remove(&oldest);
        }
        self.used.insert(call.to_owned());
        self.used_in_order.push_back(call.to_owned());
    }

    /// False for an id without a terminal.
    pub(crate) fn wait(&mut self, call: &str, id: u64) -> bool {
        let Some(terminal) = self.open.get_mut(call) else { return false };
        terminal.waiting = Some(id);
        true
    }

    /// Ends that somebody waits for; each is forgotten with it.
    pub(crate) fn take_ended(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        self.open.retain(|_, terminal| match (terminal.waiting, terminal.end) {
            (Some(id), Some(end)) => {
                ended.push((id, end));
                false
            }
            _ => true,
        });
        ended
    }

    /// The kernel hangs the terminal up when its master closes; this only sees that it has an end.
    pub(crate) fn end(&mut self, call: &str, now: Instant) {
        if let Some(terminal) = self.open.get_mut(call) {
            terminal.kill_at.get_or_insert(now + HANGUP_GRACE);
        }
    }

    pub(crate) fn reaped(&mut self, pid: i32, status: WaitStatus) {
        let Some(terminal) = self.open.values_mut().find(|one| one.pid == pid && one.end.is_none()) else {
            return;
        };
        terminal.end = Some(match status.terminating_signal() {
            Some(signal) => RunEnd::Signal { signal },
            None => RunEnd::Code { code: status.exit_status().unwrap_or(-1) },
        });
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        for terminal in self.open.values_mut().filter(|one| one.end.is_none()) {
            if terminal.kill_at.is_some_and(|at| at <= now) {
                terminal.kill_at = None;
                processes::signal(&[terminal.pid], Signal::KILL);
            }
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.open.values().filter(|one| one.end.is_none()).filter_map(|one| one.kill_at).min()
    }
}

/// A new pseudo-terminal: the end that leaves, and the end of the program.
fn pair(size: Winsize) -> Outcome<(OwnedFd, OwnedFd)> {
    let ptmx = "/dev/pts/ptmx";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let master = rustix::fs::open(ptmx, flags, Mode::empty()).at("open", ptmx)?;
    rustix::pty::unlockpt(&master).at("unlockpt", ptmx)?;
    // By the master, not by name: no path of the sandbox is trusted.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).at("ioctl TIOCGPTPEER", ptmx)?;
    rustix::termios::tcsetwinsize(&slave, size).at("ioctl TIOCSWINSZ", ptmx)?;
    Ok((master, slave))
}

//! PID 1 of a sandbox: one poll loop over its socket, its children's pipes and their exits. Knows call ids, not
//! sessions. Ends when its socket closes, and the kernel then ends everything in the sandbox.

use crate::link::{Link, Received};
use crate::reading::{Lock, Reading};
use crate::run::{Ending, Program, Run};
use crate::sys::{self, At, Outcome};
use crate::terminal::{Opened, Terminals};
use crate::watch::Watches;
use crate::{enter, files, guard, landlock, net, ports, processes};
use greenroom_stage::frame::Message;
use greenroom_stage::protocol::{
    EXEC_BYTES, Fault, Listener, RunEnd, SEARCH_BYTES, SearchPlan, StageOp, StageReply, StageRequest,
    StageResult, Transport, VERSION,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};
use rustix::termios::Winsize;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

/// Runs whose exit nobody has acknowledged.
const MAX_RUNS: usize = 512;
/// Pipes of ended runs that background processes still hold.
const MAX_DRAINS: usize = 256;
/// Packets that wait for the server before its next request is read.
const MAX_WAITING: usize = 256;
const SEARCH_TIMEOUT: Duration = Duration::from_secs(25);
/// How often an ending run is looked at.
const ENDING_TICK: Duration = Duration::from_millis(5);

pub(crate) fn main() -> i32 {
    let Ok(socket) = sys::take_stdin() else { return 71 };
    let mut gaps = Vec::new();
    let prepared = prepare(&mut gaps);
    let (listeners, image, children) = match prepared {
        Ok(prepared) => prepared,
        Err(fault) => enter::refuse(socket, fault),
    };
    let mut link = Link::new(socket);
    let names: Vec<Listener> = listeners.iter().map(|(listener, _)| *listener).collect();
    let sockets: Vec<BorrowedFd<'_>> = listeners.iter().map(|(_, socket)| socket.as_fd()).collect();
    let result = StageResult::Ready { version: VERSION, listeners: names, gaps };
    if link.send(&StageReply { id: 0, result }, &[], &sockets).is_err() {
        return 0;
    }
    let tcp = |listener: &&Listener| listener.transport == Transport::Tcp;
    let own_ports = listeners.iter().map(|(listener, _)| listener).filter(tcp).map(|one| one.port).collect();
    drop(listeners);
    let mut stage = Stage {
        link,
        children,
        image,
        runs: HashMap::new(),
        calls: HashMap::new(),
        searches: HashMap::new(),
        drains: Vec::new(),
        terminals: Terminals::default(),
        watches: Watches::default(),
        own_ports,
        is_confined: false,
        reading: None,
        serial: 0,
        scratch: vec![0; 256 * 1024],
    };
    while stage.turn().is_ok() {}
    0
}

type Prepared = (Vec<(Listener, OwnedFd)>, OwnedFd, OwnedFd);

fn prepare(gaps: &mut Vec<greenroom_stage::protocol::Gap>) -> Outcome<Prepared> {
    rustix::thread::set_name(c"stage").at("prctl", "name")?;
    let image = sys::own_image().at("open", "/proc/self/exe")?;
    let listeners = net::open(gaps)?;
    guard::install()?;
    Ok((listeners, image, child_signals().at("signalfd", "SIGCHLD")?))
}

/// Child exits as something to poll.
fn child_signals() -> rustix::io::Result<OwnedFd> {
    // SAFETY: `mask` is initialised by sigemptyset before use; a new descriptor of signalfd belongs to nobody else.
    unsafe {
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut mask);
        libc::sigaddset(&raw mut mask, libc::SIGCHLD);
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const mask, std::ptr::null_mut());
        match libc::signalfd(-1, &raw const mask, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
            descriptor => Ok(OwnedFd::from_raw_fd(descriptor)),
        }
    }
}

type Serial = u64;

struct Stage {
    link: Link,
    children: OwnedFd,
    image: OwnedFd,
    runs: HashMap<Serial, Run>,
    calls: HashMap<String, Serial>,
    /// Searches by run, with the request that waits for each.
    searches: HashMap<Serial, u64>,
    drains: Vec<OwnedFd>,
    terminals: Terminals,
    watches: Watches,
    /// Where the listeners that lead to the broker hold every address.
    own_ports: BTreeSet<u16>,
    /// Whether this process and all that it starts are bound to the sandbox's root, which is mounted only at the claim.
    is_confined: bool,
    /// What binds a run to reading, from the first such run on.
    reading: Option<Reading>,
    serial: Serial,
    scratch: Vec<u8>,
}

/// The server is gone.
struct Gone;

/// What one turn of the loop waits for.
#[derive(Clone, Copy)]
enum Source {
    Link,
    Children,
    Run(Serial),
    Drain(i32),
    Watches,
}

impl Stage {
    fn turn(&mut self) -> Result<(), Gone> {
        for source in self.wait()? {
            match source {
                Source::Link => self.serve()?,
                Source::Children => self.reap(),
                Source::Run(serial) => {
                    if let Some(run) = self.runs.get_mut(&serial) {
                        run.read_pipe(&mut self.scratch);
                    }
                }
                Source::Drain(descriptor) => self.drain(descriptor),
                Source::Watches => self.watches.read(),
            }
        }
        self.tick();
        self.answer_waiting();
        self.link.flush().map_err(|_| Gone)
    }

    /// Exits first, so that a short run's output and end leave in one answer.
    fn wait(&self) -> Result<Vec<Source>, Gone> {
        let socket_flags = match self.link.waiting_packets() {
            0 => PollFlags::IN,
            waiting if waiting < MAX_WAITING => PollFlags::IN | PollFlags::OUT,
            _ => PollFlags::OUT,
        };
        let now = Instant::now();
        let mut sources = vec![Source::Children, Source::Link];
        let mut polled = vec![
            PollFd::new(&self.children, PollFlags::IN),
            PollFd::from_borrowed_fd(self.link.as_fd(), socket_flags),
        ];
        for (serial, run) in &self.runs {
            if let Some(pipe) = run.pipe.as_ref().filter(|_| run.listens_at() <= now) {
                sources.push(Source::Run(*serial));
                polled.push(PollFd::new(pipe, PollFlags::IN));
            }
        }
        for drain in &self.drains {
            sources.push(Source::Drain(drain.as_raw_fd()));
            polled.push(PollFd::new(drain, PollFlags::IN));
        }
        if let Some(events) = self.watches.events() {
            sources.push(Source::Watches);
            polled.push(PollFd::from_borrowed_fd(events, PollFlags::IN));
        }
        let timeout = self
            .next_event()
            .map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return Err(Gone),
        }
        let ready = sources.into_iter().zip(&polled).filter(|(_, polled)| !polled.revents().is_empty());
        Ok(ready.map(|(source, _)| source).collect())
    }

    fn next_event(&self) -> Option<Duration> {
        let now = Instant::now();
        let listens = self.runs.values().filter(|run| run.pipe.is_some()).map(Run::listens_at);
        let listens = listens.filter(|at| *at > now);
        let runs = self.runs.values().filter_map(Run::deadline).chain(listens);
        let deadline = runs.chain(self.terminals.deadline()).chain(self.watches.deadline(now)).min();
        let deadline = deadline.map(|deadline| deadline.saturating_duration_since(now));
        if self.runs.values().any(Run::is_ending) {
            return Some(deadline.map_or(ENDING_TICK, |left| left.min(ENDING_TICK)));
        }
        deadline
    }

    fn serve(&mut self) -> Result<(), Gone> {
        self.link.flush().map_err(|_| Gone)?;
        while self.link.waiting_packets() < MAX_WAITING {
            match self.link.try_receive() {
                Received::Message(message, _) => self.request(&message)?,
                Received::Nothing => return Ok(()),
                Received::Closed => return Err(Gone),
            }
        }
        Ok(())
    }

    fn reap(&mut self) {
        let mut information = [0u8; 128 * 16];
        // Which child it was is asked below; this only takes the notice away.
        let _ = rustix::io::read(&self.children, &mut information);
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            let Some(run) = self.runs.values_mut().find(|run| run.pid == pid && run.is_running()) else {
                self.terminals.reaped(pid, status);
                continue;
            };
            run.reaped(status, &mut self.scratch);
            if let Some(pipe) = run.pipe.take().filter(|_| self.drains.len() < MAX_DRAINS) {
                self.drains.push(pipe);
            }
        }
    }

    /// Background processes may go on writing; nobody reads it.
    fn drain(&mut self, descriptor: i32) {
        let scratch = &mut self.scratch;
        self.drains.retain(|drain| {
            drain.as_raw_fd() != descriptor
                || !matches!(rustix::io::read(drain, &mut **scratch), Ok(0) | Err(Errno::BADF | Errno::IO))
        });
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let mut done = Vec::new();
        for run in self.runs.values_mut() {
            if run.tick(now) {
                done.append(&mut run.cancels);
            }
        }
        for id in done {
            self.reply(id, StageResult::Done, &[]);
        }
        self.terminals.tick(now);
        self.watches.step(now);
    }

    fn answer_waiting(&mut self) {
        let mut answers = Vec::new();
        for run in self.runs.values_mut() {
            let waiting = std::mem::take(&mut run.fetches);
            for (id, offset) in waiting {
                match run.output(offset) {
                    None => run.fetches.push((id, offset)),
                    Some((bytes, exit)) => answers.push((id, StageResult::Output { offset, exit }, bytes)),
                }
            }
        }
        for (id, result, bytes) in answers {
            self.reply(id, result, &bytes);
        }
        self.answer_searches();
        for (id, end) in self.terminals.take_ended() {
            self.reply(id, StageResult::TerminalEnded { end }, &[]);
        }
        for (id, result) in self.watches.take_answers(Instant::now()) {
            self.reply(id, result, &[]);
        }
    }

    fn answer_searches(&mut self) {
        let done: Vec<Serial> = self
            .searches
            .keys()
            .copied()
            .filter(|serial| self.runs.get(serial).is_none_or(|run| !run.is_running()))
            .collect();
        for serial in done {
            let (Some(id), Some(run)) = (self.searches.remove(&serial), self.runs.remove(&serial)) else {
                continue;
            };
            let (result, body) = search_result(&run);
            self.reply(id, result, &body);
        }
    }

    fn reply(&mut self, id: u64, result: StageResult, body: &[u8]) {
        // A socket that takes nothing more is noticed by the loop's next flush.
        let _ = self.link.queue(&StageReply { id, result }, body);
    }

    fn request(&mut self, message: &Message) -> Result<(), Gone> {
        let StageRequest { id, done, op } = message.header().map_err(|_| Gone)?;
        for call in &done {
            self.acknowledge(call);
        }
        let answer = match op {
            StageOp::Exec { call, argv, cwd, env, timeout_ms, output_limit_bytes, is_read_only } => {
                let timeout = Duration::from_millis(timeout_ms);
                let lock = match self.lock(is_read_only) {
                    Ok(lock) => lock,
                    Err(fault) => return self.failed(id, fault),
                };
                let program = Program::Named { argv: &argv, env: &env, cwd: &cwd, lock };
                return self.exec(id, &call, &program, message.body(), timeout, output_limit_bytes);
            }
            StageOp::Fetch { call, offset } => return self.fetch(id, &call, offset),
            StageOp::Cancel { call, grace_ms } => {
                return self.cancel(id, &call, Duration::from_millis(grace_ms));
            }
            StageOp::Search(plan) => return self.search(id, &plan),
            StageOp::Acknowledge => Ok((StageResult::Done, Vec::new())),
            StageOp::Listen { ports } => return self.listen(id, &ports),
            StageOp::Stop => processes::stop_everything().map(|()| (StageResult::Done, Vec::new())),
            StageOp::Continue => processes::continue_everything().map(|()| (StageResult::Done, Vec::new())),
            StageOp::Read { path, offset, limit } => files::read(&path, offset, limit),
            StageOp::Write { path, upload, offset, is_last } => {
                files::write(&path, upload, offset, is_last, message.body())
            }
            StageOp::OpenTerminal { call, argv, cwd, env, rows, columns } => {
                let program = Program::Named { argv: &argv, env: &env, cwd: &cwd, lock: None };
                return self.open_terminal(id, &call, &program, size(rows, columns));
            }
            StageOp::WaitTerminal { call } => return self.wait_terminal(id, &call),
            StageOp::EndTerminal { call } => {
                self.terminals.end(&call, Instant::now());
                return Ok(());
            }
            StageOp::Connect { port } => return self.connect(id, port),
            StageOp::ListeningPorts => {
                ports::listening(&self.own_ports).map(|ports| (StageResult::Ports { ports }, Vec::new()))
            }
            StageOp::Watch { watch, path } => {
                self.watches.begin(id, watch, &path);
                return Ok(());
            }
            StageOp::NextChanges { watch } => {
                self.watches.next(id, watch);
                return Ok(());
            }
            StageOp::Unwatch { watch } => {
                self.watches.end(watch);
                return Ok(());
            }
            StageOp::Stat { path } => files::stat(&path),
            StageOp::List { path } => files::list(&path),
        };
        match answer {
            Ok((result, body)) => self.reply(id, result, &body),
            Err(fault) => self.reply(id, StageResult::Failed(fault), &[]),
        }
        Ok(())
    }

    fn invalid(&mut self, id: u64, reason: &str) -> Result<(), Gone> {
        self.reply(id, StageResult::Invalid { reason: reason.to_owned() }, &[]);
        Ok(())
    }

    /// Before the first program starts.
    fn confine(&mut self) {
        if !self.is_confined {
            self.is_confined = true;
            landlock::confine_to(Path::new("/"));
        }
    }

    fn lock(&mut self, is_read_only: bool) -> Outcome<Option<Lock>> {
        if is_read_only && self.reading.is_none() {
            self.reading = Some(Reading::prepare()?);
        }
        Ok(self.reading.as_ref().filter(|_| is_read_only).map(Reading::lock))
    }

    fn exec(
        &mut self,
        id: u64,
        call: &str,
        program: &Program<'_>,
        stdin: &[u8],
        timeout: Duration,
        limit: u64,
    ) -> Result<(), Gone> {
        if self.calls.contains_key(call) {
            return self.fetch(id, call, 0);
        }
        if self.terminals.knows(call) {
            return self.invalid(id, "this call id is a terminal's");
        }
        if self.calls.len() >= MAX_RUNS {
            return self.invalid(id, "512 runs of this sandbox are not acknowledged yet");
        }
        if stdin.len() > EXEC_BYTES {
            return self.invalid(id, "standard input is larger than 4 MiB");
        }
        self.confine();
        self.serial += 1;
        match Run::start(program, stdin, timeout, limit, self.serial) {
            Ok(run) => {
                self.runs.insert(self.serial, run);
                self.calls.insert(call.to_owned(), self.serial);
                self.fetch(id, call, 0)
            }
            Err(fault) => self.failed(id, fault),
        }
    }

    fn open_terminal(
        &mut self,
        id: u64,
        call: &str,
        program: &Program<'_>,
        size: Winsize,
    ) -> Result<(), Gone> {
        if self.calls.contains_key(call) {
            return self.invalid(id, "this call id has a run already");
        }
        if let Some(reason) = self.terminals.refuses(call) {
            return self.invalid(id, reason);
        }
        self.confine();
        self.serial += 1;
        match self.terminals.open(call, program, size, &self.serial.to_string()) {
            Ok(Opened::Master(master)) => self.reply_with(id, StageResult::Terminal { errno: None }, master),
            Ok(Opened::NotStarted(errno)) => {
                self.reply(id, StageResult::Terminal { errno: Some(errno) }, &[]);
                Ok(())
            }
            Err(fault) => self.failed(id, fault),
        }
    }

    fn wait_terminal(&mut self, id: u64, call: &str) -> Result<(), Gone> {
        if self.terminals.wait(call, id) { Ok(()) } else { self.invalid(id, "no such terminal") }
    }

    /// The broker's ports count as closed: nobody inside can listen on them.
    fn connect(&mut self, id: u64, port: u16) -> Result<(), Gone> {
        if self.own_ports.contains(&port) {
            return self.failed(id, sys::fault("connect", format!("127.0.0.1:{port}"), libc::ECONNREFUSED));
        }
        match ports::open(port) {
            Ok(socket) => self.reply_with(id, StageResult::Connected, socket),
            Err(fault) => self.failed(id, fault),
        }
    }

    fn reply_with(&mut self, id: u64, result: StageResult, descriptor: OwnedFd) -> Result<(), Gone> {
        // As in `reply`.
        let _ = self.link.queue_with(&StageReply { id, result }, &[], vec![descriptor]);
        Ok(())
    }

    /// Listeners like those that were opened at the start.
    fn listen(&mut self, id: u64, ports: &[u16]) -> Result<(), Gone> {
        match net::open_ports(ports) {
            Ok(opened) => {
                self.own_ports.extend(ports);
                let (listeners, sockets) = opened.into_iter().unzip();
                let reply = StageReply { id, result: StageResult::Listening { listeners } };
                let _ = self.link.queue_with(&reply, &[], sockets);
                Ok(())
            }
            Err(fault) => self.failed(id, fault),
        }
    }

    fn failed(&mut self, id: u64, fault: Fault) -> Result<(), Gone> {
        self.reply(id, StageResult::Failed(fault), &[]);
        Ok(())
    }

    fn run_of(&mut self, call: &str) -> Option<&mut Run> {
        let serial = self.calls.get(call)?;
        self.runs.get_mut(serial)
    }

    /// Answered by `answer_waiting` at the end of this turn or a later one.
    fn fetch(&mut self, id: u64, call: &str, offset: u64) -> Result<(), Gone> {
        match self.run_of(call) {
            Some(run) => {
                run.fetches.push((id, offset));
                Ok(())
            }
            None => self.invalid(id, "no such run"),
        }
    }

    fn cancel(&mut self, id: u64, call: &str, grace: Duration) -> Result<(), Gone> {
        match self.run_of(call) {
            Some(run) => {
                run.end(Ending::Cancelled, grace);
                run.cancels.push(id);
            }
            None => self.reply(id, StageResult::Done, &[]),
        }
        Ok(())
    }

    fn acknowledge(&mut self, call: &str) {
        let is_over = self.run_of(call).is_some_and(|run| !run.is_running());
        if is_over && let Some(serial) = self.calls.remove(call) {
            self.runs.remove(&serial);
        }
    }

    fn search(&mut self, id: u64, plan: &SearchPlan) -> Result<(), Gone> {
        let Ok(plan) = serde_json::to_vec(plan) else {
            return self.invalid(id, "the search cannot be passed on");
        };
        self.confine();
        self.serial += 1;
        let program = Program::Own { image: &self.image, role: "search" };
        match Run::start(&program, &plan, SEARCH_TIMEOUT, SEARCH_BYTES + 64, self.serial) {
            Ok(run) => {
                self.searches.insert(self.serial, id);
                self.runs.insert(self.serial, run);
                Ok(())
            }
            Err(fault) => self.failed(id, fault),
        }
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// `matches truncated\n` and the text, see `search`.
fn search_result(run: &Run) -> (StageResult, Vec<u8>) {
    let mut bytes = Vec::new();
    while let Some((piece, exit)) = run.output(bytes.len() as u64) {
        bytes.extend(piece);
        if exit.is_some() {
            break;
        }
    }
    let invalid = |reason: String| (StageResult::Invalid { reason }, Vec::new());
    match run.exit.map(|exit| exit.end) {
        Some(RunEnd::Code { code: 0 }) => {}
        Some(RunEnd::Code { code: 2 }) => return invalid(String::from_utf8_lossy(&bytes).into_owned()),
        Some(RunEnd::TimedOut) => return invalid("the search took longer than 25 s".into()),
        end => return invalid(format!("the search ended unexpectedly: {end:?}")),
    }
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let first = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let (matches, is_truncated) = first.split_once(' ').unwrap_or(("0", "false"));
    let result =
        StageResult::Found { matches: matches.parse().unwrap_or(0), is_truncated: is_truncated == "true" };
    bytes.drain(..(end + 1).min(bytes.len()));
    (result, bytes)
}

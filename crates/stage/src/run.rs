//! One run: how it is started, what is kept of it, and how it ends. The output spool is a bounded memory file, so that
//! a reader may come late, slowly or twice.

use crate::processes;
use crate::reading::Lock;
use crate::sys::{self, At, Outcome};
use greenroom_stage::protocol::{FETCH_BYTES, RunEnd, RunExit};
use rustix::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use std::ffi::CString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Output past this is dropped whatever the caller allows.
pub(crate) const MAX_OUTPUT: u64 = 64 * 1024 * 1024;
/// What is read from the pipe of a run whose main process has ended: a full pipe and a little.
const DRAIN_BYTES: usize = 2 * 1024 * 1024;
const PIPE_BYTES: usize = 256 * 1024;
/// A run's pipe is left alone for this long after its start and after each reading: a short command then costs one
/// wake-up, at its end, and one message with all it said; a chatty one is read by the piece, not by the line.
const QUIET: Duration = Duration::from_millis(2);
const TIMEOUT_GRACE: Duration = Duration::from_millis(1000);

pub(crate) enum Program<'a> {
    /// Found by `PATH` of its own environment.
    Named {
        argv: &'a [String],
        env: &'a [(String, String)],
        cwd: &'a str,
        /// Binds it to reading.
        lock: Option<Lock>,
    },
    /// This program in another role.
    Own { image: &'a OwnedFd, role: &'a str },
}

/// What a program's standard streams are.
#[derive(Clone, Copy)]
pub(crate) enum Wiring<'a> {
    Streams {
        stdin: &'a OwnedFd,
        output: &'a OwnedFd,
    },
    /// All three, and the terminal that the program's new session is controlled by.
    Terminal(&'a OwnedFd),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    TimedOut,
    Cancelled,
}

#[derive(Debug)]
pub(crate) struct Run {
    /// 0 when it was never started.
    pub(crate) pid: i32,
    marker: String,
    spool: File,
    pub(crate) spooled: u64,
    written: u64,
    limit: u64,
    pub(crate) pipe: Option<OwnedFd>,
    /// Until then the pipe is not looked at, see `QUIET`.
    listens_at: Instant,
    started: Instant,
    deadline: Instant,
    ending: Option<Ending>,
    kill_at: Option<Instant>,
    pub(crate) exit: Option<RunExit>,
    /// Requests that wait for output past an offset.
    pub(crate) fetches: Vec<(u64, u64)>,
    /// Requests that wait until nothing of the run lives.
    pub(crate) cancels: Vec<u64>,
}

impl Run {
    pub(crate) fn start(
        program: &Program<'_>,
        stdin: &[u8],
        timeout: Duration,
        limit: u64,
        serial: u64,
    ) -> Outcome<Self> {
        let now = Instant::now();
        let spool = File::from(memory_file(c"spool")?);
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).at("pipe", "output")?;
        rustix::io::ioctl_fionbio(&reader, true).at("ioctl", "output")?;
        // A small pipe only means more switches.
        let _ = fcntl_setpipe_size(&reader, PIPE_BYTES);
        let marker = serial.to_string();
        let stdin = input(stdin)?;
        let mut run = Self {
            pid: 0,
            marker,
            spool,
            spooled: 0,
            written: 0,
            limit: limit.min(MAX_OUTPUT),
            pipe: Some(reader),
            listens_at: now + QUIET,
            started: now,
            deadline: now + timeout,
            ending: None,
            kill_at: None,
            exit: None,
            fetches: Vec::new(),
            cancels: Vec::new(),
        };
        let wiring = Wiring::Streams { stdin: &stdin, output: &writer };
        match launch(program, wiring, &run.marker) {
            Ok(pid) => run.pid = pid,
            Err(errno) => run.finish(RunEnd::NotStarted { errno: errno.raw_os_error() }),
        }
        Ok(run)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.exit.is_none()
    }

    /// Takes what the pipe holds now. Past the limit it is counted and dropped.
    pub(crate) fn read_pipe(&mut self, scratch: &mut [u8]) {
        self.listens_at = Instant::now() + QUIET;
        let mut left = DRAIN_BYTES;
        while let Some(pipe) = self.pipe.as_ref().filter(|_| left > 0) {
            match rustix::io::read(pipe, &mut *scratch) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    left = left.saturating_sub(count);
                    self.keep(&scratch[..count]);
                }
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if !self.is_running() {
            return;
        }
        self.written += bytes.len() as u64;
        let room = (self.limit - self.spooled).min(bytes.len() as u64) as usize;
        match self.spool.write_all_at(&bytes[..room], self.spooled) {
            Ok(()) => self.spooled += room as u64,
            // No memory for the spool: the run counts as cut here.
            Err(_) => self.limit = self.spooled,
        }
    }

    /// The main process has ended with this `wait` status.
    pub(crate) fn reaped(&mut self, status: rustix::process::WaitStatus, scratch: &mut [u8]) {
        self.read_pipe(scratch);
        let end = match self.ending {
            Some(Ending::TimedOut) => RunEnd::TimedOut,
            Some(Ending::Cancelled) => RunEnd::Cancelled,
            None => match status.terminating_signal() {
                Some(signal) => RunEnd::Signal { signal },
                None => RunEnd::Code { code: status.exit_status().unwrap_or(-1) },
            },
        };
        self.finish(end);
    }

    fn finish(&mut self, end: RunEnd) {
        self.exit = Some(RunExit {
            end,
            output_bytes: self.written,
            is_truncated: self.written > self.spooled,
            duration_ms: self.started.elapsed().as_millis() as u64,
        });
    }

    /// Asks everything of the run to end, and sets the time when it must.
    pub(crate) fn end(&mut self, ending: Ending, grace: Duration) {
        if self.pid == 0 {
            return;
        }
        let kill_at = Instant::now() + grace;
        self.kill_at = Some(self.kill_at.map_or(kill_at, |earlier| earlier.min(kill_at)));
        self.ending.get_or_insert(ending);
        let members = processes::members(self.pid, &self.marker);
        processes::signal(&members, rustix::process::Signal::TERM);
        // A stopped process would keep its TERM for later.
        processes::signal(&members, rustix::process::Signal::CONT);
    }

    /// Moves time on. True when the run has nothing left to end.
    pub(crate) fn tick(&mut self, now: Instant) -> bool {
        if self.is_running() && self.ending.is_none() && now >= self.deadline {
            self.end(Ending::TimedOut, TIMEOUT_GRACE);
        }
        let Some(kill_at) = self.kill_at else { return true };
        if now >= kill_at {
            processes::kill_all(self.pid, &self.marker);
        }
        let is_gone = !self.is_running() && processes::members(self.pid, &self.marker).is_empty();
        if is_gone {
            self.kill_at = None;
        }
        is_gone
    }

    pub(crate) fn listens_at(&self) -> Instant {
        self.listens_at
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.kill_at.is_some()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.is_running().then_some(self.deadline)
    }

    /// Output from `offset`, and whether that is all there will be. None: wait.
    pub(crate) fn output(&self, offset: u64) -> Option<(Vec<u8>, Option<RunExit>)> {
        let offset = offset.min(self.spooled);
        let length = (self.spooled - offset).min(FETCH_BYTES);
        if length == 0 && self.is_running() {
            return None;
        }
        let mut bytes = vec![0; length as usize];
        if self.spool.read_exact_at(&mut bytes, offset).is_err() {
            bytes.clear();
        }
        Some((bytes, self.exit.filter(|_| offset + length == self.spooled)))
    }
}

fn memory_file(name: &std::ffi::CStr) -> Outcome<OwnedFd> {
    memfd_create(name, MemfdFlags::CLOEXEC).at("memfd_create", "spool")
}

/// Standard input as a file: nothing has to be pumped, and a program that does not read it does not block.
fn input(bytes: &[u8]) -> Outcome<OwnedFd> {
    if bytes.is_empty() {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        return rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).at("open", "/dev/null");
    }
    let file = File::from(memory_file(c"stdin")?);
    file.write_all_at(bytes, 0).at("write", "stdin")?;
    Ok(file.into())
}

/// All that the child needs, made before it exists: between clone and exec it may only make system calls.
struct Child {
    /// Paths to try, in order. Empty: execute `image`.
    candidates: Vec<CString>,
    image: RawFd,
    argv: Vec<*const libc::c_char>,
    env: Vec<*const libc::c_char>,
    cwd: CString,
    stdin: RawFd,
    output: RawFd,
    is_terminal: bool,
    lock: Option<Lock>,
    /// Written by the child: it shares this memory until it executes.
    errno: i32,
}

const STACK: usize = 64 * 1024;
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Starts a program in a session of its own; `marker` is its environment's, see `processes`.
pub(crate) fn launch(program: &Program<'_>, wiring: Wiring<'_>, marker: &str) -> Result<i32, Errno> {
    let (stdin, output, is_terminal) = match wiring {
        Wiring::Streams { stdin, output } => (stdin, output, false),
        Wiring::Terminal(slave) => (slave, slave, true),
    };
    let marker = format!("{}={marker}", processes::MARKER);
    let (argv, env, cwd, candidates, image, lock) = match program {
        Program::Named { argv, env, cwd, lock } => {
            let env = env.iter().map(|(name, value)| format!("{name}={value}")).chain([marker]).collect();
            (argv.to_vec(), env, *cwd, candidates(argv, program)?, -1, *lock)
        }
        Program::Own { image, role } => {
            let argv = vec!["greenroom-stage".to_owned(), (*role).to_owned()];
            (argv, vec![marker], "/", Vec::new(), image.as_fd().as_raw_fd(), None)
        }
    };
    let argv = argv.iter().map(|text| sys::c_string(text)).collect::<Result<Vec<_>, _>>()?;
    let env = env.iter().map(|text: &String| sys::c_string(text)).collect::<Result<Vec<_>, _>>()?;
    let mut child = Child {
        candidates,
        image,
        argv: argv.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect(),
        env: env.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect(),
        cwd: sys::c_string(cwd)?,
        stdin: stdin.as_raw_fd(),
        output: output.as_raw_fd(),
        is_terminal,
        lock,
        errno: 0,
    };
    clone_and_wait_for_exec(&mut child)
}

/// The paths that `execvp` would try.
fn candidates(argv: &[String], program: &Program<'_>) -> Result<Vec<CString>, Errno> {
    let name = argv.first().filter(|name| !name.is_empty()).ok_or(Errno::NOENT)?;
    if name.contains('/') {
        return Ok(vec![sys::c_string(name)?]);
    }
    let path = match program {
        Program::Named { env, .. } => {
            env.iter().rev().find(|(key, _)| key == "PATH").map(|(_, path)| path.as_str())
        }
        Program::Own { .. } => None,
    };
    path.unwrap_or(DEFAULT_PATH)
        .split(':')
        .map(|directory| if directory.is_empty() { "." } else { directory })
        .map(|directory| sys::c_string(&format!("{directory}/{name}")))
        .collect()
}

fn clone_and_wait_for_exec(child: &mut Child) -> Result<i32, Errno> {
    let mut stack = vec![0u128; STACK / size_of::<u128>()];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: `stack` is 16-byte aligned, large enough for a function that makes system calls, and lives until the call
    // returns, which with CLONE_VFORK is after the child has executed or ended. `child` lives as long, and the parent
    // does not touch it meanwhile because it is suspended.
    let pid = unsafe {
        libc::clone(child_main, stack.as_mut_ptr_range().end.cast(), flags, (&raw mut *child).cast())
    };
    if pid < 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::AGAIN));
    }
    // SAFETY: a plain read of our own memory. Volatile, because the child wrote it behind the compiler's back.
    let errno = unsafe { (&raw const child.errno).read_volatile() };
    if errno == 0 {
        return Ok(pid);
    }
    // It ended with code 127; nobody else waits for it before the next turn of the loop.
    let _ =
        rustix::process::waitpid(rustix::process::Pid::from_raw(pid), rustix::process::WaitOptions::empty());
    Err(Errno::from_raw_os_error(errno))
}

extern "C" fn child_main(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `clone_and_wait_for_exec` passes a live `Child` and is suspended while this runs.
    let child = unsafe { &mut *argument.cast::<Child>() };
    // SAFETY: only system calls on descriptors, strings and a filter that `Child` keeps alive or stage keeps for good (what
    // `lock` came from); no allocation, no mutex, no Rust destructor. Signal dispositions are this process's own (no CLONE_SIGHAND).
    unsafe {
        libc::setsid();
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        prefer_as_oom_victim();
        const CLOSE_ON_EXEC: libc::c_uint = 4;
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, CLOSE_ON_EXEC);
        let is_wired = libc::dup2(child.stdin, 0) >= 0
            && libc::dup2(child.output, 1) >= 0
            && libc::dup2(child.output, 2) >= 0
            && (!child.is_terminal || libc::ioctl(0, libc::TIOCSCTTY, 0) == 0)
            && libc::chdir(child.cwd.as_ptr()) == 0
            && child.lock.is_none_or(|lock| lock.take());
        if is_wired {
            execute(child);
        }
        child.errno = *libc::__errno_location();
        libc::_exit(127)
    }
}

/// Memory runs out: take the run, not stage.
///
/// # Safety
/// Only from `child_main`.
unsafe fn prefer_as_oom_victim() {
    // SAFETY: literals and a descriptor that is closed again.
    unsafe {
        let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file >= 0 {
            libc::write(file, c"500".as_ptr().cast(), 3);
            libc::close(file);
        }
    }
}

/// Returns only when nothing could be executed; errno then says why, a found but unusable file winning over a missing.
///
/// # Safety
/// Only from `child_main`.
unsafe fn execute(child: &Child) {
    // SAFETY: arrays end with null and point to strings that outlive the call.
    unsafe {
        if child.image >= 0 {
            let (argv, env) = (child.argv.as_ptr(), child.env.as_ptr());
            libc::syscall(libc::SYS_execveat, child.image, c"".as_ptr(), argv, env, libc::AT_EMPTY_PATH);
            return;
        }
        let mut errno = libc::ENOENT;
        for candidate in &child.candidates {
            libc::execve(candidate.as_ptr(), child.argv.as_ptr(), child.env.as_ptr());
            match *libc::__errno_location() {
                libc::ENOENT | libc::ENOTDIR => {}
                other => errno = other,
            }
            if errno != libc::ENOENT && errno != libc::EACCES {
                break;
            }
        }
        *libc::__errno_location() = errno;
    }
}

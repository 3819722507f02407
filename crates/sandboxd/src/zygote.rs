//! The server's side of the zygote and its carriers: start them, ask them one thing at a time, notice when they are gone.

use crate::channel::{self, Channel};
use crate::program;
use greenroom_sandbox::{Error, ID_BASE, ID_COUNT, Result};
use greenroom_stage::protocol::{AttachPlan, Fault, Gap, ZygoteReply, ZygoteRequest};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::time::Duration;
use tokio::time::timeout;

/// Preparing walks /etc, /usr/local and /opt once.
const PREPARE_LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Zygote {
    channel: Channel,
    process: Child,
    pub(crate) gaps: Vec<Gap>,
    /// Parts of the host's root that have overlays of their own.
    pub(crate) volumes: Vec<String>,
}

/// A process of the zygote's making: a carrier, or the first process of a sandbox.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

pub(crate) fn protocol(reason: impl std::fmt::Display) -> Error {
    Error::Protocol { reason: reason.to_string() }
}

pub(crate) fn system(operation: &'static str, path: impl Into<String>, source: std::io::Error) -> Error {
    Error::System { operation, path: path.into(), source }
}

impl Zygote {
    pub(crate) async fn start(is_user_mode: bool) -> Result<Self> {
        let (channel, theirs) = channel::pair().map_err(|error| system("socketpair", "zygote", error))?;
        let process = program::start("zygote", theirs).map_err(|error| system("start", "zygote", error))?;
        let mut zygote = Self { channel, process, gaps: Vec::new(), volumes: Vec::new() };
        let prepare =
            ZygoteRequest::Prepare { user_mode: is_user_mode, id_base: ID_BASE, id_count: ID_COUNT };
        match ask(&zygote.channel, &prepare, &[], PREPARE_LIMIT).await? {
            (ZygoteReply::Ready { gaps, volumes }, _) => {
                zygote.gaps = gaps;
                zygote.volumes = volumes;
                Ok(zygote)
            }
            (ZygoteReply::Failed(fault), _) => Err(unsupported(&fault, is_user_mode)),
            (reply, _) => Err(protocol(format!("the zygote answered {reply:?}"))),
        }
    }

    /// A process that waits to make a sandbox.
    pub(crate) async fn carrier(&self) -> Result<Carrier> {
        let (channel, theirs) = channel::pair().map_err(|error| system("socketpair", "carrier", error))?;
        let asked = ask(&self.channel, &ZygoteRequest::Carrier, &[theirs.as_fd()], ANSWER_LIMIT).await;
        Ok(Carrier { channel, process: process(asked?)? })
    }

    /// Gives the sandbox whose first process this is another host name.
    pub(crate) async fn rename(&self, hostname: String, stage: BorrowedFd<'_>) -> Result<()> {
        attached(ask(&self.channel, &ZygoteRequest::Rename { hostname }, &[stage], ANSWER_LIMIT).await?)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A copy of the zygote that makes one sandbox, in the control groups it was moved to. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Carrier {
    channel: Channel,
    pub(crate) process: Spawned,
}

impl Carrier {
    /// Starts its sandbox, without an image. `socket` becomes the stage's; the stage's first word comes there.
    pub(crate) async fn blank(&self, tmp_bytes: u64, socket: OwnedFd) -> Result<Spawned> {
        let request = ZygoteRequest::Blank { tmp_bytes };
        process(ask(&self.channel, &request, &[socket.as_fd()], ANSWER_LIMIT).await?)
    }

    /// Mounts in advance, over a workspace made in advance. After a failure the blank is as it was.
    pub(crate) async fn furnish(&self, workspace: String) -> Result<()> {
        attached(ask(&self.channel, &ZygoteRequest::Furnish { workspace }, &[], ANSWER_LIMIT).await?)
    }

    /// Puts the blank onto its image. The carrier then ends.
    pub(crate) async fn attach(self, plan: AttachPlan) -> Result<()> {
        attached(ask(&self.channel, &ZygoteRequest::Attach(Box::new(plan)), &[], ANSWER_LIMIT).await?)
    }
}

impl Spawned {
    pub(crate) fn is_alive(&self) -> bool {
        // A pidfd is readable once its process has ended.
        let mut polled = [rustix::event::PollFd::new(&self.pidfd, rustix::event::PollFlags::IN)];
        matches!(rustix::event::poll(&mut polled, Some(&rustix::event::Timespec::default())), Ok(0))
    }
}

fn attached(answer: (ZygoteReply, Vec<OwnedFd>)) -> Result<()> {
    match answer.0 {
        ZygoteReply::Attached => Ok(()),
        ZygoteReply::Failed(fault) => Err(from_fault(&fault)),
        reply => Err(protocol(format!("the carrier answered {reply:?}"))),
    }
}

fn process(answer: (ZygoteReply, Vec<OwnedFd>)) -> Result<Spawned> {
    match answer {
        (ZygoteReply::Spawned { pid }, mut descriptors) => {
            let pidfd = descriptors.pop().ok_or_else(|| protocol("no pidfd came with the process"))?;
            Ok(Spawned { pid, pidfd })
        }
        (ZygoteReply::Failed(fault), _) => Err(from_fault(&fault)),
        (reply, _) => Err(protocol(format!("the zygote answered {reply:?}"))),
    }
}

async fn ask(
    channel: &Channel,
    request: &ZygoteRequest,
    descriptors: &[BorrowedFd<'_>],
    limit: Duration,
) -> Result<(ZygoteReply, Vec<OwnedFd>)> {
    let exchange = async {
        channel.send(request, &[], descriptors).await?;
        channel.receive().await
    };
    let (message, received) = timeout(limit, exchange)
        .await
        .map_err(|_| Error::Deadline { what: "the zygote", limit_ms: limit.as_millis() as u64 })?
        .map_err(|error| Error::Ended { reason: format!("the zygote is gone: {error}") })?;
    Ok((message.header().map_err(protocol)?, received))
}

impl Drop for Zygote {
    fn drop(&mut self) {
        // It ends by itself when its socket closes; this makes it certain, and leaves no zombie.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn from_fault(fault: &Fault) -> Error {
    Error::System {
        operation: "start a sandbox",
        path: format!("{} {}", fault.operation, fault.path),
        source: std::io::Error::from_raw_os_error(fault.errno),
    }
}

/// Names the switch that an administrator has to turn.
fn unsupported(fault: &Fault, is_user_mode: bool) -> Error {
    let is_namespace =
        fault.operation == "unshare" || fault.operation == "clone3" || fault.errno == libc::EPERM;
    let remedy = if is_namespace { namespace_remedy(is_user_mode) } else { None };
    Error::Unsupported { reason: fault.to_string(), remedy }
}

fn namespace_remedy(is_user_mode: bool) -> Option<String> {
    let value = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let is = |path: &str, wanted: &str| value(path).is_some_and(|value| value == wanted);
    if is("/proc/sys/user/max_user_namespaces", "0") {
        return Some("sysctl -w user.max_user_namespaces=15000".into());
    }
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return Some("sysctl -w kernel.unprivileged_userns_clone=1".into());
    }
    if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        return Some("sysctl -w kernel.apparmor_restrict_unprivileged_userns=0".into());
    }
    let container = "in a container: give it CAP_SYS_ADMIN, and seccomp and AppArmor profiles that allow namespaces (docker run --privileged)";
    Some(if is_user_mode {
        "run greenroom as root, or allow user namespaces".into()
    } else {
        container.into()
    })
}

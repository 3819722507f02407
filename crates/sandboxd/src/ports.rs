//! Ports of a sandbox from the server's side: connections that stage made inside and passed out.

use crate::sandbox::{LocalSandbox, Reply, file_error, unexpected};
use crate::zygote::{protocol, system};
use greenroom_sandbox::{Error, Result, SandboxStream};
use greenroom_stage::protocol::{StageOp, StageResult};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketType, sockopt};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A listener whose queue is full answers no sooner; one that never accepts is not waited for.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

pub(crate) async fn connect(sandbox: &LocalSandbox, port: u16) -> Result<Box<dyn SandboxStream>> {
    let Reply { answer, descriptors } = sandbox.ask_whole(StageOp::Connect { port }).await?;
    let closed = || Error::NotFound { path: format!("port {port}") };
    match answer.0 {
        StageResult::Connected => {}
        StageResult::Failed(fault) if fault.errno == libc::ECONNREFUSED => return Err(closed()),
        StageResult::Failed(fault) => return Err(file_error(fault)),
        result => return Err(unexpected(&result)),
    }
    let stream = stream(descriptors)?;
    let limit_ms = CONNECT_LIMIT.as_millis() as u64;
    let failed = |error| system("connect", format!("port {port}"), error);
    timeout(CONNECT_LIMIT, stream.writable())
        .await
        .map_err(|_| Error::Deadline { what: "connecting to a port", limit_ms })?
        .map_err(failed)?;
    match stream.take_error().map_err(failed)? {
        Some(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Err(closed()),
        Some(error) => Err(failed(error)),
        None => {
            // Small writes of an interactive page must not wait for each other; a socket without the option works too.
            let _ = stream.set_nodelay(true);
            Ok(Box::new(stream))
        }
    }
}

/// What stage passed out, if it is what it says: a TCP socket.
fn stream(mut descriptors: Vec<OwnedFd>) -> Result<TcpStream> {
    let socket = descriptors.pop().ok_or_else(|| protocol("no connection came with the answer"))?;
    let family = sockopt::socket_domain(&socket).map_err(protocol)?;
    let is_tcp = matches!(family, AddressFamily::INET | AddressFamily::INET6)
        && sockopt::socket_type(&socket).map_err(protocol)? == SocketType::STREAM;
    if !is_tcp {
        return Err(protocol("what came as a connection is none"));
    }
    rustix::io::ioctl_fionbio(&socket, true).map_err(protocol)?;
    TcpStream::from_std(std::net::TcpStream::from(socket)).map_err(protocol)
}

pub(crate) async fn listening(sandbox: &LocalSandbox) -> Result<Vec<u16>> {
    match sandbox.ask_whole(StageOp::ListeningPorts).await?.answer.0 {
        StageResult::Ports { ports } => Ok(ports),
        StageResult::Failed(fault) => Err(file_error(fault)),
        result => Err(unexpected(&result)),
    }
}

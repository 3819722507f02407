//! Takes what a sandbox sends out: listeners live in its network namespace, their sockets here. Every connection goes to
//! the handler with the destination the kernel saw.

use crate::datagram;
use greenroom_sandbox::{EgressHandler, Fence, Origin};
use greenroom_stage::protocol::{Listener, Transport};
use rustix::fd::{AsFd, OwnedFd};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

/// Open connections of one sandbox; past it, connecting waits in the kernel's backlog.
const MAX_CONNECTIONS: usize = 256;
const MAX_QUERIES: usize = 64;
const MAX_DATAGRAM: usize = 4096;
const DNS_LIMIT: Duration = Duration::from_secs(10);
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// Whose sandbox it is at the moment: what connections that are accepted from now on come from.
#[derive(Debug)]
pub(crate) struct Owner {
    now: RwLock<(String, Fence)>,
}

impl Owner {
    pub(crate) fn new(sandbox: &str, fence: &Fence) -> Self {
        Self { now: RwLock::new((sandbox.to_owned(), fence.clone())) }
    }

    pub(crate) fn change(&self, sandbox: &str, fence: &Fence) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = (sandbox.to_owned(), fence.clone());
    }

    fn origin(&self, destination: SocketAddr) -> Origin {
        let (sandbox, fence) = &*self.now.read().unwrap_or_else(PoisonError::into_inner);
        Origin {
            sandbox: sandbox.clone(),
            session: fence.session.clone(),
            generation: fence.generation,
            destination,
        }
    }
}

/// Who sends, and who takes it.
#[derive(Clone, Debug)]
struct Sender {
    owner: Arc<Owner>,
    handler: Arc<dyn EgressHandler>,
}

/// Serves until the handle is aborted; connections end with it.
pub(crate) fn serve(
    owner: &Arc<Owner>,
    handler: &Arc<dyn EgressHandler>,
    listeners: Vec<(Listener, OwnedFd)>,
) -> AbortHandle {
    let sender = Sender { owner: Arc::clone(owner), handler: Arc::clone(handler) };
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let task = tokio::spawn(async move {
        let mut tasks = JoinSet::new();
        for (listener, socket) in listeners {
            match listener.transport {
                Transport::Tcp => match tcp(socket) {
                    Ok(socket) => drop(tasks.spawn(accept(sender.clone(), socket, connections.clone()))),
                    Err(error) => tracing::warn!(?listener, %error, "an egress listener is unusable"),
                },
                Transport::Udp => match udp(socket) {
                    Ok(socket) => drop(tasks.spawn(answer(sender.clone(), socket, listener.port))),
                    Err(error) => tracing::warn!(?listener, %error, "an egress listener is unusable"),
                },
            }
        }
        while tasks.join_next().await.is_some() {}
    });
    task.abort_handle()
}

fn tcp(socket: OwnedFd) -> io::Result<TcpListener> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    TcpListener::from_std(std::net::TcpListener::from(socket))
}

fn udp(socket: OwnedFd) -> io::Result<UdpSocket> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    UdpSocket::from_std(std::net::UdpSocket::from(socket))
}

async fn accept(sender: Sender, listener: TcpListener, connections: Arc<Semaphore>) {
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(owner = ?sender.owner, %error, "accept failed");
                tokio::time::sleep(AFTER_FAILURE).await;
                continue;
            }
        };
        // AnyIP: the local address of the accepted socket is the one the sandbox dialled.
        let Ok(destination) = stream.local_addr() else { continue };
        let _ = stream.set_nodelay(true);
        let (handler, origin) = (sender.handler.clone(), sender.owner.origin(destination));
        open.spawn(async move {
            handler.connection(origin, Box::new(stream)).await;
            drop(permit);
        });
    }
}

async fn answer(sender: Sender, socket: UdpSocket, port: u16) {
    let socket = Arc::new(socket);
    let mut open = JoinSet::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let received =
            socket.async_io(Interest::READABLE, || datagram::receive(socket.as_fd(), &mut buffer)).await;
        let Ok((length, peers)) = received else {
            tokio::time::sleep(AFTER_FAILURE).await;
            continue;
        };
        while open.try_join_next().is_some() || open.len() >= MAX_QUERIES {
            if open.len() >= MAX_QUERIES {
                open.join_next().await;
            }
        }
        let (handler, query) = (sender.handler.clone(), buffer[..length].to_vec());
        let origin = sender.owner.origin(SocketAddr::new(peers.to, port));
        let socket = socket.clone();
        open.spawn(async move {
            let answer = tokio::time::timeout(DNS_LIMIT, handler.dns(origin, query)).await;
            if let Ok(Some(bytes)) = answer {
                // A lost answer is asked for again, as with any datagram.
                let _ = datagram::answer(socket.as_fd(), &bytes, peers);
            }
        });
    }
}

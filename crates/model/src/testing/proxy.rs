//! A TCP proxy that makes every byte travel half a round trip each way, and the first bytes of a connection a whole one
//! more, as the TCP handshake would. Threads instead of tokio: its timers count in whole milliseconds, too coarse for
//! what is measured behind this.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

const CHUNK: usize = 64 * 1024;
const CHUNKS_UNDER_WAY: usize = 1024;

/// Forwards until it is dropped; connections that exist then end with their clients.
#[derive(Debug)]
pub struct DelayProxy {
    address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
}

struct Parcel {
    due: Instant,
    bytes: Vec<u8>,
}

impl DelayProxy {
    pub fn start(upstream: SocketAddr, round_trip: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_stopped);
        thread::Builder::new().name("delay-proxy".to_owned()).spawn(move || {
            for client in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = client else { continue };
                // A client whose server is gone sees its connection end.
                let _ = connect(client, upstream, round_trip);
            }
        })?;
        Ok(Self { address, is_stopped })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for DelayProxy {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn connect(client: TcpStream, upstream: SocketAddr, round_trip: Duration) -> io::Result<()> {
    let opened = Instant::now();
    let server = TcpStream::connect(upstream)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let half = round_trip / 2;
    carry(client.try_clone()?, server.try_clone()?, opened + round_trip, half)?;
    carry(server, client, opened, half)
}

/// Two threads: one stamps what it reads, one waits and writes.
fn carry(from: TcpStream, to: TcpStream, not_before: Instant, half: Duration) -> io::Result<()> {
    let (sender, receiver) = sync_channel(CHUNKS_UNDER_WAY);
    thread::Builder::new()
        .name("delay-read".to_owned())
        .spawn(move || read(from, not_before, half, &sender))?;
    thread::Builder::new().name("delay-write".to_owned()).spawn(move || write(to, &receiver))?;
    Ok(())
}

fn read(mut from: TcpStream, not_before: Instant, half: Duration, sender: &SyncSender<Parcel>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let due = Instant::now().max(not_before) + half;
        if sender.send(Parcel { due, bytes: buffer[..count].to_vec() }).is_err() {
            break;
        }
    }
}

fn write(mut to: TcpStream, receiver: &Receiver<Parcel>) {
    for parcel in receiver {
        wait_until(parcel.due);
        if to.write_all(&parcel.bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// As exact as the kernel's timers, some 50 µs.
fn wait_until(due: Instant) {
    loop {
        let now = Instant::now();
        if now >= due {
            return;
        }
        thread::park_timeout(due - now);
    }
}

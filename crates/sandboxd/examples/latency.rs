//! Measures the library: claim to first output, exec in a running sandbox, and the floor. `cargo run --release -p
//! greenroom-sandboxd --example latency [rounds]`.
#![allow(clippy::print_stdout, reason = "a measuring program")]

use greenroom_sandbox::SandboxProvider;
use greenroom_sandbox::contract::{Recorder, Subject, finish, shell};
use greenroom_sandboxd::{LocalProvider, LocalSettings, floor_exec};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(50usize);
    let egress = Arc::new(Recorder::default());
    let started = Instant::now();
    let provider = LocalProvider::start(LocalSettings::default(), egress.clone()).await?;
    println!("provider start      {:?}", started.elapsed());
    let scratch = tempfile::tempdir()?;
    let subject = Subject { provider: provider.clone(), scratch: scratch.path().to_owned(), egress };
    let (mut claim, mut cold, mut exec, mut end) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        tokio::time::sleep(Duration::from_millis(if round % 2 == 0 { 150 } else { 0 })).await;
        let started = Instant::now();
        let sandbox = subject.claim().await;
        claim.push(started.elapsed());
        finish(&*sandbox, shell("first", "echo first")).await;
        cold.push(started.elapsed());
        for number in 0..10 {
            let started = Instant::now();
            let mut spec = shell(&format!("run-{number}"), "");
            spec.argv = vec!["/bin/true".into()];
            finish(&*sandbox, spec).await;
            exec.push(started.elapsed());
        }
        let started = Instant::now();
        sandbox.destroy().await?;
        end.push(started.elapsed());
    }
    let floor = (0..rounds * 10).map(|_| floor_exec(&["/bin/true"])).collect::<Result<Vec<_>, _>>()?;
    for (name, mut times) in [
        ("claim", claim),
        ("claim + sh -c echo", cold),
        ("exec /bin/true", exec),
        ("destroy", end),
        ("floor /bin/true", floor),
    ] {
        times.sort();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
        println!("{name:20}p50 {:>10.2?}  p95 {:>10.2?}  max {:>10.2?}", at(0.5), at(0.95), at(1.0));
    }
    provider.shutdown().await?;
    Ok(())
}

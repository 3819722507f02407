//! Measures the library: a claim with and without a blank, a new owner, exec, and the floor. As root on a volume of its
//! own. `cargo run --release -p greenroom-sandboxd --example latency [rounds] [pause_ms]`.
#![allow(clippy::print_stdout, reason = "a measuring program")]

use greenroom_sandbox::contract::{Recorder, Subject, finish, shell};
use greenroom_sandbox::{ClaimSpec, Fence, Identity, Sandbox, SandboxProvider};
use greenroom_sandboxd::{
    LocalProvider, LocalSettings, Volume, VolumeSettings, enter_private_mounts, floor_exec,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

type Rows = Vec<(&'static str, Vec<Duration>)>;

fn main() -> anyhow::Result<()> {
    enter_private_mounts();
    tokio::runtime::Runtime::new()?.block_on(async { tokio::spawn(measure()).await? })
}

async fn measure() -> anyhow::Result<()> {
    let argument =
        |at, otherwise| std::env::args().nth(at).and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let (rounds, pause) = (argument(1, 50u64), Duration::from_millis(argument(2, 100)));
    let data = tempfile::tempdir()?;
    let settings = VolumeSettings { size_bytes: Some(4 << 30) };
    let directory = data.path().to_owned();
    let volume = tokio::task::spawn_blocking(move || Volume::open(&directory, &settings)).await??;
    let scratch = volume.storage()?.root().join("workspaces");
    let egress = Arc::new(Recorder::default());
    let started = Instant::now();
    let settings = LocalSettings { volume: Some(volume), ..LocalSettings::default() };
    let provider = LocalProvider::start(settings, egress.clone()).await?;
    println!("provider start        {:?}", started.elapsed());
    let subject = Subject { provider: provider.clone(), scratch, egress };
    let mut rows: Rows =
        ["cold", "cold + sh", "blank", "blank + sh", "warm", "warm + sh", "exec true", "exec sh", "destroy"]
            .map(|name| (name, Vec::new()))
            .to_vec();
    for (row, blanks) in [(0, 0), (2, 4)] {
        for _ in 0..rounds {
            provider.set_blanks(blanks).await?;
            tokio::time::sleep(pause).await;
            // The product's name: then the host name's files are the image's.
            let spec = ClaimSpec { hostname: "greenroom".into(), ..subject.spec() };
            let started = Instant::now();
            let sandbox = subject.claim_with(spec).await;
            rows[row].1.push(started.elapsed());
            finish(&*sandbox, shell("first", "echo first")).await;
            rows[row + 1].1.push(started.elapsed());
            if blanks > 0 {
                rebind(&subject, &provider, &sandbox, &mut rows).await?;
            } else {
                sandbox.destroy().await?;
            }
        }
    }
    let floor = |argv: &[&str]| (0..rounds * 10).map(|_| floor_exec(argv)).collect::<Result<Vec<_>, _>>();
    rows.push(("floor true", floor(&["/bin/true"])?));
    rows.push(("floor sh", floor(&["/bin/sh", "-c", "echo x >/dev/null"])?));
    for (name, mut times) in rows {
        times.sort();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
        println!("{name:20} p50 {:>10.2?}  p95 {:>10.2?}  max {:>10.2?}", at(0.5), at(0.95), at(1.0));
    }
    provider.shutdown().await?;
    Ok(())
}

async fn rebind(
    subject: &Subject,
    provider: &LocalProvider,
    sandbox: &Arc<dyn Sandbox>,
    rows: &mut Rows,
) -> anyhow::Result<()> {
    let spec = ClaimSpec { hostname: "greenroom".into(), ..subject.spec() };
    let to = Identity {
        id: format!("{}-new", spec.id),
        fence: Fence { session: spec.id.clone(), epoch: 1, generation: 1 },
        workspace: spec.workspace.directory,
        hostname: spec.hostname,
        env: spec.env,
    };
    let started = Instant::now();
    let sandbox = provider.rebind(sandbox.id(), to).await?;
    rows[4].1.push(started.elapsed());
    finish(&*sandbox, shell("second", "echo first")).await;
    rows[5].1.push(started.elapsed());
    for number in 0..10 {
        for (row, name, script) in [(6, "true", ""), (7, "sh", "echo x >/dev/null")] {
            let mut spec = shell(&format!("{name}-{number}"), script);
            if script.is_empty() {
                spec.argv = vec!["/bin/true".into()];
            }
            let started = Instant::now();
            finish(&*sandbox, spec).await;
            rows[row].1.push(started.elapsed());
        }
    }
    let started = Instant::now();
    sandbox.destroy().await?;
    rows[8].1.push(started.elapsed());
    Ok(())
}

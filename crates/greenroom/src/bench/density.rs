//! `bench density`: what so many warm sandboxes hold of the machine, and how long the next start takes then. Sandboxes
//! over the host's root that have run a command and now wait, at the library.

use super::library::{Library, run as run_script, warm_one};
use super::stats::Report;
use crate::cli::Global;
use crate::connection;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SAMPLES: u32 = 25;
const PAUSE: Duration = Duration::from_millis(200);
/// For what ends or is written in the background.
const SETTLE: Duration = Duration::from_secs(2);
const BLANKS: usize = 4;

pub(crate) async fn run(global: &Global, out: Output, count: u32) -> Result<Exit, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let parent =
        global.data.clone().unwrap_or_else(|| connection::data_dir(None).with_file_name("greenroom-bench"));
    let data = parent.join(format!("density-{now}"));
    std::fs::create_dir_all(&data)?;
    let library = Library::start(&data, BLANKS).await?;
    let measured = measure(&library, out, count).await;
    library.stop().await;
    // The directory is this run's own; what cannot be removed is only disk space.
    let _ = std::fs::remove_dir_all(&data);
    let report = measured?;
    out.document(&report.json(), |_| report.text())?;
    Ok(Exit::Done)
}

/// Bytes of the whole machine.
#[derive(Clone, Copy)]
struct Memory {
    available: u64,
    slab: u64,
    percpu: u64,
    stacks_and_tables: u64,
}

impl Memory {
    fn now() -> std::io::Result<Self> {
        let text = std::fs::read_to_string("/proc/meminfo")?;
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
            kib.unwrap_or(0) * 1024
        };
        let stacks_and_tables = of("KernelStack") + of("PageTables");
        Ok(Self { available: of("MemAvailable"), slab: of("Slab"), percpu: of("Percpu"), stacks_and_tables })
    }
}

async fn measure(library: &Library, out: Output, count: u32) -> Result<Report, Failure> {
    let mut report = Report::default();
    // What is held once, whatever the number.
    warm_one(library).await?;
    out.progress("start latency with one sandbox alive…\n");
    report.row("start_before", starts(library).await?);
    tokio::time::sleep(SETTLE).await;
    let before = Memory::now()?;
    out.progress(&format!("{count} sandboxes…\n"));
    let mut alive = Vec::new();
    for _ in 0..count {
        alive.push(warm_one(library).await?);
    }
    tokio::time::sleep(SETTLE).await;
    let after = Memory::now()?;
    let mut in_groups = Some(0);
    for sandbox in &alive {
        let usage = sandbox.usage().await.map_err(greenroom_app::problem_of_sandbox)?;
        in_groups = in_groups.zip(usage.memory_bytes).map(|(sum, bytes)| sum + bytes);
    }
    let each = |bytes: u64| bytes / u64::from(count);
    let kernel = |memory: Memory| memory.slab + memory.percpu + memory.stacks_and_tables;
    report.fact("sandboxes", count);
    report.fact("machine_bytes_each", each(before.available.saturating_sub(after.available)));
    report.fact("kernel_bytes_each", each(kernel(after).saturating_sub(kernel(before))));
    report.fact("slab_bytes_each", each(after.slab.saturating_sub(before.slab)));
    report.fact("process_bytes_each", each(stage_memory()));
    match in_groups {
        Some(bytes) => report.fact("cgroup_bytes_each", each(bytes)),
        None => report.fact("cgroup_bytes_each", "not counted on this machine"),
    }
    report.fact(
        "how",
        "machine: MemAvailable before and after. kernel: Slab, Percpu, KernelStack and PageTables of /proc/meminfo before \
         and after. process: Pss of each first process. cgroup: what the memory controller charges, page cache included.",
    );
    out.progress("start latency now…\n");
    report.row("start", starts(library).await?);
    let mut execs = vec![];
    for number in 0..SAMPLES {
        let begun = Instant::now();
        run_script(&*alive[0], &format!("exec-{number}")).await?;
        execs.push(begun.elapsed());
    }
    report.row("exec", execs);
    out.progress("ending them…\n");
    let begun = Instant::now();
    for sandbox in alive {
        sandbox.destroy().await.map_err(greenroom_app::problem_of_sandbox)?;
    }
    report.fact("destroy_ms_each", begun.elapsed().as_secs_f64() * 1000.0 / f64::from(count));
    Ok(report)
}

async fn starts(library: &Library) -> Result<Vec<Duration>, Failure> {
    let mut samples = vec![];
    for _ in 0..SAMPLES {
        library.set_blanks(BLANKS).await?;
        tokio::time::sleep(PAUSE).await;
        let begun = Instant::now();
        let sandbox = library.alive().await?;
        samples.push(begun.elapsed());
        sandbox.destroy().await.map_err(greenroom_app::problem_of_sandbox)?;
    }
    Ok(samples)
}

/// Proportional share of every process called `stage`, in bytes: shared pages count once.
fn stage_memory() -> u64 {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    let is_stage = |path: &std::path::Path| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "stage")
    };
    let share = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(path.join("smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim().to_owned();
        line.split(' ').next()?.parse::<u64>().ok()
    };
    entries.flatten().map(|entry| entry.path()).filter(|path| is_stage(path)).filter_map(share).sum::<u64>()
        * 1024
}

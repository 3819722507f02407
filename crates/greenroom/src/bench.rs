//! `greenroom bench`: measurements that anyone can repeat, each beside a floor or a peer in the same run. Without
//! `--json` a table. Everything runs in a data directory of its own, over the public HTTP API.

mod commit;
mod density;
mod disk;
mod idle;
mod image;
mod library;
mod open;
mod peers;
mod process;
mod served;
mod snapshot;
mod start;
mod stats;
mod stream;
mod ttft;
mod world;

use crate::cli::Global;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use clap::Subcommand;

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Bench {
    /// From creating a session to its first command's output, and a command in a running sandbox
    Start {
        /// Repetitions of each row
        #[arg(short, default_value_t = 50, value_parser = clap::value_parser!(u32).range(3..=10_000))]
        n: u32,
        /// Once more with so many sandboxes alive, for each number
        #[arg(long, value_delimiter = ',', default_value = "0", value_name = "N")]
        alive: Vec<u32>,
    },
    /// What many sandboxes hold of the machine, and how long the next one takes then
    Density {
        /// Sandboxes that are alive at once
        #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=5_000))]
        count: u32,
    },
    /// What open connections to sleeping sessions hold of the server, and how long the next command of one takes
    Idle {
        /// Connections, each to a session of its own
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
        sockets: u32,
    },
    /// Acknowledged commands per second, of one session and of many at once, beside a bare fdatasync
    Commit {
        /// Sessions that are commanded at once, for each number
        #[arg(long, value_delimiter = ',', default_value = "1,60,500", value_name = "N")]
        sessions: Vec<u32>,
        /// Seconds of each row
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
        seconds: u32,
    },
    /// From asking for a long session to its present and newest entries, whole and by a window
    Open {
        /// Entries of its log
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..=5_000_000))]
        entries: u64,
        /// Repetitions of each row
        #[arg(short, default_value_t = 20, value_parser = clap::value_parser!(u32).range(3..=1_000))]
        n: u32,
    },
    /// An environment image from nothing, after a changed source file, after a changed lockfile
    Image,
    /// Snapshots, restores, forks and `git status` of a large tree, at the library
    Snapshot {
        /// Repetitions of each row
        #[arg(short, default_value_t = 10, value_parser = clap::value_parser!(u32).range(3..=1_000))]
        n: u32,
        /// Tracked files of the tree
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
        files: u64,
        /// Bytes of the tree, and of the build directory of the second live row
        #[arg(long, default_value_t = 2_000_000_000)]
        bytes: u64,
    },
    /// From a model's delta to the viewers, many sessions at once, beside a bare relay of WebSocket frames
    Stream {
        /// Sessions that stream at once
        #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=2_000))]
        sessions: u32,
        /// Deltas of each session in a second
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        rate: u32,
        /// Viewers of each session
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
        viewers: u32,
        /// Viewers of the one session of the second row
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        crowd: u32,
        /// How long each row counts
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
        seconds: u64,
    },
    /// The relay that `stream` compares with
    #[command(hide = true)]
    StreamFloor,
    /// From sending a prompt to the model's server receiving the request
    Ttft {
        #[arg(short, default_value_t = 100, value_parser = clap::value_parser!(u32).range(3..=10_000))]
        n: u32,
    },
}

pub(crate) fn bench(global: &Global, bench: Bench) -> Result<Exit, Failure> {
    let out = Output::new(global.json);
    if cfg!(debug_assertions) {
        out.progress(
            "This is a debug build; measure with `cargo xtask bench …`, which builds for release.\n",
        );
    }
    crate::serve::log_to_stderr(crate::settings::LogFormat::Text, "warn");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match bench {
            Bench::Start { n, alive } => start::run(global, out, n, &alive).await,
            Bench::Density { count } => density::run(global, out, count).await,
            Bench::Idle { sockets } => idle::run(global, out, sockets).await,
            Bench::Commit { sessions, seconds } => commit::run(global, out, &sessions, seconds).await,
            Bench::Open { entries, n } => open::run(global, out, entries, n).await,
            Bench::Image => image::run(global, out).await,
            Bench::Snapshot { n, files, bytes } => {
                snapshot::run(global, out, snapshot::Size { files, bytes, n }).await
            }
            Bench::Stream { sessions, rate, viewers, crowd, seconds } => {
                let count = |number: u32| number as usize;
                let (sessions, viewers, crowd) = (count(sessions), count(viewers), count(crowd));
                let load = stream::Load { sessions, rate, viewers, crowd, seconds };
                stream::run(global, out, load).await
            }
            Bench::StreamFloor => stream::serve_floor().await,
            Bench::Ttft { n } => ttft::run(global, out, n).await,
        }
    })
}

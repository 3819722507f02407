//! Histories of chance; see the crate's documentation. `cargo xtask simulate SEED` plays one and says what happened.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use greenroom_simulation::{History, run};

/// Plays seeds on as many threads as there are processors, and answers those that went wrong.
fn play(seeds: std::ops::Range<u64>) -> (u64, Vec<History>) {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let played: Vec<(u64, Vec<History>)> = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| {
                let seeds = seeds.clone().filter(move |seed| seed % threads == part);
                scope.spawn(move || {
                    let (mut entries, mut wrong) = (0, vec![]);
                    for seed in seeds {
                        let history = run(seed);
                        entries += history.entries;
                        if !history.violations.is_empty() {
                            wrong.push(history);
                        }
                    }
                    (entries, wrong)
                })
            })
            .collect();
        parts.into_iter().map(|part| part.join().unwrap()).collect()
    });
    let entries = played.iter().map(|(entries, _)| entries).sum();
    (entries, played.into_iter().flat_map(|(_, wrong)| wrong).collect())
}

fn assert_kept(seeds: std::ops::Range<u64>) {
    let count = seeds.end - seeds.start;
    let (entries, wrong) = play(seeds);
    println!("{count} histories, {entries} entries");
    for history in wrong.iter().take(5) {
        println!("seed {}: {:#?}", history.seed, history.violations);
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} histories broke a promise; `cargo xtask simulate SEED` plays one again",
        wrong.len()
    );
    assert!(entries > count * 20, "so little happened that nothing is shown: {entries} entries");
}

#[test]
fn promises_are_kept_in_five_hundred_histories() {
    assert_kept(0..500);
}

#[test]
#[ignore = "soak"]
fn promises_are_kept_in_ten_thousand_histories() {
    assert_kept(0..10_000);
}

#[test]
fn a_seed_is_one_history() {
    for seed in [1, 7, 42, 99] {
        assert_eq!(run(seed), run(seed));
    }
}

/// For `cargo xtask simulate SEED`.
#[test]
#[ignore = "plays the seed in GREENROOM_SEED"]
fn one_history() {
    let seed = std::env::var("GREENROOM_SEED").unwrap().parse().unwrap();
    let history = run(seed);
    println!("{history:#?}");
    assert_eq!(history.violations, [""; 0]);
}

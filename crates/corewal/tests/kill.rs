//! Kills a writing process at random moments and recovers what it left, with both engines in turn.
//!
//! The process that is killed is this binary again. It appends real lines over several shards and writes to
//! a pipe what the frontier has covered. After each kill, what is recovered must be, for every shard,
//! exactly a beginning of the lines that the shard was to append: so nothing is missing in between, nothing
//! comes twice or out of order, and nothing was invented. It must reach at least to the last
//! acknowledgement and at most to what had been handed to the engine.
//!
//! A SIGKILL leaves the page cache and what the kernel was given; it is no power cut.
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

#[path = "kill/child.rs"]
mod child;
#[path = "kill/lines.rs"]
mod lines;
#[path = "kill/lock.rs"]
mod lock;
#[path = "kill/parent.rs"]
mod parent;
#[path = "kill/producers.rs"]
mod producers;
#[path = "kill/victim.rs"]
mod victim;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

/// Replays the log of one seed.
const SEED: &str = "COREWAL_KILL_SEED";

type Test = (&'static str, fn(Option<u64>));

const TESTS: [Test; 3] = [
    ("killed_writers_lose_nothing_acknowledged", parent::killed_writers_lose_nothing_acknowledged),
    ("a_killed_writer_frees_its_log", lock::a_killed_writer_frees_its_log),
    (
        "killed_producers_lose_nothing_acknowledged",
        producers::killed_producers_lose_nothing_acknowledged,
    ),
];

fn main() -> ExitCode {
    if let Some(order) = child::Order::from_environment() {
        return child::run(&order);
    }
    if let Some(end) = producers::run_as_child() {
        return end;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| {
        let mut names = arguments.iter().filter(|it| !it.starts_with('-')).peekable();
        names.peek().is_none() || names.any(|it| name.contains(it.as_str()))
    };
    if arguments.iter().any(|it| it == "--list") {
        TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let seed = std::env::var(SEED).ok().map(|seed| seed.parse().expect("a seed is a number"));
    let mut failed = false;
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted(name)) {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| test(seed)));
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        failed |= outcome.is_err();
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

//! The examples, run.
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]
#![expect(dead_code, reason = "the examples' own entry points")]

#[path = "../examples/async_tasks.rs"]
mod async_tasks;
#[path = "../examples/crash_test.rs"]
mod crash_test;
#[path = "../examples/event_loop.rs"]
mod event_loop;
#[path = "../examples/producers.rs"]
mod producers;

use std::path::Path;

use corewal::{Kind, Log, Options};

fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Entries that a recovery gives, and the committed epoch.
fn recovered(dir: &Path) -> (usize, u64) {
    let mut recovery = Log::recover(Options::new(dir).shards(2)).unwrap();
    let mut count = 0;
    while let Some(entry) = recovery.next_entry().unwrap() {
        count += usize::from(entry.kind() == Kind::PUT);
    }
    (count, recovery.report().committed_epoch.0)
}

#[test]
fn producers_append_and_recover() {
    let temp = temp_dir();
    let dir = temp.path().join("log");
    assert_eq!(producers::run(&dir).unwrap(), 8_000);
    assert_eq!(producers::run(&dir).unwrap(), 16_000);
    let (count, committed) = recovered(&dir);
    assert_eq!(count, 16_000);
    assert!(committed >= 2);
}

#[test]
fn tasks_are_acknowledged() {
    let temp = temp_dir();
    let dir = temp.path().join("log");
    assert_eq!(async_tasks::run(&dir).unwrap(), 3_200);
    assert_eq!(recovered(&dir), (3_200, 1));
}

#[test]
fn a_program_survives_every_power_cut() {
    assert!(crash_test::run().unwrap() > 500);
}

#[cfg(target_os = "linux")]
#[test]
fn an_event_loop_sleeps_on_two_sources() {
    let temp = temp_dir();
    let dir = temp.path().join("log");
    assert_eq!(event_loop::linux::run(&dir).unwrap(), 1_000);
    assert_eq!(recovered(&dir).0, 1_000);
}

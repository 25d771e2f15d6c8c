//! Logs of many shards: what a recovery takes of the system is bounded.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread;

use corewal::{Log, Preparing};

use crate::support::tap::{Hook, Tap};
use crate::support::{append, open_all, temp_dir, tiny};

#[test]
fn hundreds_of_shards_are_judged_by_a_few_threads() {
    const SHARDS: u16 = 300;
    let dir = temp_dir();
    let options = || tiny(dir.path()).shards(SHARDS);
    let (log, mut writers) = open_all(options());
    for writer in &mut writers {
        append(&log, writer, "an event");
        writer.sync().unwrap();
    }
    drop((writers, log));
    let tap = Tap::new(dir.path());
    let threads = Arc::new(Mutex::new(HashSet::new()));
    let seen = Arc::clone(&threads);
    let look = move || _ = seen.lock().unwrap().insert(thread::current().id());
    tap.state().on_open = Some(("0000000001.seg".into(), Hook(Arc::new(Mutex::new(look)))));
    let options = options().preparing(Preparing::Thread).disk(tap);
    let mut recovery = Log::recover(options).unwrap();
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let count = threads.lock().unwrap().len();
    assert!((1..=16.max(2 * cpus)).contains(&count), "{count} threads");
    let mut count = 0;
    while recovery.next_entry().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, SHARDS);
}

/// Each thread that reads ahead has three blocks of 2 MiB.
#[cfg(target_os = "linux")]
#[test]
fn few_of_many_shards_are_read_ahead() {
    use corewal::{Kind, Policy};
    const SHARDS: u16 = 24;
    const ENTRIES: usize = 48;
    let dir = temp_dir();
    let options = || {
        tiny(dir.path())
            .shards(SHARDS)
            .policy(Policy::OnDemand)
            .write_len(64 << 10)
            .max_batch(256 << 10)
            .max_record(128 << 10)
            .segment_len(4 << 20)
            .first_segment_len(4 << 20)
    };
    let (log, mut writers) = open_all(options());
    for writer in &mut writers {
        for _ in 0..ENTRIES {
            crate::support::persist(&log, writer, |it| it.append_bytes(Kind::PUT, &[7; 64 << 10]))
                .unwrap();
            writer.turn().unwrap();
        }
        writer.sync().unwrap();
    }
    drop((writers, log));
    let mut recovery = Log::recover(options().preparing(Preparing::Thread)).unwrap();
    let mut most = 0;
    // All shards are in the same epoch, so their entries take turns.
    for index in 0..usize::from(SHARDS) * ENTRIES {
        let entry = recovery.next_entry().unwrap().unwrap();
        assert!(entry.bytes() == [7; 64 << 10]);
        if index % 100 == 0 {
            most = most.max(threads_named("corewal-ahead"));
        }
    }
    assert!(recovery.next_entry().unwrap().is_none());
    assert!((1..=16).contains(&most), "{most} threads read ahead");
}

#[cfg(target_os = "linux")]
fn threads_named(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|it| it.trim_end() == name).count()
}

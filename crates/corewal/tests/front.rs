//! The three front ends over the engine: your own thread, threads of the log, tasks.
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

#[path = "front/epochs.rs"]
mod epochs;
#[path = "front/event_loop.rs"]
mod event_loop;
#[path = "front/groups.rs"]
mod groups;
#[path = "front/producers.rs"]
mod producers;
#[path = "front/slow.rs"]
mod slow;
#[path = "front/tasks.rs"]
mod tasks;

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use corewal::{Engine, Kind, Log, Options};

/// What should take microseconds hangs after this.
const PATIENCE: Duration = Duration::from_secs(60);

fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn open(options: Options) -> Log {
    Log::recover(options).unwrap().open().unwrap()
}

/// The engines that can be had here.
fn engines() -> Vec<Engine> {
    let temp = temp_dir();
    let mut log = open(Options::new(temp.path().join("log")).engine(Engine::Uring));
    match log.take_seats().remove(0).sit() {
        Ok(_) => vec![Engine::Uring, Engine::Blocking],
        Err(refusal) => {
            println!("SKIPPED: io_uring: {refusal}");
            vec![Engine::Blocking]
        }
    }
}

/// Runs `act` on a thread, and panics if it does not end.
fn in_bounded_time<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, done) = channel();
    let thread = std::thread::spawn(move || {
        let outcome = act();
        let _ = sender.send(());
        outcome
    });
    match done.recv_timeout(PATIENCE) {
        Ok(()) | Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Ok(outcome) => outcome,
            Err(payload) => std::panic::resume_unwind(payload),
        },
        Err(RecvTimeoutError::Timeout) => panic!("it hangs"),
    }
}

/// The payloads that a recovery gives, barriers aside.
fn recovered(options: Options) -> Vec<Vec<u8>> {
    let mut recovery = Log::recover(options).unwrap();
    let mut payloads = Vec::new();
    while let Some(entry) = recovery.next_entry().unwrap() {
        if entry.kind() != Kind::BARRIER {
            payloads.push(entry.bytes().to_vec());
        }
    }
    payloads
}

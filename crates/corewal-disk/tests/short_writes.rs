//! A limit of the file size makes real short writes (setrlimit(2)). It holds for the whole process;
//! so this is a program of its own, with one test.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

use std::io;
use std::path::Path;

use corewal_disk::{
    Block, Completion, Disk, Durability, Engine, Open, Operation, RealDisk, RingConfig, Token,
};

const UNIT: usize = 4096;
/// Inside the second part of a split write.
const LIMIT: usize = 768 * 1024;

fn limit_file_size() {
    // Else a write beyond the limit kills the process.
    // SAFETY: ignoring a signal installs no code.
    let old = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    assert_ne!(old, libc::SIG_ERR);
    let limit = libc::rlimit { rlim_cur: LIMIT as u64, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: one `rlimit`, borrowed for the call.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// Writes `len` bytes at `at`, on a ring and a file of its own. Returns the completion and the
/// system calls that it took.
fn write_counted(
    engine: Engine,
    open: Open,
    at: usize,
    len: usize,
    durability: Durability,
) -> (Completion, u64) {
    let temp = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let disk = RealDisk::new();
    let config = RingConfig { engine, depth: 2, block_count: 0, block_len: UNIT, lock: None };
    let mut ring = disk.ring(config).unwrap();
    let file = disk.open(&temp.path().join("a"), open).unwrap();
    let slot = ring.register(&file).unwrap();
    let (token, block, at) = (Token(1), Block::zeroed(len), at as u64);
    ring.push(Operation::Write { token, file: slot, block, len, at, durability }).unwrap();
    ring.submit().unwrap();
    let mut completions = Vec::new();
    while completions.is_empty() {
        ring.wait(None).unwrap();
        ring.reap(&mut completions).unwrap();
    }
    assert_eq!(ring.in_flight(), 0);
    (completions.pop().unwrap(), ring.facts().calls)
}

fn write(engine: Engine, open: Open, at: usize, len: usize, durability: Durability) -> Completion {
    write_counted(engine, open, at, len, durability).0
}

/// A mistake seen in other logs: a short write is dropped from view, and the next sync "succeeds".
#[test]
fn a_short_write_is_reported_as_its_count() {
    limit_file_size();
    for engine in [Engine::Blocking, Engine::Auto] {
        for open in [Open::CREATE, Open::CREATE.direct()] {
            for durability in [
                Durability::Written,
                Durability::Dsync,
                Durability::LinkedSync,
                Durability::DrainedSync,
            ] {
                let case = format!("{engine:?} {open:?} {durability:?}");
                let (short, calls) =
                    write_counted(engine, open, LIMIT - UNIT, 2 * UNIT, durability);
                assert!(engine != Engine::Blocking || calls == 1, "{case}: a sync followed");
                assert_eq!(short.result.unwrap(), UNIT, "{case}");
                assert_eq!(short.block.unwrap().len(), 2 * UNIT);

                let split = write(engine, open, 0, 1024 * 1024, durability);
                assert_eq!(split.result.unwrap(), LIMIT, "{case}");

                let refused = write(engine, open, LIMIT, UNIT, durability);
                let error = refused.result.unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EFBIG), "{case}");
                assert!(refused.block.is_some());

                let whole = write(engine, open, LIMIT - UNIT, UNIT, durability);
                assert_eq!(whole.result.unwrap(), UNIT, "{case}");
            }
        }
    }
}

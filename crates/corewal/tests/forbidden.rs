//! A log where io_uring, or a part of it, is forbidden: it opens, says what it runs on and why, and what it wrote is
//! recovered with io_uring, and the other way round.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

use std::path::Path;

use corewal::{AppendError, Engine, Kind, Log, Options, RingFacts, ShardId, ShardWriter, Stamp};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Opcodes of io_uring_register(2).
const REGISTER_BUFFERS: u64 = 0;
const REGISTER_FILES: u64 = 2;
/// Enough for a few segments of [`options`].
const LINES: usize = 300;

/// Runs `life` on a thread, and the threads that it starts, for which a system call fails with `errno`: all of its
/// kind, or those whose second argument is `argument` (seccomp(2)).
fn forbidding<T: Send>(
    call: i64,
    argument: Option<u64>,
    errno: i32,
    life: impl FnOnce() -> T + Send,
) -> T {
    let equals = |value| {
        let (len, op) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
        SeccompRule::new(vec![SeccompCondition::new(1, len, op, value).unwrap()]).unwrap()
    };
    let rules = [(call, argument.map(equals).into_iter().collect())].into();
    let errno = SeccompAction::Errno(errno.cast_unsigned());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, arch).unwrap();
    let program = BpfProgram::try_from(filter).unwrap();
    let filtered = || {
        seccompiler::apply_filter(&program).unwrap();
        life()
    };
    std::thread::scope(|scope| scope.spawn(filtered).join().unwrap())
}

fn options(dir: &Path) -> Options {
    Options::new(dir.join("log"))
        .shards(2)
        .segment_len(64 << 10)
        .first_segment_len(64 << 10)
        .write_len(16 << 10)
        .max_batch(32 << 10)
        .max_record(16 << 10)
}

fn line(life: usize, number: usize) -> Vec<u8> {
    let mut line = format!("{life}.{number:04} ").into_bytes();
    line.resize(1500, b'x');
    line
}

/// Every payload in the log, in order.
fn payloads(dir: &Path) -> Vec<Vec<u8>> {
    let mut recovery = Log::recover(options(dir)).unwrap();
    let mut payloads = Vec::new();
    while let Some(entry) = recovery.next_entry().unwrap() {
        if entry.kind() == Kind::PUT {
            payloads.push(entry.bytes().to_vec());
        }
    }
    payloads
}

/// Waits for the next segment where the writer is ahead of the preparing.
fn append(writer: &mut ShardWriter, line: &[u8]) -> Stamp {
    loop {
        match writer.append_bytes(Kind::PUT, line) {
            Err(AppendError::Full) => writer.sleep(None).unwrap(),
            outcome => return outcome.unwrap(),
        }
        writer.turn().unwrap();
    }
}

/// Recovers, appends over several segments, lets go of the first ones so that their files are used again, and dies
/// without a close. Returns what each ring is.
fn live(dir: &Path, life: usize) -> Vec<RingFacts> {
    let mut log = Log::recover(options(dir)).unwrap().open().unwrap();
    let mut writers: Vec<_> =
        log.take_seats().into_iter().map(|seat| seat.sit().unwrap()).collect();
    for number in 0..LINES {
        let writer = &mut writers[number % 2];
        let stamp = append(writer, &line(life, number));
        writer.wait(stamp).unwrap();
        if number == LINES / 2 {
            let epochs = writers.iter_mut().map(|it| it.close_epoch().unwrap());
            let epoch = epochs.last().unwrap();
            for writer in &mut writers {
                writer.sync().unwrap();
            }
            log.checkpoint(epoch, b"elsewhere").unwrap();
        }
    }
    for writer in &writers {
        assert!(writer.stats().rotations > 2);
    }
    assert!(writers.iter().any(|it| it.stats().recycled > 0), "files are used again");
    let capabilities = log.capabilities();
    let found: Vec<RingFacts> = writers.iter().map(|it| it.ring_facts()).collect();
    let (shards, told): (Vec<ShardId>, Vec<_>) = capabilities.rings.into_iter().unzip();
    assert_eq!(shards, [ShardId(0), ShardId(1)]);
    for (found, told) in found.iter().zip(&told) {
        assert_eq!(told.as_ref().unwrap().fallback, found.fallback);
    }
    found
}

/// What is kept of a life is its end, from the checkpoint on or before.
fn assert_kept(dir: &Path, life: usize) {
    let kept = payloads(dir);
    for shard in 0..2 {
        let expected = (0..LINES).filter(|it| it % 2 == shard).map(|it| line(life, it));
        let expected: Vec<_> = expected.skip(LINES / 4 + 1).collect();
        let found: Vec<_> = kept.iter().filter(|it| expected.contains(it)).cloned().collect();
        assert_eq!(found, expected, "shard {shard} of life {life}");
    }
}

#[test]
fn a_log_lives_without_io_uring_and_with_it_in_turn() {
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = temp.path();
    let setup = libc::SYS_io_uring_setup;
    for (life, (errno, cause)) in
        [(libc::EPERM, "kernel.io_uring_disabled"), (libc::ENOSYS, "not in this kernel")]
            .into_iter()
            .enumerate()
    {
        for facts in forbidding(setup, None, errno, || live(dir, 2 * life)) {
            assert_eq!(facts.engine, Engine::Blocking);
            let reason = facts.fallback.unwrap();
            assert!(reason.starts_with("io_uring_setup: ") && reason.contains(cause), "{reason}");
        }
        assert_kept(dir, 2 * life);
        for facts in live(dir, 2 * life + 1) {
            println!("{:?} {:?}", facts.engine, facts.fallback);
        }
        forbidding(setup, None, errno, || assert_kept(dir, 2 * life + 1));
    }
}

#[test]
fn a_log_lives_without_what_a_limit_forbids_to_register() {
    let register = libc::SYS_io_uring_register;
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    if let Some(reason) = &live(temp.path(), 0)[0].fallback {
        assert!(std::env::var_os("COREWAL_REQUIRE_URING").is_none(), "{reason}");
        println!("SKIPPED: io_uring: {reason}");
        return;
    }
    for facts in forbidding(register, Some(REGISTER_BUFFERS), libc::ENOMEM, || live(temp.path(), 1))
    {
        assert_eq!((facts.engine, facts.fallback), (Engine::Uring, None));
        assert!(facts.registered_blocks.unwrap_err().contains("RLIMIT_MEMLOCK"));
    }
    assert_kept(temp.path(), 1);
    // A ring that cannot register the lock would let it go before its writes have landed.
    for facts in forbidding(register, Some(REGISTER_FILES), libc::EMFILE, || live(temp.path(), 2)) {
        assert_eq!(facts.engine, Engine::Blocking);
        assert!(facts.fallback.unwrap().starts_with("io_uring_register(FILES): "));
    }
    assert_kept(temp.path(), 2);
}

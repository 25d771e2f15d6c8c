//! Parts of io_uring forbidden by seccomp(2), as container engines do by default.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

use std::io;

use corewal_disk::{
    Completion, Disk, Durability, Engine, Open, Operation, RealDisk, RingConfig, RingFacts, Token,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// `opcode` of io_uring_register(2).
const REGISTER_BUFFERS: u64 = 0;
const REGISTER_FILES: u64 = 2;

/// Makes a system call fail with `errno`, on this thread, for ever; all of its kind, or those whose
/// second argument is `argument`.
fn forbid(call: i64, argument: Option<u64>, errno: i32) {
    let equals = |value| {
        let (len, op) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
        SeccompRule::new(vec![SeccompCondition::new(1, len, op, value).unwrap()]).unwrap()
    };
    let rules = argument.map(equals).into_iter().collect();
    let errno = SeccompAction::Errno(errno.cast_unsigned());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let rules = [(call, rules)].into();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, arch).unwrap();
    seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

/// Runs `check` on a thread of its own: a filter cannot be taken off.
fn on_a_thread(check: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(check).join().unwrap());
}

fn config(engine: Engine) -> RingConfig {
    RingConfig { engine, depth: 1, block_count: 1, block_len: 4096, lock: None }
}

/// A durable write by a ring of `config` comes back; returns what the ring said of itself.
fn facts_of_a_working_ring(config: RingConfig) -> RingFacts {
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (disk, path) = (RealDisk::new(), temp.path().join("a"));
    let mut ring = disk.ring(config).unwrap();
    let file = ring.register(&disk.open(&path, Open::CREATE.direct()).unwrap()).unwrap();
    let mut block = ring.take_block().unwrap();
    block.fill(7);
    let (token, len, durability) = (Token(1), block.len(), Durability::Dsync);
    ring.push(Operation::Write { token, file, block, len, at: 0, durability }).unwrap();
    let mut completions: Vec<Completion> = Vec::new();
    ring.submit().unwrap();
    while ring.in_flight() > 0 {
        ring.wait(None).unwrap();
        ring.reap(&mut completions).unwrap();
    }
    assert_eq!(*completions[0].result.as_ref().unwrap(), len);
    assert_eq!(std::fs::read(path).unwrap(), vec![7; len]);
    ring.facts()
}

fn has_uring() -> bool {
    let ring = RealDisk::new().ring(config(Engine::Uring));
    if let Err(reason) = &ring {
        assert!(std::env::var_os("COREWAL_REQUIRE_URING").is_none(), "{reason}");
        eprintln!("skipped: {reason}");
    }
    ring.is_ok()
}

#[test]
fn auto_falls_back_and_says_why() {
    let setup = "io_uring_setup: ";
    for (call, errno, start, cause) in [
        (libc::SYS_io_uring_setup, libc::EPERM, setup, "seccomp or kernel.io_uring_disabled"),
        (
            libc::SYS_io_uring_setup,
            libc::ENOSYS,
            setup,
            "not in this kernel, or hidden by a sandbox",
        ),
        (libc::SYS_io_uring_enter, libc::EPERM, "io_uring_enter: ", "seccomp"),
        (libc::SYS_io_uring_register, libc::EPERM, "io_uring_register(PROBE): ", "seccomp"),
    ] {
        // The running kernel may refuse for a reason of its own, and earlier.
        if call != libc::SYS_io_uring_setup && !has_uring() {
            continue;
        }
        on_a_thread(|| {
            forbid(call, None, errno);
            let facts = facts_of_a_working_ring(config(Engine::Auto));
            assert_eq!(facts.engine, Engine::Blocking);
            let reason = facts.fallback.unwrap();
            assert!(reason.starts_with(start) && reason.contains(cause), "{reason}");

            let error = RealDisk::new().ring(config(Engine::Uring)).unwrap_err();
            assert_eq!(error.kind(), io::Error::from_raw_os_error(errno).kind());
            assert_eq!(error.to_string(), reason);

            assert_eq!(facts_of_a_working_ring(config(Engine::Blocking)).fallback, None);
        });
    }
}

#[test]
fn a_ring_without_registered_blocks_says_why() {
    if !has_uring() {
        return;
    }
    on_a_thread(|| {
        forbid(libc::SYS_io_uring_register, Some(REGISTER_BUFFERS), libc::ENOMEM);
        let facts = facts_of_a_working_ring(config(Engine::Auto));
        assert_eq!((facts.engine, facts.fallback), (Engine::Uring, None));
        assert!(facts.registered_blocks.unwrap_err().contains("RLIMIT_MEMLOCK"));
    });
}

/// Without it a killed process would leave the log to its successor while writes may still land.
#[test]
fn a_ring_that_cannot_hold_the_lock_is_none() {
    if !has_uring() {
        return;
    }
    on_a_thread(|| {
        forbid(libc::SYS_io_uring_register, Some(REGISTER_FILES), libc::EMFILE);
        let facts = facts_of_a_working_ring(config(Engine::Auto));
        assert_eq!((facts.engine, facts.registered_files), (Engine::Uring, false));

        let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let lock = RealDisk::new().lock(&temp.path().join("LOCK"), "test").unwrap().unwrap();
        let config = RingConfig { lock: Some(lock), ..config(Engine::Auto) };
        let facts = facts_of_a_working_ring(config);
        assert_eq!(facts.engine, Engine::Blocking);
        assert!(facts.fallback.unwrap().starts_with("io_uring_register(FILES): "));
    });
}

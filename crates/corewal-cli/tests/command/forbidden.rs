//! The command where io_uring, or a part of it, is forbidden: it says so, and keeps a log all the same.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use serde_json::Value;

use crate::support::{CODE_GOOD, Place};

/// Numbers of system calls, on every architecture.
const IO_URING_SETUP: i64 = 425;
const IO_URING_REGISTER: i64 = 427;
/// An opcode of io_uring_register(2).
const REGISTER_FILES: u64 = 2;
const EPERM: u32 = 1;
const EMFILE: u32 = 24;
const ENOSYS: u32 = 38;

/// Runs `check` on a thread for which a system call fails with `errno`, as for the commands that it starts: all of
/// its kind, or those whose second argument is `argument` (seccomp(2)).
fn forbidding(call: i64, argument: Option<u64>, errno: u32, check: impl FnOnce() + Send) {
    let equals = |value| {
        let (len, op) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
        let condition = SeccompCondition::new(1, len, op, value).expect("an argument");
        SeccompRule::new(vec![condition]).expect("a rule")
    };
    let rules = [(call, argument.map(equals).into_iter().collect())].into();
    let errno = SeccompAction::Errno(errno);
    let arch = std::env::consts::ARCH.try_into().expect("an architecture with seccomp");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, arch).expect("a filter");
    let program = BpfProgram::try_from(filter).expect("a program");
    std::thread::scope(|scope| {
        let check = || {
            seccompiler::apply_filter(&program).expect("the kernel takes it");
            check();
        };
        scope.spawn(check).join().expect("the checks hold");
    });
}

/// What the doctor says of io_uring; the same in both formats.
fn finding() -> Value {
    let place = Place::new();
    std::fs::create_dir(place.path("log")).expect("made");
    let document = place.good("doctor", &["--no-probe", "--json"]);
    let document: Value = serde_json::from_slice(&document).expect("one document");
    let findings = document["findings"].as_array().expect("findings");
    let found = findings.iter().find(|it| it["subject"] == "io_uring").expect("it is there");
    let said = String::from_utf8(place.good("doctor", &["--no-probe"])).expect("text");
    for key in ["fact", "advice"] {
        assert!(said.contains(text(found, key)), "{said}");
    }
    let left = std::fs::read_dir(place.path("log")).expect("the directory").count();
    assert_eq!(left, 0, "its files are removed");
    found.clone()
}

fn text<'a>(finding: &'a Value, key: &str) -> &'a str {
    finding[key].as_str().expect("a text")
}

#[test]
fn doctor_says_that_it_is_forbidden_and_by_what() {
    for (errno, cause) in [(EPERM, "(EPERM)"), (ENOSYS, "(ENOSYS)")] {
        forbidding(IO_URING_SETUP, None, errno, || {
            let found = finding();
            assert_eq!(found["level"], "note");
            let (fact, advice) = (text(&found, "fact"), text(&found, "advice"));
            assert!(fact.starts_with("not available: io_uring_setup: "), "{fact}");
            assert!(fact.contains(cause), "{fact}");
            assert!(advice.contains("a seccomp filter is in force"), "{advice}");
            assert!(advice.contains("the synchronous engine takes over"), "{advice}");
        });
    }
}

/// A log's ring registers the lock. Where that is refused there is none, though one could be made.
#[test]
fn doctor_tries_the_ring_that_a_log_would_have() {
    let before = finding();
    if before["level"] != "good" {
        assert!(std::env::var_os("COREWAL_REQUIRE_URING").is_none(), "{before}");
        println!("SKIPPED: {before}");
        return;
    }
    forbidding(IO_URING_REGISTER, Some(REGISTER_FILES), EMFILE, || {
        let found = finding();
        let fact = text(&found, "fact");
        assert!(fact.starts_with("not available: io_uring_register(FILES): "), "{fact}");
        let place = Place::new();
        let ran = place.feed("append", &[], b"a\n");
        assert!(ran.stderr.contains("blocking (io_uring_register(FILES): "), "{}", ran.stderr);
    });
}

#[test]
fn a_log_is_appended_to_and_says_on_what() {
    forbidding(IO_URING_SETUP, None, EPERM, || {
        let place = Place::new();
        let ran = place.feed("append", &["--shards", "2"], b"a\nb\nc\n");
        assert_eq!(ran.code, CODE_GOOD, "{}", ran.stderr);
        assert!(ran.stderr.contains("engine blocking (io_uring_setup: "), "{}", ran.stderr);
        let mut lines = place.good("replay", &["--format", "raw"]);
        lines.sort_unstable();
        assert_eq!(lines, b"\n\n\nabc");
        let ran = place.feed("append", &["--engine", "uring"], b"d\n");
        assert!(ran.error().contains("io_uring_setup: "), "{}", ran.error());
    });
}

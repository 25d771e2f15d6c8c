//! The command where io_uring is forbidden: it says so, and keeps a log all the same.

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use serde_json::Value;

use crate::support::Place;

/// Its number on every architecture.
const IO_URING_SETUP: i64 = 425;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Runs `check` on a thread under a filter (seccomp(2)), which the commands that it starts inherit.
fn without_uring(errno: u32, check: impl FnOnce() + Send) {
    let arch = std::env::consts::ARCH.try_into().expect("an architecture with seccomp");
    let (rules, errno) = ([(IO_URING_SETUP, Vec::new())].into(), SeccompAction::Errno(errno));
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

#[test]
fn doctor_says_that_it_is_forbidden_and_by_what() {
    for (errno, cause) in [(EPERM, "(EPERM)"), (ENOSYS, "(ENOSYS)")] {
        without_uring(errno, || {
            let place = Place::new();
            std::fs::create_dir(place.path("log")).expect("made");
            let document = place.good("doctor", &["--no-probe", "--json"]);
            let document: Value = serde_json::from_slice(&document).expect("one document");
            let findings = document["findings"].as_array().expect("findings");
            let finding =
                findings.iter().find(|it| it["subject"] == "io_uring").expect("it is there");
            let text = |key: &str| finding[key].as_str().expect("a text").to_owned();
            assert_eq!(text("level"), "note");
            assert!(text("fact").starts_with("not available: io_uring_setup: "), "{finding}");
            assert!(text("fact").contains(cause), "{finding}");
            assert!(text("advice").contains("a seccomp filter is in force"), "{finding}");
            assert!(text("advice").contains("the synchronous engine takes over"), "{finding}");

            let said = String::from_utf8(place.good("doctor", &["--no-probe"])).expect("text");
            assert!(said.contains(&text("fact")) && said.contains(&text("advice")), "{said}");
            let left = std::fs::read_dir(place.path("log")).expect("the directory").count();
            assert_eq!(left, 0, "its files are removed");
        });
    }
}

#[test]
fn a_log_is_appended_to_and_says_on_what() {
    without_uring(EPERM, || {
        let place = Place::new();
        let ran = place.feed("append", &["--shards", "2"], b"a\nb\nc\n");
        assert_eq!(ran.code, crate::support::CODE_GOOD, "{}", ran.stderr);
        assert!(ran.stderr.contains("engine blocking (io_uring_setup: "), "{}", ran.stderr);
        let mut lines = place.good("replay", &["--format", "raw"]);
        lines.sort_unstable();
        assert_eq!(lines, b"\n\n\nabc");
        let ran = place.feed("append", &["--engine", "uring"], b"d\n");
        assert!(ran.error().contains("io_uring_setup: "), "{}", ran.error());
    });
}

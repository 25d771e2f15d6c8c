//! Outputs that cannot be written: what was to be done is done, and the exit code says how it went.
#![cfg(target_os = "linux")]

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use crate::support::{CODE_DAMAGE, CODE_GOOD, CODE_USAGE, CODE_WORLD, Place, Ran, flip, lines};

/// Every write to it fails as on a full disk (full(4)).
fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").expect("the device is there").into()
}

fn log() -> Place {
    let place = Place::new();
    let file = place.file("lines", b"1\n2\n3\n");
    place.good("append", &[&file]);
    place
}

fn demo(place: &Place, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corewal"));
    command.arg("demo").args(["--events", "2000", "--kills", "0", "--rate", "1e6"]).args(args);
    command.arg("--dir").arg(place.path("demo")).stdin(Stdio::null());
    command
}

#[test]
fn who_cannot_be_told_changes_no_result() {
    let place = log();
    let lines_file = place.file("lines", b"1\n2\n3\n");
    let code = |verb: &str, args: &[&str]| {
        let mut command = place.command(verb, args);
        Ran::of(command.stdin(Stdio::null()).stderr(full()).output()).code
    };
    assert_eq!(code("append", &[&lines_file]), CODE_GOOD);
    assert_eq!(lines(&place.good("replay", &[])).len(), 6);
    assert_eq!(code("append", &["missing"]), CODE_WORLD);
    assert_eq!(code("truncate", &["--shard", "0", "--after", "3"]), CODE_USAGE);
    flip(&place.path("log/shard-0000/0000000001.seg"), 2 * 4096 + 200);
    assert_eq!(code("dump", &[]), CODE_DAMAGE);
}

#[test]
fn an_output_that_cannot_be_written_is_told() {
    let place = log();
    let told = |mut command: Command| {
        let ran = Ran::of(command.stdin(Stdio::null()).stdout(full()).output());
        assert_eq!(ran.code, CODE_WORLD, "{command:?}: {}", ran.stderr);
        let error = ran.error();
        assert!(error.starts_with("cannot write to standard output: "), "{command:?}: {error}");
    };
    let verbs: [(&str, &[&str]); 11] = [
        ("replay", &[]),
        ("inspect", &[]),
        ("inspect", &["--html", "-"]),
        ("repair", &[]),
        ("verify", &[]),
        ("prove", &[]),
        ("dump", &[]),
        ("stat", &[]),
        ("tail", &[]),
        ("release", &["--yes", "--checkpoint", "1"]),
        ("truncate", &["--yes", "--shard", "0", "--after", "100"]),
    ];
    for (verb, args) in verbs {
        told(place.command(verb, args));
    }
    told(demo(&place, &[]));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_trouble() {
    let place = log();
    for mut command in [place.command("replay", &[]), demo(&place, &[])] {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        drop(child.stdout.take());
        let ran = Ran::of(child.wait_with_output());
        assert_eq!(ran.code, CODE_GOOD, "{command:?}: {}", ran.stderr);
    }
}

//! A limit on the size of files is refused by the kernel like a full disk, and can be raised again.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use crate::support::{CODE_GOOD, CODE_WORLD, Place, Ran, flights, lines};

/// The first segment has 1 MiB; the next ones have more than a file may have.
fn limited(place: &Place, args: &[&str]) -> Command {
    let append = place.command("append", args);
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg("trap '' XFSZ; ulimit -S -f 4096; exec \"$0\" \"$@\"")
        .arg(append.get_program())
        .args(append.get_args());
    command.stdin(Stdio::null());
    command
}

#[test]
fn on_a_full_disk_what_was_accepted_is_durable_and_acknowledged() {
    let place = Place::new();
    let (file, bytes) = flights();
    let ran = Ran::of(limited(&place, &["--ack", &file]).output());
    assert_eq!(ran.code, CODE_WORLD, "{}", ran.stderr);
    assert!(ran.error().starts_with("no space: "), "{}", ran.stderr);
    let acked = lines(&ran.stdout).len();
    assert!(ran.error().ends_with(&format!("{acked} lines are durable")), "{}", ran.stderr);
    let replayed = place.good("replay", &["--format", "raw"]);
    assert_eq!(lines(&replayed).len(), acked);
    assert!(acked > 0 && bytes.starts_with(&replayed));
    // With space again, appends go on.
    place.good("append", &[&file]);
    assert_eq!(lines(&place.good("replay", &[])).len(), acked + lines(&bytes).len());
}

#[test]
fn an_append_that_waits_for_space_goes_on_when_there_is_some() {
    let place = Place::new();
    let (file, bytes) = flights();
    let mut command = limited(&place, &["--wait-for-space", &file]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the command starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut told = String::new();
    stderr.read_line(&mut told).expect("text");
    assert!(told.starts_with("waiting: no space: "), "{told}");
    let pid = child.id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited:"]).status();
    assert!(raised.expect("util-linux is there").success());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), CODE_GOOD, "{rest}");
    assert!(!rest.contains("waiting"), "told once: {rest}");
    assert_eq!(place.good("replay", &["--format", "raw"]), bytes);
}

#[test]
fn a_full_disk_ends_an_append_that_waits_for_input() {
    let place = Place::new();
    let mut command = limited(&place, &[]);
    let mut child =
        command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
    // More than the first segment holds; then the pipe stays open, and nothing comes. The command may end
    // before it has read it all.
    let mut stdin = child.stdin.take().expect("a pipe");
    drop(stdin.write_all(&flights().1[..1_200_000]));
    let ran = Ran::of(child.wait_with_output());
    drop(stdin);
    assert_eq!(ran.code, CODE_WORLD);
    assert!(ran.error().starts_with("no space: "), "{}", ran.stderr);
}

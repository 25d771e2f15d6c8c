//! Beside an append that is still running, and after one that was killed.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{CODE_WORLD, Live, Place, Ran, flights, lines};

#[test]
fn an_entry_is_acknowledged_while_the_input_is_open() {
    let place = Place::new();
    let mut live = Live::start(&place, &["--shards", "2"]);
    live.write("a\n");
    assert_eq!(live.ack(), "ack\t0\t1\t1");
    live.write("b\n");
    assert_eq!(live.ack(), "ack\t1\t1\t1");

    assert_eq!(place.good("replay", &["--format", "raw"]), b"a\nb\n");
    let document = place.inspect();
    assert_eq!(document["manifest"]["incarnation"], 1);
    let segments = document["segments"].as_array().expect("segments");
    let current = segments.iter().filter(|segment| segment["state"] == "current");
    assert_eq!(
        current.map(|segment| segment["entries"].as_u64()).collect::<Vec<_>>(),
        [Some(1); 2]
    );
    let text = place.good("inspect", &["--batches", "--entries"]);
    assert!(String::from_utf8_lossy(&text).contains("current run: from segment 1"));

    let ran = place.run("append", &[]);
    assert_eq!(ran.code, CODE_WORLD);
    assert!(ran.error().contains("is locked by process"), "{}", ran.stderr);
    live.end();
    assert_eq!(place.good("replay", &["--format", "raw"]), b"a\nb\n");
}

#[test]
fn what_a_killed_append_acknowledged_comes_back_and_is_not_committed() {
    let place = Place::new();
    let mut live = Live::start(&place, &["--shards", "2", "--epoch-every", "10"]);
    let input: Vec<String> = (0..15).map(|number| format!("{number}\n")).collect();
    live.write(&input.concat());
    for _ in &input {
        live.ack();
    }
    live.kill();
    // Recovered twice: by a reader, then by the next append.
    assert_eq!(lines(&place.good("replay", &[])).len(), 15);
    let committed = place.good("replay", &["--committed", "--format", "raw"]);
    assert!([0, 10].contains(&lines(&committed).len()), "whole epochs");
    let file = place.file("more", b"more\n");
    place.good("append", &[&file]);
    assert_eq!(lines(&place.good("replay", &["--committed"])).len(), 16);
}

#[test]
fn an_epoch_by_time_is_committed_while_the_input_is_open() {
    let place = Place::new();
    let mut live = Live::start(&place, &["--shards", "2", "--epoch-every", "20ms"]);
    live.write("a\n");
    live.ack();
    let patience = Instant::now() + Duration::from_secs(30);
    while place.good("replay", &["--committed", "--format", "raw"]) != b"a\n" {
        assert!(Instant::now() < patience, "the epoch is not committed");
    }
    live.end();
}

#[test]
fn when_nobody_takes_the_acknowledgements_the_append_ends_and_says_what_is_durable() {
    let place = Place::new();
    let mut command = place.command("append", &["--ack", &flights().0]);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
    drop(child.stdout.take());
    let ran = Ran::of(child.wait_with_output());
    assert_eq!(ran.code, CODE_WORLD);
    assert!(ran.error().starts_with("cannot write to standard output"), "{}", ran.stderr);
    let durable = lines(&place.good("replay", &[])).len();
    assert!(ran.error().ends_with(&format!("; {durable} lines are durable")), "{}", ran.stderr);
}

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::{CODE_GOOD, CODE_USAGE, CODE_WORLD, Place, flights};

#[test]
fn a_directory_without_a_log_is_no_empty_log() {
    let place = Place::new();
    for verb in ["replay", "inspect"] {
        let ran = place.run(verb, &[]);
        assert_eq!(ran.code, CODE_WORLD);
        assert!(ran.error().contains("holds no log"), "{}", ran.stderr);
    }
    std::fs::create_dir(place.path("log")).expect("a directory");
    for verb in ["replay", "inspect"] {
        let ran = place.run(verb, &[]);
        assert_eq!(ran.code, CODE_WORLD);
        assert!(ran.error().contains("holds no log"), "{}", ran.stderr);
    }
}

#[test]
fn a_format_that_is_not_known_is_wrong_usage() {
    assert_eq!(Place::new().run("replay", &["--format", "xml"]).code, CODE_USAGE);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_trouble() {
    let place = Place::new();
    place.good("append", &[&flights().0]);
    for args in [&["replay", "--format", "raw"][..], &["inspect", "--entries"][..]] {
        let mut command = place.command(args[0], &args[1..]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let mut first = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        out.read_line(&mut first).expect("text");
        drop(out);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), CODE_GOOD);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
}

#[test]
fn json_says_what_an_entry_is() {
    let place = Place::new();
    place.feed("append", &[], b"text \"a\"\n\xff\n");
    let replayed = place.good("replay", &["--format", "jsonl"]);
    let expected = concat!(
        r#"{"epoch":1,"seq":1,"shard":0,"kind":"put","payload":"text \"a\""}"#,
        "\n",
        r#"{"epoch":1,"seq":2,"shard":0,"kind":"put","payload":{"base64":"/w=="}}"#,
        "\n",
    );
    assert_eq!(String::from_utf8(replayed).as_deref(), Ok(expected));
}

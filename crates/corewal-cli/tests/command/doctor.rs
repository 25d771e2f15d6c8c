use std::process::Stdio;

use serde_json::Value;

use crate::support::{CODE_GOOD, CODE_WORLD, Place, Ran};

fn place() -> Place {
    let place = Place::new();
    std::fs::create_dir(place.path("log")).expect("made");
    place
}

#[test]
fn findings_are_for_programs_too() {
    let place = place();
    let document = place.good("doctor", &["--probe", "50ms", "--json"]);
    let document: Value = serde_json::from_slice(&document).expect("one document");
    assert_eq!(document["good"], true);
    let findings = document["findings"].as_array().expect("findings");
    for finding in findings {
        let level = finding["level"].as_str().expect("a level");
        assert!(["good", "note", "bad"].contains(&level), "{level}");
        let advice = finding["advice"].as_str().expect("a text");
        assert_eq!(
            advice.is_empty(),
            level == "good",
            "what is not good says what to do: {finding}"
        );
    }
    let elsewhere = ["platform", "free space", "processors", "fastest way"];
    let on_linux = [
        "io_uring",
        "locked memory",
        "file system",
        "direct I/O",
        "device",
        "copy on write",
        "free space",
        "clock",
        "processors",
        "fastest way",
    ];
    let expected = if cfg!(target_os = "linux") { &on_linux[..] } else { &elsewhere[..] };
    for subject in expected.iter().copied() {
        assert!(findings.iter().any(|it| it["subject"] == subject), "{subject}");
    }
    if let Some(choice) = document["choice"].as_object() {
        let evidence = choice["evidence"].as_array().expect("evidence");
        let chosen = |it: &Value| {
            (&it["engine"], &it["method"]) == (&choice["lone"]["engine"], &choice["lone"]["method"])
        };
        assert!(evidence.iter().any(chosen), "what was chosen was measured");
    }
    let left = std::fs::read_dir(place.path("log")).expect("the directory").count();
    assert_eq!(left, 0, "its files are removed");
}

#[test]
fn a_place_that_keeps_nothing_is_bad() {
    let ran = Place::new().run("doctor", &["--no-probe"]);
    assert_eq!(ran.code, CODE_WORLD);
    assert!(ran.error().ends_with("make the directory, or name another"), "{}", ran.error());
}

#[test]
fn a_reader_that_has_seen_enough_is_no_trouble() {
    let place = place();
    let mut command = place.command("doctor", &["--no-probe"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    drop(child.stdout.take());
    let ran = Ran::of(child.wait_with_output());
    assert_eq!((ran.code, ran.stderr.as_str()), (CODE_GOOD, ""));
}

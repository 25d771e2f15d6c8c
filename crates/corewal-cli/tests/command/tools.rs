//! Following, releasing, torturing; manuals and pages.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{CODE_DAMAGE, CODE_GOOD, CODE_USAGE, CODE_WORLD, Live, Place, flip, lines};

fn log(epochs: &str) -> Place {
    let place = Place::new();
    let input: Vec<String> = (0..200).map(|number| format!("line {number}")).collect();
    let file = place.file("lines", input.join("\n").as_bytes());
    let args = ["--shards", "2", "--epoch-every", epochs, "--segment-size", "64KiB", &file];
    place.good("append", &args);
    place
}

#[test]
fn the_newest_entries_come_in_merged_order() {
    let place = log("10");
    let all = place.good("replay", &[]);
    let all = lines(&all);
    let newest = place.good("tail", &["-n", "25"]);
    assert_eq!(lines(&newest), all[175..]);
    for count in ["100000", "9223372036854775800", "18446744073709551615"] {
        let everything = place.good("tail", &["-n", count]);
        assert_eq!(lines(&everything), all, "{count}");
    }
    let one = place.good("tail", &["-n", "1", "--shard", "0", "--format", "raw"]);
    assert_eq!(one, b"line 198\n");
}

#[test]
fn a_shard_that_is_not_there_is_told_by_every_command() {
    let place = log("10");
    let verbs: [(&str, &[&str]); 5] = [
        ("tail", &[]),
        ("prove", &[]),
        ("dump", &[]),
        ("release", &["--yes", "--before", "3"]),
        ("truncate", &["--yes", "--after", "3"]),
    ];
    for (verb, args) in verbs {
        let ran = place.run(verb, &[args, &["--shard", "7"]].concat());
        assert_eq!(ran.code, CODE_WORLD, "{verb}");
        assert_eq!(ran.error(), "the log has no shard 7; it has 2", "{verb}");
        assert_eq!(place.inspect()["manifest"]["incarnation"], 1, "{verb} has not opened it");
    }
    // Without a manifest, the segments say which there are.
    for name in ["log/MANIFEST-0", "log/MANIFEST-1"] {
        std::fs::remove_file(place.path(name)).expect("a manifest");
    }
    let ran = place.run("dump", &["--all", "--shard", "1"]);
    assert_eq!(ran.code, CODE_DAMAGE, "{}", ran.stderr);
    assert!(lines(&ran.stdout).len() >= 100, "its entries are shown");
}

#[test]
fn a_tail_follows_another_process() {
    let place = Place::new();
    let mut live = Live::start(&place, &["--shards", "2"]);
    live.write("first\n");
    live.ack();
    let mut command = place.command("tail", &["-f", "-n", "100", "--format", "raw"]);
    let mut tail = command.stdout(Stdio::piped()).spawn().expect("the command starts");
    let mut shown = BufReader::new(tail.stdout.take().expect("a pipe")).lines();
    for number in 0..10 {
        live.write(&format!("line {number}\n"));
        live.ack();
    }
    let mut seen: Vec<String> =
        (0..11).map(|_| shown.next().expect("a line").expect("text")).collect();
    live.end();
    tail.kill().expect("it runs");
    tail.wait().expect("it ends");
    seen.sort();
    let mut expected: Vec<String> = (0..10).map(|number| format!("line {number}")).collect();
    expected.insert(0, "first".to_owned());
    assert_eq!(seen, expected);
}

#[test]
fn nothing_is_released_without_a_word() {
    let place = log("10");
    let before = place.good("replay", &[]);
    let ran = place.run("release", &["--checkpoint", "5"]);
    assert_eq!(ran.code, CODE_USAGE);
    assert!(ran.error().contains("say --yes"), "{}", ran.stderr);
    assert_eq!(place.good("replay", &[]), before);
    assert_eq!(place.run("release", &["--yes"]).code, CODE_USAGE);
    let ran = place.run("release", &["--yes", "--checkpoint", "500"]);
    assert_eq!(ran.code, CODE_WORLD);
    assert!(ran.error().contains("not committed"), "{}", ran.stderr);
    assert_eq!(place.good("replay", &[]), before);
}

/// Of a line of replay: the first column.
fn epoch_of(line: &[u8]) -> u64 {
    let text = std::str::from_utf8(line).expect("text");
    text.split('\t').next().and_then(|epoch| epoch.parse().ok()).expect("an epoch")
}

#[test]
fn a_checkpoint_lets_go_of_whole_segments_and_is_shown() {
    let place = log("5");
    let all = place.good("replay", &[]);
    let all = lines(&all);
    let later: Vec<_> = all.iter().copied().filter(|line| epoch_of(line) > 31).collect();
    assert!(later.len() >= 40, "{} of {}", later.len(), all.len());
    let args = ["--yes", "--checkpoint", "30", "--bytes", "snapshot-30", "--json"];
    let said: Value = serde_json::from_slice(&place.good("release", &args)).expect("a document");
    assert_eq!(said["shards"][0]["shard"], 0, "{said}");
    assert!(said["segments"].as_u64().is_some_and(|count| count > 0), "{said}");
    let said = place.good("release", &["--yes", "--checkpoint", "31", "--bytes", "snapshot-31"]);
    let said = String::from_utf8(said).expect("text");
    assert!(said.contains(" segments released, "), "{said}");
    let left = place.good("replay", &[]);
    let left = lines(&left);
    assert!(left.len() < all.len(), "whole segments are gone");
    assert!(left.ends_with(&later), "what the checkpoint does not cover is there");
    let stat: Value = serde_json::from_slice(&place.good("stat", &["--json"])).expect("a document");
    assert_eq!(stat["checkpoint"], serde_json::json!({ "epoch": 31, "bytes": 11 }));
    assert!(stat["shards"][0]["oldest_seq"].as_u64().is_some_and(|seq| seq > 1), "{stat}");
    let shown = String::from_utf8(place.good("inspect", &[])).expect("text");
    assert!(shown.contains("checkpoint: epoch 31, 11 bytes: snapshot-31\n"), "{shown}");
    assert_eq!(place.inspect()["manifest"]["checkpoint_bytes"], "snapshot-31");
    // Its bytes are not replaced by none.
    let ran = place.run("release", &["--yes", "--checkpoint", "35"]);
    assert_eq!(ran.code, CODE_USAGE);
    assert!(ran.error().contains("--bytes"), "{}", ran.stderr);
    assert_eq!(place.run("verify", &[]).code, CODE_GOOD);
}

/// Size, block size and schema of the segments that an incarnation has made.
fn shape(place: &Place, incarnation: u64) -> BTreeSet<[u64; 3]> {
    let document = place.inspect();
    let segments = document["segments"].as_array().expect("segments").iter();
    segments
        .filter(|it| it["incarnation"] == incarnation)
        .map(|it| {
            ["bytes", "block_bytes", "schema"].map(|name| it[name].as_u64().expect("a number"))
        })
        .collect()
}

#[test]
fn who_opens_a_log_by_hand_does_not_change_its_shape() {
    let place = Place::new();
    let options = "block_len = 8192\nsegment_len = 131072\nfirst_segment_len = 65536\nschema = 77\n\
                   write_len = 16384\nmax_batch = 65536\nmax_record = 4096\npipeline_bound = 3\nshards = 2\n";
    let options = place.file("options.toml", options.as_bytes());
    let input: Vec<String> = (0..400).map(|number| format!("line {number:0200}")).collect();
    let input = place.file("lines", input.join("\n").as_bytes());
    place.good("append", &["--options", &options, "--epoch-every", "10", &input]);
    let as_appended = BTreeSet::from([[131_072, 8192, 77], [65_536, 8192, 77]]);
    assert_eq!(shape(&place, 1), as_appended);

    let commands: [(&str, &[&str]); 3] = [
        ("release", &["--yes", "--checkpoint", "20"]),
        ("release", &["--yes", "--shard", "1", "--before", "150"]),
        ("truncate", &["--yes", "--shard", "0", "--after", "100000"]),
    ];
    for (incarnation, (verb, args)) in (2..).zip(commands) {
        place.good(verb, args);
        // How many segments it prepares before it ends is a matter of time; the first one always.
        let now = shape(&place, incarnation);
        assert!(now.contains(&[65_536, 8192, 77]), "{verb}: {now:?}");
        assert!(now.is_subset(&as_appended), "{verb}: {now:?}");
    }
    let document = place.inspect();
    assert_eq!(document["manifest"]["pipeline_bound"], 3);
    let shards = document["manifest"]["shards"].as_array().expect("shards");
    assert_eq!(shards.iter().filter(|it| it["active"] == true).count(), 2);
    assert_eq!(place.run("verify", &[]).code, CODE_GOOD);
}

#[test]
fn a_page_draws_every_block_and_loads_nothing() {
    let place = log("10");
    let file = place.path("page.html");
    let file = file.to_str().expect("text");
    place.good("inspect", &["--html", file]);
    let page = std::fs::read_to_string(file).expect("a page");
    for expected in
        ["class=\"proven", "class=\"header\"", "epoch committed", "prefers-color-scheme"]
    {
        assert!(page.contains(expected), "{expected}");
    }
    for forbidden in ["<script", "src=", "href=", "url(", "@import"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    flip(&place.path("log/shard-0000/0000000001.seg"), 2 * 4096 + 200);
    let ran = place.run("inspect", &["--html", file]);
    assert_eq!(ran.code, CODE_DAMAGE);
    let page = std::fs::read_to_string(file).expect("a page");
    assert!(page.contains("class=\"damaged") && page.contains("<code>batch-body</code>"));
}

#[test]
fn what_is_killed_loses_nothing() {
    let place = Place::new();
    let ran = place.run("torture", &["--seconds", "1"]);
    assert_eq!(ran.code, CODE_WORLD, "no directory is made up");
    assert!(ran.error().ends_with("make the directory first"), "{}", ran.stderr);
    std::fs::create_dir(place.path("log")).expect("a directory");
    let ran = place.run("torture", &["--seconds", "3", "--segment-size", "256KiB", "--json"]);
    assert_eq!(ran.code, CODE_GOOD, "{}", ran.stderr);
    let document: Value = serde_json::from_slice(&ran.stdout).expect("a document");
    assert_eq!(document["good"], true);
    assert!(document["kills"].as_u64().is_some_and(|kills| kills > 0), "{document}");
    let left = std::fs::read_dir(place.path("log")).expect("a directory").count();
    assert_eq!(left, 0, "its logs are removed");
}

#[test]
fn a_torture_under_every_policy_tests_something_or_says_that_it_did_not() {
    let place = Place::new();
    std::fs::create_dir(place.path("log")).expect("a directory");
    let ran = place.run("torture", &["--seconds", "0"]);
    assert_eq!(ran.code, CODE_WORLD, "{}", ran.stderr);
    assert!(ran.error().contains("nothing was tested"), "{}", ran.stderr);
    for policy in ["on-demand", "1000 s"] {
        let text = format!(
            "policy = '{policy}'\nsegment_len = '256 KiB'\nfirst_segment_len = '256 KiB'\n\
                            write_len = '64 KiB'\nmax_batch = '128 KiB'\nmax_record = '64 KiB'\n"
        );
        let options = place.file("options.toml", text.as_bytes());
        let ran = place.run("torture", &["--seconds", "3", "--json", "--options", &options]);
        assert_eq!(ran.code, CODE_GOOD, "{policy}: {}", ran.stderr);
        let document: Value = serde_json::from_slice(&ran.stdout).expect("a document");
        let acked = document["lines_acknowledged"].as_u64();
        assert!(acked.is_some_and(|acked| acked > 0), "{policy}: {document}");
    }
    let left = std::fs::read_dir(place.path("log")).expect("a directory").count();
    assert_eq!(left, 0, "its logs are removed");
}

#[test]
fn no_power_cut_of_a_recorded_run_loses_anything() {
    let place = Place::new();
    std::fs::create_dir(place.path("log")).expect("a directory");
    let args = ["--seconds", "3", "--record", "--engine", "blocking", "--segment-size", "256KiB"];
    let ran = place.run("torture", &[&args[..], &["--json"]].concat());
    assert_eq!(ran.code, CODE_GOOD, "{}", ran.stderr);
    let document: Value = serde_json::from_slice(&ran.stdout).expect("a document");
    assert_eq!(document["good"], true);
    for count in ["runs", "cuts", "images"] {
        let counted = document["recorded"][count].as_u64();
        assert!(counted.is_some_and(|it| it > 0), "{document}");
    }
    let left = std::fs::read_dir(place.path("log")).expect("a directory").count();
    assert_eq!(left, 0, "its logs are removed");
}

#[test]
fn every_command_has_examples_a_manual_page_and_completions() {
    let corewal = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_corewal")).args(args).output();
        let output = output.expect("the command starts");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let place = Place::new();
    std::fs::create_dir(place.path("man")).expect("a directory");
    let dir = place.path("man");
    corewal(&["man", dir.to_str().expect("text")]);
    let bash = corewal(&["completions", "bash"]);
    let verbs: Vec<String> = corewal(&["--help"])
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next().map(str::to_owned))
        .filter(|verb| verb != "help")
        .collect();
    assert!(verbs.len() > 12, "{verbs:?}");
    for verb in verbs {
        let help = corewal(&[&verb, "--help"]);
        assert!(help.contains("Examples:"), "{verb}");
        let page = std::fs::read_to_string(dir.join(format!("corewal-{verb}.1"))).expect("a page");
        assert!(page.contains(".SH SYNOPSIS"), "{verb}");
        assert!(bash.contains(&format!("corewal__{verb}")) || bash.contains(&verb), "{verb}");
    }
}

#[test]
fn what_is_committed_cannot_be_cut_off_and_the_rest_can() {
    let place = log("10");
    let ran = place.run("truncate", &["--yes", "--shard", "0", "--after", "20"]);
    assert_eq!(ran.code, CODE_WORLD);
    assert!(ran.error().contains("is committed"), "{}", ran.stderr);
    // Killed before the epoch is closed: nothing of it is committed.
    let mut live = Live::start(&place, &[]);
    for number in 0..20 {
        live.write(&format!("late {number}\n"));
    }
    let acks: Vec<String> = (0..20).map(|_| live.ack()).collect();
    live.kill();
    let seqs = acks.iter().filter_map(|ack| ack.strip_prefix("ack\t0\t")?.split('\t').next());
    let first: u64 = seqs.map(|seq| seq.parse().expect("a seq")).min().expect("lines of shard 0");
    let after = first.to_string();
    let ran = place.run("truncate", &["--shard", "0", "--after", &after]);
    assert_eq!(ran.code, CODE_USAGE);
    assert!(ran.error().contains("say --yes"), "{}", ran.stderr);
    let said = place.good("truncate", &["--yes", "--shard", "0", "--after", &after]);
    let said = String::from_utf8(said).expect("text");
    assert!(said.starts_with("9 entries of shard 0 are cut off"), "{said}");
    assert_eq!(lines(&place.good("replay", &[])).len(), 200 + 1 + 10);
    assert_eq!(place.run("verify", &[]).code, CODE_GOOD);
    let dumped = place.good("dump", &["--kind", "put"]);
    assert_eq!(lines(&dumped).len(), 211);
    let again = place.good("truncate", &["--yes", "--shard", "0", "--after", &after]);
    assert!(String::from_utf8_lossy(&again).contains("nothing above"));
    let again = place.good("truncate", &["--yes", "--json", "--shard", "0", "--after", &after]);
    let again: Value = serde_json::from_slice(&again).expect("a document");
    assert_eq!(
        (&again["entries"], &again["first_seq"]),
        (&Value::from(0), &Value::Null),
        "{again}"
    );
}

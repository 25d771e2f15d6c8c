//! Logs that are damaged in known ways, and what `verify`, `prove`, `dump` and `stat` say of them.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{CODE_DAMAGE, CODE_GOOD, CODE_WORLD, Live, Place, Ran, flip, lines};

/// Two shards of a few segments each, a batch for every epoch.
fn log() -> Place {
    let place = Place::new();
    fill(&place, 600);
    place
}

fn fill(place: &Place, count: usize) {
    let filler = "x".repeat(500);
    let input: Vec<String> = (0..count).map(|number| format!("line {number} {filler}")).collect();
    let file = place.file("lines", input.join("\n").as_bytes());
    let args = ["--shards", "2", "--epoch-every", "20", "--segment-size", "64KiB", &file];
    place.good("append", &args);
}

fn document(ran: &Ran) -> Value {
    serde_json::from_slice(&ran.stdout).expect("one document")
}

fn verify(place: &Place) -> (Ran, Value) {
    let ran = place.run("verify", &["--json"]);
    let document = document(&ran);
    (ran, document)
}

fn segment(place: &Place, shard: u16, number: u64) -> PathBuf {
    place.path(&format!("log/shard-{shard:04}/{number:010}.seg"))
}

/// Offset and length of a batch in the middle of shard 0's second segment, and of the two behind it.
fn batches(place: &Place) -> [(usize, usize); 3] {
    let document = place.inspect();
    let of_segment = |batch: &&Value| batch["shard"] == 0 && batch["segment"] == 2;
    let batches: Vec<&Value> =
        document["batches"].as_array().expect("batches").iter().filter(of_segment).collect();
    let place = |index: usize| {
        let number = |name: &str| {
            usize::try_from(batches[index][name].as_u64().expect("a number")).expect("small")
        };
        (number("at"), number("bytes"))
    };
    [place(2), place(3), place(4)]
}

#[test]
fn two_damaged_places_are_both_named() {
    let place = log();
    let [first, _, third] = batches(&place);
    flip(&segment(&place, 0, 2), first.0 + 200);
    // A whole batch lies between the two; what is damaged side by side is one place.
    flip(&segment(&place, 0, 2), third.0 + 200);
    flip(&segment(&place, 1, 1), 2 * 4096 + 200);
    let (ran, document) = verify(&place);
    let found = document["damage"].as_array().expect("damage");
    let shards: Vec<_> = found.iter().map(|it| it["shard"].as_u64()).collect();
    assert_eq!(shards, [Some(0), Some(0), Some(1)], "{document}");
    assert!(ran.error().starts_with("3 places are damaged"), "{}", ran.stderr);
}

#[test]
fn a_good_log_is_good_and_everything_in_it_is_proven() {
    let place = log();
    let (ran, found) = verify(&place);
    assert_eq!((ran.code, &found["good"]), (CODE_GOOD, &Value::Bool(true)), "{found}");
    let entries: u64 = found["shards"]
        .as_array()
        .expect("shards")
        .iter()
        .map(|it| it["entries"].as_u64().expect("a count"))
        .sum();
    // 600 lines, and a barrier of each shard for each of 30 epochs.
    assert_eq!(entries, 660);
    let proof = document(&place.run("prove", &["--json"]));
    let stretches = proof["stretches"].as_array().expect("stretches");
    assert!(stretches.iter().all(|it| it["state"] == "proven"), "{proof}");
    assert!(
        stretches[0]["why"].as_str().is_some_and(|it| it.contains("manifest says that the run"))
    );
    let stat = document(&place.run("stat", &["--json"]));
    assert_eq!(stat["totals"]["entries"], 660);
    let lines = fs::metadata(place.path("lines")).expect("a file").len() - 599;
    assert_eq!(stat["totals"]["payload_bytes"], lines);
    assert!(stat["totals"]["write_amplification"].as_f64().is_some_and(|it| it > 1.0));
    assert_eq!(stat["committed_epoch"], 30);
}

#[test]
fn beside_a_live_writer_what_is_on_its_way_is_no_damage() {
    let place = Place::new();
    let mut live = Live::start(&place, &["--shards", "2", "--segment-size", "64KiB"]);
    live.write("first\n");
    live.ack();
    for round in 0..20 {
        let input: Vec<String> =
            (0..200).map(|number| format!("line {number} of {round}\n")).collect();
        live.write(&input.concat());
        let (ran, document) = verify(&place);
        assert_eq!(ran.code, CODE_GOOD, "{document}");
        for _ in 0..200 {
            live.ack();
        }
    }
    live.end();
    assert_eq!(verify(&place).0.code, CODE_GOOD);
}

#[test]
fn after_a_kill_a_later_batch_is_the_witness_of_an_earlier_one() {
    let place = Place::new();
    let mut live = Live::start(&place, &[]);
    for text in ["a\n", "b\n", "c\n"] {
        live.write(text);
        live.ack();
    }
    live.kill();
    let proof = document(&place.run("prove", &["--json"]));
    let stretches = proof["stretches"].as_array().expect("stretches");
    assert_eq!(stretches[0]["state"], "proven", "{proof}");
    let why = stretches[0]["why"].as_str().expect("text");
    assert!(why.contains("says that batch"), "{why}");
    assert!(stretches.iter().all(|it| it["state"] != "torn"), "{proof}");

    // The first batch is proven: its damage is named, with what follows it intact.
    flip(&segment(&place, 0, 1), 2 * 4096 + 120);
    let (ran, found) = verify(&place);
    assert_eq!(ran.code, CODE_DAMAGE, "{found}");
    assert_eq!(found["damage"][0]["kind"], "batch-body");
    assert_eq!(found["damage"][0]["lost"]["last_seq"], 1);
    let dumped = place.run("dump", &["--format", "tsv", "--kind", "put"]);
    assert_eq!(lines(&dumped.stdout).len(), 2);
}

#[test]
fn the_end_of_a_killed_run_is_torn_and_no_damage() {
    let place = Place::new();
    let mut live = Live::start(&place, &[]);
    live.write("a\n");
    live.ack();
    live.kill();
    let document_of_all = place.inspect();
    let batches = document_of_all["batches"].as_array().expect("batches");
    let last = batches.last().expect("a batch");
    let at = usize::try_from(last["at"].as_u64().expect("an offset")).expect("small");
    let is_promised = batches.len() > 1;
    flip(&segment(&place, 0, 1), at + 40);
    let (ran, found) = verify(&place);
    assert_eq!(ran.code, CODE_GOOD, "{found}");
    let proof = document(&place.run("prove", &["--json"]));
    let states: Vec<_> =
        proof["stretches"].as_array().expect("stretches").iter().map(|it| &it["state"]).collect();
    assert_eq!(states.last(), Some(&&Value::from("torn")), "{proof}");
    assert_eq!(states.len(), if is_promised { 2 } else { 1 }, "{proof}");
}

#[test]
fn a_dump_is_filtered_and_shows_bytes() {
    let place = Place::new();
    let ran =
        place.feed("append", &["--shards", "2", "--epoch-every", "2"], b"a\nb\nc\n\xff\x00\n");
    assert_eq!(ran.code, CODE_GOOD, "{}", ran.stderr);
    let dump = |args: &[&str]| {
        let text = place.good("dump", &[&["--format", "tsv"], args].concat());
        lines(&text).iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    };
    let all: Vec<String> = dump(&[]);
    assert_eq!(all.len(), 8);
    assert_eq!(all[0], "0\t1\t8192\t1\t1\t1\tput\tproven\ta");
    let filtered: Vec<String> = dump(&["--shard", "1", "--kind", "put", "--epoch", "2.."]);
    assert_eq!(filtered.len(), 1);
    assert!(filtered[0].ends_with("\tput\tproven\t\\xff\\u0000"), "{filtered:?}");
    assert_eq!(dump(&["--seq", "1", "--committed"]).len(), 2);
    let hex = place.good("dump", &["--format", "hex", "--shard", "1", "--seq", "3"]);
    let hex = String::from_utf8(hex).expect("text");
    assert!(
        hex.ends_with(
            "put proven 2 bytes\n00000000: ff00                                     ..\n"
        ),
        "{hex}"
    );
    let json = place.good("dump", &["--shard", "1", "--seq", "3"]);
    let json: Value = serde_json::from_slice(&json).expect("an object");
    assert_eq!(json["payload"]["base64"], "/wA=");
}

#[test]
fn without_a_log_there_is_nothing_to_verify() {
    let place = Place::new();
    for verb in ["verify", "prove", "dump", "stat"] {
        let ran = place.run(verb, &[]);
        assert_eq!(ran.code, CODE_WORLD, "{verb}");
        assert!(ran.error().contains("` makes one"), "{}", ran.stderr);
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_trouble() {
    let place = log();
    for verb in ["verify", "prove", "dump", "stat"] {
        let mut child = place
            .command(verb, &[])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        drop(child.stdout.take());
        let ran = Ran::of(child.wait_with_output());
        assert_eq!((ran.code, ran.stderr.as_str()), (CODE_GOOD, ""), "{verb}");
    }
}

/// CRC32C, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 }
        })
    })
}

/// Says, under a right checksum, that the header is of version 2.
fn into_version_2(header: &mut [u8]) {
    let stored = u32::from_le_bytes(header[8..12].try_into().expect("four bytes"));
    assert_eq!(stored, crc(&header[12..]), "what is covered is known");
    header[12] = 2;
    let sum = crc(&header[12..]);
    header[8..12].copy_from_slice(&sum.to_le_bytes());
}

fn rewrite(path: &std::path::Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("the file is there");
    change(&mut bytes);
    fs::write(path, bytes).expect("the file is written");
}

#[test]
fn a_log_of_a_later_version_is_not_damaged() {
    let of_manifests: fn(&Place) = |place| {
        for name in ["log/MANIFEST-0", "log/MANIFEST-1"] {
            rewrite(&place.path(name), |bytes| {
                let len = u32::from_le_bytes(bytes[16..20].try_into().expect("four bytes"));
                into_version_2(&mut bytes[..len as usize]);
            });
        }
    };
    let of_a_segment: fn(&Place) = |place| {
        rewrite(&segment(place, 0, 2), |bytes| {
            for at in [0, 4096] {
                into_version_2(&mut bytes[at..at + 128]);
            }
        });
    };
    for age in [of_manifests, of_a_segment] {
        let place = log();
        age(&place);
        let before = crate::support::files(&place.path("log"));
        for verb in ["replay", "verify", "stat", "prove", "dump", "inspect", "append", "repair"] {
            let ran = place.run(verb, &[]);
            assert_eq!(ran.code, CODE_WORLD, "{verb}: {}", ran.stderr);
            assert!(ran.error().contains("later version"), "{verb}: {}", ran.stderr);
            let hint = ran.error().contains("or a later one") || verb == "repair";
            assert!(hint && !ran.stderr.contains("corewal repair"), "{verb}: {}", ran.stderr);
        }
        let (_, document) = verify(&place);
        assert_eq!(document["damage"][0]["kind"], "later-version", "{document}");
        assert_eq!(crate::support::files(&place.path("log")), before);
    }
}

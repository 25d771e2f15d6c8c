use std::collections::{BTreeMap, BTreeSet};

use crate::support::{CODE_GOOD, CODE_USAGE, CODE_WORLD, Live, Place, flights, lines};

#[test]
fn flights_come_back_from_four_shards_in_the_order_of_each_origin() {
    let place = Place::new();
    let (file, bytes) = flights();
    place
        .good("append", &["--shards", "4", "--by", "field:origin", "--epoch-every", "1000", &file]);
    let replayed = place.good("replay", &["--format", "raw"]);
    assert_eq!(by_origin(&replayed), by_origin(&bytes));
    assert_eq!(place.good("replay", &["--format", "raw"]), replayed, "twice the same");
    assert_eq!(place.good("replay", &["--format", "raw", "--committed"]), replayed);

    let mut shards: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for line in lines(&place.good("replay", &["--format", "jsonl"])) {
        let entry: serde_json::Value = serde_json::from_slice(line).expect("a JSON object");
        let payload = entry["payload"].as_str().expect("the payload is text");
        let shard = entry["shard"].as_u64().expect("a number");
        shards.entry(origin(payload.as_bytes())).or_default().insert(shard);
    }
    assert!(shards.values().all(|it| it.len() == 1), "an origin stays on its shard");
    assert_eq!(shards.values().flatten().collect::<BTreeSet<_>>().len(), 4, "all are used");
}

fn by_origin(text: &[u8]) -> BTreeMap<String, Vec<&[u8]>> {
    let mut flights: BTreeMap<String, Vec<&[u8]>> = BTreeMap::new();
    lines(text).into_iter().for_each(|line| flights.entry(origin(line)).or_default().push(line));
    flights
}

fn origin(line: &[u8]) -> String {
    let flight: serde_json::Value = serde_json::from_slice(line).expect("a JSON object");
    flight["origin"].as_str().expect("an origin").to_owned()
}

#[test]
fn any_bytes_between_line_ends_come_back() {
    let place = Place::new();
    let long = vec![b'x'; 700_000];
    let mut input = b"\xff\xfe\x00\n\n\r\n\ttab \"quote\" \\\n".to_vec();
    input.extend_from_slice(&long);
    input.extend_from_slice(b"\nwithout an end");
    let ran = place.feed("append", &[], &input);
    assert_eq!(ran.code, CODE_GOOD, "{}", ran.stderr);
    assert!(ran.stderr.contains("appended 6 lines"), "{}", ran.stderr);
    input.push(b'\n');
    assert_eq!(place.good("replay", &["--format", "raw"]), input);
    let tsv = place.good("replay", &[]);
    let tsv = lines(&tsv);
    assert_eq!(tsv[0], b"1\t1\t0\t\\xff\\xfe\\u0000");
    assert_eq!(tsv[1], b"1\t2\t0\t");
    assert_eq!(tsv[2], b"1\t3\t0\t\\r");
    assert_eq!(tsv[3], b"1\t4\t0\t\\ttab \\\"quote\\\" \\\\");
}

#[test]
fn files_and_standard_input_follow_each_other() {
    let place = Place::new();
    let (a, b) = (place.file("a", b"1\n2"), place.file("b", b""));
    let ran = place.feed("append", &["-q", &a, "-", &b], b"3\n4\n");
    assert_eq!((ran.code, ran.stderr.as_str()), (CODE_GOOD, ""));
    assert_eq!(place.good("replay", &["--format", "raw"]), b"1\n2\n3\n4\n");
}

#[test]
fn an_empty_file_makes_an_empty_log() {
    let place = Place::new();
    let empty = place.file("empty", b"");
    assert_eq!(place.good("append", &["--ack", &empty]), b"");
    assert_eq!(place.good("replay", &[]), b"");
}

#[test]
fn every_entry_is_acknowledged_once_with_its_stamp() {
    let place = Place::new();
    let (file, bytes) = flights();
    let acks = place.good("append", &["--shards", "3", "--ack", "--epoch-every", "700", &file]);
    let mut acked = BTreeSet::new();
    for line in lines(&acks) {
        let fields: Vec<&str> =
            std::str::from_utf8(line).expect("acks are text").split('\t').collect();
        let &["ack", shard, seq, epoch] = fields.as_slice() else { panic!("{fields:?}") };
        let stamp = [epoch, seq, shard].map(|it| it.parse::<u64>().expect("a number"));
        assert!(acked.insert(stamp), "{stamp:?} was acknowledged twice");
    }
    assert_eq!(acked.len(), lines(&bytes).len());
    let replayed: BTreeSet<[u64; 3]> = lines(&place.good("replay", &[]))
        .into_iter()
        .map(|line| {
            let line = std::str::from_utf8(line).expect("flights are text");
            let mut fields = line.split('\t').map(|it| it.parse().expect("a number"));
            std::array::from_fn(|_| fields.next().expect("three numbers"))
        })
        .collect();
    assert_eq!(acked, replayed);
}

#[test]
fn an_epoch_holds_the_lines_up_to_one_place_of_the_input() {
    let place = Place::new();
    let input: Vec<String> = (0..2500).map(|number| format!("line {number}")).collect();
    let file = place.file("lines", input.join("\n").as_bytes());
    place.good("append", &["--shards", "3", "--epoch-every", "1000", &file]);
    let mut epochs: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for line in lines(&place.good("replay", &["--committed"])) {
        let line = std::str::from_utf8(line).expect("text");
        let (epoch, rest) = line.split_once('\t').expect("tabs");
        let payload = rest.rsplit('\t').next().expect("a payload");
        let epoch = epoch.parse().expect("a number");
        epochs.entry(epoch).or_default().insert(payload.to_owned());
    }
    let expected = input.chunks(1000).map(|chunk| chunk.iter().cloned().collect());
    assert_eq!(
        epochs.into_values().collect::<Vec<BTreeSet<String>>>(),
        expected.collect::<Vec<_>>()
    );
}

#[test]
fn options_come_from_a_file_and_shards_from_the_flag() {
    let place = Place::new();
    let lines_file = place.file("lines", b"a\nb\nc\n");
    let text = "shards = 3\nengine = 'blocking'\nmax_record = '1 KiB'\n";
    let options = place.file("options.toml", text.as_bytes());
    let ran = place.run("append", &["--options", &options, &lines_file]);
    assert_eq!(ran.code, CODE_GOOD, "{}", ran.stderr);
    assert!(ran.stderr.contains("shards 3, engine "), "{}", ran.stderr);
    let ran = place.run("append", &["--options", &options, "--shards", "2", &lines_file]);
    assert!(ran.stderr.contains("shards 2, engine "), "{}", ran.stderr);

    let long = place.file("long", "x".repeat(1025).as_bytes());
    let ran = place.run("append", &["--options", &options, &long]);
    assert_eq!(ran.code, CODE_WORLD);
    assert!(ran.error().contains("longer than 1024 bytes"), "{}", ran.stderr);

    for (text, why) in [
        ("shard = 3", "unknown option shard; known are dir, engine, shards"),
        ("depth = 0", "option depth is 0: from 1 to 1024"),
        ("dir = '/elsewhere'", "option dir names another directory than --dir"),
        ("depth = ", "line 1: "),
    ] {
        let options = place.file("bad.toml", text.as_bytes());
        let ran = place.run("append", &["--options", &options, &lines_file]);
        assert_eq!(ran.code, CODE_USAGE, "{text}");
        assert!(ran.error().starts_with(&format!("{options}: {why}")), "{}", ran.stderr);
    }
    let ran = place.run("append", &["--options", &options, "--depth", "2", &lines_file]);
    assert_eq!(ran.code, CODE_USAGE, "one or the other");
    assert_eq!(lines(&place.good("replay", &[])).len(), 6, "nothing of what was refused");
}

#[test]
fn epochs_may_follow_each_other_as_fast_as_lines() {
    for engine in ["auto", "blocking"] {
        let place = Place::new();
        let file = place.file("lines", "x\n".repeat(200).as_bytes());
        place.good("append", &["--shards", "2", "--epoch-every", "1", "--engine", engine, &file]);
        assert_eq!(lines(&place.good("replay", &["--committed"])).len(), 200);
        assert_eq!(place.inspect()["manifest"]["committed_epoch"], 200);
    }
}

#[test]
fn every_line_is_durable_and_acknowledged_under_every_policy() {
    // The interval is one that nobody waits for.
    for policy in ["every-batch", "on-demand", "1000 s"] {
        let place = Place::new();
        let options = place.file("options.toml", format!("policy = '{policy}'\n").as_bytes());
        let file = place.file("lines", "x\n".repeat(100).as_bytes());
        let args = ["--shards", "2", "--options", &options, &file];
        for (round, more) in (1..).zip([&[][..], &["--epoch-every", "1"]]) {
            place.good("append", &[&args, more].concat());
            let acks = place.good("append", &[&args, more, &["--ack"]].concat());
            assert_eq!(lines(&acks).len(), 100, "{policy} {more:?}");
            let committed = place.good("replay", &["--committed"]);
            assert_eq!(lines(&committed).len(), 200 * round, "{policy} {more:?}");
        }
        // While the input is open, the end of an epoch is what asks.
        let mut live = Live::start(&place, &[&args[..4], &["--epoch-every", "1"]].concat());
        for shard in [0, 1] {
            live.write("y\n");
            assert!(live.ack().starts_with(&format!("ack\t{shard}\t")), "{policy}");
        }
        live.end();
    }
}

#[test]
fn a_line_without_the_field_is_named_and_everything_before_it_is_durable() {
    let place = Place::new();
    let cases: [(&str, &str); 3] = [
        ("{\"k\":1}\n{\"k\":\"a\"}\nno JSON\n{\"k\":2}\n", "not a JSON object"),
        ("{\"k\":1}\n{\"k\":\"a\"}\n{\"q\":1}\n{\"k\":2}\n", "no field \"k\""),
        ("{\"k\":1}\n{\"k\":\"a\"}\n{\"k\":[1]}\n{\"k\":2}\n", "field \"k\""),
    ];
    for (round, (text, why)) in cases.into_iter().enumerate() {
        let file = place.file("input", text.as_bytes());
        let ran = place.run("append", &["--by", "field:k", "--ack", &file]);
        assert_eq!(ran.code, CODE_WORLD);
        let error = ran.error();
        assert!(error.starts_with(&format!("{file}:3: {why}")), "{error}");
        assert!(error.ends_with("2 lines are durable"), "{error}");
        assert_eq!(lines(&ran.stdout).len(), 2, "acknowledged");
        let kept = "{\"k\":1}\n{\"k\":\"a\"}\n".repeat(round + 1);
        assert_eq!(place.good("replay", &["--format", "raw"]), kept.as_bytes());
    }
}

#[test]
fn a_line_that_is_too_long_is_named() {
    let place = Place::new();
    let text = format!("short\n{}\nshort\n", "x".repeat(60_000));
    let ran = place.feed("append", &["--segment-size", "64KiB"], text.as_bytes());
    assert_eq!(ran.code, CODE_WORLD);
    assert!(ran.error().starts_with("standard input:2: the line is longer than"), "{}", ran.stderr);
    assert_eq!(place.good("replay", &["--format", "raw"]), b"short\n");
}

#[test]
fn a_file_that_cannot_be_read_is_named_before_anything_is_appended() {
    let place = Place::new();
    let (good, missing) = (place.file("good", b"1\n"), place.path("missing"));
    for wrong in [missing, place.path(".")] {
        let wrong = wrong.to_str().expect("text");
        let ran = place.run("append", &[&good, wrong]);
        assert_eq!(ran.code, CODE_WORLD);
        assert!(ran.error().contains(wrong), "{}", ran.stderr);
        assert!(!place.path("log").exists());
    }
}

#[test]
fn wrong_usage_is_told_from_a_wrong_world() {
    let place = Place::new();
    let wrong: [&[&str]; 9] = [
        &["--shards", "0"],
        &["--shards", "65536"],
        &["--by", "origin"],
        &["--by", "field:"],
        &["--epoch-every", "0"],
        &["--epoch-every", "soon"],
        &["--segment-size", "1000"],
        &["--depth", "0"],
        &["--engine", "steam"],
    ];
    for args in wrong {
        let ran = place.run("append", args);
        assert_eq!(ran.code, CODE_USAGE, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
        assert!(!place.path("log").exists(), "{args:?}");
    }
}

#[test]
fn a_log_keeps_its_shards_unless_told_otherwise() {
    let place = Place::new();
    let file = place.file("lines", b"1\n2\n3\n");
    let active = || {
        let document = place.inspect();
        let shards = document["manifest"]["shards"].as_array().expect("shards").clone();
        shards.iter().filter(|shard| shard["active"] == true).count()
    };
    for (args, expected) in [(vec!["--shards", "3"], 3), (vec![], 3), (vec!["--shards", "2"], 2)] {
        place.good("append", &[args, vec![&file]].concat());
        assert_eq!(active(), expected);
    }
    assert_eq!(lines(&place.good("replay", &[])).len(), 9);
}

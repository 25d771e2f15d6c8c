//! A log damaged in eleven ways: recovery refuses each, a repair saves all that verifies, replay and append work after
//! it, and nothing was deleted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{CODE_DAMAGE, CODE_GOOD, CODE_WORLD, Live, Place, flip, lines};

const BLOCK: usize = 4096;

/// Two lives of a log of one shard, with segments of ten batches of an entry each: the first was closed, and its run
/// has three segments; the second was killed, and has two.
struct Subject {
    place: Place,
    /// Every line, by segment and batch in it.
    at: BTreeMap<(u64, u64), String>,
    all: Vec<String>,
}

impl Subject {
    fn new() -> Self {
        let place = Place::new();
        let args = ["--segment-size", "49152"];
        for life in 0..2 {
            let mut live = Live::start(&place, &args);
            for number in 0..if life == 0 { 25 } else { 14 } {
                live.write(&format!("{life} {number}\n"));
                live.ack();
            }
            if life == 0 { live.end() } else { live.kill() }
        }
        let text = place.good("replay", &["--format", "raw"]);
        let all: Vec<String> =
            lines(&text).iter().map(|it| String::from_utf8_lossy(it).into_owned()).collect();
        assert_eq!(all.len(), 39);
        let document = place.inspect();
        let mut at = BTreeMap::new();
        let mut seqs = place_of_seqs(&place);
        for batch in document["batches"].as_array().expect("batches") {
            if batch["first_seq"].as_u64() <= batch["last_seq"].as_u64()
                && let Some(text) = seqs.remove(&batch["first_seq"].as_u64().expect("a seq"))
            {
                let segment = batch["segment"].as_u64().expect("a number");
                at.insert((segment, batch["at"].as_u64().expect("an offset")), text);
            }
        }
        assert_eq!(at.len(), 39, "each entry is a batch of its own");
        Self { place, at, all }
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.place.path(&format!("log/shard-0000/{number:010}.seg"))
    }

    /// The segments that hold entries, in order.
    fn segments(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.at.keys().map(|&(segment, _)| segment).collect();
        numbers.dedup();
        numbers
    }

    /// Entries of a segment, by place.
    fn entries(&self, segment: u64) -> Vec<(usize, String)> {
        let of_it = self.at.range((segment, 0)..(segment + 1, 0));
        of_it.map(|(&(_, at), text)| (usize::try_from(at).expect("small"), text.clone())).collect()
    }
}

fn place_of_seqs(place: &Place) -> BTreeMap<u64, String> {
    let text = place.good("replay", &["--format", "jsonl"]);
    let entry = |line: &&[u8]| {
        let value: Value = serde_json::from_slice(line).expect("an object");
        let payload = value["payload"].as_str().expect("text").to_owned();
        (value["seq"].as_u64().expect("a seq"), payload)
    };
    lines(&text).iter().map(entry).collect()
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("the file is there");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("the file is written");
}

/// The bytes of every file below a directory.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !is_passing(&path) {
            let bytes = std::fs::read(&path).expect("a file");
            found.push((path, bytes));
        }
    }
    found
}

/// A file that openings change and that no entry depends on: a lock, room for a manifest, a measurement.
fn is_passing(path: &Path) -> bool {
    let name = path.file_name().and_then(|it| it.to_str()).expect("a name");
    ["LOCK", "MANIFEST-next"].contains(&name)
        || ["PROBE-", "SYNC-METHOD"].iter().any(|it| name.starts_with(it))
}

/// Damages the log and returns what is lost.
type Damage = fn(&Subject) -> Vec<String>;

fn text_of(entries: &[(usize, String)]) -> Vec<String> {
    entries.iter().map(|(_, text)| text.clone()).collect()
}

fn flipped(subject: &Subject, segment: usize, entry: usize, offset: usize) -> Vec<String> {
    let number = subject.segments()[segment];
    let entries = subject.entries(number);
    flip(&subject.segment(number), entries[entry].0 + offset);
    vec![entries[entry].1.clone()]
}

fn batch_header(subject: &Subject) -> Vec<String> {
    flipped(subject, 0, 3, 40)
}

fn entry_body(subject: &Subject) -> Vec<String> {
    flipped(subject, 3, 2, 112 + 17)
}

fn both_segment_headers(subject: &Subject) -> Vec<String> {
    let number = subject.segments()[1];
    edit(&subject.segment(number), |bytes| bytes[..2 * BLOCK].fill(0xff));
    Vec::new()
}

fn missing_in_the_middle(subject: &Subject) -> Vec<String> {
    let number = subject.segments()[1];
    std::fs::remove_file(subject.segment(number)).expect("it was there");
    text_of(&subject.entries(number))
}

/// The last segment of the run that was closed: its end is recorded.
fn missing_last(subject: &Subject) -> Vec<String> {
    let number = subject.segments()[2];
    std::fs::remove_file(subject.segment(number)).expect("it was there");
    text_of(&subject.entries(number))
}

fn missing_manifest(subject: &Subject) -> Vec<String> {
    std::fs::remove_file(subject.place.path("log/MANIFEST-0")).expect("it was there");
    Vec::new()
}

fn broken_newest_manifest(subject: &Subject) -> Vec<String> {
    let generation = subject.place.inspect()["manifest"]["generation"].as_u64().expect("a number");
    flip(&subject.place.path(&format!("log/MANIFEST-{}", generation % 2)), 50);
    Vec::new()
}

fn segment_of_another_log(subject: &Subject) -> Vec<String> {
    let other = Subject::new();
    let number = subject.segments()[1];
    std::fs::copy(other.segment(number), subject.segment(number)).expect("a copy");
    text_of(&subject.entries(number))
}

fn cut_file(subject: &Subject) -> Vec<String> {
    let number = subject.segments()[1];
    let entries = subject.entries(number);
    edit(&subject.segment(number), |bytes| bytes.truncate(entries[6].0 + 100));
    text_of(&entries[6..])
}

fn zeroed_blocks(subject: &Subject) -> Vec<String> {
    let number = subject.segments()[1];
    let entries = subject.entries(number);
    edit(&subject.segment(number), |bytes| bytes[entries[2].0..entries[5].0].fill(0));
    text_of(&entries[2..5])
}

fn block_at_another_place(subject: &Subject) -> Vec<String> {
    let number = subject.segments()[1];
    let entries = subject.entries(number);
    edit(&subject.segment(number), |bytes| {
        bytes.copy_within(entries[1].0..entries[2].0, entries[4].0);
    });
    vec![entries[4].1.clone()]
}

const DAMAGES: [(&str, Damage); 11] = [
    ("batch header flipped", batch_header),
    ("entry body flipped", entry_body),
    ("both copies of a segment header broken", both_segment_headers),
    ("segment missing in the middle", missing_in_the_middle),
    ("last segment missing", missing_last),
    ("one manifest missing", missing_manifest),
    ("newest manifest broken", broken_newest_manifest),
    ("segment of another log", segment_of_another_log),
    ("segment file cut", cut_file),
    ("blocks zeroed", zeroed_blocks),
    ("block copied to another place", block_at_another_place),
];

#[test]
fn all_that_verifies_is_saved_and_nothing_is_deleted() {
    for (name, damage) in DAMAGES {
        let subject = Subject::new();
        let lost = damage(&subject);
        let place = &subject.place;
        let before = files(&place.path("log"));
        assert_eq!(place.run("replay", &[]).code, CODE_DAMAGE, "{name}");

        let dry = place.run("repair", &["--dry-run", "--json"]);
        assert_eq!(dry.code, CODE_DAMAGE, "{name}: {}", dry.stderr);
        let planned: Value = serde_json::from_slice(&dry.stdout).expect("one document");
        assert_eq!(planned["lost"].as_array().expect("a list").is_empty(), lost.is_empty());
        assert_eq!(files(&place.path("log")), before, "{name}: a dry run changes nothing");

        let refused = place.run("repair", &[]);
        assert_eq!(refused.code, CODE_DAMAGE, "{name}: nobody agreed");
        assert!(refused.error().contains("--yes"), "{}", refused.stderr);
        assert_eq!(files(&place.path("log")), before, "{name}");

        let repaired = place.good("repair", &["--yes"]);
        let said = String::from_utf8_lossy(&repaired);
        assert!(said.contains("repaired: "), "{name}: {said}");
        assert_eq!(said.contains("\nlost: "), !lost.is_empty(), "{name}: {said}");
        let mut kept = subject.all.clone();
        kept.retain(|line| !lost.contains(line));
        assert_eq!(replayed(place), kept, "{name}");
        assert_eq!(
            place.good("repair", &["--yes"]),
            b"nothing to repair: the log recovers without damage\n"
        );

        let input = place.file("more", b"last\n");
        place.good("append", &["--segment-size", "49152", &input]);
        kept.push("last".to_owned());
        assert_eq!(replayed(place), kept, "{name}");
        let now = files(&place.path("log"));
        for (path, bytes) in &before {
            let is_spare = is_unused(path, &subject);
            let is_there = now.iter().any(|(_, it)| it == bytes);
            assert!(is_there || is_spare, "{name}: the bytes of {} are gone", path.display());
        }
    }
}

/// Prepared, without a batch: used by whoever opens the log next.
fn is_unused(path: &Path, subject: &Subject) -> bool {
    let last = subject.segments().last().copied().expect("segments");
    (last + 1..last + 9).any(|number| subject.segment(number) == path)
}

fn replayed(place: &Place) -> Vec<String> {
    let text = place.good("replay", &["--format", "raw"]);
    lines(&text).iter().map(|it| String::from_utf8_lossy(it).into_owned()).collect()
}

#[test]
fn entries_of_a_damaged_batch_are_exported_one_by_one() {
    let place = Place::new();
    // All of one length, so that each takes two units of 16 bytes.
    let input: Vec<String> = (10..90).map(|number| format!("line {number}")).collect();
    let file = place.file("lines", (input.join("\n") + "\n").as_bytes());
    place.good("append", &[&file]);
    let document = place.inspect();
    let batches = document["batches"].as_array().expect("batches");
    let batch = batches.iter().max_by_key(|it| it["entry_count"].as_u64()).expect("a batch");
    let count = batch["entry_count"].as_u64().expect("a number");
    assert!(count > 3, "lines share batches");
    let first = usize::try_from(batch["first_seq"].as_u64().expect("a seq")).expect("small") - 1;
    let mut expected: Vec<String> =
        input[first..].iter().take(usize::try_from(count).expect("small")).cloned().collect();
    expected.remove(1);
    let at = usize::try_from(batch["at"].as_u64().expect("an offset")).expect("small");
    // Header of the batch, then 16 and 16 bytes for each entry; the second payload.
    flip(&place.path("log/shard-0000/0000000001.seg"), at + 112 + 32 + 16);
    let export = place.path("saved.jsonl");
    let export = export.to_str().expect("text");
    let said = place.good("repair", &["--yes", "--json", "--export", export]);
    let said: Value = serde_json::from_slice(&said).expect("one document");
    assert_eq!(said["outcome"], "repaired");
    assert_eq!(said["lost"][0]["broken"][0]["intact"], count - 1);
    let saved = std::fs::read_to_string(export).expect("the export");
    let payload = |line: &str| {
        let entry: Value = serde_json::from_str(line).expect("an object");
        entry["payload"].as_str().expect("text").to_owned()
    };
    assert_eq!(saved.lines().map(payload).collect::<Vec<_>>(), expected);
    assert_eq!(place.run("replay", &[]).code, CODE_GOOD);
}

#[test]
fn what_is_sound_or_no_log_is_left_alone() {
    let place = Place::new();
    let ran = place.run("repair", &["--dry-run"]);
    assert_eq!(ran.code, CODE_WORLD, "{}", ran.stderr);
    let file = place.file("lines", b"one\n");
    place.good("append", &[&file]);
    let before = files(&place.path("log"));
    place.good("repair", &["--yes"]);
    place.good("repair", &["--dry-run", "--json"]);
    assert_eq!(files(&place.path("log")), before);
    let mut live = Live::start(&place, &[]);
    live.write("two\n");
    live.ack();
    let ran = place.run("repair", &["--yes"]);
    assert_eq!(ran.code, CODE_WORLD);
    assert!(ran.error().contains("is locked by"), "{}", ran.stderr);
    live.end();
}

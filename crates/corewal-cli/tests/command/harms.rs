//! A log damaged in every way that a person or a disk finds: `verify` names the kind and the place, a dry run changes
//! nothing, a repair saves all that verifies, replay and append work after it, and nothing was deleted.
//!
//! The table in docs/OPERATING.md is written by this test (`COREWAL_BLESS=1`), and compared with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{CODE_DAMAGE, CODE_USAGE, Live, Place, Ran, files, flip, lines};

const BLOCK: usize = 4096;
/// Bytes of a batch's header.
const BATCH_HEADER: usize = 112;
/// Bytes of an entry's header.
const ENTRY_HEADER: usize = 16;
/// Segments of ten blocks, and no batch that only vouches, so that every batch has its place whatever the time.
const OPTIONS: &str = "segment_len = 49152\nfirst_segment_len = 49152\nwrite_len = 40960\nmax_batch = 40960\n\
                       max_record = 32768\nvouch_after = \"60 min\"\n";

/// Two lives of a log of one shard, with segments of ten batches of an entry each: the first was closed, and its run
/// has three segments; the second was killed, and has two.
struct Subject {
    place: Place,
    /// Every line, by segment and batch in it.
    at: BTreeMap<(u64, u64), String>,
    all: Vec<String>,
    /// Entries, with those that close epochs.
    entry_count: usize,
}

impl Subject {
    fn new() -> Self {
        let place = Place::new();
        let options = place.file("options.toml", OPTIONS.as_bytes());
        for (life, count) in [(0, 25), (1, 14)] {
            let mut live = Live::start(&place, &["--options", &options]);
            for number in 0..count {
                live.write(&format!("{life} {number}\n"));
                live.ack();
            }
            if life == 0 { live.end() } else { live.kill() }
        }
        let all = replayed(&place);
        assert_eq!(all.len(), 39);
        let mut at = BTreeMap::new();
        let mut seqs = place_of_seqs(&place);
        for batch in place.inspect()["batches"].as_array().expect("batches") {
            let number = |name: &str| batch[name].as_u64().expect("a number");
            if batch["entry_count"] == 1
                && let Some(text) = seqs.remove(&number("first_seq"))
            {
                at.insert((number("segment"), number("at")), text);
            }
        }
        assert_eq!(at.len(), 39, "each entry is a batch of its own");
        let entry_count = lines(&place.good("dump", &["--format", "tsv"])).len();
        Self { place, at, all, entry_count }
    }

    /// The same log, in a place of its own.
    fn copied(&self) -> Self {
        let place = Place::new();
        for (path, bytes) in files(&self.place.path("log")) {
            let name = path.strip_prefix(self.place.path("log")).expect("below the log");
            let copy = place.path("log").join(name);
            fs::create_dir_all(copy.parent().expect("a folder")).expect("it is made");
            fs::write(copy, bytes).expect("it is copied");
        }
        Self { place, at: self.at.clone(), all: self.all.clone(), entry_count: self.entry_count }
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.place.path(&format!("log/shard-0000/{number:010}.seg"))
    }

    /// The segments that hold entries, in order: three of the first life, two of the second.
    fn numbers(&self) -> [u64; 5] {
        let mut numbers: Vec<u64> = self.at.keys().map(|&(segment, _)| segment).collect();
        numbers.dedup();
        numbers.try_into().expect("five segments")
    }

    /// Entries of a segment, by place.
    fn entries(&self, segment: u64) -> Vec<(usize, String)> {
        let of_it = self.at.range((segment, 0)..(segment + 1, 0));
        of_it.map(|(&(_, at), text)| (usize::try_from(at).expect("small"), text.clone())).collect()
    }

    fn manifest(&self, newest: Newest) -> PathBuf {
        let generation = self.place.inspect()["manifest"]["generation"].as_u64().expect("a number");
        let slot = generation % 2;
        self.place
            .path(&format!("log/MANIFEST-{}", if newest == Newest::Yes { slot } else { 1 - slot }))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Newest {
    Yes,
    No,
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
    let mut bytes = fs::read(path).expect("the file is there");
    change(&mut bytes);
    fs::write(path, bytes).expect("the file is written");
}

/// What a damage costs, and where `verify` must say that it is.
struct Harm {
    lost: Vec<String>,
    place: String,
}

impl Harm {
    /// In a segment; `entries` are lost.
    fn at(segment: u64, at: usize, entries: &[(usize, String)]) -> Self {
        let lost = entries.iter().map(|(_, text)| text.clone()).collect();
        Self { lost, place: format!("segment 0-{segment:06} at {at}") }
    }

    fn of_a_file(path: &Path) -> Self {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        Self { lost: Vec::new(), place: name }
    }
}

/// Turns a bit of an entry's batch around.
fn flipped(subject: &Subject, segment: usize, entry: usize, offset: usize) -> Harm {
    let number = subject.numbers()[segment];
    let entries = subject.entries(number);
    let (at, _) = entries[entry];
    flip(&subject.segment(number), at + offset);
    Harm::at(number, at, &entries[entry..=entry])
}

fn header_of_a_batch(subject: &Subject) -> Harm {
    flipped(subject, 0, 3, 40)
}

fn payload(subject: &Subject) -> Harm {
    flipped(subject, 0, 3, BATCH_HEADER + ENTRY_HEADER + 1)
}

fn padding(subject: &Subject) -> Harm {
    flipped(subject, 1, 3, BLOCK - 1)
}

fn payload_of_a_killed_run(subject: &Subject) -> Harm {
    flipped(subject, 3, 2, BATCH_HEADER + ENTRY_HEADER + 1)
}

fn zeroed_batches(subject: &Subject) -> Harm {
    let number = subject.numbers()[1];
    let entries = subject.entries(number);
    edit(&subject.segment(number), |bytes| bytes[entries[2].0..entries[5].0].fill(0));
    Harm::at(number, entries[2].0, &entries[2..5])
}

fn batch_at_another_place(subject: &Subject) -> Harm {
    let number = subject.numbers()[1];
    let entries = subject.entries(number);
    edit(&subject.segment(number), |bytes| {
        bytes.copy_within(entries[1].0..entries[2].0, entries[4].0);
    });
    Harm::at(number, entries[4].0, &entries[4..5])
}

fn removed(subject: &Subject, segment: usize) -> Harm {
    let number = subject.numbers()[segment];
    fs::remove_file(subject.segment(number)).expect("it was there");
    Harm::at(number, 0, &subject.entries(number))
}

fn first_segment_missing(subject: &Subject) -> Harm {
    removed(subject, 0)
}

fn segment_in_the_middle_missing(subject: &Subject) -> Harm {
    removed(subject, 1)
}

/// Of the run that was closed: its end is recorded.
fn last_segment_missing(subject: &Subject) -> Harm {
    removed(subject, 2)
}

fn one_copy_of_a_header(subject: &Subject) -> Harm {
    let number = subject.numbers()[1];
    flip(&subject.segment(number), 20);
    Harm::at(number, 0, &[])
}

fn both_copies_of_a_header(subject: &Subject) -> Harm {
    let number = subject.numbers()[1];
    edit(&subject.segment(number), |bytes| bytes[..2 * BLOCK].fill(0xff));
    Harm::at(number, 0, &[])
}

fn cut_file(subject: &Subject) -> Harm {
    let number = subject.numbers()[1];
    let entries = subject.entries(number);
    let len = entries[6].0 + 100;
    edit(&subject.segment(number), |bytes| bytes.truncate(len));
    Harm { place: format!("segment 0-{number:06} at 0"), ..Harm::at(number, 0, &entries[6..]) }
}

fn segment_of_another_log(subject: &Subject) -> Harm {
    let other = Subject::new();
    let number = subject.numbers()[1];
    fs::copy(other.segment(number), subject.segment(number)).expect("a copy");
    Harm::at(number, 0, &subject.entries(number))
}

fn segment_under_another_number(subject: &Subject) -> Harm {
    let [_, second, third, ..] = subject.numbers();
    fs::copy(subject.segment(third), subject.segment(second)).expect("a copy");
    Harm::at(second, 0, &subject.entries(second))
}

fn newest_manifest_missing(subject: &Subject) -> Harm {
    fs::remove_file(subject.manifest(Newest::Yes)).expect("it was there");
    Harm { lost: Vec::new(), place: "a manifest is missing (only generation".to_owned() }
}

fn both_manifests_missing(subject: &Subject) -> Harm {
    for path in [Newest::No, Newest::Yes].map(|it| subject.manifest(it)) {
        fs::remove_file(path).expect("it was there");
    }
    Harm { lost: Vec::new(), place: "segments are there, but no manifest".to_owned() }
}

fn newest_manifest_broken(subject: &Subject) -> Harm {
    let path = subject.manifest(Newest::Yes);
    flip(&path, 50);
    Harm::of_a_file(&path)
}

fn older_manifest_broken(subject: &Subject) -> Harm {
    let path = subject.manifest(Newest::No);
    flip(&path, 50);
    Harm::of_a_file(&path)
}

fn manifest_copied_over_the_other(subject: &Subject) -> Harm {
    let path = subject.manifest(Newest::Yes);
    fs::copy(subject.manifest(Newest::No), &path).expect("a copy");
    Harm::of_a_file(&path)
}

/// What is done to the log, how, and what `verify` calls it.
type Row = (&'static str, fn(&Subject) -> Harm, &'static str);

const ROWS: [Row; 19] = [
    ("a bit of a batch's header changed", header_of_a_batch, "batch-header"),
    ("a bit of a payload changed", payload, "batch-body"),
    ("a bit of the padding changed", padding, "batch-body"),
    (
        "a bit of a payload changed, in a run that a kill ended",
        payload_of_a_killed_run,
        "batch-body",
    ),
    ("three batches overwritten with zeros", zeroed_batches, "batch-zeroed"),
    ("a batch copied over another one", batch_at_another_place, "batch-misplaced"),
    ("the first segment removed", first_segment_missing, "segment-missing"),
    ("a segment in the middle removed", segment_in_the_middle_missing, "segment-missing"),
    ("the last segment of a closed run removed", last_segment_missing, "segment-missing"),
    ("one copy of a segment's header changed", one_copy_of_a_header, "header-copy"),
    ("both copies of a segment's header overwritten", both_copies_of_a_header, "segment-header"),
    ("a segment file cut off in the middle", cut_file, "segment-length"),
    ("a segment of another log put in its place", segment_of_another_log, "segment-of-other-log"),
    ("a segment copied over another one", segment_under_another_number, "segment-misnamed"),
    ("the newest manifest removed", newest_manifest_missing, "manifest-missing"),
    ("both manifests removed", both_manifests_missing, "manifest-missing"),
    ("the newest manifest changed", newest_manifest_broken, "manifest-broken"),
    ("the older manifest changed", older_manifest_broken, "manifest-broken"),
    (
        "the older manifest copied over the newest",
        manifest_copied_over_the_other,
        "manifest-unrelated",
    ),
];

#[test]
fn every_damage_is_named_and_repaired_and_nothing_is_deleted() {
    let master = Subject::new();
    let mut table = String::from(
        "| what was done | `verify` says | `repair` | `replay` after it |\n|---|---|---|---|\n",
    );
    for (name, harm, kind) in ROWS {
        let subject = master.copied();
        let harm = harm(&subject);
        let before = files(&subject.place.path("log"));
        is_named(&subject, name, kind, &harm);
        let repaired = match kind {
            "header-copy" => is_left_alone(&subject, name, &before),
            _ => is_repaired(&subject, name, &harm, &before),
        };
        nothing_is_gone(&subject, name, &before);
        let kept = goes_on(&subject, name, &harm);
        if kind != "header-copy" {
            nothing_is_gone(&subject, name, &before);
        }
        let _ = writeln!(
            table,
            "| {name} | `{kind}` | {repaired} | {kept} of {} entries |",
            subject.all.len()
        );
    }
    compare(&table);
}

/// `verify` names kind and place and what is lost, and goes on behind it; so do the others that only read.
fn is_named(subject: &Subject, name: &str, kind: &str, harm: &Harm) {
    let place = &subject.place;
    let ran = place.run("verify", &["--json"]);
    assert_eq!(ran.code, CODE_DAMAGE, "{name}");
    let document = document(&ran);
    assert_eq!(document["good"], false, "{name}");
    let found = document["damage"].as_array().expect("damage");
    let of_kind = found.iter().find(|it| it["kind"] == kind);
    let of_kind = of_kind.unwrap_or_else(|| panic!("{name}: {document}"));
    let text = of_kind["text"].as_str().expect("text");
    assert!(text.contains(&harm.place), "{name}: {text}, not at {}", harm.place);
    let shown = place.run("verify", &[]);
    assert_eq!(shown.code, CODE_DAMAGE, "{name}");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(&format!("damage [{kind}] {text}")), "{name}: {shown}");
    let is_sent_to_repair = ran.error().contains("corewal repair");
    assert_eq!(is_sent_to_repair, kind != "header-copy", "{name}: {}", ran.stderr);
    for verb in ["stat", "prove"] {
        assert_eq!(place.run(verb, &[]).code, CODE_DAMAGE, "{name}: {verb}");
    }
    if kind.starts_with("manifest") {
        return;
    }
    let lost: u64 = found
        .iter()
        .filter(|it| !it["lost"].is_null())
        .map(|it| {
            let seq = |name: &str| it["lost"][name].as_u64().expect("a seq");
            seq("last_seq") + 1 - seq("first_seq")
        })
        .sum();
    // What is not lost is dumped, and only that.
    let ran = place.run("dump", &["--format", "tsv"]);
    assert_eq!(ran.code, CODE_DAMAGE, "{name}");
    let dumped = lines(&ran.stdout);
    assert_eq!(dumped.len() as u64 + lost, subject.entry_count as u64, "{name}: {document}");
    let fields = dumped.iter().map(|it| String::from_utf8_lossy(it).into_owned());
    let puts = fields.filter(|it| it.contains("\tput\t"));
    let puts = puts.filter_map(|it| it.rsplit('\t').next().map(str::to_owned));
    let puts: Vec<String> = puts.collect();
    // Only a repair reads a segment without its header.
    if kind != "segment-header" {
        assert_eq!(puts, left(subject, harm), "{name}");
    }
}

/// What does not keep anybody from reading is not repaired.
fn is_left_alone(subject: &Subject, name: &str, before: &[(PathBuf, Vec<u8>)]) -> String {
    for args in [&["--dry-run"], &["--yes"]] {
        let said = subject.place.good("repair", args);
        assert_eq!(said, b"nothing to repair: the log recovers without damage\n", "{name}");
    }
    assert_eq!(files(&subject.place.path("log")), before, "{name}");
    "nothing to repair: the other copy is good".to_owned()
}

/// A dry run and an unanswered question change nothing; a repair saves all that verifies.
fn is_repaired(
    subject: &Subject,
    name: &str,
    harm: &Harm,
    before: &[(PathBuf, Vec<u8>)],
) -> String {
    let place = &subject.place;
    assert_eq!(place.run("replay", &[]).code, CODE_DAMAGE, "{name}");
    let dry = place.run("repair", &["--dry-run", "--json"]);
    assert_eq!(dry.code, CODE_DAMAGE, "{name}: {}", dry.stderr);
    let planned = document(&dry);
    assert_eq!(planned["lost"].as_array().expect("a list").is_empty(), harm.lost.is_empty());
    assert_eq!(files(&place.path("log")), before, "{name}: a dry run changes nothing");
    let refused = place.run("repair", &[]);
    assert_eq!(refused.code, CODE_USAGE, "{name}: nobody agreed");
    assert!(refused.error().contains("--yes"), "{}", refused.stderr);
    assert_eq!(files(&place.path("log")), before, "{name}");

    let said = String::from_utf8_lossy(&place.good("repair", &["--yes"])).into_owned();
    assert!(said.contains("repaired: "), "{name}: {said}");
    assert_eq!(said.contains("\nlost: "), !harm.lost.is_empty(), "{name}: {said}");
    let put_right = said.contains("\nput right: ");
    let again = place.good("repair", &["--yes"]);
    assert_eq!(again, b"nothing to repair: the log recovers without damage\n", "{name}");
    match (harm.lost.len(), put_right) {
        (0, true) => "header written anew, nothing lost".to_owned(),
        (0, false) => "manifest written anew, nothing lost".to_owned(),
        (1, _) => "1 entry lost".to_owned(),
        (lost, _) => format!("{lost} entries lost"),
    }
}

/// Replay gives what is left, and an append goes on.
fn goes_on(subject: &Subject, name: &str, harm: &Harm) -> usize {
    let place = &subject.place;
    let mut kept = left(subject, harm);
    let count = kept.len();
    assert_eq!(replayed(place), kept, "{name}");
    let input = place.file("more", b"last\n");
    let options = place.file("options.toml", OPTIONS.as_bytes());
    place.good("append", &["--options", &options, &input]);
    kept.push("last".to_owned());
    assert_eq!(replayed(place), kept, "{name}");
    count
}

/// All bytes that were there still are, in their place or aside.
fn nothing_is_gone(subject: &Subject, name: &str, before: &[(PathBuf, Vec<u8>)]) {
    let now = files(&subject.place.path("log"));
    for (path, bytes) in before {
        let is_there = now.iter().any(|(_, it)| it == bytes);
        let is_gone = !is_there && !is_unused(path, subject);
        assert!(!is_gone, "{name}: the bytes of {} are gone", path.display());
    }
}

fn left(subject: &Subject, harm: &Harm) -> Vec<String> {
    subject.all.iter().filter(|line| !harm.lost.contains(line)).cloned().collect()
}

/// Prepared, without a batch: used by whoever opens the log next.
fn is_unused(path: &Path, subject: &Subject) -> bool {
    let [.., last] = subject.numbers();
    (last + 1..last + 9).any(|number| subject.segment(number) == path)
}

fn replayed(place: &Place) -> Vec<String> {
    let text = place.good("replay", &["--format", "raw"]);
    lines(&text).iter().map(|it| String::from_utf8_lossy(it).into_owned()).collect()
}

fn document(ran: &Ran) -> Value {
    serde_json::from_slice(&ran.stdout).expect("one document")
}

/// Compares the table with the one in the documentation, or writes it there.
fn compare(table: &str) {
    const BEGIN: &str = "<!-- damages: written by a test -->\n";
    const END: &str = "<!-- end of damages -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/OPERATING.md");
    let text = fs::read_to_string(&path).expect("the documentation is there");
    let (head, rest) = text.split_once(BEGIN).expect("the table begins");
    let (old, tail) = rest.split_once(END).expect("the table ends");
    if std::env::var_os("COREWAL_BLESS").is_some() {
        fs::write(path, format!("{head}{BEGIN}{table}{END}{tail}")).expect("it is written");
    } else {
        assert_eq!(old, table, "COREWAL_BLESS=1 writes the table");
    }
}

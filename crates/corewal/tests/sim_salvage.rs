//! Salvage on the simulated disk: a power cut after every operation of a repair, repairing twice, and what the
//! saved log promises afterwards.
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corewal::salvage::{self, Origin, Restoring, SalvageError};
use corewal::{
    AppendError, Claim, Epoch, Kind, Log, Options, Preparing, RecoverError, Seq, ShardWriter,
    Stamp, Standing, Turn,
};
use corewal_disk::sim::{Cut, SimDisk};
use corewal_disk::{Disk, Open};

const BLOCK: usize = 512;

fn options(disk: &Arc<SimDisk>) -> Options {
    Options::new("/log")
        .disk(disk.clone())
        .shards(2)
        .preparing(Preparing::Manual)
        .block_len(512)
        .segment_len(4096)
        .first_segment_len(4096)
        .write_len(1024)
        .max_batch(2048)
        .max_record(512)
        .pipeline_bound(2)
        .vouch_after(std::time::Duration::from_secs(3600))
}

fn persist<T>(
    log: &Log,
    writer: &mut ShardWriter,
    mut act: impl FnMut(&mut ShardWriter) -> Result<T, AppendError>,
) -> T {
    for _ in 0..100 {
        match act(writer) {
            Err(AppendError::Full) => {
                log.prepare();
                if writer.turn().unwrap() == Turn::Sleep {
                    writer.sleep(None).unwrap();
                }
            }
            done => return done.unwrap(),
        }
    }
    panic!("the log stays full");
}

fn append(log: &Log, writer: &mut ShardWriter, text: &str) -> Stamp {
    let stamp = persist(log, writer, |it| it.append_bytes(Kind::PUT, text.as_bytes()));
    writer.wait(stamp).unwrap();
    log.prepare();
    stamp
}

fn close_epoch(log: &Log, writers: &mut [ShardWriter]) {
    for writer in writers {
        persist(log, writer, ShardWriter::close_epoch);
        writer.sync().unwrap();
        log.prepare();
    }
}

/// How the log was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Closed,
    Killed,
}

/// Two shards of three segments each, of six blocks: a batch in each. Epochs 1 to 3 are committed.
fn log(left: Left) -> Arc<SimDisk> {
    let disk = Arc::new(SimDisk::new(7));
    let mut log = Log::recover(options(&disk)).unwrap().open().unwrap();
    let mut writers: Vec<_> = log.take_seats().into_iter().map(|it| it.sit().unwrap()).collect();
    for epoch in 1..=3 {
        for (shard, writer) in writers.iter_mut().enumerate() {
            for number in 0..4 {
                append(&log, writer, &format!("{shard} {epoch} {number}"));
            }
        }
        close_epoch(&log, &mut writers);
    }
    for writer in &mut writers {
        writer.seal_promises();
        writer.sync().unwrap();
    }
    match left {
        Left::Closed => {
            writers.into_iter().for_each(|it| {
                it.close().unwrap();
            });
            log.close().unwrap();
        }
        Left::Killed => drop((writers, log)),
    }
    next_life(&disk)
}

fn next_life(disk: &SimDisk) -> Arc<SimDisk> {
    Arc::new(disk.power_cut(&Cut::lose_all()))
}

fn segment(shard: u16, number: u64) -> String {
    format!("/log/shard-{shard:04}/{number:010}.seg")
}

/// Where batch `index` of a segment stands.
fn at(index: usize) -> usize {
    (2 + index) * BLOCK
}

fn edit(disk: &SimDisk, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = disk.visible(path).unwrap();
    change(&mut bytes);
    disk.put(path, &bytes).unwrap();
}

/// The entries without barriers.
fn stream(disk: &Arc<SimDisk>) -> Result<Vec<String>, RecoverError> {
    let mut recovery = Log::recover(options(disk))?;
    let mut texts = Vec::new();
    while let Some(entry) = recovery.next_entry()? {
        if entry.kind() != Kind::BARRIER {
            texts.push(String::from_utf8(entry.bytes().to_vec()).unwrap());
        }
    }
    Ok(texts)
}

fn all() -> Vec<String> {
    let of_shard = |epoch, shard| (0..4).map(move |number| format!("{shard} {epoch} {number}"));
    let mut texts: Vec<String> =
        (1..=3).flat_map(|epoch| (0..2).flat_map(move |shard| of_shard(epoch, shard))).collect();
    // Seqs go first.
    texts.sort_by_key(|text| {
        let numbers: Vec<u32> = text.split(' ').map(|it| it.parse().unwrap()).collect();
        (numbers[1], numbers[2], numbers[0])
    });
    texts
}

fn without(lost: &[&str]) -> Vec<String> {
    all().into_iter().filter(|it| !lost.contains(&it.as_str())).collect()
}

/// A way to damage a log, and what is lost by it.
type Case = (&'static str, fn(&SimDisk), &'static [&'static str]);

/// Segment 1 of a shard has the batches of epoch 1 and its barrier, and the first of epoch 2; and so on.
const CASES: &[Case] = &[
    ("an entry", |disk| edit(disk, &segment(0, 1), |it| it[at(1) + 130] ^= 1), &["0 1 1"]),
    ("a header", |disk| edit(disk, &segment(1, 2), |it| it[at(0) + 20] ^= 1), &["1 2 1"]),
    ("both headers", |disk| edit(disk, &segment(0, 2), |it| it[..2 * BLOCK].fill(0xee)), &[]),
    ("a file", |disk| disk.lose(segment(0, 2)).unwrap(), MIDDLE),
    ("zeros", |disk| edit(disk, &segment(0, 2), |it| it[at(0)..].fill(0)), MIDDLE),
    ("a cut", |disk| cut_short(disk, &segment(0, 2), at(4)), &["0 3 0", "0 3 1"]),
    ("a manifest", |disk| disk.lose("/log/MANIFEST-0").unwrap(), &[]),
    (
        "two manifests",
        |disk| {
            for path in ["/log/MANIFEST-0", "/log/MANIFEST-1"] {
                edit(disk, path, |it| it[40] ^= 1);
            }
        },
        &[],
    ),
    (
        "much at once",
        |disk| {
            edit(disk, &segment(0, 1), |it| it[at(1) + 130] ^= 1);
            edit(disk, &segment(0, 2), |it| it[..2 * BLOCK].fill(0xee));
            edit(disk, &segment(1, 1), |it| it.swap_with_slice(&mut vec![0xaa; 4096]));
            edit(disk, "/log/MANIFEST-0", |it| it[40] ^= 1);
        },
        &["0 1 1", "1 1 0", "1 1 1", "1 1 2", "1 1 3", "1 2 0"],
    ),
];

const MIDDLE: &[&str] = &["0 2 1", "0 2 2", "0 2 3", "0 3 0", "0 3 1"];

fn cut_short(disk: &SimDisk, path: &str, len: usize) {
    let bytes = disk.visible(path).unwrap();
    disk.lose(path).unwrap();
    disk.put(path, &bytes[..len]).unwrap();
}

/// Every file of the log by its bytes.
fn files(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let images = disk.files().into_iter();
    images.filter_map(|it| Some((it.path.clone(), it.visible?))).collect()
}

/// Whether the bytes of every damaged or replaced file are still somewhere.
fn assert_nothing_was_deleted(before: &SimDisk, after: &SimDisk, what: &str) {
    let now = files(after);
    for (path, bytes) in files(before) {
        if path.ends_with("LOCK") || path.ends_with("MANIFEST-next") {
            continue;
        }
        assert!(now.values().any(|it| *it == bytes), "{what}: the bytes of {path} are gone");
    }
}

#[test]
fn whatever_verifies_is_saved_and_the_log_goes_on() {
    for left in [Left::Closed, Left::Killed] {
        assert_eq!(stream(&log(left)).unwrap(), all());
        for &(name, damage, lost) in CASES {
            let what = format!("{left:?}, {name}");
            let disk = log(left);
            damage(&disk);
            let disk = next_life(&disk);
            let before = disk.fork();
            assert!(stream(&disk).is_err(), "{what}: refused before");

            let plan = salvage::plan(&options(&disk)).unwrap();
            assert_eq!(plan.report().lost.is_empty(), lost.is_empty(), "{what}");
            let report = plan.carry_out().unwrap_or_else(|it| panic!("{what}: {it}"));
            assert_eq!(stream(&disk).unwrap(), without(lost), "{what}");
            assert_nothing_was_deleted(&before, &disk, &what);
            let again = salvage::plan(&options(&disk));
            assert!(matches!(again, Err(SalvageError::Sound)), "{what}");
            assert_eq!(report.committed_after < report.committed_before, !lost.is_empty());

            let mut log = Log::recover(options(&disk)).unwrap().open().unwrap();
            let mut writers: Vec<_> =
                log.take_seats().into_iter().map(|it| it.sit().unwrap()).collect();
            let stamp = append(&log, &mut writers[0], "new");
            assert_eq!(log.standing(stamp), Standing::Durable);
            close_epoch(&log, &mut writers);
            assert!(log.committed_epoch() > Epoch(3), "{what}");
            drop((writers, log));
            let disk = next_life(&disk);
            let mut expected = without(lost);
            expected.push("new".to_owned());
            assert_eq!(stream(&disk).unwrap(), expected, "{what}");
        }
    }
}

#[test]
fn a_crash_anywhere_in_a_repair_leaves_a_log_that_can_be_repaired() {
    for &(name, damage, lost) in CASES {
        let start = log(Left::Killed);
        damage(&start);
        let start = next_life(&start);
        for crash_after in 0.. {
            let disk = Arc::new(start.fork().power_cut(&Cut::lose_all()));
            disk.crash_after(crash_after);
            let done = salvage::plan(&options(&disk)).and_then(salvage::Salvage::carry_out);
            for cut in [Cut::lose_all(), Cut::keep_all(), Cut::random(crash_after)] {
                let what = format!("{name}, crash after {crash_after}, {cut:?}");
                let found = Arc::new(disk.fork().power_cut(&cut));
                assert_nothing_was_deleted(&start, &found, &what);
                match salvage::plan(&options(&found)) {
                    Ok(plan) => {
                        assert!(done.is_err(), "{what}: a repair that was told of is durable");
                        plan.carry_out().unwrap();
                    }
                    Err(SalvageError::Sound) => {}
                    Err(error) => panic!("{what}: {error}"),
                }
                assert_eq!(stream(&found).unwrap(), without(lost), "{what}");
                assert_nothing_was_deleted(&start, &found, &what);
            }
            if done.is_ok() {
                assert!(crash_after > 5, "{name}: a repair has steps");
                break;
            }
        }
    }
}

/// Shard 0 has lost batches of which shard 1 still speaks: the repaired log accuses nobody by it.
#[test]
fn promises_of_what_is_lost_accuse_nobody() {
    let disk = log(Left::Killed);
    let last: Vec<String> = (2..9).map(|number| segment(0, number)).collect();
    for path in &last {
        disk.lose(path).unwrap();
    }
    let disk = next_life(&disk);
    let refused = stream(&disk).unwrap_err().to_string();
    assert!(refused.contains("says that epoch 2 was committed"), "{refused}");
    let report = salvage::plan(&options(&disk)).unwrap().carry_out().unwrap();
    let witness = report.lost[0].witness.unwrap();
    assert_eq!(witness.claim, Claim::Committed(Epoch(2)));
    assert_eq!(report.lost[0].seqs, (Seq(7), None));
    assert_eq!((report.committed_before, report.committed_after), (Epoch(2), Epoch(1)));
    for _ in 0..2 {
        let mut log = Log::recover(options(&disk)).unwrap().open().unwrap();
        let mut writers: Vec<_> =
            log.take_seats().into_iter().map(|it| it.sit().unwrap()).collect();
        let stamp = append(&log, &mut writers[0], "new");
        assert!(stamp.seq > Seq(1 << 32), "far above what may have been given out: {stamp}");
        assert!(stamp.epoch > Epoch(1 << 32), "{stamp}");
    }
}

#[test]
fn a_torn_tail_stays_torn_when_damage_before_it_is_repaired() {
    let disk = log(Left::Killed);
    // Nothing promises the vouches of shard 1, the last batches of all.
    let path = segment(1, 3);
    let bytes = disk.visible(&path).unwrap();
    let last = (0..6).rfind(|&it| bytes[at(it)..at(it + 1)].iter().any(|&byte| byte != 0)).unwrap();
    edit(&disk, &path, |it| it[at(last) + 20] ^= 1);
    edit(&disk, &segment(0, 1), |it| it[at(1) + 130] ^= 1);
    let disk = next_life(&disk);
    let report = salvage::plan(&options(&disk)).unwrap().carry_out().unwrap();
    assert_eq!(report.lost.len(), 1, "{:?}", report.lost);
    assert_eq!(stream(&disk).unwrap(), without(&["0 1 1"]));
}

#[test]
fn reports_say_what_is_done() {
    let disk = log(Left::Closed);
    edit(&disk, &segment(0, 1), |it| it[at(1) + 130] ^= 1);
    edit(&disk, &segment(0, 2), |it| it[..2 * BLOCK].fill(0xee));
    let before = files(&disk);
    let plan = salvage::plan(&options(&disk)).unwrap();
    let report = plan.report();
    assert!(matches!(report.origin, Origin::Newest(_)));
    let lost = &report.lost[0];
    assert_eq!(lost.seqs, (Seq(2), Some(Seq(2))));
    assert_eq!(lost.bytes, 512);
    assert!(matches!(lost.witness.unwrap().claim, Claim::RunEnd(_)));
    assert_eq!((lost.broken[0].intact, lost.broken[0].header.entry_count), (0, 1));
    assert!(matches!(report.restored[0].how, Restoring::Header { like: Some(_) }));
    // Compared as paths: Windows has another separator.
    let copies: Vec<_> = report.copies.iter().map(PathBuf::as_path).collect();
    let expected = ["/log/MANIFEST-0", "/log/MANIFEST-1", &segment(0, 1), &segment(0, 2)];
    let expected = expected.map(Path::new);
    assert_eq!(copies, expected);
    // A plan changes nothing.
    drop(plan);
    assert_eq!(files(&disk), before);
}

#[test]
fn what_is_no_log_is_not_salvaged() {
    let disk = Arc::new(SimDisk::new(1));
    let absent = salvage::plan(&options(&disk)).unwrap_err();
    assert!(matches!(absent, SalvageError::Recover(RecoverError::NoLog { .. })), "{absent}");
    disk.create_dir("/log".as_ref()).unwrap();
    let empty = salvage::plan(&options(&disk)).unwrap_err();
    assert!(matches!(empty, SalvageError::Recover(RecoverError::NoLog { .. })), "{empty}");

    let disk = log(Left::Killed);
    let _open = disk.open("/log/LOCK".as_ref(), Open::READ).unwrap();
    let _log = Log::recover(options(&disk)).unwrap();
    let locked = options(&disk).lock_patience(std::time::Duration::ZERO);
    let locked = salvage::plan(&locked).unwrap_err();
    assert!(matches!(locked, SalvageError::Recover(RecoverError::Locked { .. })), "{locked}");
}

/// Where every entry stands.
fn places(disk: &SimDisk) -> BTreeMap<String, (String, usize)> {
    let mut places = BTreeMap::new();
    for (path, bytes) in files(disk).into_iter().filter(|(path, _)| path.ends_with(".seg")) {
        for at in (2 * BLOCK..bytes.len()).step_by(BLOCK) {
            // Behind the headers of the batch and of the entry.
            if let Ok(text) = std::str::from_utf8(&bytes[at + 128..at + 133])
                && all().iter().any(|it| it == text)
            {
                places.insert(text.to_owned(), (path.clone(), at));
            }
        }
    }
    assert_eq!(places.len(), 24);
    places
}

/// Numbers that look random: xorshift.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % below
    }
}

fn damage_at_random(disk: &SimDisk, dice: &mut Dice) {
    let paths: Vec<String> = files(disk)
        .into_keys()
        .filter(|it| it.ends_with(".seg") || it.ends_with("MANIFEST-0") || it.ends_with("-1"))
        .collect();
    for _ in 0..=dice.roll(4) {
        let path = &paths[dice.roll(paths.len())];
        let Some(len) = disk.visible(path).map(|it| it.len()).filter(|&len| len > 2 * BLOCK) else {
            continue;
        };
        let at = dice.roll(len);
        let block = at / BLOCK * BLOCK;
        let end = len.min(block + BLOCK * (1 + dice.roll(3)));
        match dice.roll(7) {
            0 | 1 => edit(disk, path, |it| it[at] ^= 1 << (at % 8)),
            2 => edit(disk, path, |it| it[block..end].fill(0)),
            3 => edit(disk, path, |it| it[..2 * BLOCK].fill(0xee)),
            4 => cut_short(disk, path, at),
            5 => disk.lose(path).unwrap(),
            _ => {
                let other = disk.visible(&paths[dice.roll(paths.len())]);
                let Some(other) = other.filter(|it| it.len() >= end) else { continue };
                edit(disk, path, |it| it[block..end].copy_from_slice(&other[block..end]));
            }
        }
    }
}

#[test]
fn random_damage_never_costs_more_than_it_hit() {
    let (mut repaired, mut with_loss) = (0, 0);
    for seed in 1..400_u64 {
        let disk = log(if seed % 2 == 0 { Left::Closed } else { Left::Killed });
        let (places, pristine) = (places(&disk), disk.fork());
        damage_at_random(&disk, &mut Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let disk = next_life(&disk);
        let before = disk.fork();
        let plan = match salvage::plan(&options(&disk)) {
            Ok(plan) => plan,
            Err(SalvageError::Sound) => continue,
            Err(error) => panic!("seed {seed}: {error}"),
        };
        let report = plan.carry_out().unwrap_or_else(|it| panic!("seed {seed}: {it}"));
        assert_nothing_was_deleted(&before, &disk, &format!("seed {seed}"));
        let saved = stream(&disk).unwrap_or_else(|it| panic!("seed {seed}: {it}"));
        let mut rest = all().into_iter();
        let in_order = saved.iter().all(|text| rest.any(|it| it == *text));
        assert!(in_order, "seed {seed}: {saved:?}");
        let is_hit = |text: &String| {
            let (path, at) = &places[text];
            let block = |disk: &SimDisk| Some(disk.visible(path)?.get(*at..at + BLOCK)?.to_vec());
            block(&before) != block(&pristine)
        };
        let lost: Vec<String> = all().into_iter().filter(|it| !saved.contains(it)).collect();
        // Without a manifest, what no promise covers behind a bad place is torn; and in a run that was not closed
        // the last batches have no promise over them.
        if matches!(report.origin, Origin::Newest(_)) {
            let is_told = lost.is_empty() || !report.lost.is_empty();
            assert!(is_told || seed % 2 == 1, "seed {seed}: silent: {lost:?}");
            assert!(lost.iter().all(is_hit), "seed {seed}: {lost:?} {:?}", report.lost);
        }
        repaired += 1;
        with_loss += u32::from(!lost.is_empty());
        let again = salvage::plan(&options(&disk));
        assert!(matches!(again, Err(SalvageError::Sound)), "seed {seed}");
    }
    assert!(repaired > 200 && with_loss > 100, "{repaired} repaired, {with_loss} with a loss");
}

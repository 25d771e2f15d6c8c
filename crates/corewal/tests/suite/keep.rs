//! Checkpoints, releases, pins, recycling and hooks, on a real file system.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use corewal::{
    CheckpointError, EncodeError, Epoch, Kind, Log, PinError, PinFrom, Seq, ShardId, ShardWriter,
    Stamp, Standing,
};

use crate::support::{
    append, commit, open_all, open_one, recover, recovered, segment_path, temp_dir, tiny,
};

const SHARD: ShardId = ShardId(0);

/// Appends until so many more segments are full and durable.
fn fill(log: &Log, writer: &mut ShardWriter, segments: u64) -> Vec<Stamp> {
    let until = writer.stats().rotations + segments;
    let mut stamps = Vec::new();
    while writer.stats().rotations < until {
        stamps.push(append(log, writer, &"x".repeat(900)));
        writer.turn().unwrap();
    }
    writer.sync().unwrap();
    log.prepare();
    writer.turn().unwrap();
    stamps
}

/// Closes an epoch on a log of one shard and sees it committed.
fn commit_epoch(log: &Log, writer: &mut ShardWriter) -> Epoch {
    let epoch = crate::support::persist(log, writer, ShardWriter::close_epoch).unwrap();
    writer.sync().unwrap();
    assert_eq!(log.committed_epoch(), epoch);
    epoch
}

fn segments(dir: &Path, shard: u16) -> Vec<u64> {
    let mut numbers: Vec<u64> = std::fs::read_dir(dir.join(format!("shard-{shard:04}")))
        .unwrap()
        .map(|it| it.unwrap().file_name().to_str().unwrap()[..10].parse().unwrap())
        .collect();
    numbers.sort_unstable();
    numbers
}

fn file(dir: &Path, number: u64) -> File {
    File::open(segment_path(dir, 0, number)).unwrap()
}

/// The header of a file, whatever it is called by now. It tells whether two files are one: it names the segment.
fn header(mut file: &File) -> [u8; 64] {
    let mut header = [0; 64];
    file.rewind().unwrap();
    file.read_exact(&mut header).unwrap();
    header
}

fn first_seq(dir: &Path) -> Seq {
    recover(tiny(dir)).unwrap().0.first().map_or(Seq(0), |item| item.stamp.seq)
}

#[test]
fn the_last_checkpoint_is_found_before_anything_is_read() {
    let temp = temp_dir();
    let dir = temp.path();
    let (log, mut writer) = open_one(tiny(dir));
    assert!(log.last_checkpoint().is_none());
    commit(&log, &mut writer, "a");
    let first = commit_epoch(&log, &mut writer);
    log.checkpoint(first, b"one").unwrap();
    let second = commit_epoch(&log, &mut writer);
    log.checkpoint(second, &[7; 100_000]).unwrap();
    log.checkpoint(second, b"two").unwrap();
    drop((writer, log));
    for _ in 0..2 {
        let recovery = Log::recover(tiny(dir)).unwrap();
        let found = recovery.checkpoint().unwrap();
        assert_eq!((found.epoch, &found.bytes[..]), (second, &b"two"[..]));
        drop(recovery.open().unwrap());
    }
    let reader = Log::read(tiny(dir)).unwrap();
    assert_eq!(reader.checkpoint().unwrap().epoch, second);
    assert_eq!(recovered(tiny(dir)), ["a", "|", "|"], "nothing was full, so nothing went");
}

#[test]
fn what_cannot_be_a_checkpoint_is_refused_and_changes_nothing() {
    let temp = temp_dir();
    let (log, mut writer) = open_one(tiny(temp.path()));
    let is = |result: Result<_, CheckpointError>| result.map(drop).unwrap_err();
    assert!(matches!(is(log.checkpoint(Epoch(0), b"")), CheckpointError::NoEpoch));
    let error = is(log.checkpoint(Epoch(1), b""));
    assert!(matches!(error, CheckpointError::NotCommitted { .. }));
    assert_eq!(error.to_string(), "epoch 1 is not committed (the committed one is 0)");
    commit_epoch(&log, &mut writer);
    let second = commit_epoch(&log, &mut writer);
    log.checkpoint(second, b"kept").unwrap();
    let behind = is(log.checkpoint(Epoch(1), b""));
    assert!(matches!(behind, CheckpointError::Behind { last: Epoch(2), .. }), "{behind}");
    let large = is(log.checkpoint(second, &vec![0; (16 << 20) + 1]));
    assert!(matches!(large, CheckpointError::TooLarge { .. }), "{large}");
    let unknown = is(log.release_before(ShardId(9), Seq(1)));
    assert!(matches!(unknown, CheckpointError::UnknownShard { .. }), "{unknown}");
    assert_eq!(log.last_checkpoint().unwrap().bytes, b"kept");
}

#[test]
fn whole_segments_of_held_epochs_go_and_nothing_else() {
    let temp = temp_dir();
    let dir = temp.path();
    let (log, mut writer) = open_one(tiny(dir));
    let first = fill(&log, &mut writer, 3);
    let epoch = commit_epoch(&log, &mut writer);
    let later = fill(&log, &mut writer, 3);
    let released = log.checkpoint(epoch, b"").unwrap();
    let (shard, until) = released.shards[0];
    assert_eq!((shard, released.segments), (SHARD, 3));
    assert!(until < first.last().unwrap().seq, "the last entry shares its segment with later ones");
    assert_eq!(log.standing(first[0]), Standing::Released);
    assert_eq!(log.standing(*later.last().unwrap()), Standing::Durable);
    assert_eq!(log.retention().shards[0].released, until);
    let again = log.checkpoint(epoch, b"").unwrap();
    assert_eq!(again.segments, 0);
    drop((writer, log));
    assert_eq!(first_seq(dir), until.next());
    let (items, _) = recover(tiny(dir)).unwrap();
    let kept = first.iter().chain(&later).filter(|stamp| stamp.seq > until).count();
    assert_eq!(items.iter().filter(|item| item.kind == Kind::PUT).count(), kept);
    // And again by an incarnation that has found them.
    let (log, writer) = open_one(tiny(dir));
    assert_eq!(log.standing(first[0]), Standing::Released);
    assert_eq!(log.standing(*later.last().unwrap()), Standing::Durable);
    writer.close().unwrap();
    log.close().unwrap();
}

/// The file of a released segment gets a new number, and what was in it never comes back.
#[test]
fn a_released_file_is_used_again_under_a_new_number() {
    let temp = temp_dir();
    let dir = temp.path();
    let (log, mut writer) = open_one(tiny(dir));
    fill(&log, &mut writer, 4);
    let epoch = commit_epoch(&log, &mut writer);
    let old: Vec<File> = (2..=4).map(|number| file(dir, number)).collect();
    let released = log.checkpoint(epoch, b"").unwrap();
    assert_eq!((released.segments, released.spared), (4, 3), "the first one is short");
    assert!(!segments(dir, 0).contains(&1), "what cannot be used is removed");
    let highest = *segments(dir, 0).last().unwrap();
    fill(&log, &mut writer, 3);
    let new = segments(dir, 0).into_iter().filter(|&it| it > highest);
    let new: Vec<_> = new.map(|it| header(&file(dir, it))).collect();
    assert!(new.len() >= 3 && old.iter().all(|old| new.contains(&header(old))), "{new:?}");
    assert!(writer.stats().recycled >= 3);
    let until = released.shards[0].1;
    drop((writer, log));
    assert_eq!(first_seq(dir), until.next());
}

#[test]
fn only_so_many_files_are_kept_for_use() {
    for (limit, left) in [(0, 0), (2, 2), (9, 5)] {
        let temp = temp_dir();
        let dir = temp.path();
        let (log, mut writer) = open_one(tiny(dir).spare_segments(limit));
        fill(&log, &mut writer, 6);
        let epoch = commit_epoch(&log, &mut writer);
        let released = log.checkpoint(epoch, b"").unwrap();
        assert_eq!((released.segments, released.spared), (6, left));
        let first = released.segments + 1;
        let spare = segments(dir, 0).into_iter().filter(|&number| number < first).count();
        assert_eq!(spare as u64, left);
        let on_disk: u64 = segments(dir, 0)
            .into_iter()
            .map(|number| std::fs::metadata(segment_path(dir, 0, number)).unwrap().len())
            .sum();
        assert_eq!(log.retention().shards[0].disk_len, on_disk);
    }
}

/// What an earlier incarnation left is filled before it counts as filled: nobody knows which blocks were written.
/// Where every block is written to a new place, nothing is filled.
#[test]
fn a_file_of_an_earlier_incarnation_is_filled_before_it_is_used() {
    let temp = temp_dir();
    let dir = temp.path();
    let (log, mut writer) = open_one(tiny(dir).spare_segments(9));
    fill(&log, &mut writer, 4);
    let epoch = commit_epoch(&log, &mut writer);
    log.checkpoint(epoch, b"").unwrap();
    drop((writer, log));
    let old = file(dir, 3);
    let (log, _writer) = open_one(tiny(dir).spare_segments(9).prepared_ahead(6));
    while log.prepare() {}
    let mut numbers = segments(dir, 0).into_iter();
    let is_old = |number: u64| number != 3 && header(&file(dir, number)) == header(&old);
    let reused = numbers.find(|&it| is_old(it)).expect("it is used again");
    let bytes = std::fs::read(segment_path(dir, 0, reused)).unwrap();
    let is_filled = bytes[1024..].iter().all(|&byte| byte == 0);
    assert_eq!(is_filled, !log.capabilities().copy_on_write, "segment {reused}");
}

#[test]
fn a_pin_keeps_what_it_names_until_it_is_dropped() {
    let temp = temp_dir();
    let (log, mut writer) = open_one(tiny(temp.path()));
    let stamps = fill(&log, &mut writer, 4);
    let epoch = commit_epoch(&log, &mut writer);
    let oldest = log.pin("backup", PinFrom::Oldest).unwrap();
    let middle = stamps[stamps.len() / 2].seq;
    let reader = log.pin("reader", PinFrom::Seq(SHARD, middle)).unwrap();
    let names: Vec<String> = log.pins().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["backup", "reader"]);
    assert_eq!(log.checkpoint(epoch, b"").unwrap().segments, 0);
    drop(oldest);
    let released = log.checkpoint(epoch, b"").unwrap();
    let until = released.shards[0].1;
    assert!(released.segments > 0 && until < middle);
    assert_eq!(
        log.pin("late", PinFrom::Seq(SHARD, until)).unwrap_err(),
        PinError::Released { shard: SHARD, seq: until, released: until }
    );
    drop(reader);
    assert!(log.pins().is_empty());
    assert!(log.checkpoint(epoch, b"").unwrap().segments > 0);
}

#[test]
fn a_shard_lets_go_by_position_and_only_of_committed_epochs() {
    let temp = temp_dir();
    let dir = temp.path();
    let (log, mut writer) = open_one(tiny(dir));
    let stamps = fill(&log, &mut writer, 4);
    let last = stamps.last().unwrap().seq;
    assert_eq!(log.release_before(SHARD, last).unwrap().segments, 0, "nothing is committed");
    commit_epoch(&log, &mut writer);
    let middle = stamps[stamps.len() / 2].seq;
    let until = log.release_before(SHARD, middle).unwrap().shards[0].1;
    assert!(until < middle);
    drop((writer, log));
    assert_eq!(first_seq(dir), until.next());
}

#[test]
fn a_state_in_the_shard_lets_go_of_what_is_before_it() {
    let temp = temp_dir();
    let dir = temp.path();
    let (log, mut writer) = open_one(tiny(dir));
    fill(&log, &mut writer, 3);
    let state = writer.append_state(b"everything so far").unwrap();
    append(&log, &mut writer, "after");
    let early = log.release_to(state).unwrap_err();
    assert!(matches!(early, CheckpointError::NotCommitted { .. }), "{early}");
    commit_epoch(&log, &mut writer);
    assert_eq!(log.release_to(state).unwrap().segments, 3);
    assert_eq!(log.last_checkpoint(), None, "nothing is held elsewhere");
    drop((writer, log));
    let (items, _) = recover(tiny(dir)).unwrap();
    let at = items.iter().position(|item| item.kind == Kind::CHECKPOINT).unwrap();
    assert_eq!((items[at].stamp, &items[at].bytes[..]), (state.stamp(), &b"everything so far"[..]));
    assert_eq!(items[at + 1].bytes, b"after");
    assert!(at < 8, "only what shares the state's segment comes before it");
    // A state of another log, or one that was lost, lets nothing go.
    let other = temp_dir();
    let (log, mut writer) = open_one(tiny(other.path()));
    commit_epoch(&log, &mut writer);
    let foreign = log.release_to(state).unwrap_err();
    assert!(matches!(foreign, CheckpointError::NotKept { .. }), "{foreign}");
}

/// A state that was read back lets go of what is before it, under whatever incarnation; an uncommitted one when a later
/// epoch is committed.
#[test]
fn a_recovered_state_releases_what_is_before_it() {
    let temp = temp_dir();
    let dir = temp.path();
    let (log, mut writer) = open_one(tiny(dir));
    fill(&log, &mut writer, 3);
    let appended = writer.append_state(b"everything so far").unwrap();
    append(&log, &mut writer, "after");
    writer.sync().unwrap();
    drop((writer, log));
    let mut recovery = Log::recover(tiny(dir)).unwrap();
    let mut marks = Vec::new();
    while let Some(entry) = recovery.next_entry().unwrap() {
        assert_eq!(entry.state_mark().is_some(), entry.kind() == Kind::CHECKPOINT);
        marks.extend(entry.state_mark());
    }
    assert_eq!(marks, [appended]);
    let mut log = recovery.open().unwrap();
    let mut writer = log.take_seats().remove(0).sit().unwrap();
    let early = log.release_to(marks[0]).unwrap_err();
    assert!(matches!(early, CheckpointError::NotCommitted { .. }), "{early}");
    commit_epoch(&log, &mut writer);
    assert_eq!(log.release_to(marks[0]).unwrap().segments, 3);
    let mut reader = log.reader(SHARD).unwrap();
    let read = reader.read(appended.stamp().seq).unwrap().unwrap().state_mark();
    assert_eq!(read, Some(appended), "also when it is read beside the writer");
    drop((writer, log));
    assert_eq!(recovered(tiny(dir)).last().unwrap(), "|");
}

/// A retired shard goes segment by segment like any other; its numbers are not given out again.
#[test]
fn a_retired_shard_is_released_and_its_numbers_stay() {
    let temp = temp_dir();
    let dir = temp.path();
    let (log, mut writers) = open_all(tiny(dir).shards(2));
    let stamps = fill(&log, &mut writers[1], 2);
    for writer in writers {
        writer.close().unwrap();
    }
    log.close().unwrap();
    let (log, mut writer) = open_one(tiny(dir).shards(1));
    let highest = *segments(dir, 1).last().unwrap();
    let epoch = commit_epoch(&log, &mut writer);
    let released = log.checkpoint(epoch, b"").unwrap();
    assert_eq!(released.shards, [(ShardId(1), stamps.last().unwrap().seq)]);
    assert!(segments(dir, 1).is_empty(), "files of a retired shard are not kept for use");
    assert_eq!(log.standing(stamps[0]), Standing::Released);
    writer.close().unwrap();
    log.close().unwrap();
    assert!(recover(tiny(dir)).unwrap().0.iter().all(|item| item.stamp.shard == SHARD));
    let (log, mut writers) = open_all(tiny(dir).shards(2));
    let stamp = commit(&log, &mut writers[1], "again");
    assert!(stamp > *stamps.last().unwrap() && stamp.seq > stamps.last().unwrap().seq);
    assert!(segments(dir, 1).into_iter().all(|number| number > highest));
}

/// The files that a shard had prepared when it was retired belong to nobody.
#[test]
fn what_a_retired_shard_had_prepared_is_removed() {
    let temp = temp_dir();
    let dir = temp.path();
    let (log, mut writers) = open_all(tiny(dir).shards(2));
    commit(&log, &mut writers[1], "a");
    while log.prepare() {}
    assert!(segments(dir, 1).len() > 1);
    drop((writers, log));
    drop(open_one(tiny(dir).shards(1)));
    assert_eq!(segments(dir, 1), [1]);
    assert_eq!(recovered(tiny(dir)), ["a"]);
}

/// The next segment is begun by a record that cannot be encoded, so everything that was written is released; then
/// the writer is closed.
#[test]
fn a_run_that_is_released_to_its_end_closes_and_opens() {
    let temp = temp_dir();
    let dir = temp.path();
    let (log, mut writer) = open_one(tiny(dir));
    let epoch = loop {
        let epoch = commit_epoch(&log, &mut writer);
        log.prepare();
        writer.turn().unwrap();
        let fail = |_: &mut [u8]| Err(EncodeError::custom("it cannot be"));
        assert!(writer.append_with(Kind::PUT, 10, fail).is_err());
        if writer.stats().rotations > 0 {
            break epoch;
        }
    };
    writer.turn().unwrap();
    let released = log.checkpoint(epoch, b"").unwrap();
    assert_eq!(released.shards, [(SHARD, writer.frontier())]);
    writer.close().unwrap();
    log.close().unwrap();
    assert!(recovered(tiny(dir)).is_empty());
    let (log, mut writer) = open_one(tiny(dir));
    assert!(commit(&log, &mut writer, "later").seq > released.shards[0].1);
}

#[test]
fn growth_is_told_once_and_again_after_a_checkpoint() {
    let temp = temp_dir();
    let told = Arc::new(Mutex::new(Vec::new()));
    let made = Arc::new(AtomicU64::new(0));
    let options = {
        let (told, made) = (Arc::clone(&told), Arc::clone(&made));
        tiny(temp.path())
            .on_growth(16_000, move |bytes| {
                told.lock().unwrap().push(bytes);
                panic!("contained");
            })
            .on_checkpoint(move |epoch| made.store(epoch.0, Ordering::SeqCst))
    };
    let (log, mut writer) = open_one(options);
    fill(&log, &mut writer, 2);
    assert!(told.lock().unwrap().is_empty());
    fill(&log, &mut writer, 3);
    assert_eq!(*told.lock().unwrap(), [4096 + 2 * 8192]);
    assert_eq!(log.retention().since_checkpoint, 4096 + 4 * 8192);
    let epoch = commit_epoch(&log, &mut writer);
    log.checkpoint(epoch, b"").unwrap();
    assert_eq!(made.load(Ordering::SeqCst), epoch.0);
    assert_eq!(log.retention().since_checkpoint, 0);
    fill(&log, &mut writer, 3);
    assert_eq!(told.lock().unwrap().len(), 2);
}

/// Nothing is released before the archive has it; an archive that fails is asked again.
#[test]
fn the_archive_gets_every_segment_before_it_goes() {
    let temp = temp_dir();
    let copies = Arc::new(Mutex::new(Vec::new()));
    let calls = Arc::new(AtomicU64::new(0));
    let options = {
        let (copies, calls) = (Arc::clone(&copies), Arc::clone(&calls));
        tiny(temp.path()).archive(move |sealed| match calls.fetch_add(1, Ordering::SeqCst) {
            0 => Err(std::io::Error::other("no room over there")),
            1 => panic!("contained"),
            _ => {
                let bytes = std::fs::read(&sealed.path)?;
                copies.lock().unwrap().push((sealed.segment.0, bytes.len(), sealed.last_seq));
                Ok(())
            }
        })
    };
    let (log, mut writer) = open_one(options);
    let mut until = writer.stats().rotations;
    while until < 2 {
        append(&log, &mut writer, &"x".repeat(900));
        writer.turn().unwrap();
        until = writer.stats().rotations;
    }
    let epoch = commit_epoch(&log, &mut writer);
    writer.turn().unwrap();
    let released = log.checkpoint(epoch, b"").unwrap();
    let archived = copies.lock().unwrap().len() as u64;
    assert!(released.segments <= archived, "{} of {archived}", released.segments);
    while copies.lock().unwrap().len() < 2 {
        log.prepare();
    }
    assert!(calls.load(Ordering::SeqCst) >= 4);
    assert_eq!(log.retention().archive_fault, None);
    let released = released.segments + log.checkpoint(epoch, b"").unwrap().segments;
    assert_eq!(released, 2);
    let copies = copies.lock().unwrap();
    assert_eq!(copies.iter().map(|it| (it.0, it.1)).collect::<Vec<_>>(), [(1, 4096), (2, 8192)]);
    assert!(copies[0].2 < copies[1].2);
}

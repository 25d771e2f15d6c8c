//! Checkpoints and releases on the simulated disk: readers beside them, failing manifests, a full disk, and a
//! power cut after every operation.
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

#[path = "sim_keep/gate.rs"]
mod gate;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, mpsc};

use corewal::{
    AppendError, CheckpointError, CloseError, Epoch, Kind, Log, LogReader, Options, Preparing,
    RecoverError, Seq, ShardId, ShardWriter, Stamp, Turn,
};
use corewal_disk::sim::{Cut, Fault, FaultKind, SimDisk};

use gate::{Count, Gate, Met};

const SHARD: ShardId = ShardId(0);

fn options(disk: &Arc<SimDisk>) -> Options {
    Options::new("/log")
        .disk(disk.clone())
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

fn open(disk: &Arc<SimDisk>) -> (Log, ShardWriter) {
    let mut log = Log::recover(options(disk)).unwrap().open().unwrap();
    let writer = log.take_seats().remove(0).sit().unwrap();
    (log, writer)
}

/// Appends one entry and makes it durable; none when the disk has stopped or is full.
fn append(log: &Log, writer: &mut ShardWriter, payload: &[u8]) -> Option<Stamp> {
    for _ in 0..100 {
        match writer.append_bytes(Kind::PUT, payload) {
            Ok(stamp) => return writer.wait(stamp).ok().map(|()| stamp),
            Err(AppendError::Full) => {
                log.prepare();
                if writer.turn().ok()? == Turn::Sleep {
                    writer.sleep(None).ok()?;
                }
            }
            Err(_) => return None,
        }
    }
    None
}

fn fill(log: &Log, writer: &mut ShardWriter, segments: u64) -> Option<()> {
    let until = writer.stats().rotations + segments;
    while writer.stats().rotations < until {
        let payload = [writer.stats().entries.to_le_bytes()[0]; 400];
        append(log, writer, &payload)?;
    }
    writer.turn().ok()?;
    log.prepare();
    Some(())
}

fn commit_epoch(log: &Log, writer: &mut ShardWriter) -> Option<Epoch> {
    for _ in 0..100 {
        match writer.close_epoch() {
            Ok(epoch) => return writer.sync().ok().map(|()| epoch),
            Err(AppendError::Full) => {
                log.prepare();
                writer.turn().ok()?;
            }
            Err(_) => return None,
        }
    }
    None
}

type Found = BTreeMap<Stamp, Vec<u8>>;

fn rest(reader: &mut LogReader, found: &mut Found) -> Result<(), RecoverError> {
    while let Some(entry) = reader.next_entry()? {
        found.insert(entry.stamp(), entry.bytes().to_vec());
    }
    Ok(())
}

/// A reader that has read so many entries when everything before the last segment is released, and its files
/// are used again as far as there is use: it goes on, or is told, and never takes it for damage.
#[test]
fn a_reader_beside_a_release_goes_on_or_is_told() {
    let (mut went_on, mut told) = (0, 0);
    for count in 0..40 {
        for more in 0..4 {
            let disk = Arc::new(SimDisk::new(7));
            let (log, mut writer) = open(&disk);
            fill(&log, &mut writer, 5).unwrap();
            let epoch = commit_epoch(&log, &mut writer).unwrap();
            let mut all = Found::new();
            rest(&mut Log::read(options(&disk)).unwrap(), &mut all).unwrap();
            let mut reader = Log::read(options(&disk)).unwrap();
            let mut found = Found::new();
            for _ in 0..count {
                let Some(entry) = reader.next_entry().unwrap() else { break };
                found.insert(entry.stamp(), entry.bytes().to_vec());
            }
            let released = log.checkpoint(epoch, b"").unwrap();
            fill(&log, &mut writer, more).unwrap();
            match rest(&mut reader, &mut found) {
                Ok(()) => {
                    went_on += 1;
                    assert_eq!(found, all, "{count} read, {more} filled");
                }
                Err(RecoverError::Released { shard, seq }) => {
                    told += 1;
                    assert!(shard == SHARD && seq <= released.shards[0].1);
                    let last = found.keys().last().map_or(Seq(0), |stamp| stamp.seq);
                    assert_eq!(last.next(), seq, "nothing was left out");
                    assert!(found.iter().all(|(stamp, bytes)| all[stamp] == *bytes));
                    let again = reader.next_entry().map(drop);
                    assert!(matches!(again, Err(RecoverError::Released { .. })));
                }
                Err(error) => panic!("{count} read, {more} filled: {error}"),
            }
            let mut anew = Log::read(options(&disk)).unwrap();
            let first = anew.next_entry().unwrap().unwrap().stamp().seq;
            assert_eq!(first, released.shards[0].1.next());
        }
    }
    assert!(went_on > 20 && told > 20, "{went_on} went on, {told} were told");
}

/// The release happens at each operation of a reader in turn, from its first listing to its last read: it finds
/// what was there before or what is left, or is told, and never takes it for damage.
#[test]
fn a_release_at_every_operation_of_a_reader_is_no_damage() {
    let mut told = 0;
    for at in 0.. {
        let disk = Arc::new(SimDisk::new(7));
        let (log, mut writer) = open(&disk);
        fill(&log, &mut writer, 4).unwrap();
        let epoch = commit_epoch(&log, &mut writer).unwrap();
        let mut all = Found::new();
        rest(&mut Log::read(options(&disk)).unwrap(), &mut all).unwrap();
        let (stopped, when) = mpsc::channel();
        let (go_on, until) = mpsc::channel();
        let go_on_after = Arc::new(Mutex::new(until));
        let done = Arc::new(AtomicUsize::new(0));
        let count = Count { done, at, stopped: stopped.clone(), go_on: go_on_after };
        let options = options(&disk).disk(Arc::new(Gate::new(&disk, count)));
        let reader = std::thread::spawn(move || {
            let mut found = Found::new();
            let read = Log::read(options).and_then(|mut reader| rest(&mut reader, &mut found));
            stopped.send(Met::End).unwrap();
            (found, read)
        });
        let is_over = when.recv().unwrap() == Met::End;
        let released = log.checkpoint(epoch, b"").unwrap();
        fill(&log, &mut writer, 3).unwrap();
        let _ = go_on.send(());
        let (found, read) = reader.join().unwrap();
        match read {
            Ok(()) => {
                let last = all.keys().last().unwrap();
                assert!(found.contains_key(last), "operation {at}");
                let first = found.keys().next().unwrap().seq;
                assert!(first == Seq(1) || first == released.shards[0].1.next());
            }
            Err(RecoverError::Released { .. }) => told += 1,
            Err(error) => panic!("operation {at}: {error}"),
        }
        let mut seqs = found.keys().map(|stamp| stamp.seq.0);
        let first = seqs.next().unwrap_or_default();
        assert!(seqs.enumerate().all(|(index, seq)| seq == first + 1 + index as u64));
        assert!(all.iter().all(|(stamp, bytes)| found.get(stamp).is_none_or(|it| it == bytes)));
        if is_over {
            assert!(at > 40, "{at} operations");
            break;
        }
    }
    assert!(told > 4, "{told} were told");
}

/// What no manifest is known to say is not acted on: no file is used again, and no other manifest is written.
#[test]
fn a_manifest_that_may_have_failed_is_the_last_one() {
    for kind in [FaultKind::WriteError, FaultKind::SyncError, FaultKind::DirectorySyncError] {
        let disk = Arc::new(SimDisk::new(3));
        let (log, mut writer) = open(&disk);
        fill(&log, &mut writer, 4).unwrap();
        let epoch = commit_epoch(&log, &mut writer).unwrap();
        let path = if kind == FaultKind::DirectorySyncError { "/log" } else { "MANIFEST" };
        disk.inject(Fault::new(kind).on(path).after(0));
        let first = log.checkpoint(epoch, b"first").unwrap_err();
        assert!(matches!(first, CheckpointError::Unknown(_)), "{kind:?}: {first}");
        disk.clear_faults();
        let again = log.checkpoint(epoch, b"again").unwrap_err();
        assert_eq!(again.to_string(), first.to_string(), "the first cause is kept");
        fill(&log, &mut writer, 2).unwrap();
        assert_eq!(writer.stats().recycled, 0, "{kind:?}");
        writer.close().unwrap();
        let close = log.close().unwrap_err();
        assert!(matches!(close, CloseError::Io(_)), "{close}");
        let recovery = Log::recover(options(&disk)).unwrap();
        let found = recovery.checkpoint().map(|it| it.bytes.clone());
        assert!(found.is_none_or(|bytes| bytes == b"first"));
    }
}

/// A full disk refuses appends; an epoch commits, a checkpoint releases, and appends go on in its files.
#[test]
fn a_checkpoint_makes_room_on_a_full_disk() {
    let disk = Arc::new(SimDisk::new(5));
    let (log, mut writer) = open(&disk);
    fill(&log, &mut writer, 3).unwrap();
    disk.set_capacity(Some(disk.used()));
    while append(&log, &mut writer, &[1; 400]).is_some() {}
    let refused = writer.append_bytes(Kind::PUT, &[1; 400]).unwrap_err();
    assert!(matches!(refused, AppendError::NoSpace(_)), "{refused}");
    let epoch = commit_epoch(&log, &mut writer).unwrap();
    let released = log.checkpoint(epoch, b"held elsewhere").unwrap();
    assert!(released.segments >= 3, "{released:?}");
    log.prepare();
    let mut last = Stamp::default();
    for _ in 0..6 {
        last = append(&log, &mut writer, &[2; 400]).expect("there is room again");
    }
    assert!(writer.stats().recycled > 0);
    drop((writer, log));
    let mut found = Found::new();
    rest(&mut Log::read(options(&disk)).unwrap(), &mut found).unwrap();
    assert!(found.contains_key(&last));
    assert!(found.keys().all(|stamp| stamp.seq > released.shards[0].1));
}

/// Lives with checkpoints and recycling, cut after every operation of the disk, recovered, and cut again in the
/// recovery: everything above what was released is there, nothing of it comes back, and neither does an older
/// checkpoint.
#[test]
fn no_power_cut_brings_back_what_was_released_or_loses_what_was_not() {
    let mut cuts = 0;
    for crash_after in 0.. {
        let disk = Arc::new(SimDisk::new(11));
        let (log, mut writer) = open(&disk);
        disk.crash_after(disk.operations() + crash_after);
        let mut released = Seq(0);
        let mut asked = Epoch(0);
        let mut made = Epoch(0);
        let mut acknowledged = Seq(0);
        let is_over = (0..3).all(|_| {
            let done = fill(&log, &mut writer, 2).and_then(|()| commit_epoch(&log, &mut writer));
            acknowledged = writer.frontier();
            let Some(epoch) = done else { return false };
            asked = epoch;
            let Ok(gone) = log.checkpoint(epoch, &epoch.0.to_le_bytes()) else { return false };
            made = epoch;
            released = gone.shards.first().map_or(released, |it| it.1);
            !disk.is_stopped()
        });
        drop((writer, log));
        for seed in 0..4 {
            let cut = if seed == 0 { Cut::lose_all() } else { Cut::random(seed) };
            let mut after = Arc::new(disk.fork().power_cut(&cut));
            for second in [3, 40] {
                after.crash_after(after.operations() + second);
                if let Ok(recovery) = Log::recover(options(&after)) {
                    drop(recovery.open());
                }
                after = Arc::new(after.power_cut(&Cut::random(seed)));
            }
            let mut recovery = Log::recover(options(&after)).unwrap();
            let found = recovery.checkpoint().map_or(Epoch(0), |it| it.epoch);
            assert!((made..=asked).contains(&found), "{made} was made, found {found}");
            let mut seqs = Vec::new();
            while let Some(entry) = recovery.next_entry().unwrap() {
                seqs.push(entry.stamp().seq.0);
            }
            let first = seqs.first().copied().unwrap_or(acknowledged.0 + 1);
            assert!(first > released.0, "cut after {crash_after}: {first} is back");
            assert!(seqs.windows(2).all(|two| two[0] + 1 == two[1]), "{seqs:?}");
            assert!(found > Epoch(0) || first <= 1 || seqs.is_empty());
            let last = seqs.last().copied().unwrap_or(released.0);
            assert!(last >= acknowledged.0 || first > acknowledged.0, "{acknowledged} is lost");
            recovery.open().unwrap();
            cuts += 1;
        }
        if is_over {
            break;
        }
    }
    assert!(cuts > 400, "{cuts} cuts");
}

//! Tails beside checkpoints and truncations: nothing twice, nothing that was cut off, and a clear word when the
//! place is gone.

use std::path::Path;
use std::sync::Arc;

use corewal::{
    AppendError, Kind, Log, Options, Seq, ShardId, ShardWriter, Stamp, Tail, TailError,
    TruncateError,
};
use corewal_disk::sim::SimDisk;

use crate::support::{append, commit, open_one, persist, tiny};

const SHARD: ShardId = ShardId(0);

fn on(disk: &Arc<SimDisk>) -> Options {
    tiny(Path::new("/log")).disk(disk.clone())
}

/// One from inside and one from outside.
fn tails(log: &Log, disk: &Arc<SimDisk>, from: Seq) -> [Tail; 2] {
    let inside = log.tail(SHARD, from).unwrap().unwrap();
    [inside, Log::follow(on(disk), SHARD, from).unwrap().unwrap()]
}

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
    stamps
}

/// Everything that was appended is durable, and the disk says so.
fn vouch(writer: &mut ShardWriter) {
    writer.sync().unwrap();
    writer.seal_promises();
    writer.turn().unwrap();
    writer.sync().unwrap();
}

fn drain(tail: &mut Tail) -> Result<Vec<Seq>, TailError> {
    let mut found = Vec::new();
    while let Some(entry) = tail.try_next()? {
        if entry.kind() == Kind::PUT {
            found.push(entry.stamp().seq);
        }
    }
    Ok(found)
}

fn truncate(log: &Log, writer: &mut ShardWriter, seq: Seq) {
    loop {
        match writer.truncate_after(seq) {
            Err(TruncateError::NoRoom(AppendError::Full)) => assert!(log.prepare()),
            outcome => {
                outcome.unwrap();
                return;
            }
        }
    }
}

/// A tail stands behind everything that is durable when a checkpoint replaces the manifest. It goes on from
/// there, and does not begin anew with what is left of the shard.
#[test]
fn a_tail_stays_where_it_is_when_a_checkpoint_lets_go_of_what_is_before_it() {
    let disk = Arc::new(SimDisk::new(1));
    let (log, mut writer) = open_one(on(&disk));
    let mut tails = tails(&log, &disk, Seq(1));
    let mut given = [Seq(0); 2];
    for _ in 0..6 {
        let filled = fill(&log, &mut writer, 2);
        let epoch = persist(&log, &mut writer, ShardWriter::close_epoch).unwrap();
        vouch(&mut writer);
        for (tail, last) in tails.iter_mut().zip(&mut given) {
            let found = drain(tail).unwrap();
            assert!(found.is_sorted() && found[0] > *last, "{found:?} after {last}");
            assert_eq!(found.len(), filled.len());
            *last = found[found.len() - 1];
        }
        assert!(log.checkpoint(epoch, b"").unwrap().segments > 0);
        for tail in &mut tails {
            assert_eq!(drain(tail).unwrap(), [], "nothing new");
        }
    }
}

/// A place above all that is durable is come to later.
#[test]
fn a_tail_begins_where_it_was_asked_to_also_above_the_frontier() {
    let disk = Arc::new(SimDisk::new(1));
    let (log, mut writer) = open_one(on(&disk));
    for ahead in 1..30 {
        let from = Seq(writer.frontier().0 + ahead);
        let mut tails = tails(&log, &disk, from);
        for index in 0..ahead + 5 {
            append(&log, &mut writer, &format!("entry {index}"));
            if index % 3 == 0 {
                vouch(&mut writer);
            }
        }
        vouch(&mut writer);
        let expected: Vec<_> = (from.0..=writer.frontier().0).map(Seq).collect();
        for tail in &mut tails {
            assert_eq!(drain(tail).unwrap(), expected, "from {from}");
        }
    }
}

#[test]
fn a_tail_whose_place_was_released_says_so() {
    let disk = Arc::new(SimDisk::new(1));
    let (log, mut writer) = open_one(on(&disk));
    let first = fill(&log, &mut writer, 3)[0];
    let mut slow = tails(&log, &disk, first.seq);
    let epoch = persist(&log, &mut writer, ShardWriter::close_epoch).unwrap();
    vouch(&mut writer);
    let released = log.checkpoint(epoch, b"").unwrap();
    assert_eq!(released.segments, 3);
    let gone = released.shards[0].1;
    let is_gone = |error: TailError| {
        let TailError::Released { shard, from, released } = error else { panic!("{error}") };
        assert_eq!((shard, released), (SHARD, gone));
        assert!(from <= gone, "{from}");
    };
    is_gone(log.tail(SHARD, first.seq).unwrap_err());
    is_gone(log.tail(SHARD, gone).unwrap_err());
    is_gone(Log::follow(on(&disk), SHARD, first.seq).unwrap_err());
    assert_eq!(drain(&mut log.tail(SHARD, gone.next()).unwrap().unwrap()).unwrap()[0], gone.next());
    // Other entries overwrite what the files held.
    fill(&log, &mut writer, 4);
    vouch(&mut writer);
    for tail in &mut slow {
        is_gone(drain(tail).unwrap_err());
    }
}

/// Also one that has given the cut already, and one that has not come to it.
#[test]
fn a_tail_beside_a_truncation_goes_on_behind_the_cut() {
    for cut in 0..12 {
        let disk = Arc::new(SimDisk::new(cut));
        let (log, mut writer) = open_one(on(&disk));
        let old: Vec<_> =
            (0..12).map(|index| commit(&log, &mut writer, &index.to_string()).seq).collect();
        vouch(&mut writer);
        let (mut ahead, mut slow) = (tails(&log, &disk, Seq(1)), tails(&log, &disk, Seq(1)));
        for tail in &mut ahead {
            assert_eq!(drain(tail).unwrap(), old);
        }
        truncate(&log, &mut writer, Seq(cut));
        let new = commit(&log, &mut writer, "instead").seq;
        vouch(&mut writer);
        for tail in &mut ahead {
            assert_eq!(drain(tail).unwrap(), [new], "after a cut at {cut}");
        }
        let mut expected: Vec<_> = old.into_iter().filter(|seq| seq.0 <= cut).collect();
        expected.push(new);
        for tail in &mut slow {
            assert_eq!(drain(tail).unwrap(), expected, "after a cut at {cut}");
        }
    }
}

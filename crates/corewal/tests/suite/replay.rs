//! Ways to replay: above a fence, shard by shard, into a state machine.

use std::path::Path;

use corewal::{
    Entry, Epoch, Fence, Log, RecoverError, Recovery, ReplayError, Seq, ShardId, ShardReplay,
    ShardWriter, Stamp,
};
use corewal_format::{Checkpoint, Manifest};

use crate::support::image::{Image, Segment, active, batch, manifest};
use crate::support::{commit, edit, open_all, persist, recover, segment_path, temp_dir, tiny};

/// Three shards, three epochs, four entries of each shard in each epoch.
fn log(dir: &Path) {
    let (log, mut writers) = open_all(tiny(dir).shards(3));
    for epoch in 0..3 {
        for writer in &mut writers {
            for round in 0..4 {
                commit(&log, writer, &format!("{epoch}.{round}"));
            }
            persist(&log, writer, ShardWriter::close_epoch).unwrap();
            writer.sync().unwrap();
        }
    }
}

fn stamps(recovery: &mut Recovery) -> Vec<Stamp> {
    let mut found = Vec::new();
    while let Some(entry) = recovery.next_entry().unwrap() {
        found.push(entry.stamp());
    }
    found
}

fn shard_stamps(mut shard: ShardReplay<'_>, limit: usize) -> Vec<Stamp> {
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(entry) = shard.next_entry().unwrap()
    {
        found.push(entry.stamp());
    }
    found
}

/// Defect 16 is about what lies below a fence; here everything above every fence is delivered, and nothing else.
#[test]
fn above_every_fence_is_exactly_what_is_above_it() {
    let home = temp_dir();
    let dir = home.path().join("log");
    log(&dir);
    let all: Vec<Stamp> = recover(tiny(&dir)).unwrap().0.iter().map(|it| it.stamp).collect();
    assert_eq!(all.len(), 3 * 3 * 5);
    let before = Stamp { epoch: Epoch(0), seq: Seq(0), shard: ShardId(0) };
    for fence in std::iter::once(before).chain(all.iter().copied()) {
        let mut recovery = Log::recover(tiny(&dir)).unwrap().above(fence).unwrap();
        let expected: Vec<Stamp> = all.iter().copied().filter(|&stamp| stamp > fence).collect();
        assert_eq!(stamps(&mut recovery), expected, "{fence}");
    }
    for epoch in 0..5 {
        let mut recovery = Log::recover(tiny(&dir)).unwrap().above(Epoch(epoch)).unwrap();
        let expected: Vec<Stamp> =
            all.iter().copied().filter(|stamp| stamp.epoch > Epoch(epoch)).collect();
        assert_eq!(stamps(&mut recovery), expected, "epoch {epoch}");
        assert!(Fence::from(Epoch(epoch)) >= Fence::from(before));
    }
    // Both at once, in either order; and opening loses nothing of what is below the fence.
    let fenced = |recovery: Recovery| recovery.above(Epoch(1)).unwrap().committed_only();
    let mut one = fenced(Log::recover(tiny(&dir)).unwrap());
    assert_eq!(stamps(&mut one).len(), 3 * 2 * 5);
    drop(one.open().unwrap());
    let mut other = Log::recover(tiny(&dir)).unwrap().committed_only().above(Epoch(1)).unwrap();
    assert_eq!(stamps(&mut other).len(), 3 * 2 * 5);
    drop(other);
    assert_eq!(recover(tiny(&dir)).unwrap().0.len(), all.len());
}

/// Defect 16: a state that ends before what was released cannot be completed from the log.
#[test]
fn a_log_that_begins_above_the_fence_is_refused() {
    let mut record = active(0);
    record.released_seq = Seq(5);
    record.next_seq = Seq(6);
    record.current.as_mut().unwrap().first_seq = Seq(6);
    let manifest = Manifest {
        committed_epoch: Epoch(3),
        first_epoch: Epoch(4),
        checkpoint: Some(Checkpoint { epoch: Epoch(3), bytes: Vec::new() }),
        ..manifest(vec![record])
    };
    let image = Image::new(&manifest, &[Segment::new(0, 1).put(&batch(1).seq(6).epoch(4))]);
    for epoch in 0..6 {
        match Log::recover(image.options()).unwrap().above(Epoch(epoch)) {
            Err(RecoverError::FenceTooOld { fence, released }) => {
                assert_eq!((fence, released), (Epoch(epoch), Epoch(3)));
                assert!(epoch < 3);
            }
            Ok(mut recovery) => {
                assert!(epoch >= 3);
                assert_eq!(stamps(&mut recovery).len(), usize::from(epoch < 4));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn what_lies_below_a_fence_is_verified_all_the_same() {
    let home = temp_dir();
    let dir = home.path().join("log");
    log(&dir);
    drop(open_all(tiny(&dir).shards(3)));
    edit(&segment_path(&dir, 1, 1), |bytes| bytes[1024 + 512 + 100] ^= 1);
    let mut recovery = Log::recover(tiny(&dir).shards(3)).unwrap().above(Epoch(2)).unwrap();
    assert!(matches!(recovery.next_entry(), Err(RecoverError::Damaged(_))));
    drop(recovery);
    let recovery = Log::recover(tiny(&dir).shards(3)).unwrap().above(Epoch(9)).unwrap();
    assert!(recovery.open().is_err());
}

#[test]
fn shards_are_replayed_at_once_by_threads_and_open_verifies_the_rest() {
    let home = temp_dir();
    let dir = home.path().join("log");
    log(&dir);
    let all: Vec<Stamp> = recover(tiny(&dir)).unwrap().0.iter().map(|it| it.stamp).collect();
    let mut recovery = Log::recover(tiny(&dir).shards(3)).unwrap();
    let found: Vec<Vec<Stamp>> = std::thread::scope(|scope| {
        let threads: Vec<_> = recovery
            .shards()
            .into_iter()
            .map(|shard| scope.spawn(move || shard_stamps(shard, usize::MAX)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut merged: Vec<Stamp> = found.concat();
    merged.sort();
    assert_eq!(merged, all);
    assert!(recovery.next_entry().unwrap().is_none(), "everything was delivered");
    drop(recovery.open().unwrap());
}

/// Whatever was delivered by one way is not delivered by the other, and nothing falls in between.
#[test]
fn merged_and_single_streams_go_on_from_each_other() {
    let home = temp_dir();
    let dir = home.path().join("log");
    log(&dir);
    let all: Vec<Stamp> = recover(tiny(&dir)).unwrap().0.iter().map(|it| it.stamp).collect();
    for merged_first in [0, 1, 7, 20, 44, 45] {
        for taken in [0, 1, 3, 100] {
            let mut recovery = Log::recover(tiny(&dir)).unwrap();
            let mut found = Vec::new();
            for _ in 0..merged_first {
                found.push(recovery.next_entry().unwrap().unwrap().stamp());
            }
            for _ in 0..2 {
                for shard in recovery.shards() {
                    found.extend(shard_stamps(shard, taken));
                }
            }
            found.extend(stamps(&mut recovery));
            found.sort();
            assert_eq!(found, all, "{merged_first} and {taken}");
        }
    }
}

#[test]
fn damage_that_a_single_stream_met_is_met_by_open_again() {
    let home = temp_dir();
    let dir = home.path().join("log");
    log(&dir);
    drop(open_all(tiny(&dir).shards(3)));
    let path = segment_path(&dir, 1, 1);
    edit(&path, |bytes| bytes[1024 + 512 + 100] ^= 1);
    let mut recovery = Log::recover(tiny(&dir).shards(3)).unwrap();
    let mut errors = 0;
    for mut shard in recovery.shards() {
        while let Ok(Some(_)) = shard.next_entry() {}
        errors += usize::from(shard.next_entry().is_err());
    }
    assert_eq!(errors, 1);
    // Good again, perhaps: but it was bad.
    edit(&path, |bytes| bytes[1024 + 512 + 100] ^= 1);
    assert!(recovery.next_entry().is_err());
    assert!(recovery.open().is_err());
}

#[test]
fn a_state_machine_is_told_everything_and_can_stop() {
    let home = temp_dir();
    let dir = home.path().join("log");
    log(&dir);
    let mut recovery = Log::recover(tiny(&dir)).unwrap();
    let mut last = None;
    let mut machine = |entry: Entry<'_>| {
        if entry.stamp().epoch > Epoch(2) {
            return Err("enough");
        }
        assert!(last < Some(entry.stamp()));
        last = Some(entry.stamp());
        Ok(())
    };
    match recovery.replay_into(&mut machine) {
        Err(ReplayError::Machine { stamp, cause }) => {
            assert_eq!((stamp.epoch, cause), (Epoch(3), "enough"));
        }
        other => panic!("{other:?}"),
    }
    let rest = recovery.replay_into(&mut |_: Entry<'_>| Ok::<_, std::convert::Infallible>(()));
    assert_eq!(rest.unwrap(), 3 * 5 - 1);
}

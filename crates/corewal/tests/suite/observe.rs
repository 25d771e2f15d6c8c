//! Cause before effect: stamps that one shard has seen of another.

use corewal::{Epoch, Kind, Log, ObserveError, Seq, ShardId, ShardWriter, Stamp, WaitError};

use crate::support::{
    append, commit, open_all, open_one, persist, recover, recovered, temp_dir, tiny,
};

/// History 12: a chain of effects over three shards, in epochs that do not close at the same time.
#[test]
fn causes_come_before_their_effects_in_the_merged_order() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writers) = open_all(tiny(&dir).shards(3));
    let mut chain = Vec::new();
    // Shard 2 is far ahead in seqs, shard 1 in epochs.
    for _ in 0..20 {
        append(&log, &mut writers[2], "noise");
    }
    persist(&log, &mut writers[1], ShardWriter::close_epoch).unwrap();
    let mut last: Option<Stamp> = None;
    for step in 0..30 {
        let writer = &mut writers[[2, 0, 1, 0][step % 4]];
        if let Some(seen) = last {
            while let Err(error) = writer.observe(seen) {
                match error {
                    ObserveError::EpochBehind { observed, open } => {
                        assert_eq!((observed, open), (seen.epoch, writer.epoch()));
                        assert!(open < observed);
                    }
                    other => panic!("{other}"),
                }
                persist(&log, writer, ShardWriter::close_epoch).unwrap();
            }
        }
        let text = format!("step {step:02}");
        last = Some(append(&log, writer, &text));
        chain.push(text);
        if step % 7 == 6 {
            for writer in &mut writers {
                writer.sync().unwrap();
            }
            let writer = &mut writers[[2, 0, 1][step % 3]];
            match persist(&log, writer, ShardWriter::close_epoch) {
                Ok(_) | Err(corewal::AppendError::EpochsAhead { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    for writer in &mut writers {
        writer.sync().unwrap();
    }
    drop((writers, log));
    for _ in 0..2 {
        let found: Vec<String> = recovered(tiny(&dir).shards(3))
            .into_iter()
            .filter(|text| text.starts_with("step"))
            .collect();
        assert_eq!(found, chain);
        drop(open_all(tiny(&dir)));
    }
}

#[test]
fn a_stamp_of_a_later_epoch_is_refused_and_changes_nothing() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writer) = open_one(tiny(&dir));
    let epoch = writer.epoch();
    let later = Stamp { epoch: epoch.next(), seq: Seq(50), shard: ShardId(7) };
    assert!(matches!(
        writer.observe(later),
        Err(ObserveError::EpochBehind { observed, open }) if (observed, open) == (later.epoch, epoch)
    ));
    assert_eq!(append(&log, &mut writer, "one").seq, Seq(1));
    persist(&log, &mut writer, ShardWriter::close_epoch).unwrap();
    writer.observe(later).unwrap();
    assert_eq!(append(&log, &mut writer, "two").seq, Seq(51));
    // One of an earlier epoch, also of one that this log has never had.
    writer.observe(Stamp { epoch: Epoch(0), seq: Seq(60), shard: ShardId(7) }).unwrap();
    assert_eq!(append(&log, &mut writer, "three").seq, Seq(61));
    writer.observe(Stamp { epoch, seq: Seq(3), shard: ShardId(0) }).unwrap();
    assert_eq!(append(&log, &mut writer, "four").seq, Seq(62));
}

/// Seqs may jump inside a batch and between batches; what the format cannot count begins a new batch.
#[test]
fn jumps_of_every_size_come_back() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writer) = open_one(tiny(&dir));
    let mut given = Vec::new();
    let half = u64::from(u32::MAX / 2);
    for jump in [1, 2, 1000, half - 1, half, half + 1, u64::from(u32::MAX), 1 << 33, 1 << 50] {
        // Once in an open batch with an entry, once without one, once where none is open.
        for settle in 0..3 {
            let before = append(&log, &mut writer, "before");
            given.push(before);
            match settle {
                0 => {}
                1 => writer.sync().unwrap(),
                _ => {
                    writer.sync().unwrap();
                    writer.seal_promises();
                    writer.sync().unwrap();
                }
            }
            let seen = Stamp { seq: Seq(before.seq.0 + jump), ..before };
            writer.observe(seen).unwrap();
            writer.observe(seen).unwrap();
            assert!(matches!(writer.wait(seen), Err(WaitError::NotGiven { .. })));
            writer.sync().unwrap();
            let after = append(&log, &mut writer, "after");
            assert_eq!(after.seq, seen.seq.next());
            given.push(after);
        }
    }
    writer.sync().unwrap();
    let last = commit(&log, &mut writer, "last");
    given.push(last);
    writer.close().unwrap();
    log.close().unwrap();
    let found: Vec<Stamp> = recover(tiny(&dir)).unwrap().0.iter().map(|it| it.stamp).collect();
    assert_eq!(found, given);
    let (log, mut writer) = open_one(tiny(&dir));
    assert_eq!(append(&log, &mut writer, "goes on").seq, last.seq.next());
}

/// The first entry of an open batch that is still empty comes behind the jump.
#[test]
fn a_jump_before_the_first_entry_of_an_open_batch_comes_back() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writer) = open_one(tiny(&dir));
    let failing = |_: &mut [u8]| Err(corewal::EncodeError::custom("not now"));
    log.prepare();
    writer.turn().unwrap();
    assert!(writer.append_with(Kind::PUT, 10, failing).is_err(), "leaves an empty batch open");
    let epoch = writer.epoch();
    writer.observe(Stamp { epoch, seq: Seq(40), shard: ShardId(3) }).unwrap();
    assert_eq!(commit(&log, &mut writer, "behind").seq, Seq(41));
    drop((writer, log));
    assert_eq!(recovered(tiny(&dir)), ["behind"]);
}

#[test]
fn a_seq_that_nobody_counts_to_is_refused_and_the_log_opens_again() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writer) = open_one(tiny(&dir));
    let epoch = writer.epoch();
    let of = |seq| Stamp { epoch, seq: Seq(seq), shard: ShardId(3) };
    for seq in [u64::MAX, u64::MAX - 1, 1 << 62, (1 << 61) + 1] {
        assert!(matches!(writer.observe(of(seq)), Err(ObserveError::SeqTooHigh { .. })), "{seq}");
    }
    assert_eq!(commit(&log, &mut writer, "low").seq, Seq(1));
    writer.observe(of(1 << 61)).unwrap();
    commit(&log, &mut writer, "high");
    drop((writer, log));
    let (log, mut writer) = open_one(tiny(&dir));
    commit(&log, &mut writer, "higher");
    drop((writer, log));
    assert_eq!(recovered(tiny(&dir)), ["low", "high", "higher"]);
}

#[test]
fn a_failed_shard_observes_nothing() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = crate::support::tap::Tap::new(&dir);
    let (log, mut writer) = open_one(tiny(&dir).disk(tap.clone()));
    tap.happens(crate::support::tap::Mishap::WriteFails);
    let stamp = append(&log, &mut writer, "fails");
    writer.wait(stamp).unwrap_err();
    assert!(matches!(writer.observe(stamp), Err(ObserveError::Failed(_))));
    drop::<(ShardWriter, Log)>((writer, log));
}

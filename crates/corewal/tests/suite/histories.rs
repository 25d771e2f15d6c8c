//! The shortest histories that break a rule, by the numbers of docs/DURABILITY.md.
//!
//! In other files: 3 and 16 in `locking`, 4, 9, 11 and parts of 7 in `crash_images`, 6, 15 and 18 in `truncate`, the
//! voiding half of 9 in `committed`, 10 in `engine`, 12 in `observe`, 21 in `bad_input` and `crash_images`. They wait
//! for what the engine does not have yet: the second half of 8 and of 24 for checkpoints, 13 for transactions. 2 needs
//! a kill, and 5 a disk that forgets.

use std::sync::{Arc, Mutex};

use corewal::{AppendError, BatchNumber, Claim, Epoch, Kind, Log, Seq, ShardWriter, Standing};
use corewal_format::ShardRecord;

use crate::support::image::{Image, Segment, active, barrier, batch, manifest};
use crate::support::tap::{Event, Hook, Order, Tap};
use crate::support::{
    append, commit, copy_log, open, open_all, open_one, persist, read, recover, recovered, refused,
    segment_path, temp_dir, texts, tiny,
};

fn close_epoch(log: &Log, writer: &mut ShardWriter) -> Epoch {
    let epoch = persist(log, writer, ShardWriter::close_epoch).unwrap();
    writer.sync().unwrap();
    epoch
}

/// History 1, Defect 29: A closes epoch 1, B does not; both close a later one in the next incarnation.
#[test]
fn a_barrier_counts_only_in_the_incarnation_that_wrote_it() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writers) = open_all(tiny(&dir).shards(2));
    commit(&log, &mut writers[1], "B's, of epoch 1");
    let first = close_epoch(&log, &mut writers[0]);
    drop((writers, log));
    assert_eq!(recover(tiny(&dir).shards(2)).unwrap().1.committed_epoch, Epoch(0));
    let (log, mut writers) = open_all(tiny(&dir).shards(2));
    let second = close_epoch(&log, &mut writers[1]);
    assert!(second > first);
    assert_eq!(log.committed_epoch(), Epoch(0), "A's old barrier does not count");
    assert_eq!(close_epoch(&log, &mut writers[0]), second);
    assert_eq!(log.committed_epoch(), second);
    drop((writers, log));
    let (items, report) = recover(tiny(&dir).shards(2)).unwrap();
    assert_eq!(report.committed_epoch, second);
    assert!(items.iter().all(|item| item.committed));
}

/// History 5, 14, Defect 8: what a dead process left in the cache is durable before it is judged.
#[test]
fn recovery_syncs_files_and_folders_before_it_judges() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writers) = open_all(tiny(&dir).shards(2));
    for writer in &mut writers {
        log.prepare();
        commit(&log, writer, "one");
    }
    drop((writers, log));
    let tap = Tap::new(&dir);
    let recovery = Log::recover(tiny(&dir).shards(2).disk(tap.clone())).unwrap();
    let events = tap.events();
    for name in [
        "MANIFEST-0",
        "MANIFEST-1",
        "shard-0000/0000000001.seg",
        "shard-0000/0000000002.seg",
        "shard-0001/0000000001.seg",
        "shard-0001/0000000002.seg",
    ] {
        assert!(events.contains(&Event::SyncFile(name.into())), "{name}: {events:?}");
    }
    for folder in ["", "shard-0000", "shard-0001"] {
        assert!(events.contains(&Event::SyncDir(folder.into())), "{folder}");
    }
    let changes =
        |it: &Event| matches!(it, Event::WriteAt(_) | Event::Rename(..) | Event::Remove(_));
    assert!(!events.iter().any(changes), "and changes nothing: {events:?}");
    assert!(recovery.report().from_device);
}

/// History 7: epoch 1 is closed by A alone, and the log goes on with A alone.
#[test]
fn another_number_of_shards_commits_nothing_by_itself() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writers) = open_all(tiny(&dir).shards(2));
    let first = close_epoch(&log, &mut writers[0]);
    commit(&log, &mut writers[1], "B's");
    drop((writers, log));
    assert_eq!(recover(tiny(&dir)).unwrap().1.committed_epoch, Epoch(0));
    let (log, mut writer) = open_one(tiny(&dir));
    assert_eq!(log.committed_epoch(), Epoch(0));
    let second = close_epoch(&log, &mut writer);
    assert!(second > first);
    commit(&log, &mut writer, "A's promise of it");
    drop((writer, log));
    // B has no barrier of it, and is not asked for one, whoever opens the log.
    for shards in [1, 2, 3] {
        let (items, report) = recover(tiny(&dir).shards(shards)).unwrap();
        assert_eq!(report.committed_epoch, second);
        assert_eq!(items.len(), 4);
        drop(open(tiny(&dir).shards(shards)));
    }
}

/// History 8: numbers that were seen only behind a hole are not given out again.
#[test]
fn numbers_seen_behind_a_hole_are_never_given_out_again() {
    let hole = Segment::new(0, 1)
        .put(&batch(1))
        .lose(&batch(2))
        .put(&batch(30).seq(300).epoch(5))
        .put(&barrier(31, 6).seq(301));
    let image = Image::of_one(&[hole, Segment::new(0, 2)]);
    let (log, mut writer) = open_one(image.options());
    let stamp = commit(&log, &mut writer, "new");
    assert!(stamp.seq > Seq(301));
    assert!(stamp.epoch > Epoch(6 + 2), "the bound of the incarnation before, on top");
    assert!(segment_path(&image.dir(), 0, 3).exists(), "and a new segment");
    writer.close().unwrap();
    log.close().unwrap();
    assert_eq!(recovered(image.options()), ["entry 1", "new"]);
}

/// History 8, 26: nor those that existed only in memory, whatever bound the next incarnation has.
#[test]
fn epochs_that_existed_only_in_memory_are_never_given_out_again() {
    for (bound, next_bound) in [(1, 1), (1, 8), (3, 1), (8, 1)] {
        for committed in 0..3 {
            for close in [false, true] {
                let home = temp_dir();
                let dir = home.path().join("log");
                let options = tiny(&dir).shards(2);
                let (log, mut writers) = open_all(options.clone().pipeline_bound(bound));
                for _ in 0..committed {
                    for writer in &mut writers {
                        close_epoch(&log, writer);
                    }
                }
                // As far ahead as it goes; nothing of it reaches the disk.
                let mut furthest = writers[0].epoch();
                while let Ok(epoch) = persist(&log, &mut writers[0], ShardWriter::close_epoch) {
                    furthest = epoch.next();
                }
                let lost = append(&log, &mut writers[0], "in memory");
                assert_eq!(lost.epoch, furthest);
                if close {
                    for writer in writers {
                        writer.close().unwrap();
                    }
                    log.close().unwrap();
                } else {
                    drop((writers, log));
                }
                let (log, mut writers) = open_all(options.pipeline_bound(next_bound));
                let new = append(&log, &mut writers[1], "new");
                assert!(new.epoch > furthest, "bound {bound}, {committed} committed, {close}");
            }
        }
    }
}

/// History 17: a prepared file that was used again under a higher number is not missing.
#[test]
fn recycled_numbers_are_not_missing() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let mut expected = Vec::new();
    let mut recycled = 0;
    for incarnation in 0..6 {
        let (log, mut writer) = open_one(tiny(&dir));
        while log.prepare() {}
        let texts: Vec<String> = (0..5).map(|n| format!("{incarnation} {n}")).collect();
        for text in &texts {
            commit(&log, &mut writer, text);
        }
        expected.extend(texts);
        recycled += writer.stats().recycled;
        drop((writer, log));
        assert_eq!(recovered(tiny(&dir)), expected);
        assert_eq!(texts_of_reader(&dir), expected);
    }
    assert!(recycled > 5, "{recycled} files were used again");
}

fn texts_of_reader(dir: &std::path::Path) -> Vec<String> {
    texts(&read(tiny(dir)).unwrap().0)
}

/// History 17: a number whose preparing failed is prepared again, and none is skipped.
#[test]
fn a_number_whose_preparing_fails_is_not_skipped() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let (log, mut writer) = open_one(tiny(&dir).disk(tap.clone()));
    tap.state().full = true;
    for _ in 0..3 {
        assert!(!log.prepare());
        assert!(!segment_path(&dir, 0, 2).exists());
    }
    tap.state().full = false;
    assert!(log.prepare());
    for n in 0..20 {
        commit(&log, &mut writer, &format!("{n}"));
    }
    drop((writer, log));
    assert_eq!(recovered(tiny(&dir)).len(), 20);
    assert!(segment_path(&dir, 0, 2).exists());
}

/// History 19: batches that completed behind one that did not still count, so unvouched ones stay few.
#[test]
fn completed_batches_behind_an_incomplete_one_are_still_in_flight() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let (log, mut writer) = open_one(tiny(&dir).depth(2).disk(tap.clone()));
    tap.set_order(Order::Held);
    for text in ["one", "two"] {
        append(&log, &mut writer, text);
        writer.turn().unwrap();
    }
    assert_eq!(writer.in_flight(), 2);
    tap.set_order(Order::LastOnly);
    writer.turn().unwrap();
    tap.set_order(Order::Held);
    assert_eq!(writer.frontier(), Seq(0), "Defect 1, 4: batch 1 is missing");
    for text in ["three", "four"] {
        append(&log, &mut writer, text);
        writer.turn().unwrap();
        assert_eq!(writer.in_flight(), 2, "{text} has to wait");
    }
    tap.set_order(Order::Natural);
    writer.sync().unwrap();
    assert_eq!(writer.frontier(), Seq(4));
    assert!(writer.stats().unvouched <= 2);
    drop((writer, log));
    assert_eq!(recovered(tiny(&dir)), ["one", "two", "three", "four"]);
}

/// History 20: a later batch of the same shard vouches, one of another shard does not; and of a committed
/// epoch whatever is sealed after the report speaks.
#[test]
fn who_seals_after_a_report_speaks_of_it() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writers) = open_all(tiny(&dir).shards(2));
    let epoch = close_epoch(&log, &mut writers[0]);
    assert_eq!(close_epoch(&log, &mut writers[1]), epoch);
    assert_eq!(log.committed_epoch(), epoch);
    commit(&log, &mut writers[0], "sealed after the report");
    drop((writers, log));
    let image = home.path().join("image");
    for shard in 0..2 {
        copy_log(&dir, &image);
        crate::support::edit(&segment_path(&image, shard, 1), |bytes| bytes[1024] ^= 1);
        let damage = refused(tiny(&image).shards(2));
        let claim = damage.witness.unwrap().claim;
        match shard {
            0 => assert_eq!(claim, Claim::Durable(BatchNumber(1))),
            _ => assert_eq!(claim, Claim::Committed(epoch)),
        }
    }
}

/// History 22: batches that land while a reader looks are no damage.
#[test]
fn a_reader_beside_a_writer_sees_no_damage_in_what_is_in_flight() {
    let image = Image::of_one(&[Segment::new(0, 1)]);
    let path = segment_path(&image.dir(), 0, 1);
    let state = Arc::new(Mutex::new((Segment::new(0, 1).put(&batch(1)), 1_u64)));
    let tap = Tap::new(&image.dir());
    let writes = {
        let state = Arc::clone(&state);
        move || {
            let mut state = state.lock().unwrap();
            let n = state.1;
            // Whenever the reader opens the file: two more batches, the second with a promise of the first.
            if n < 300 {
                let next = state.0.clone().put(&batch(n + 1)).put(&batch(n + 2).promise(n + 1));
                *state = (next, n + 2);
                std::fs::write(&path, &state.0.bytes).unwrap();
            }
        }
    };
    tap.state().on_open = Some(("0000000001.seg".into(), Hook(Arc::new(Mutex::new(writes)))));
    let items = read(image.options().disk(tap)).unwrap().0;
    let expected: Vec<String> = (1..=items.len()).map(|n| format!("entry {n}")).collect();
    assert!(!items.is_empty());
    assert_eq!(texts(&items), expected);
}

/// History 22: the same where the promise stands in another shard.
#[test]
fn a_reader_beside_writers_sees_no_damage_in_epochs_that_commit() {
    let image = Image::new(
        &manifest(vec![active(0), active(1)]),
        &[Segment::new(0, 1), Segment::new(1, 1)],
    );
    let paths = [0, 1].map(|shard| segment_path(&image.dir(), shard, 1));
    let tap = Tap::new(&image.dir());
    let mut shards = [Segment::new(0, 1), Segment::new(1, 1)];
    let mut n = 0;
    let writes = move || {
        // Barrier n on both shards, then a batch of shard 1 that calls it committed.
        if n < 40 {
            n += 1;
            let [a, b] = shards.clone();
            let a = a.put(&barrier(n, n));
            let b = b.put(&barrier(2 * n - 1, n)).put(&batch(2 * n).epoch(n + 1).committed(n));
            std::fs::write(&paths[0], &a.bytes).unwrap();
            std::fs::write(&paths[1], &b.bytes).unwrap();
            shards = [a, b];
        }
    };
    tap.state().on_open =
        Some(("shard-0001/0000000001.seg".into(), Hook(Arc::new(Mutex::new(writes)))));
    let (items, _) = read(image.options().shards(2).disk(tap)).unwrap();
    assert!(!items.is_empty());
}

/// History 23: a stamp that was lost stays lost, though its seq is given out again.
#[test]
fn a_lost_stamp_is_not_durable_when_its_seq_is() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let (log, mut writer) = open_one(tiny(&dir).disk(tap.clone()));
    let kept = commit(&log, &mut writer, "kept");
    let lost = append(&log, &mut writer, "lost");
    assert_eq!(log.standing(lost), Standing::Pending);
    drop((writer, log));
    let (log, mut writer) = open_one(tiny(&dir));
    let new = commit(&log, &mut writer, "new");
    assert_eq!(new.seq, lost.seq, "the seq is given out again, in a later epoch");
    let other = commit(&log, &mut writer, "newer");
    assert_eq!(log.standing(new), Standing::Durable);
    assert_eq!(log.standing(kept), Standing::Durable);
    assert_eq!(log.standing(lost), Standing::Voided);
    drop((writer, log));
    let log = open(tiny(&dir));
    for (stamp, standing) in
        [(kept, Standing::Durable), (lost, Standing::Voided), (new, Standing::Durable)]
    {
        assert_eq!(log.standing(stamp), standing);
    }
    assert_eq!(log.standing(other), Standing::Durable);
}

/// History 24: on a full disk epochs can still be closed, and appends go on when there is space.
#[test]
fn a_full_disk_leaves_room_for_barriers_and_a_vouch() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let options = tiny(&dir).pipeline_bound(3).disk(tap.clone());
    let (log, mut writer) = open_one(options.clone());
    tap.state().full = true;
    log.prepare();
    let mut kept = Vec::new();
    let error = loop {
        let text = format!("entry {}", kept.len());
        match writer.append_bytes(Kind::PUT, text.as_bytes()) {
            Ok(stamp) => {
                writer.wait(stamp).unwrap();
                kept.push(text);
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AppendError::NoSpace(_)), "{error}");
    assert!(!kept.is_empty());
    writer.seal_promises();
    writer.turn().unwrap();
    assert_eq!(writer.stats().vouches, 1);
    for _ in 0..3 {
        // The first finds its block; the others would take those of the barriers.
        writer.seal_promises();
        writer.sync().unwrap();
        writer.turn().unwrap();
        assert_eq!(writer.stats().vouches, 1);
    }
    for _ in 0..3 {
        let epoch = close_epoch(&log, &mut writer);
        log.wait_epoch(epoch).unwrap();
        kept.push("|".into());
    }
    let error = writer.append_bytes(Kind::PUT, b"x").unwrap_err();
    assert!(matches!(error, AppendError::NoSpace(_)), "{error}");
    tap.state().full = false;
    assert!(log.prepare());
    commit(&log, &mut writer, "space again");
    kept.push("space again".into());
    drop((writer, log));
    assert_eq!(recovered(tiny(&dir)), kept);
    // Opening needs no space but that of a manifest, which was kept.
    tap.state().full = true;
    let log = open(options.clone());
    assert_eq!(log.report().shards[0].entries, Some(kept.len() as u64));
    drop(log);
    tap.state().full = false;
    let (log, mut writer) = open_one(options);
    commit(&log, &mut writer, "more");
    kept.push("more".into());
    drop((writer, log));
    assert_eq!(recovered(tiny(&dir)), kept);
}

/// History 25, Defect 32, 35: nothing but the ring writes to a segment that a batch was written to.
#[test]
fn the_preparer_never_writes_to_a_segment_in_use() {
    let home = temp_dir();
    let dir = home.path().join("log");
    for _ in 0..3 {
        let tap = Tap::new(&dir);
        let options = tiny(&dir).preparing(corewal::Preparing::Thread).disk(tap.clone());
        let (log, mut writer) = open_one(options);
        for n in 0..100 {
            // The writer outruns the preparer, and takes what is not filled.
            commit(&log, &mut writer, &format!("{n}-{}", "x".repeat(900)));
        }
        writer.close().unwrap();
        log.close().unwrap();
        let events = tap.events();
        for (index, event) in events.iter().enumerate() {
            let Event::Batch(path, ..) = event else { continue };
            let later = events[index..].iter().any(|it| *it == Event::WriteAt(path.clone()));
            let renamed = |it: &Event| matches!(it, Event::Rename(from, _) if from == path);
            assert!(!later || events.iter().any(renamed), "{path:?}");
        }
    }
}

/// A shard of which nothing was ever written is no obstacle.
#[test]
fn a_shard_without_any_segment_is_empty() {
    let records =
        vec![active(0), ShardRecord { active: true, ..ShardRecord::new(corewal::ShardId(1)) }];
    let image = Image::new(&manifest(records), &[Segment::new(0, 1).put(&batch(1))]);
    assert_eq!(recovered(image.options().shards(2)), ["entry 1"]);
    drop(open(image.options().shards(2)));
}

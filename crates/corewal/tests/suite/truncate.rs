//! Cutting off the end of a shard: what is cut never comes back, what is kept stays.

use std::path::Path;
use std::sync::{Arc, Mutex};

use corewal::{
    AppendError, Epoch, FailureCause, Log, Options, Seq, ShardId, ShardWriter, Stamp, Standing,
    TruncateError, Truncation, WaitError,
};
use corewal_disk::sim::{Cut, SimDisk};
use corewal_format::{BatchNumber, Manifest};

use crate::support::image::{Image, Segment, active, barrier, batch, manifest};
use crate::support::tap::{Event, Hook, Tap};
use crate::support::{
    append, commit, contents, copy_log, edit, open_all, open_one, persist, read, recover,
    recovered, refused, segment_path, temp_dir, texts, tiny,
};

fn close_epoch(log: &Log, writer: &mut ShardWriter) -> Epoch {
    let epoch = persist(log, writer, ShardWriter::close_epoch).unwrap();
    writer.sync().unwrap();
    epoch
}

/// Truncates, with as much preparing as it takes.
fn truncate(log: &Log, writer: &mut ShardWriter, seq: Seq) -> Result<Truncation, TruncateError> {
    for _ in 0..10 {
        match writer.truncate_after(seq) {
            Err(TruncateError::NoRoom(AppendError::Full)) => {
                log.prepare();
            }
            outcome => return outcome,
        }
    }
    panic!("there is no room");
}

/// Two lives of one shard without a committed epoch, over several segments, in batches of one to three.
fn two_lives(options: &Options) -> (Log, ShardWriter, Vec<(Stamp, String)>) {
    let mut given = Vec::new();
    let (log, mut writer) = open_one(options.clone());
    fill(&log, &mut writer, 12, &mut given);
    drop((writer, log));
    let (log, mut writer) = open_one(options.clone());
    fill(&log, &mut writer, 30, &mut given);
    (log, writer, given)
}

fn fill(log: &Log, writer: &mut ShardWriter, count: usize, given: &mut Vec<(Stamp, String)>) {
    for round in 0..count {
        let text = format!("entry {}", given.len());
        given.push((append(log, writer, &text), text));
        if round % 3 != 1 {
            writer.sync().unwrap();
        }
    }
    writer.sync().unwrap();
}

fn texts_up_to(given: &[(Stamp, String)], seq: Seq) -> Vec<String> {
    given.iter().filter(|(stamp, _)| stamp.seq <= seq).map(|(_, text)| text.clone()).collect()
}

/// Histories 15 and 18: a cut after every entry, in runs of this and of an earlier incarnation, also inside of
/// batches. On a disk in memory, with a power cut.
#[test]
fn a_cut_after_every_seq_keeps_exactly_what_is_below() {
    let on = |disk: &Arc<SimDisk>| tiny(Path::new("/log")).disk(disk.clone());
    let crash = |disk: &SimDisk| Arc::new(disk.fork().power_cut(&Cut::lose_all()));
    for cut in 0..43 {
        let disk = Arc::new(SimDisk::new(cut));
        let (log, mut writer, given) = two_lives(&on(&disk));
        let seq = Seq(cut);
        let frontier = writer.frontier();
        let truncation = truncate(&log, &mut writer, seq).unwrap();
        let mut expected = texts_up_to(&given, seq);
        assert_eq!(truncation.entries, (given.len() - expected.len()) as u64);
        for (stamp, _) in &given {
            let standing = if stamp.seq <= seq { Standing::Durable } else { Standing::Voided };
            assert_eq!(log.standing(*stamp), standing, "{stamp} after a cut at {seq}");
            let waited = writer.wait(*stamp);
            match (stamp.epoch == writer.epoch(), standing) {
                (false, _) => assert!(matches!(waited, Err(WaitError::NotGiven { .. }))),
                (true, Standing::Durable) => waited.unwrap(),
                (true, _) => assert!(matches!(waited, Err(WaitError::Voided { .. }))),
            }
        }
        assert_eq!(writer.frontier(), frontier, "the frontier does not go back");
        assert_eq!(texts(&read(on(&disk)).unwrap().0), expected, "beside the writer");
        assert_eq!(recovered(on(&crash(&disk))), expected, "before anything new");
        let new = commit(&log, &mut writer, "new");
        assert!(given.iter().all(|(stamp, _)| *stamp < new && stamp.seq < new.seq));
        assert_eq!(log.standing(new), Standing::Durable);
        expected.push("new".into());
        let crashed = crash(&disk);
        writer.close().unwrap();
        log.close().unwrap();
        for disk in [&disk, &crashed] {
            for _ in 0..2 {
                assert_eq!(recovered(on(disk)), expected);
                drop(open_one(on(disk)));
            }
        }
    }
}

/// One after the other, each lower, also twice inside of one batch, and over reopenings.
#[test]
fn cuts_follow_each_other() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (mut log, mut writer, mut given) = two_lives(&tiny(&dir));
    let mut least = 42;
    for (round, seq) in [40, 39, 38, 30, 13, 12, 11, 6, 5, 4, 1, 0].into_iter().enumerate() {
        let highest = given.last().unwrap().0.seq;
        let truncation = truncate(&log, &mut writer, Seq(seq)).unwrap();
        assert_eq!(truncation.seqs.map(|(_, last)| last), Some(highest));
        least = least.min(seq);
        given.retain(|(stamp, _)| stamp.seq <= Seq(least));
        if round % 2 == 0 {
            let text = format!("after round {round}");
            given.push((commit(&log, &mut writer, &text), text));
        } else if given.is_empty() || round % 3 == 0 {
            let text = "another".to_owned();
            given.push((commit(&log, &mut writer, &text), text));
        } else {
            let text = "and one in the batch behind".to_owned();
            given.push((append(&log, &mut writer, &text), text));
        }
        let seqs: Vec<Seq> = given.iter().map(|(stamp, _)| stamp.seq).collect();
        assert!(seqs.is_sorted_by(|a, b| a < b));
        if round % 4 == 3 {
            writer.sync().unwrap();
            drop((writer, log));
            (log, writer) = open_one(tiny(&dir));
        }
    }
    writer.sync().unwrap();
    let expected: Vec<String> = given.into_iter().map(|(_, text)| text).collect();
    drop((writer, log));
    assert_eq!(recovered(tiny(&dir)), expected);
}

#[test]
fn with_nothing_above_nothing_is_done() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writer) = open_one(tiny(&dir));
    assert_eq!(truncate(&log, &mut writer, Seq(0)).unwrap().seqs, None, "nothing at all");
    let last = commit(&log, &mut writer, "last");
    let before = contents(&dir);
    for seq in [last.seq, last.seq.next(), Seq(u64::MAX)] {
        let truncation = truncate(&log, &mut writer, seq).unwrap();
        assert_eq!((truncation.entries, truncation.seqs), (0, None));
        assert_eq!(truncation.next_seq, last.seq.next());
    }
    assert_eq!(contents(&dir), before);
}

/// History 6.
#[test]
fn a_committed_epoch_and_a_barrier_of_this_incarnation_are_never_cut() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writers) = open_all(tiny(&dir).shards(2));
    let committed = commit(&log, &mut writers[0], "committed");
    for writer in &mut writers {
        close_epoch(&log, writer);
    }
    let loose = commit(&log, &mut writers[0], "loose");
    let closed = close_epoch(&log, &mut writers[0]);
    let last = commit(&log, &mut writers[0], "last");
    let before = contents(&dir);
    for seq in (0..committed.seq.0 + 1).map(Seq) {
        let refused = truncate(&log, &mut writers[0], seq).unwrap_err();
        assert!(matches!(refused, TruncateError::Committed { epoch } if epoch == committed.epoch));
    }
    for seq in [loose.seq.before(), loose.seq] {
        let refused = truncate(&log, &mut writers[0], seq).unwrap_err();
        assert!(
            matches!(refused, TruncateError::Barrier { epoch } if epoch == closed),
            "{refused}"
        );
    }
    assert_eq!(contents(&dir), before, "nothing has changed");
    truncate(&log, &mut writers[0], last.seq.before()).unwrap();
    // The other shard closes the epoch: it is committed, and no barrier of it is missed.
    close_epoch(&log, &mut writers[1]);
    assert_eq!(log.committed_epoch(), closed);
    commit(&log, &mut writers[1], "names the committed epoch");
    drop((writers, log));
    let (items, report) = recover(tiny(&dir).shards(2)).unwrap();
    assert_eq!(report.committed_epoch, closed);
    assert!(!items.iter().any(|item| item.stamp == last));

    // A barrier of an earlier incarnation that was never committed can go.
    let (log, mut writers) = open_all(tiny(&dir).shards(2));
    close_epoch(&log, &mut writers[0]);
    let only_barrier = recover(tiny(&dir)).is_err();
    assert!(only_barrier, "the log is locked");
    drop((writers, log));
    let (items, _) = recover(tiny(&dir).shards(2)).unwrap();
    let cut = items.iter().rfind(|item| item.stamp.shard.0 == 0).unwrap().stamp;
    let (log, mut writers) = open_all(tiny(&dir).shards(2));
    assert_eq!(truncate(&log, &mut writers[0], cut.seq.before()).unwrap().entries, 1);
    drop((writers, log));
    assert!(!recover(tiny(&dir)).unwrap().0.iter().any(|item| item.stamp == cut));
}

#[test]
fn an_atomic_group_is_never_cut_inside() {
    // Batch 1 has the seqs 1 to 3, of which the first two belong together.
    let segment = Segment::new(0, 1).put(&batch(1).three(2)).put(&batch(2).seq(4));
    let image = Image::of_one(&[segment]);
    let (log, mut writer) = open_one(image.options());
    let refused = truncate(&log, &mut writer, Seq(1)).unwrap_err();
    assert!(
        matches!(refused, TruncateError::InsideGroup { last: Seq(1), next: Seq(2) }),
        "{refused}"
    );
    assert_eq!(truncate(&log, &mut writer, Seq(2)).unwrap().entries, 2);
    drop((writer, log));
    assert_eq!(recovered(image.options()), ["a", "b"]);
}

#[test]
fn what_was_released_is_not_cut() {
    let mut record = active(0);
    record.released_seq = Seq(5);
    record.current.as_mut().unwrap().first_seq = Seq(6);
    record.next_seq = Seq(6);
    let segment = Segment::new(0, 1).put(&batch(1).seq(6)).put(&batch(2).seq(7));
    let image = Image::new(&manifest(vec![record]), &[segment]);
    let (log, mut writer) = open_one(image.options());
    let refused = truncate(&log, &mut writer, Seq(4)).unwrap_err();
    assert!(matches!(refused, TruncateError::Released { up_to: Seq(5) }), "{refused}");
    assert_eq!(truncate(&log, &mut writer, Seq(5)).unwrap().entries, 2);
    drop((writer, log));
    assert!(recovered(image.options()).is_empty());
}

/// History 9: the promises of what was cut accuse nobody, whatever becomes of it.
#[test]
fn what_becomes_of_cut_batches_does_not_matter() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writer) = open_one(tiny(&dir));
    for round in 0..5 {
        commit(&log, &mut writer, &format!("entry {round}"));
    }
    let segment = segment_path(&dir, 0, 1);
    truncate(&log, &mut writer, Seq(2)).unwrap();
    edit(&segment, |bytes| bytes[1024 + 2 * 512..].fill(7));
    assert_eq!(recovered_beside(&dir), ["entry 0", "entry 1"]);
    commit(&log, &mut writer, "new");
    writer.seal_promises();
    writer.sync().unwrap();
    drop((writer, log));
    assert_eq!(recovered(tiny(&dir)), ["entry 0", "entry 1", "new"]);
    // But for what was kept the manifest is the proof.
    edit(&segment, |bytes| bytes[1024 + 512 + 100] ^= 1);
    let damage = refused(tiny(&dir));
    assert_eq!(damage.at.at, 1024 + 512);
}

fn recovered_beside(dir: &Path) -> Vec<String> {
    texts(&read(tiny(dir)).unwrap().0)
}

/// A reader that has read the manifest before a truncation, and the segments after it, starts over.
#[test]
fn a_reader_beside_a_truncation_sees_the_log_before_or_after_it() {
    let home = temp_dir();
    let [dir, before, after] = ["log", "before", "after"].map(|name| home.path().join(name));
    let (log, mut writer) = open_one(tiny(&dir));
    for round in 0..3 {
        commit(&log, &mut writer, &format!("entry {round}"));
    }
    while log.prepare() {}
    copy_log(&dir, &before);
    truncate(&log, &mut writer, Seq(1)).unwrap();
    commit(&log, &mut writer, "new");
    copy_log(&dir, &after);
    assert_eq!(recovered_beside(&before).len(), 3);
    let tap = Tap::new(&before);
    let (from, to) = (after, before.clone());
    let hook = Hook(Arc::new(Mutex::new(move || copy_log(&from, &to))));
    tap.state().on_open = Some(("0000000001.seg".into(), hook));
    let found = texts(&read(tiny(&before).disk(tap)).unwrap().0);
    assert_eq!(found, ["entry 0", "new"]);
}

#[test]
fn a_log_that_is_closed_right_after_a_truncation_ends_there() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writer, given) = two_lives(&tiny(&dir));
    truncate(&log, &mut writer, Seq(20)).unwrap();
    writer.close().unwrap();
    log.close().unwrap();
    assert_eq!(recovered(tiny(&dir)), texts_up_to(&given, Seq(20)));
    let (log, mut writer) = open_one(tiny(&dir));
    let new = commit(&log, &mut writer, "new");
    assert!(new.seq > given.last().unwrap().0.seq);
}

/// The batches that named the committed epoch are cut off: another one names it.
#[test]
fn a_committed_epoch_that_only_cut_batches_named_is_vouched_for_again() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let (log, mut writer) = open_one(tiny(&dir).disk(tap.clone()));
    close_epoch(&log, &mut writer);
    let last = commit(&log, &mut writer, "names epoch 1");
    truncate(&log, &mut writer, last.seq.before()).unwrap();
    let vouches = writer.stats().vouches;
    for _ in 0..3 {
        writer.turn().unwrap();
        tap.state().now += std::time::Duration::from_secs(4000);
        writer.sync().unwrap();
    }
    assert_eq!(writer.stats().vouches, vouches + 1);
}

#[test]
fn a_crash_at_any_point_of_a_truncation_cuts_or_leaves_everything() {
    let home = temp_dir();
    let (mut before, mut after) = (0, 0);
    for budget in 0.. {
        let dir = home.path().join(format!("log {budget}"));
        let tap = Tap::new(&dir);
        let (log, mut writer) = open_one(tiny(&dir).disk(tap.clone()));
        for round in 0..6 {
            commit(&log, &mut writer, &format!("entry {round}"));
        }
        while log.prepare() {}
        writer.turn().unwrap();
        tap.state().budget = Some(budget);
        let result = writer.truncate_after(Seq(3));
        match &result {
            Ok(_) | Err(TruncateError::Unwritten(_)) => {}
            Err(TruncateError::Failed(failure)) => {
                assert!(matches!(failure.cause, FailureCause::Manifest(_)), "{failure}");
                assert!(writer.turn().is_err(), "the shard is latched");
                let refused = writer.append_bytes(corewal::Kind::PUT, b"more");
                assert!(matches!(refused, Err(AppendError::Failed(_))));
            }
            Err(other) => panic!("{other}"),
        }
        let is_done = result.is_ok();
        drop((writer, log));
        let found = recovered(tiny(&dir)).len();
        match found {
            6 => before += 1,
            3 => after += 1,
            other => panic!("{other} entries after {budget} changes"),
        }
        drop(open_one(tiny(&dir)));
        assert_eq!(recovered(tiny(&dir)).len(), found, "and it stays so");
        if is_done {
            break;
        }
    }
    assert!(before > 1 && after > 1, "{before} and {after}");
}

/// After a manifest whose fate is unknown none is written on top of it, by whomever.
#[test]
fn after_a_failed_manifest_no_other_is_written() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let (log, mut writers) = open_all(tiny(&dir).shards(2).disk(tap.clone()));
    for writer in &mut writers {
        commit(&log, writer, "one");
        commit(&log, writer, "two");
    }
    while log.prepare() {}
    writers.iter_mut().for_each(|writer| assert!(writer.turn().is_ok()));
    tap.state().budget = Some(1);
    writers[0].truncate_after(Seq(1)).unwrap_err();
    tap.state().budget = None;
    tap.events();
    let second = writers[1].truncate_after(Seq(1)).unwrap_err();
    assert!(matches!(second, TruncateError::Failed(_)), "{second}");
    for writer in writers {
        drop(writer);
    }
    assert!(log.close().is_err());
    let renames = tap.events().into_iter().filter(|it| matches!(it, Event::Rename(..))).count();
    assert_eq!(renames, 0);
}

#[test]
fn without_a_segment_to_go_on_in_nothing_is_cut() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let (log, mut writer) = open_one(tiny(&dir).disk(tap.clone()));
    tap.state().full = true;
    let kept = commit(&log, &mut writer, "kept");
    commit(&log, &mut writer, "cut");
    while log.prepare() {}
    let before = contents(&dir);
    for _ in 0..3 {
        match writer.truncate_after(kept.seq) {
            Err(TruncateError::NoRoom(AppendError::NoSpace(_) | AppendError::Full)) => {}
            other => panic!("{other:?}"),
        }
        log.prepare();
    }
    assert_eq!(contents(&dir), before);
    tap.state().full = false;
    log.prepare();
    assert_eq!(truncate(&log, &mut writer, kept.seq).unwrap().entries, 1);
    commit(&log, &mut writer, "new");
    drop((writer, log));
    assert_eq!(recovered(tiny(&dir)), ["kept", "new"]);
}

/// A shard that was retired for a while, and is written again.
#[test]
fn a_cut_goes_back_over_a_time_without_a_writer() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writers) = open_all(tiny(&dir).shards(2));
    let kept = commit(&log, &mut writers[1], "kept");
    let cut = commit(&log, &mut writers[1], "cut");
    commit(&log, &mut writers[0], "beside");
    drop((writers, log));
    let (log, mut writers) = open_all(tiny(&dir));
    let uncommitted = commit(&log, &mut writers[0], "while B is retired");
    assert_eq!(log.standing(cut), Standing::Durable);
    drop((writers, log));
    let (log, mut writers) = open_all(tiny(&dir).shards(2));
    let new = commit(&log, &mut writers[1], "new");
    assert_eq!(truncate(&log, &mut writers[1], kept.seq).unwrap().entries, 2);
    assert_eq!(log.standing(cut), Standing::Voided);
    assert_eq!(log.standing(new), Standing::Voided);
    assert_eq!(log.standing(uncommitted), Standing::Durable);
    commit(&log, &mut writers[1], "newer");
    drop((writers, log));
    for shards in [1, 2, 4] {
        let found = recovered(tiny(&dir).shards(shards));
        assert_eq!(found, ["beside", "kept", "while B is retired", "newer"]);
    }
}

/// A cut inside the last batch of what a committed-only recovery keeps, and the other way round.
#[test]
fn voiding_and_cutting_go_together() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writer) = open_one(tiny(&dir));
    close_epoch(&log, &mut writer);
    for text in ["a", "b", "c"] {
        append(&log, &mut writer, text);
    }
    writer.sync().unwrap();
    truncate(&log, &mut writer, Seq(3)).unwrap();
    commit(&log, &mut writer, "d");
    drop((writer, log));
    assert_eq!(recovered(tiny(&dir)), ["|", "a", "b", "d"]);
    let copy = home.path().join("copy");
    copy_log(&dir, &copy);
    let log = Log::recover(tiny(&copy)).unwrap().committed_only().open().unwrap();
    let left_out = log.report().shards[0].left_out;
    assert_eq!((left_out.entries, left_out.seqs), (3, Some((Seq(2), Seq(5)))));
    drop(log);
    assert_eq!(recovered(tiny(&copy)), ["|"]);
    let (log, mut writer) = open_one(tiny(&copy));
    assert!(matches!(
        truncate(&log, &mut writer, Seq(0)),
        Err(TruncateError::Committed { epoch: Epoch(1) })
    ));
    drop((writer, log));
    // Committed afterwards, with the cut inside its batch.
    let (log, mut writer) = open_one(tiny(&dir));
    close_epoch(&log, &mut writer);
    drop((writer, log));
    let log = Log::recover(tiny(&dir)).unwrap().committed_only().open().unwrap();
    assert_eq!(log.report().shards[0].left_out.entries, 0);
    drop(log);
    assert_eq!(recovered(tiny(&dir)), ["|", "a", "b", "d", "|"]);
}

/// The barrier of an epoch that another shard calls committed was written before the cut, in the same run.
#[test]
fn a_barrier_in_the_run_that_a_cut_ended_still_counts() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writers) = open_all(tiny(&dir).shards(2));
    for writer in &mut writers {
        close_epoch(&log, writer);
    }
    let last = commit(&log, &mut writers[0], "cut");
    truncate(&log, &mut writers[0], last.seq.before()).unwrap();
    commit(&log, &mut writers[1], "calls epoch 1 committed");
    drop((writers, log));
    let (items, report) = recover(tiny(&dir).shards(2)).unwrap();
    assert_eq!(report.committed_epoch, Epoch(1));
    assert_eq!(items.len(), 3);
    // By hand: the record of the barrier is what the judge goes by.
    let mut record = active(0);
    record.barrier = Epoch(1);
    let second = Segment::new(1, 1).put(&barrier(1, 1)).put(&batch(2).epoch(2).committed(1));
    let image = Image::new(&manifest(vec![record, active(1)]), &[Segment::new(0, 1), second]);
    assert_eq!(recover(image.options().shards(2)).unwrap().1.committed_epoch, Epoch(1));
}

/// The run that is being written is empty: of what was cut off, or kept of earlier runs, it promises nothing.
#[test]
fn a_checkpoint_right_after_a_truncation_promises_nothing_of_the_ended_run() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writer) = open_one(tiny(&dir));
    let closed = close_epoch(&log, &mut writer);
    let kept = commit(&log, &mut writer, "kept");
    commit(&log, &mut writer, "cut");
    truncate(&log, &mut writer, kept.seq).unwrap();
    let promise = |dir: &Path| {
        let manifests = ["MANIFEST-0", "MANIFEST-1"]
            .map(|name| Manifest::decode(&std::fs::read(dir.join(name)).unwrap()).unwrap());
        let newest = manifests.into_iter().max_by_key(|it| it.generation).unwrap();
        let record = newest.shard(ShardId(0)).unwrap();
        let first_batch = record.current.unwrap().first_batch;
        (record.durable_batch, record.durable_seq, first_batch)
    };
    let (_, _, first_batch) = promise(&dir);
    log.checkpoint(closed, b"a checkpoint").unwrap();
    assert_eq!(promise(&dir), (BatchNumber(0), Seq(0), first_batch));
    let last = commit(&log, &mut writer, "last");
    log.checkpoint(closed, b"another one").unwrap();
    assert_eq!(promise(&dir), (first_batch, last.seq, first_batch));
    drop((writer, log));
    assert_eq!(recovered(tiny(&dir)), ["|", "kept", "last"]);
}

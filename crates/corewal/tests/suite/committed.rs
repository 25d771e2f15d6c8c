//! Recovery of committed epochs alone: what is above is left out, void, and never comes back.

use std::path::Path;

use corewal::{Epoch, Log, Options, Seq, ShardId, ShardWriter, Stamp, Standing};

use crate::support::tap::Tap;
use crate::support::{
    Item, append, commit, copy_log, open_all, persist, recover, recovered, temp_dir, texts, tiny,
};

fn close_epoch(log: &Log, writer: &mut ShardWriter) -> Epoch {
    let epoch = persist(log, writer, ShardWriter::close_epoch).unwrap();
    writer.sync().unwrap();
    epoch
}

/// The stream of a committed-only recovery that is left at that.
fn committed(options: Options) -> Vec<String> {
    let mut recovery = Log::recover(options).unwrap().committed_only();
    let mut found = Vec::new();
    while let Some(entry) = recovery.next_entry().unwrap() {
        assert!(entry.is_committed());
        found.push(Item {
            stamp: entry.stamp(),
            kind: entry.kind(),
            bytes: entry.bytes().to_vec(),
            committed: true,
        });
    }
    texts(&found)
}

/// Two shards. Epoch 1 is committed; epoch 2 is closed by shard 0 alone; each has one more entry. Returns the
/// stamps above the committed epoch.
fn two_shards(dir: &Path) -> Vec<Stamp> {
    let (log, mut writers) = open_all(tiny(dir).shards(2));
    let mut above = Vec::new();
    for (writer, text) in writers.iter_mut().zip(["a1", "b1"]) {
        commit(&log, writer, text);
        close_epoch(&log, writer);
    }
    assert_eq!(log.committed_epoch(), Epoch(1));
    above.push(commit(&log, &mut writers[0], "a2"));
    close_epoch(&log, &mut writers[0]);
    above.push(commit(&log, &mut writers[0], "a3"));
    above.push(commit(&log, &mut writers[1], "b2"));
    above
}

/// Defect 29. The voiding half of history 9: promises of voided batches accuse nobody.
#[test]
fn what_is_above_the_committed_epoch_is_left_out_and_never_comes_back() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let above = two_shards(&dir);
    assert_eq!(committed(tiny(&dir).shards(2)), ["a1", "b1", "|", "|"]);
    assert_eq!(recovered(tiny(&dir).shards(2)).len(), 8, "nothing is void before it is opened");

    let mut log = Log::recover(tiny(&dir).shards(2)).unwrap().committed_only().open().unwrap();
    let left_out = |shard: usize| log.report().shards[shard].left_out;
    assert_eq!((left_out(0).entries, left_out(0).seqs), (3, Some((Seq(3), Seq(5)))));
    assert_eq!((left_out(1).entries, left_out(1).seqs), (1, Some((Seq(3), Seq(3)))));
    assert_eq!((left_out(0).bytes, left_out(1).bytes), (3 * 512, 512));
    for &stamp in &above {
        assert_eq!(log.standing(stamp), Standing::Voided, "{stamp}");
    }
    let mut writers: Vec<_> = log.take_seats().into_iter().map(|it| it.sit().unwrap()).collect();
    for (writer, text) in writers.iter_mut().zip(["a4", "b4"]) {
        let stamp = commit(&log, writer, text);
        assert!(above.iter().all(|it| it.shard != stamp.shard || it.seq < stamp.seq), "{stamp}");
        assert!(above.iter().all(|it| it.epoch < stamp.epoch), "{stamp}");
        close_epoch(&log, writer);
    }
    drop((writers, log));
    // Shard 0 has given out more seqs.
    let all = ["a1", "b1", "|", "|", "b4", "|", "a4", "|"];
    assert_eq!(recovered(tiny(&dir).shards(2)), all);
    assert_eq!(committed(tiny(&dir).shards(2)), all);
}

/// What an earlier recovery kept belongs to the first epoch that is committed afterwards; without one, it goes.
#[test]
fn what_was_kept_without_a_commit_since_is_voided_too() {
    for commits_in in [None, Some(1), Some(2)] {
        let home = temp_dir();
        let dir = home.path().join("log");
        let mut above = two_shards(&dir);
        for life in 1..3 {
            // Keeps everything. The second of these lives has only one shard: the other's runs are ended.
            let options = tiny(&dir).shards(3 - life);
            let (log, mut writers) = open_all(options);
            above.push(commit(&log, &mut writers[0], &format!("life {life}")));
            if commits_in == Some(life) {
                for writer in &mut writers {
                    close_epoch(&log, writer);
                }
            }
            above.push(commit(&log, &mut writers[0], "and more"));
        }
        let everything = recovered(tiny(&dir));
        let expected = match commits_in {
            None => everything[..4].to_vec(),
            Some(1) => everything[..everything.len() - 3].to_vec(),
            _ => everything[..everything.len() - 1].to_vec(),
        };
        assert_eq!(committed(tiny(&dir)), expected, "{commits_in:?}");
        let log = Log::recover(tiny(&dir)).unwrap().committed_only().open().unwrap();
        if commits_in.is_none() {
            for &stamp in &above {
                assert_eq!(log.standing(stamp), Standing::Voided, "{stamp}");
            }
        }
        drop(log);
        assert_eq!(recovered(tiny(&dir)), expected, "{commits_in:?}");
        drop(Log::recover(tiny(&dir).shards(4)).unwrap().open().unwrap());
        assert_eq!(recovered(tiny(&dir)), expected, "{commits_in:?}");
    }
}

#[test]
fn a_crash_while_voiding_leaves_everything_or_voids_it() {
    let home = temp_dir();
    let dir = home.path().join("log");
    two_shards(&dir);
    drop(open_all(tiny(&dir).shards(2)));
    let (mut before, mut after) = (0, 0);
    for budget in 0.. {
        let copy = home.path().join(format!("copy {budget}"));
        copy_log(&dir, &copy);
        let tap = Tap::new(&copy);
        tap.state().budget = Some(budget);
        let opened = Log::recover(tiny(&copy).shards(2).disk(tap))
            .map(|recovery| recovery.committed_only().open());
        let is_done = matches!(opened, Ok(Ok(_)));
        drop(opened);
        match recovered(tiny(&copy).shards(2)).len() {
            8 => before += 1,
            4 => after += 1,
            other => panic!("{other} entries after {budget} changes"),
        }
        // Whoever goes on from there comes to the same end.
        drop(Log::recover(tiny(&copy).shards(2)).unwrap().committed_only().open().unwrap());
        assert_eq!(recovered(tiny(&copy).shards(2)), ["a1", "b1", "|", "|"]);
        if is_done && after > 3 {
            break;
        }
    }
    assert!(before > 2, "{before} and {after}");
}

#[test]
fn the_stream_starts_over_without_what_is_left_out() {
    let home = temp_dir();
    let dir = home.path().join("log");
    two_shards(&dir);
    let mut recovery = Log::recover(tiny(&dir).shards(2)).unwrap();
    for _ in 0..6 {
        assert!(recovery.next_entry().unwrap().is_some());
    }
    let mut recovery = recovery.committed_only();
    let mut count = 0;
    while let Some(entry) = recovery.next_entry().unwrap() {
        assert_eq!(entry.stamp().epoch, Epoch(1));
        count += 1;
    }
    assert_eq!(count, 4);
}

#[test]
fn a_log_without_a_committed_epoch_begins_again() {
    let home = temp_dir();
    let dir = home.path().join("log");
    assert!(committed(tiny(&dir)).is_empty(), "a log that is not there");
    let (log, mut writers) = open_all(tiny(&dir));
    let lost = append(&log, &mut writers[0], "never committed");
    writers[0].wait(lost).unwrap();
    drop((writers, log));
    let log = Log::recover(tiny(&dir)).unwrap().committed_only().open().unwrap();
    assert_eq!(log.standing(lost), Standing::Voided);
    drop(log);
    assert!(recovered(tiny(&dir)).is_empty());
    let (log, mut writers) = open_all(tiny(&dir));
    let stamp = commit(&log, &mut writers[0], "new");
    assert!(stamp > lost && stamp.seq > lost.seq);
    assert_eq!(log.standing(lost), Standing::Voided);
}

/// Two shards, then four, then one: all of it is there, in order, and committed-only goes over all of them.
#[test]
fn another_number_of_shards_keeps_the_old_ones_readable() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let mut expected: Vec<(Stamp, String)> = Vec::new();
    for (shards, commits) in [(2, true), (4, true), (1, true), (4, false)] {
        let (log, mut writers) = open_all(tiny(&dir).shards(shards));
        for round in 0..3 {
            for writer in &mut writers {
                let text = format!("{shards} shards, shard {}, {round}", writer.shard());
                expected.push((commit(&log, writer, &text), text));
            }
        }
        if commits {
            for writer in &mut writers {
                close_epoch(&log, writer);
            }
            assert_eq!(log.wait_epoch(writers[0].epoch().before()).ok(), Some(()));
        }
        drop((writers, log));
        expected.sort();
        for shards in [1, 2, 4] {
            let (items, report) = recover(tiny(&dir).shards(shards)).unwrap();
            let found: Vec<(Stamp, String)> = items
                .into_iter()
                .filter(|item| !item.bytes.is_empty())
                .map(|item| (item.stamp, String::from_utf8(item.bytes).unwrap()))
                .collect();
            assert_eq!(found, expected);
            assert!(report.shards.len() >= 2);
        }
    }
    let committed_count = expected.len() - 4 * 3;
    let mut log = Log::recover(tiny(&dir)).unwrap().committed_only().open().unwrap();
    let left_out: Vec<u64> = log.report().shards.iter().map(|it| it.left_out.entries).collect();
    assert_eq!(left_out, [3; 4], "retired ones too");
    for (stamp, _) in &expected[..committed_count] {
        assert_eq!(log.standing(*stamp), Standing::Durable);
    }
    for (stamp, _) in &expected[committed_count..] {
        assert_eq!(log.standing(*stamp), Standing::Voided);
    }
    assert_eq!(log.take_seats().remove(0).shard(), ShardId(0));
}

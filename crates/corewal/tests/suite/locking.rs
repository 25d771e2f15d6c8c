//! The lock, and a process that dies while a log is created, recovered, opened or closed.

use std::path::Path;
use std::time::Duration;

use corewal::{Epoch, Generation, Incarnation, Kind, Log, Options, RecoverError};
use corewal_format::{Manifest, ShardRecord};

use crate::support::image::{LOG, Segment, write_manifest};
use crate::support::tap::Tap;
use crate::support::{
    commit, copy_log, open, open_all, open_one, recovered, segment_path, temp_dir, tiny,
};

/// Defect 33.
#[test]
fn a_log_is_open_once_and_the_lock_names_its_holder() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let recovery = Log::recover(tiny(&dir)).unwrap();
    let is_locked = || match Log::recover(tiny(&dir)) {
        Err(RecoverError::Locked { holder, dir: of, waited }) => {
            assert_eq!(of, dir);
            assert!(waited < Duration::from_secs(2), "the patience was 0");
            assert!(holder.contains(&std::process::id().to_string()), "{holder}");
        }
        other => panic!("{other:?}"),
    };
    is_locked();
    let mut log = recovery.open().unwrap();
    is_locked();
    let writer = log.take_seats().remove(0).sit().unwrap();
    is_locked();
    drop(log);
    is_locked();
    drop(writer);
    drop(Log::recover(tiny(&dir)).unwrap());
}

#[test]
fn a_held_lock_is_tried_for_as_long_as_the_patience() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let log = open(tiny(&dir));
    let patience = Duration::from_millis(20);
    match Log::recover(tiny(&dir).lock_patience(patience)) {
        Err(RecoverError::Locked { waited, .. }) => assert!(waited >= patience),
        other => panic!("{other:?}"),
    }
    drop(log);
    drop(Log::recover(tiny(&dir).lock_patience(patience)).unwrap());
}

#[test]
fn a_lock_that_becomes_free_within_the_patience_is_taken() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let log = open(tiny(&dir));
    let (started, is_started) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            started.send(()).unwrap();
            Log::recover(tiny(&dir).lock_patience(Duration::from_secs(60))).map(drop)
        });
        is_started.recv().unwrap();
        drop(log);
        waiting.join().unwrap().unwrap();
    });
}

/// Defect 33: what a dead process leaves is a file, and no lock.
#[test]
fn a_lock_file_that_is_left_behind_locks_nothing() {
    let home = temp_dir();
    let dir = home.path().join("log");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("LOCK"), "process 1 and a very long text that stays behind").unwrap();
    let log = open(tiny(&dir));
    let Err(RecoverError::Locked { holder, .. }) = Log::recover(tiny(&dir)) else { panic!() };
    assert_eq!(holder, format!("process {}", std::process::id()));
    drop(log);
}

#[test]
fn a_reader_takes_no_lock() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writer) = open_one(tiny(&dir));
    commit(&log, &mut writer, "one");
    let before = crate::support::contents(&dir);
    assert_eq!(crate::support::read(tiny(&dir)).unwrap().0[0].bytes, b"one");
    assert_eq!(crate::support::contents(&dir), before);
    commit(&log, &mut writer, "two");
}

/// Appends behind whatever was found, closes, and finds it again.
fn goes_on(options: &Options, expected: &[&str]) {
    assert_eq!(recovered(options.clone()), expected);
    let (log, mut writer) = open_one(options.clone());
    let stamp = commit(&log, &mut writer, "new");
    assert!(stamp.epoch > Epoch(0));
    writer.close().unwrap();
    log.close().unwrap();
    let mut all = expected.to_vec();
    all.push("new");
    assert_eq!(recovered(options.clone()), all);
}

fn manifest(generation: u64) -> Manifest {
    Manifest {
        log: LOG,
        generation: Generation(generation),
        incarnation: Incarnation(0),
        committed_epoch: Epoch(0),
        first_epoch: Epoch(1),
        pipeline_bound: 0,
        checkpoint: None,
        shards: Vec::new(),
    }
}

fn opened(generation: u64) -> Manifest {
    let shards: Vec<ShardRecord> = vec![crate::support::image::active(0)];
    Manifest { incarnation: Incarnation(1), pipeline_bound: 2, shards, ..manifest(generation) }
}

/// Defect 24: every state between two steps of the creation can be recovered from.
#[test]
fn a_creation_that_died_anywhere_is_finished_by_the_next_one() {
    type Step = (&'static str, fn(&Path));
    let prepared = |dir: &Path, change: fn(&mut Vec<u8>)| {
        let mut segment = Segment::new(0, 1);
        change(&mut segment.bytes);
        let path = segment_path(dir, 0, 1);
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        std::fs::write(path, segment.bytes).unwrap();
    };
    let steps: [Step; 7] = [
        ("the directory", |_| ()),
        ("LOCK", |dir| std::fs::write(dir.join("LOCK"), "").unwrap()),
        ("MANIFEST-next", |dir| std::fs::write(dir.join("MANIFEST-next"), [0; 100]).unwrap()),
        ("generation 1", |dir| write_manifest(dir, &manifest(1))),
        ("generation 2", |dir| write_manifest(dir, &manifest(2))),
        ("generation 3", |dir| write_manifest(dir, &opened(3))),
        ("a folder", |dir| std::fs::create_dir(dir.join("shard-0000")).unwrap()),
    ];
    for count in 1..=steps.len() {
        let home = temp_dir();
        let dir = home.path().join("log");
        std::fs::create_dir(&dir).unwrap();
        for (name, step) in &steps[..count] {
            println!("{name}");
            step(&dir);
        }
        goes_on(&tiny(&dir), &[]);
    }
    let changes: [fn(&mut Vec<u8>); 6] = [
        |bytes| bytes.clear(),
        |bytes| bytes.truncate(512),
        |bytes| bytes.fill(0),
        |bytes| bytes[..512].fill(0),
        |bytes| bytes[512..].fill(0),
        |_| (),
    ];
    for change in changes {
        let home = temp_dir();
        let dir = home.path().join("log");
        std::fs::create_dir(&dir).unwrap();
        write_manifest(&dir, &manifest(2));
        write_manifest(&dir, &opened(3));
        prepared(&dir, change);
        goes_on(&tiny(&dir), &[]);
    }
}

/// Runs `act` with ever more steps until it gets through; whatever was left behind recovers to `expected`.
fn dies_anywhere(
    start: Option<&Path>,
    expected: &[&str],
    act: impl Fn(Options) -> Result<(), String>,
) -> usize {
    for budget in 0..1000 {
        let home = temp_dir();
        let dir = home.path().join("log");
        if let Some(start) = start {
            copy_log(start, &dir);
        }
        let tap = Tap::new(&dir);
        tap.state().budget = Some(budget);
        let outcome = act(tiny(&dir).disk(tap));
        if outcome.is_ok() {
            return budget;
        }
        goes_on(&tiny(&dir), expected);
    }
    panic!("never gets through");
}

fn recover_and_open(options: Options) -> Result<(), String> {
    let log = Log::recover(options).map_err(|error| error.to_string())?.open();
    let mut log = log.map_err(|error| error.to_string())?;
    // On a full disk, or a dead one, a log without a segment is open all the same.
    let mut writer = log.take_seats().remove(0).sit().map_err(|error| error.to_string())?;
    writer.append_bytes(Kind::PUT, b"").map_err(|error| error.to_string())?;
    Ok(())
}

#[test]
fn a_creation_that_dies_after_any_step_is_finished_by_the_next_one() {
    let steps = dies_anywhere(None, &[], recover_and_open);
    assert!(steps > 10, "{steps} steps");
}

/// Defect 25: a recovery that dies after any step leaves the same stream.
#[test]
fn a_recovery_that_dies_after_any_step_leaves_the_same_stream() {
    let home = temp_dir();
    let dir = home.path().join("log");
    for text in ["one", "two"] {
        let (log, mut writer) = open_one(tiny(&dir));
        log.prepare();
        commit(&log, &mut writer, text);
        // Dropped, as by a crash, with files that will be used again.
    }
    let steps = dies_anywhere(Some(&dir), &["one", "two"], recover_and_open);
    assert!(steps > 10, "{steps} steps");
}

#[test]
fn a_close_that_dies_after_any_step_leaves_the_same_stream() {
    let home = temp_dir();
    let dir = home.path().join("log");
    for budget in 0..100 {
        let tap = Tap::new(&dir);
        let (log, mut writer) = open_one(tiny(&dir).disk(tap.clone()));
        let text = format!("entry {budget}");
        commit(&log, &mut writer, &text);
        writer.close().unwrap();
        tap.state().budget = Some(budget);
        let is_through = log.close().is_ok();
        let expected: Vec<String> = (0..=budget).map(|n| format!("entry {n}")).collect();
        assert_eq!(recovered(tiny(&dir)), expected);
        if is_through {
            assert!(budget > 3);
            return;
        }
    }
    panic!("never gets through");
}

/// History 16: the manifest of an incarnation is durable before anything changes in the shards' folders.
#[test]
fn nothing_changes_in_the_folders_before_the_manifest_is_durable() {
    use crate::support::tap::Event;
    let home = temp_dir();
    let dir = home.path().join("log");
    for _ in 0..3 {
        let tap = Tap::new(&dir);
        let (log, mut writers) = open_all(tiny(&dir).shards(2).disk(tap.clone()));
        log.prepare();
        for writer in &mut writers {
            commit(&log, writer, "x");
        }
        let events = tap.events();
        let in_folder =
            |path: &Path| path.starts_with("shard-0000") || path.starts_with("shard-0001");
        let changes = |event: &Event| match event {
            Event::Create(path) | Event::WriteAt(path) | Event::Remove(path) => in_folder(path),
            Event::Rename(from, to) => in_folder(from) || in_folder(to),
            Event::Batch(..) => true,
            _ => false,
        };
        let change = events.iter().position(changes).unwrap();
        let manifest = events
            .iter()
            .rposition(
                |event| matches!(event, Event::Rename(from, _) if from.ends_with("MANIFEST-next")),
            )
            .unwrap();
        let next = &events[manifest + 1];
        assert_eq!(next, &Event::SyncDir(Path::new("").into()), "the rename is made durable");
        assert!(manifest + 1 < change, "{events:?}");
        let synced = Event::SyncFile(Path::new("MANIFEST-next").into());
        assert_eq!(events[manifest - 1], synced, "the bytes are durable before the name");
    }
}

/// Defect 34, History 3: a segment's header, its name and its folder are durable before the first batch.
#[test]
fn a_segment_is_durable_before_its_first_batch() {
    use crate::support::tap::Event;
    let home = temp_dir();
    let dir = home.path().join("log");
    let (mut recycled, mut unfilled) = (0, 0);
    for incarnation in 1..4 {
        let tap = Tap::new(&dir);
        let (log, mut writer) = open_one(tiny(&dir).disk(tap.clone()));
        for n in 0..90 {
            // The first ahead, the rest when the writer stands still: such a segment is not filled.
            if n < 20 {
                log.prepare();
            }
            commit(&log, &mut writer, &format!("{n}"));
        }
        unfilled += writer.stats().unfilled;
        let events = tap.events();
        let mut segments = 0;
        for (index, event) in events.iter().enumerate() {
            let Event::Batch(path, 1024, _) = event else { continue };
            segments += 1;
            let before = &events[..index];
            let last = |wanted: &dyn Fn(&Event) -> bool| before.iter().rposition(wanted);
            // A recycled file is still called by its old name here.
            let named = last(&|it| match it {
                Event::Create(name) | Event::Rename(name, _) => name == path,
                _ => false,
            });
            let named = named.unwrap();
            let folder = path.parent().unwrap();
            let folder_synced =
                before[named..].iter().position(|it| *it == Event::SyncDir(folder.into()));
            let folder_synced = named + folder_synced.unwrap();
            let header = before[named..].iter().position(|it| *it == Event::WriteAt(path.clone()));
            let header = named + header.unwrap();
            let synced =
                before[header..].iter().position(|it| *it == Event::SyncFile(path.clone()));
            assert!(synced.is_some(), "{path:?}");
            let is_recycled = matches!(events[named], Event::Rename(..));
            // A recycled file gets its header only when its new name is durable.
            assert!(!is_recycled || folder_synced < header, "{path:?}");
            recycled += usize::from(is_recycled);
            let folders = last(&|it| *it == Event::SyncDir(Path::new("").into())).unwrap();
            let folder_made = events.iter().position(|it| *it == Event::Create(folder.into()));
            assert!(folder_made.unwrap() < folders, "the folder's own name");
        }
        assert!(segments > 2, "incarnation {incarnation}: {segments} segments");
    }
    assert!(recycled > 0 && unfilled > 0, "{recycled} recycled, {unfilled} unfilled");
}

/// Defect 34: the directory of a new log is durable too, also one that is named relative to the process.
#[test]
fn the_name_of_a_new_log_is_durable() {
    use crate::support::tap::Event;
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    drop(open(tiny(&dir).disk(tap.clone())));
    let events = tap.events();
    assert_eq!(events[0], Event::Create(Path::new("").into()));
    assert_eq!(events[1], Event::SyncDir(home.path().into()));
    // A relative name cannot be tried without changing the working directory of all tests: one that the
    // system refuses, after its parent was asked for.
    let tap = Tap::new(Path::new("none"));
    tap.state().budget = Some(0);
    Log::recover(tiny(Path::new("corewal-relative")).disk(tap.clone())).unwrap_err();
    tap.state().budget = Some(2);
    let outcome = Log::recover(tiny(Path::new("corewal-relative")).disk(tap.clone()));
    std::fs::remove_file("corewal-relative/LOCK").unwrap();
    std::fs::remove_dir("corewal-relative").unwrap();
    drop(outcome);
    assert_eq!(tap.events()[1], Event::SyncDir(Path::new(".").into()));
}

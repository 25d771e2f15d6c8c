//! The method by which batches become durable: it is switched between segments, measured beside the log, and
//! remembered in the directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corewal::inspect::{self, Inspection};
use corewal::{
    AccessWish, Capabilities, Engine, Log, Options, Policy, Preparing, ShardWriter, SyncMethod,
    SyncReason,
};
use corewal_disk::Durability;

use crate::support::tap::{Event, Hook, Tap};
use crate::support::{append, commit, edit, open, open_one, recovered, temp_dir, tiny};

const METHODS: [SyncMethod; 3] = [SyncMethod::Dsync, SyncMethod::AfterWrite, SyncMethod::Linked];
const HERE: &str = "a device with slow durable writes";

fn durability(method: SyncMethod) -> Durability {
    match method {
        SyncMethod::AfterWrite => Durability::Written,
        SyncMethod::Linked => Durability::LinkedSync,
        _ => Durability::Dsync,
    }
}

/// What the batches in each segment were, in order.
fn batches(events: &[Event]) -> BTreeMap<PathBuf, Vec<Durability>> {
    let mut found: BTreeMap<PathBuf, Vec<Durability>> = BTreeMap::new();
    for event in events {
        if let Event::Batch(file, _, durability) = event
            && file.starts_with("shard-0000")
        {
            found.entry(file.clone()).or_default().push(*durability);
        }
    }
    found
}

/// Commits until the next segment is begun; returns what was written.
fn rotate(log: &Log, writer: &mut ShardWriter, texts: &mut Vec<String>) {
    let before = writer.stats().rotations;
    while writer.stats().rotations == before {
        let text = format!("{} {}", texts.len(), "x".repeat(700));
        commit(log, writer, &text);
        texts.push(text);
    }
}

#[test]
fn a_switch_waits_for_the_next_segment() {
    for engine in [Engine::Auto, Engine::Blocking] {
        for (from, to) in METHODS.iter().flat_map(|from| METHODS.map(|to| (*from, to))) {
            let home = temp_dir();
            let dir = home.path().join("log");
            let tap = Tap::new(&dir);
            let options = tiny(&dir).engine(engine).sync_method(from);
            let (log, mut writer) = open_one(options.clone().disk(tap.clone()));
            assert_eq!(log.capabilities().sync_methods[0].1, None, "before the first batch");
            let mut texts = vec!["first".to_owned()];
            commit(&log, &mut writer, "first");
            log.switch_sync_method(to);
            let capabilities = log.capabilities();
            assert_eq!(capabilities.sync_method, to);
            assert_eq!(capabilities.sync_methods[0].1, Some(from), "the segment goes on");
            rotate(&log, &mut writer, &mut texts);
            assert_eq!(log.capabilities().sync_methods[0].1, Some(to));
            assert_eq!(writer.stats().method_switches, u64::from(from != to));
            let found = batches(&tap.events());
            let [first, second] = [0, 1].map(|index| found.values().nth(index).unwrap().clone());
            assert!(first.len() > 2 && first.iter().all(|it| *it == durability(from)), "{first:?}");
            assert!(second.iter().all(|it| *it == durability(to)), "{second:?}");
            drop((writer, log));
            assert_eq!(recovered(options), texts, "{engine:?} {from:?} {to:?}");
        }
    }
}

/// Batches of both methods in flight at once, over the boundary of two segments.
#[test]
fn what_is_in_flight_at_a_switch_is_completed_as_it_was_begun() {
    for (from, to) in METHODS.iter().flat_map(|from| METHODS.map(|to| (*from, to))) {
        let home = temp_dir();
        let dir = home.path().join("log");
        let options = tiny(&dir).engine(Engine::Auto).sync_method(from).depth(8);
        let (log, mut writer) = open_one(options.clone());
        let mut texts = Vec::new();
        for number in 0..60 {
            if number % 10 == 5 {
                log.switch_sync_method(if number % 20 == 5 { to } else { from });
            }
            let text = format!("{number} {}", "y".repeat(400));
            append(&log, &mut writer, &text);
            texts.push(text);
            writer.turn().unwrap();
        }
        writer.sync().unwrap();
        assert_eq!(writer.frontier().0, 60, "{from:?} {to:?}");
        assert!(writer.stats().rotations > 3);
        drop((writer, log));
        assert_eq!(recovered(options), texts, "{from:?} {to:?}");
    }
}

#[test]
fn another_policy_keeps_its_own_syncs() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let options = tiny(&dir).policy(Policy::OnDemand).sync_method(SyncMethod::Linked);
    let (log, mut writer) = open_one(options);
    log.switch_sync_method(SyncMethod::Dsync);
    let capabilities = log.capabilities();
    assert_eq!(capabilities.sync_method, SyncMethod::AfterWrite);
    assert_eq!(capabilities.sync_reason, SyncReason::Policy);
    commit(&log, &mut writer, "one");
    assert_eq!(writer.stats().method_switches, 0);
}

/// A log that measures: threads of its own, and a device on which syncs beat durable writes.
fn measuring(dir: &Path, tap: &Arc<Tap>) -> Options {
    {
        let mut state = tap.state();
        state.device = Some(HERE);
        state.dsync_takes = Some(Duration::from_millis(2));
    }
    tiny(dir)
        .disk(tap.clone())
        .preparing(Preparing::Thread)
        .access(AccessWish::Buffered)
        .sync_method(SyncMethod::Auto)
}

/// Waits for what the prober answers.
fn answered(log: &Log) -> Capabilities {
    loop {
        let capabilities = log.capabilities();
        if capabilities.sync_reason != SyncReason::Measuring {
            return capabilities;
        }
        std::thread::yield_now();
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_faster_method_is_measured_taken_at_a_rotation_and_remembered() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let options = measuring(&dir, &tap);
    // Nothing is measured before the first batch is durable.
    let (begin, may_begin) = mpsc::channel::<()>();
    let may_begin = Mutex::new(Some(may_begin));
    let hook = move || {
        if let Some(may_begin) = may_begin.lock().unwrap().take() {
            may_begin.recv().unwrap();
        }
    };
    let hook = Hook(Arc::new(Mutex::new(hook)));
    tap.state().on_open = Some(("PROBE-buffered-zero-filled-0".into(), hook));
    let (log, mut writer) = open_one(options.clone());
    let mut texts = vec!["first".to_owned()];
    commit(&log, &mut writer, "first");
    assert_eq!(log.capabilities().sync_reason, SyncReason::Measuring);
    begin.send(()).unwrap();
    let capabilities = answered(&log);
    assert_eq!(capabilities.sync_method, SyncMethod::AfterWrite, "{}", capabilities.sync_reason);
    let SyncReason::Measured(speeds) = &capabilities.sync_reason else {
        panic!("{:?}", capabilities.sync_reason)
    };
    assert_eq!(speeds.len(), 2, "a synchronous ring has no links");
    assert_eq!(capabilities.sync_methods[0].1, Some(SyncMethod::Dsync), "not in mid-segment");
    rotate(&log, &mut writer, &mut texts);
    let found = batches(&tap.events());
    let kinds: Vec<&[Durability]> = found.values().map(Vec::as_slice).collect();
    assert!(kinds[0].len() > 2 && kinds[0].iter().all(|it| *it == Durability::Dsync));
    assert!(kinds[1].iter().all(|it| *it == Durability::Written));
    writer.close().unwrap();
    log.close().unwrap();
    let names = names(&dir);
    assert!(names.contains(&"SYNC-METHOD".to_owned()), "{names:?}");
    assert!(!names.iter().any(|it| it.starts_with("PROBE-")), "{names:?}");

    let remembered = inspect::remembered(&options).unwrap();
    assert_eq!((remembered.device.as_str(), remembered.method), (HERE, SyncMethod::AfterWrite));
    // The next opening knows it from its first segment on.
    let (log, mut writer) = open_one(options.clone());
    let capabilities = log.capabilities();
    assert_eq!(capabilities.sync_method, SyncMethod::AfterWrite);
    assert_eq!(capabilities.sync_reason, SyncReason::Remembered(remembered.speeds));
    texts.push("again".into());
    commit(&log, &mut writer, "again");
    assert_eq!(log.capabilities().sync_methods[0].1, Some(SyncMethod::AfterWrite));
    drop((writer, log));
    assert_eq!(recovered(options), texts);
}

/// A log whose device was measured; its directory has the answer.
fn measured(dir: &Path) -> (Arc<Tap>, Options) {
    let tap = Tap::new(dir);
    let options = measuring(dir, &tap);
    let log = open(options.clone());
    assert!(matches!(answered(&log).sync_reason, SyncReason::Measured(_)));
    log.close().unwrap();
    (tap, options)
}

#[test]
fn an_answer_counts_only_where_it_was_measured() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (tap, options) = measured(&dir);
    // Without threads nothing is measured again.
    let options = options.preparing(Preparing::Manual);
    let known = |options: Options| {
        let log = open(options);
        matches!(log.capabilities().sync_reason, SyncReason::Remembered(_))
    };
    assert!(known(options.clone()));
    assert!(!known(options.clone().depth(2)));
    assert!(!known(options.clone().engine(Engine::Auto)));
    assert!(!known(options.clone().access(AccessWish::Direct)));
    tap.state().device = Some("another device");
    assert!(!known(options.clone()));
    tap.state().device = Some(HERE);
    assert!(known(options.clone()));
    edit(&dir.join("SYNC-METHOD"), |bytes| bytes[40] ^= 1);
    assert!(!known(options.clone()), "a damaged answer is none");
    assert_eq!(inspect::remembered(&options), None);
    std::fs::remove_file(dir.join("SYNC-METHOD")).unwrap();
    assert!(!known(options));
}

#[test]
fn what_measuring_leaves_is_nobodys_damage() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let options = tiny(&dir);
    let (log, mut writer) = open_one(options.clone());
    commit(&log, &mut writer, "one");
    drop((writer, log));
    // A process was killed while it measured, or while it wrote its answer down.
    std::fs::write(dir.join("PROBE-direct-zero-filled-0"), [0; 8192]).unwrap();
    std::fs::write(dir.join("SYNC-METHOD-next"), "half an ans").unwrap();
    std::fs::write(dir.join("SYNC-METHOD"), "no answer at all").unwrap();
    let inspection = Inspection::read(&options).unwrap();
    assert!(inspection.damage().is_empty() && inspection.foreign().is_empty());
    assert_eq!(recovered(options.clone()), ["one"], "a recovery removes nothing");
    assert!(names(&dir).iter().any(|it| it.starts_with("PROBE-")));
    drop(open(options));
    assert!(!names(&dir).iter().any(|it| it.starts_with("PROBE-")));
}

#[test]
fn a_close_ends_the_measurement() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let tap = Tap::new(&dir);
    let options = measuring(&dir, &tap);
    // Longer than anybody waits, if it were gone through.
    tap.state().dsync_takes = Some(Duration::from_millis(50));
    let (begun, has_begun) = mpsc::channel::<()>();
    let hook = Hook(Arc::new(Mutex::new(move || {
        // The test has seen the first one, and may be gone.
        let _ = begun.send(());
    })));
    tap.state().on_open = Some(("PROBE-buffered-zero-filled-0".into(), hook));
    let log = open(options);
    has_begun.recv().unwrap();
    assert_eq!(log.capabilities().sync_reason, SyncReason::Measuring);
    log.close().unwrap();
    let names = names(&dir);
    assert!(!names.iter().any(|it| it.starts_with("PROBE-")), "{names:?}");
    assert!(!names.contains(&"SYNC-METHOD".to_owned()), "nothing was found out: {names:?}");
}

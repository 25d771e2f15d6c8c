//! What a subscriber of `tracing` is told.
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

use std::fmt::Debug;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corewal::{
    AccessWish, Engine, Kind, Log, Options, Pinning, Producer, RecoverError, ShardWriter,
};
use corewal_disk::sim::{DirectIo, SimDisk, SimOptions};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Events as `LEVEL message field=value ...`, in order.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields += &format!(" {name}={value:?}"),
        }
    }
}

impl Subscriber for Told {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "corewal"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        panic!("there are no spans");
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line { message: String::new(), fields: String::new() };
        event.record(&mut line);
        let level: &Level = event.metadata().level();
        self.0.lock().unwrap().push(format!("{level} {}{}", line.message, line.fields));
    }
}

impl Told {
    /// What was told while `run` ran on this thread.
    fn during<T>(run: impl FnOnce() -> T) -> (Vec<String>, T) {
        let told = Self::default();
        let result = tracing::subscriber::with_default(told.clone(), run);
        let lines = std::mem::take(&mut *told.0.lock().unwrap());
        (lines, result)
    }
}

fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn small(dir: &Path) -> Options {
    Options::new(dir)
        .engine(Engine::Blocking)
        .vouch_after(Duration::from_secs(3600))
        .segment_len(256 << 10)
        .first_segment_len(256 << 10)
        .write_len(16 << 10)
        .max_batch(64 << 10)
        .max_record(32 << 10)
}

fn open(options: Options) -> (Log, ShardWriter) {
    let mut log = Log::recover(options).unwrap().open().unwrap();
    let writer = log.take_seats().remove(0).sit().unwrap();
    (log, writer)
}

fn assert_order(told: &[String], expected: &[&str]) {
    let mut rest = told.iter();
    for start in expected {
        assert!(rest.any(|it| it.starts_with(start)), "no `{start}` in its place in {told:#?}");
    }
}

#[test]
fn a_life_of_a_log_is_told() {
    let temp = temp_dir();
    let dir = temp.path().join("log");
    let (told, ()) = Told::during(|| {
        let (log, mut writer) = open(small(&dir));
        while writer.stats().rotations < 2 {
            _ = writer.append_bytes(Kind::PUT, &[7; 10_000]);
            writer.sync().unwrap();
        }
        writer.turn().unwrap();
        let epoch = writer.close_epoch().unwrap();
        writer.sync().unwrap();
        log.checkpoint(epoch, b"a snapshot").unwrap();
        writer.close().unwrap();
        log.close().unwrap();
    });
    assert_order(
        &told,
        &[
            "INFO recovered dir=",
            "INFO opened dir=",
            "INFO ring shard=0 engine=Blocking",
            "DEBUG segment is full shard=0 segment=",
            "INFO checkpoint epoch=1 segments=",
            "INFO closed dir=",
        ],
    );
    assert!(told.iter().any(|it| it.contains("left_open=0")), "{told:#?}");
}

/// The disk that keeps nothing falls back from every ring, and says so.
#[test]
fn a_fallback_is_told_with_its_reason() {
    let (told, _) =
        Told::during(|| open(Options::new("/nowhere").disk(Arc::new(corewal::NullDisk::new()))));
    assert_order(&told, &["WARN fallback shard=0 engine=Blocking reason=nothing is written"]);
}

#[test]
fn segments_that_go_through_the_page_cache_are_told_unless_that_was_wished_for() {
    let told_with = |wish| {
        let disk = SimDisk::with(SimOptions::new(1).direct(DirectIo::Refused));
        let options = Options::new("/log").disk(Arc::new(disk)).access(wish);
        let (told, _) = Told::during(|| open(options));
        told.into_iter().filter(|it| it.starts_with("WARN buffered")).collect::<Vec<_>>()
    };
    let expected = "WARN buffered shard=0 access=through the page cache: no direct I/O here";
    assert_eq!(told_with(AccessWish::Direct), [expected]);
    assert!(told_with(AccessWish::Buffered).is_empty());
}

#[test]
fn a_failure_is_told_once() {
    let temp = temp_dir();
    let (told, ()) = Told::during(|| {
        let (log, writer) = open(small(&temp.path().join("log")));
        drop(writer);
        drop(log);
    });
    let failures: Vec<_> = told.iter().filter(|it| it.starts_with("ERROR failure")).collect();
    assert_eq!(failures, ["ERROR failure shard=0 cause=its writer was dropped"]);
}

#[test]
fn damage_is_told_with_its_place() {
    let temp = temp_dir();
    let dir = temp.path().join("log");
    let (log, mut writer) = open(small(&dir));
    for _ in 0..3 {
        let stamp = writer.append_bytes(Kind::PUT, b"an event").unwrap();
        writer.wait(stamp).unwrap();
    }
    writer.close().unwrap();
    log.close().unwrap();
    let segment = dir.join("shard-0000").join("0000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    // Inside the second batch.
    bytes[3 * 4096 + 20] ^= 1;
    std::fs::write(&segment, bytes).unwrap();

    let (told, refused) = Told::during(|| {
        Log::recover(small(&dir)).and_then(|mut recovery| {
            while recovery.next_entry()?.is_some() {}
            Ok(())
        })
    });
    let Err(RecoverError::Damaged(damage)) = refused else { panic!("{refused:?}") };
    let expected = format!("at={} damage={damage}", damage.at);
    let line = told.iter().find(|it| it.starts_with("ERROR damage dir=")).unwrap();
    assert!(line.ends_with(&expected), "{line}");
}

/// What the subscriber of the test below calls.
type Held = Arc<Mutex<Option<(Arc<Log>, Option<Producer>)>>>;

/// A subscriber is a user's code: it may call the log, so no lock is held when it is called.
#[test]
fn a_subscriber_may_call_the_log() {
    struct Caller(Held);

    impl Subscriber for Caller {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "corewal"
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            panic!("there are no spans");
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}

        fn event(&self, _: &Event<'_>) {
            let held = self.0.lock().unwrap().clone();
            let Some((log, producer)) = held else { return };
            _ = log.prepare();
            _ = log.retention();
            _ = log.stats();
            _ = log.failures();
            if let Some(producer) = producer {
                _ = producer.try_append_bytes(Kind::PUT, b"from a subscriber");
            }
        }
    }

    let held = Held::default();
    // Threads of the log have no subscriber of their own.
    tracing::subscriber::set_global_default(Caller(Arc::clone(&held))).unwrap();
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let temp = temp_dir();
        let (log, mut writer) = open(small(&temp.path().join("own-thread")));
        let log = Arc::new(log);
        *held.lock().unwrap() = Some((Arc::clone(&log), None));
        while writer.stats().rotations < 2 {
            _ = writer.append_bytes(Kind::PUT, &[7; 10_000]);
            writer.sync().unwrap();
        }
        let epoch = writer.close_epoch().unwrap();
        writer.sync().unwrap();
        log.checkpoint(epoch, b"").unwrap();
        drop(writer);

        let mut log = Log::recover(small(&temp.path().join("producers"))).unwrap().open().unwrap();
        let producer = log.start_writers(Pinning::Unpinned).unwrap().remove(0);
        let log = Arc::new(log);
        *held.lock().unwrap() = Some((Arc::clone(&log), Some(producer.clone())));
        while log.stats()[0].1.rotations < 2 {
            producer.append_bytes_durable(Kind::PUT, &[7; 10_000]).unwrap();
        }
        *held.lock().unwrap() = None;
        done.send(()).unwrap();
    });
    let limit = Duration::from_secs(60);
    assert!(is_done.recv_timeout(limit).is_ok(), "a lock was held when the subscriber was called");
}

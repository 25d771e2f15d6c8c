//! What one append costs besides its CRC: no allocation, no system call, one copy.
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

#[path = "hot_path/tap.rs"]
mod tap;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use corewal::{
    AppendError, Engine, Kind, Log, Options, Preparing, Record, SchemaId, ShardWriter, Stamp, Turn,
};
use tap::Tap;

/// The system's allocator, counting what the thread allocates.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: passes everything on to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// 128 bytes.
#[derive(rkyv::Archive, rkyv::Serialize, Clone, Copy)]
struct Fixed {
    fields: [u64; 16],
}

impl Record for Fixed {}

#[derive(rkyv::Archive, rkyv::Serialize, Clone)]
struct Flight {
    date: String,
    origin: String,
    destination: String,
    delay: i32,
    distance: u32,
}

impl Record for Flight {}

fn flight() -> Flight {
    Flight {
        // Longer than what rkyv keeps inside the struct.
        date: "2001/01/01 00:47 local time".into(),
        origin: "Detroit Metropolitan".into(),
        destination: "LAS".into(),
        delay: 66,
        distance: 1750,
    }
}

/// No vouch and no rotation comes between.
fn options(dir: &Path, engine: Engine) -> Options {
    Options::new(dir)
        .engine(engine)
        .first_segment_len(64 << 20)
        .vouch_after(Duration::from_secs(3600))
}

/// The engines that can be had here.
fn engines() -> Vec<Engine> {
    let temp = temp_dir();
    let mut log = Log::recover(Options::new(temp.path().join("log")).engine(Engine::Uring))
        .unwrap()
        .open()
        .unwrap();
    match log.take_seats().remove(0).sit() {
        Ok(_) => vec![Engine::Uring, Engine::Blocking],
        Err(refusal) => {
            println!("SKIPPED: io_uring: {refusal}");
            vec![Engine::Blocking]
        }
    }
}

fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn with_writer(options: Options, run: impl FnOnce(&mut ShardWriter)) {
    let mut log = Log::recover(options).unwrap().open().unwrap();
    // For those who prepare by hand; the thread does it otherwise.
    while log.prepare() {}
    let mut writer = log.take_seats().remove(0).sit().unwrap();
    run(&mut writer);
    writer.close().unwrap();
    log.close().unwrap();
}

type Append<'a> = &'a dyn Fn(&mut ShardWriter) -> Result<Stamp, AppendError>;

/// Allocations of the appends alone, and of everything, over many rounds of several appends.
fn allocations(writer: &mut ShardWriter, append: Append<'_>) -> (u64, u64) {
    let mut round = || {
        let mut of_appends = 0;
        let mut last = None;
        for _ in 0..64 {
            let before = COUNT.get();
            last = Some(append(writer).unwrap());
            of_appends += COUNT.get() - before;
        }
        writer.wait(last.unwrap()).unwrap();
        of_appends
    };
    for _ in 0..20 {
        round();
    }
    let before = COUNT.get();
    assert!(before > 0, "the counter counts");
    let of_appends = (0..50).map(|_| round()).sum();
    (of_appends, COUNT.get() - before)
}

/// Defect 44.
#[test]
fn an_append_allocates_nothing() {
    let bytes = [7; 128];
    let fixed = Fixed { fields: [7; 16] };
    let flight = flight();
    let appends: [(&str, Append<'_>); 4] = [
        ("bytes", &|writer| writer.append_bytes(Kind::PUT, &bytes)),
        ("fixed struct", &|writer| writer.append(&fixed)),
        ("struct with strings", &|writer| writer.append(&flight)),
        ("codec", &|writer| {
            writer.append_with(Kind::PUT, 200, |room| {
                room[..128].copy_from_slice(&bytes);
                Ok(128)
            })
        }),
    ];
    for engine in engines() {
        let temp = temp_dir();
        with_writer(options(&temp.path().join("log"), engine), |writer| {
            for (name, append) in appends {
                let (of_appends, of_all) = allocations(writer, append);
                println!("{engine:?}, {name}: {of_appends} and {of_all} allocations");
                assert_eq!(of_appends, 0, "allocations of appends: {engine:?}, {name}");
                assert_eq!(of_all, 0, "allocations of turns and sleeps: {engine:?}, {name}");
            }
        });
    }
}

/// Futures of acknowledgements, 64 at once: polled, pending, woken, ready.
#[test]
fn waiting_for_an_entry_by_a_future_allocates_nothing() {
    for engine in engines() {
        let temp = temp_dir();
        let options = options(&temp.path().join("log"), engine);
        let mut log = Log::recover(options).unwrap().open().unwrap();
        let mut writer = log.take_seats().remove(0).sit().unwrap();
        let mut context = Context::from_waker(Waker::noop());
        let mut futures = Vec::with_capacity(64);
        let mut pending = 0;
        let mut round = || {
            futures.extend((0..64).map(|_| {
                let stamp = writer.append_bytes(Kind::PUT, &[7; 128]).unwrap();
                log.durable(stamp)
            }));
            for future in &mut futures {
                pending += u64::from(Pin::new(future).poll(&mut context).is_pending());
            }
            writer.sync().unwrap();
            for mut future in futures.drain(..) {
                assert!(matches!(Pin::new(&mut future).poll(&mut context), Poll::Ready(Ok(()))));
            }
        };
        (0..20).for_each(|_| round());
        let before = COUNT.get();
        (0..50).for_each(|_| round());
        assert_eq!(COUNT.get() - before, 0, "{engine:?}: allocations of 3,200 futures");
        assert_eq!(pending, 70 * 64, "each has waited");
        writer.close().unwrap();
        log.close().unwrap();
    }
}

#[test]
fn an_append_makes_no_call_and_a_batch_at_most_two() {
    for engine in engines() {
        let temp = temp_dir();
        // A segment that gets ready would wake the writer.
        let options = options(&temp.path().join("log"), engine).preparing(Preparing::Manual);
        with_writer(options, |writer| {
            let start = writer.stats();
            for _ in 0..5000 {
                writer.append_bytes(Kind::PUT, &[7; 128]).unwrap();
            }
            assert_eq!(writer.stats().ring_calls, start.ring_calls, "{engine:?}: calls of appends");
            writer.sync().unwrap();

            let before = writer.stats();
            for _ in 0..300 {
                let stamp = writer.append_bytes(Kind::PUT, &[7; 128]).unwrap();
                while writer.turn().unwrap() == Turn::Sleep && writer.frontier() < stamp.seq {
                    writer.sleep(None).unwrap();
                }
            }
            let after = writer.stats();
            let batches = after.batches - before.batches;
            let calls = after.ring_calls - before.ring_calls;
            println!("{engine:?}: {calls} calls for {batches} batches, one at a time");
            assert_eq!(batches, 300);
            assert!(calls <= 2 * batches, "{engine:?}: {calls} calls for {batches} batches");

            let before = writer.stats();
            for _ in 0..300 {
                let stamp = writer.append_bytes(Kind::PUT, &[7; 128]).unwrap();
                writer.wait(stamp).unwrap();
            }
            let after = writer.stats();
            let calls = after.ring_calls - before.ring_calls;
            println!("{engine:?}: {calls} calls for 300 commits that are waited for");
            // A durable write is one call on Linux alone.
            let of_one = if cfg!(target_os = "linux") { 1 } else { 2 };
            assert_eq!(calls, 300 * of_one, "{engine:?}");

            let before = writer.stats();
            for _ in 0..1000 {
                assert!(matches!(writer.turn().unwrap(), Turn::Idle(_)));
            }
            assert_eq!(writer.stats().ring_calls, before.ring_calls, "{engine:?}: idle turns");
        });
    }
}

/// What is in the block when the ring gets it stands where the codec wrote it, and nowhere else: the
/// memory that an append fills is the memory that the kernel reads.
#[test]
fn the_bytes_are_copied_once() {
    for engine in engines() {
        let temp = temp_dir();
        let tap = Arc::new(Tap::new());
        let options = options(&temp.path().join("log"), engine).disk(tap.clone());
        with_writer(options, |writer| {
            let mut filled = Vec::new();
            for count in 0..500_u64 {
                let stamp = writer
                    .append_with(Kind::PUT, 100, |room| {
                        room[..8].copy_from_slice(&count.to_le_bytes());
                        room[8..100].fill(0xA5);
                        filled.push((room.as_ptr().addr(), count));
                        Ok(100)
                    })
                    .unwrap();
                if count % 7 == 0 {
                    writer.wait(stamp).unwrap();
                }
            }
            writer.sync().unwrap();
            let writes = tap.take();
            assert!(writes.len() > 70, "{} writes", writes.len());
            let mut filled = filled.into_iter().peekable();
            for write in &writes {
                let block = write.address..write.address + write.bytes.len();
                while let Some((address, count)) = filled.next_if(|(it, _)| block.contains(it)) {
                    let at = address - write.address;
                    assert_eq!(write.bytes[at..at + 8], count.to_le_bytes());
                    assert!(write.bytes[at + 8..at + 100].iter().all(|&byte| byte == 0xA5));
                    if count % 7 == 0 {
                        break;
                    }
                }
            }
            assert_eq!(filled.next(), None, "{engine:?}: filled elsewhere than what was written");
        });
    }
}

/// A typed record is archived in the block: what the ring gets is what a reader accesses in place.
#[test]
fn a_record_is_archived_in_the_block() {
    let temp = temp_dir();
    let dir = temp.path().join("log");
    let tap = Arc::new(Tap::new());
    with_writer(options(&dir, Engine::Auto).schema(SchemaId(5)).disk(tap.clone()), |writer| {
        let stamp = writer.append(&flight()).unwrap();
        writer.wait(stamp).unwrap();
    });
    let written = tap.take();
    let mut reader = Log::read(Options::new(&dir)).unwrap();
    let entry = reader.next_entry().unwrap().unwrap();
    let archived = entry.archived::<Flight>(SchemaId(5)).unwrap();
    assert_eq!(
        (archived.origin.as_str(), archived.distance.to_native()),
        ("Detroit Metropolitan", 1750)
    );
    let is_inside = written[0].bytes.windows(entry.bytes().len()).any(|it| it == entry.bytes());
    assert!(is_inside, "the archive stands in the first write");
}

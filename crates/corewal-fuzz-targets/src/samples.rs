//! Valid logs to start from, the same at every run.

use std::path::PathBuf;
use std::sync::OnceLock;

use corewal::{Kind, Log, LogId, Options, ShardWriter};
use corewal_format::{
    Checkpoint, Epoch, Generation, Incarnation, Manifest, Seq, Void, VoidCause, manifest_name,
};

use crate::DIR;
use crate::check::options;
use crate::memory::MemoryDisk;

/// Every file of a log with its bytes.
type Files = Vec<(PathBuf, Vec<u8>)>;

/// How many samples there are.
pub const SAMPLE_COUNT: usize = 4;

/// Sample `index`: a log of one incarnation that crashed; of three, the first closed; the same with a checkpoint
/// and a void; one with a retired shard.
#[must_use]
pub fn sample(index: usize) -> MemoryDisk {
    static SAMPLES: OnceLock<Vec<Files>> = OnceLock::new();
    let samples = SAMPLES.get_or_init(|| (0..SAMPLE_COUNT).map(|it| make(it).files()).collect());
    let disk = MemoryDisk::default();
    for (path, bytes) in &samples[index % SAMPLE_COUNT] {
        disk.put(path, bytes.clone());
    }
    disk
}

fn make(index: usize) -> MemoryDisk {
    let disk = created();
    match index {
        0 => crash(options(&disk)),
        1 => three_incarnations(&disk),
        2 => {
            three_incarnations(&disk);
            void(&disk);
        }
        _ => {
            close(options(&disk));
            close(options(&disk).shards(1));
            crash(options(&disk).shards(1));
        }
    }
    disk
}

/// An empty log, whose identity is not drawn at random.
fn created() -> MemoryDisk {
    let disk = MemoryDisk::default();
    for generation in [Generation(1), Generation(2)] {
        let manifest = Manifest {
            log: LogId(*b"fuzzed log no. 1"),
            generation,
            incarnation: Incarnation(0),
            committed_epoch: Epoch(0),
            first_epoch: Epoch(1),
            pipeline_bound: 0,
            checkpoint: None,
            shards: Vec::new(),
        };
        disk.put(format!("{DIR}/{}", manifest_name(generation)), manifest.encode());
    }
    disk
}

fn three_incarnations(disk: &MemoryDisk) {
    close(options(disk));
    crash(options(disk));
    crash(options(disk));
}

/// An incarnation that ends with a close.
fn close(options: Options) {
    let log = write(options, |writer| {
        writer.close().expect("memory does not fail");
    });
    log.close().expect("memory does not fail");
}

/// An incarnation that ends without one.
fn crash(options: Options) {
    drop(write(options, drop));
}

fn write(options: Options, end: fn(ShardWriter)) -> Log {
    let recovery = Log::recover(options).expect("the samples are valid");
    let mut log = recovery.open().expect("the samples are valid");
    let mut writers: Vec<ShardWriter> =
        log.take_seats().into_iter().map(|seat| seat.sit().expect("memory gives a ring")).collect();
    for round in 0..3_u8 {
        for writer in &mut writers {
            append(writer, &[round; 20]);
            append(writer, b"");
            settle(writer);
            append(writer, &[0; 500]);
            settle(writer);
        }
        log.prepare();
        for writer in writers.iter_mut().filter(|_| round == 1) {
            writer.close_epoch().expect("there is room for a barrier");
            settle(writer);
        }
    }
    for writer in &mut writers {
        writer.seal_promises();
        settle(writer);
    }
    writers.into_iter().for_each(end);
    log
}

fn append(writer: &mut ShardWriter, bytes: &[u8]) {
    // The tiny segments of the samples may be full.
    let _ = writer.append_bytes(Kind::PUT, bytes);
}

fn settle(writer: &mut ShardWriter) {
    for _ in 0..4 {
        writer.turn().expect("memory does not fail");
    }
}

/// Gives up the second batch of the first run, and records a checkpoint.
fn void(disk: &MemoryDisk) {
    let files = disk.files();
    let slots = files.iter().filter(|(path, _)| path.to_string_lossy().contains("MANIFEST-"));
    let (path, mut manifest) = slots
        .filter_map(|(path, bytes)| Some((path, Manifest::decode(bytes).ok()?)))
        .max_by_key(|(_, manifest)| manifest.generation)
        .expect("the samples are valid");
    let run = &mut manifest.shards[0].runs[0];
    run.voids.push(Void {
        from_segment: run.first_segment,
        from_at: 1536,
        to_segment: run.first_segment,
        to_at: 2560,
        first_batch: run.first_batch.next(),
        last_batch: run.first_batch.next(),
        first_seq: Seq(3),
        last_seq: Seq(3),
        cause: VoidCause::Salvaged,
    });
    manifest.checkpoint = Some(Checkpoint { epoch: Epoch(1), bytes: b"a checkpoint".to_vec() });
    disk.put(path, manifest.encode());
}

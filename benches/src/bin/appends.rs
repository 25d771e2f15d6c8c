//! A given number of appends of 128 bytes and nothing else, for a profiler that counts instructions:
//! `scripts/count-instructions`.
#![expect(clippy::unwrap_used, reason = "a benchmark says by panicking what failed")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use corewal::{AppendError, Kind, Log, NullDisk, Options, ShardWriter, Stamp};
use corewal_benches::payload::{Fixed, Flight};

#[derive(Parser)]
struct Arguments {
    /// What is appended.
    #[arg(value_enum)]
    payload: Payload,
    /// How many times.
    count: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Payload {
    Bytes,
    Fixed,
    Strings,
}

fn main() {
    let arguments = Arguments::parse();
    let options = Options::new("/null/log")
        .disk(Arc::new(NullDisk::new()))
        .first_segment_len(1 << 30)
        .segment_len(1 << 30)
        .vouch_after(Duration::from_secs(3600));
    let mut log = Log::recover(options).unwrap().open().unwrap();
    let mut writer = log.take_seats().remove(0).sit().unwrap();
    let bytes = [0xA5; 128];
    let (fixed, flight) = (Fixed::example(), Flight::example());
    for _ in 0..arguments.count {
        match arguments.payload {
            Payload::Bytes => {
                append(&mut writer, |it| it.append_bytes(Kind::PUT, black_box(&bytes)));
            }
            Payload::Fixed => append(&mut writer, |it| it.append(black_box(&fixed))),
            Payload::Strings => append(&mut writer, |it| it.append(black_box(&flight))),
        }
    }
    writer.close().unwrap();
}

/// Appends; a turn comes only when all blocks are full.
fn append(
    writer: &mut ShardWriter,
    append: impl Fn(&mut ShardWriter) -> Result<Stamp, AppendError>,
) {
    loop {
        match append(writer) {
            Ok(stamp) => {
                // Field by field: a copy of the whole right after it was written waits for the cache.
                black_box(stamp.epoch);
                black_box(stamp.seq);
                black_box(stamp.shard);
                return;
            }
            Err(AppendError::Full) => {
                writer.turn().unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

//! Processor time of an append, on a disk that keeps nothing and a ring that is done at once.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corewal::{AppendError, Kind, Log, NullDisk, Options, ShardWriter, Stamp};
use corewal_benches::Anything;
use corewal_benches::cell::{Answer, Asked, Figure, Outcome};
use corewal_benches::cpu::ran_ns;
use corewal_benches::payload::{Fixed, Flight};
use corewal_benches::work::{RECORD_LEN, Shape};

/// Appends between two looks at the clock.
const APPENDS: u64 = 100_000;

pub(crate) fn run(asked: &Asked, shape: Shape) -> Result<Answer, Anything> {
    let options = Options::new("/null/log")
        .disk(Arc::new(NullDisk::default()))
        .first_segment_len(1 << 30)
        .segment_len(1 << 30)
        .vouch_after(Duration::from_secs(3600));
    let mut log = Log::recover(options)?.open()?;
    let mut writer = log.take_seats().remove(0).sit()?;
    let bytes = [0xA5; RECORD_LEN];
    let (fixed, flight) = (Fixed::example(), Flight::example());
    let mut appends = |count| -> Result<(), Anything> {
        for _ in 0..count {
            match shape {
                Shape::Bytes => {
                    append(&mut writer, |it| it.append_bytes(Kind::PUT, black_box(&bytes)))
                }
                Shape::Fixed => append(&mut writer, |it| it.append(black_box(&fixed))),
                Shape::Strings => append(&mut writer, |it| it.append(black_box(&flight))),
            }?;
        }
        Ok(())
    };
    appends(APPENDS)?;
    let (start, mut count) = (ran_ns(), 0);
    let end = Instant::now() + asked.time();
    while Instant::now() < end {
        appends(APPENDS)?;
        count += APPENDS;
    }
    let each_ns = (ran_ns() - start) as f64 / count.max(1) as f64;
    writer.close()?;
    let outcome = Outcome::new("no disk").with(Figure::AppendNs, each_ns);
    Ok(Answer::Measured(outcome))
}

/// A turn comes only when all blocks are full, about every ten thousand records.
fn append(
    writer: &mut ShardWriter,
    append: impl Fn(&mut ShardWriter) -> Result<Stamp, AppendError>,
) -> Result<(), Anything> {
    loop {
        match append(writer) {
            Ok(stamp) => {
                // Field by field: a copy of the whole right after it was written waits for the cache.
                black_box(stamp.epoch);
                black_box(stamp.seq);
                black_box(stamp.shard);
                return Ok(());
            }
            Err(AppendError::Full) => {
                writer.turn()?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

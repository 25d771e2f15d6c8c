//! Jobs on a simulated disk, all cores driven from one thread: crashed anywhere, resumed on any number of cores,
//! until they end. The output must be that of the simple computation. One seed is one history.

use std::sync::Arc;

use corewal::{Preparing, Seq};
use corewal_disk::sim::{Cut, SimDisk};
use corewal_stream::{Flights, Job, JobError, Nexmark, Place, Polled, Workload, collect};

use crate::oracle;

/// SplitMix64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }
}

/// Whether checkpoints have made the log let go of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Released {
    Nothing,
    Something,
}

/// How a life ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// By itself.
    Finished(Released),
    /// The power went, or the process was killed.
    Crashed,
}

/// Runs a job on `cores` cores until it ends or the disk stops; says whether the log has let go of anything.
fn live<W: Workload>(
    disk: &Arc<SimDisk>,
    workload: &W,
    cores: u16,
    draw: &mut Draw,
) -> Result<Released, JobError> {
    let place = Place::new(disk.clone(), "/job");
    let job = Job::new(workload.clone(), place)
        .cores(cores)
        .epoch_events(50 + draw.below(400))
        .checkpoint_epochs(1 + draw.below(6))
        .log(|options| {
            options
                .preparing(Preparing::Manual)
                .segment_len(256 << 10)
                .first_segment_len(128 << 10)
                .write_len(64 << 10)
                .max_batch(192 << 10)
                .max_record(128 << 10)
        });
    let (seats, mut keeper, log) = job.resume()?.into_parts();
    let log = log.expect("the job has a log");
    let mut cores = seats.into_iter().map(|seat| seat.sit()).collect::<Result<Vec<_>, _>>()?;
    let mut finished = vec![false; cores.len()];
    while !finished.iter().all(|it| *it) {
        let index = draw.index(cores.len());
        match draw.below(40) {
            0 => keeper.step()?,
            1 | 2 => drop(log.prepare()),
            _ => {}
        }
        // A core that has finished still answers for its shard.
        match cores[index].poll()? {
            Polled::Finished => finished[index] = true,
            Polled::Busy => {}
            Polled::Idle => disk.advance(std::time::Duration::from_micros(50)),
        }
    }
    cores.into_iter().try_for_each(|core| core.close())?;
    keeper.step()?;
    drop(keeper);
    let released = log.retention().shards.iter().any(|shard| shard.released > Seq(0));
    Arc::into_inner(log).expect("nobody else has it").close()?;
    Ok(if released { Released::Something } else { Released::Nothing })
}

/// One life; the disk of the next one, and how this one ended.
fn one_life<W: Workload>(
    disk: &Arc<SimDisk>,
    workload: &W,
    crash_after: Option<u64>,
    draw: &mut Draw,
) -> (Arc<SimDisk>, End) {
    if let Some(operations) = crash_after {
        disk.crash_after(operations);
    }
    let cores = 1 + u16::try_from(draw.below(4)).unwrap();
    match live(disk, workload, cores, draw) {
        Ok(released) if !disk.is_stopped() => {
            (Arc::new(disk.power_cut(&Cut::lose_all())), End::Finished(released))
        }
        outcome => {
            assert!(disk.is_stopped(), "nothing but the crash ends a job: {outcome:?}");
            let next = match draw.below(3) {
                0 => disk.kill(),
                1 => disk.power_cut(&Cut::lose_all()),
                _ => disk.power_cut(&Cut::random(draw.below(u64::MAX))),
            };
            (Arc::new(next), End::Crashed)
        }
    }
}

/// Crashes and resumes a job until it ends; how many lives it had.
fn history<W: Workload>(seed: u64, workload: &W, wanted: &[u8]) -> (u64, Released) {
    let mut draw = Draw(seed);
    let mut disk = Arc::new(SimDisk::new(seed));
    for life in 1.. {
        // Longer and longer lives, so that every job ends.
        let crash_after = 1 + draw.below(100 * life);
        let (next, end) = one_life(&disk, workload, Some(crash_after), &mut draw);
        disk = next;
        if let End::Finished(released) = end {
            let place = Place::new(disk.clone(), "/job");
            let output = collect(&place).unwrap();
            assert!(output == wanted, "seed {seed}: another output after {life} lives");
            return (life, released);
        }
    }
    unreachable!("there are enough lives")
}

fn histories<W: Workload>(workload: &W, wanted: &[u8], seeds: std::ops::Range<u64>) {
    let count = seeds.end - seeds.start;
    let (mut lives, mut releases) = (0, 0);
    for (life, released) in seeds.map(|seed| history(seed, workload, wanted)) {
        lives += life;
        releases += u64::from(released == Released::Something);
    }
    assert!(releases * 2 > count, "the log let go of something in {releases} of {count} histories");
    assert!(lives > 3 * count, "{lives} lives in {count} histories: hardly a crash");
}

#[test]
fn flights_come_out_once_whatever_crashes() {
    let workload = Flights::new(6_000);
    histories(&workload, &oracle::flights(&workload), 0..40);
}

#[test]
fn nexmark_comes_out_once_whatever_crashes() {
    let workload = Nexmark::new(3, 4_000);
    histories(&workload, &oracle::nexmark(&workload), 0..30);
}

//! Recovering an image, and going on from it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use corewal::{AppendError, Kind, Log, Recovery, ShardWriter};

use crate::{Item, Ledger, MemoryDisk, Plan, Recovered, Rng, Violation};

/// Reads the whole stream of a recovery.
///
/// # Errors
/// [`Violation::Refused`].
pub fn read_log(recovery: &mut Recovery) -> Result<Recovered, Violation> {
    let mut recovered = Recovered {
        committed: recovery.report().committed_epoch,
        checkpoint: recovery.checkpoint().map(|it| (it.epoch, it.bytes.as_slice().into())),
        ..Recovered::default()
    };
    let mut is_beginning = true;
    loop {
        match recovery.next_entry() {
            Ok(None) => return Ok(recovered),
            Ok(Some(entry)) => {
                is_beginning &= entry.is_committed();
                recovered.committed_count += usize::from(entry.is_committed());
                if entry.is_committed() && !is_beginning {
                    return Err(Violation::CommittedMark(recovered.committed));
                }
                recovered.items.push(Item {
                    stamp: entry.stamp(),
                    kind: entry.kind(),
                    payload: entry.bytes().into(),
                    continues: entry.group_continues(),
                });
            }
            Err(error) => return Err(Violation::Refused(error.to_string())),
        }
    }
}

/// Recovers a log that a power cut left, twice; compares it with the ledger; opens it, appends, closes epochs,
/// ends cleanly or like a crash, as `seed` says; recovers again and compares again.
///
/// # Errors
/// The first broken promise. A panic is one.
pub fn check_image(
    disk: MemoryDisk,
    dir: &Path,
    plan: &Plan,
    ledger: &Ledger,
    cut: u64,
    seed: u64,
) -> Result<(), Violation> {
    let disk = Arc::new(disk);
    let check = Image { disk, dir, plan, ledger, cut, rng: Rng::of(seed, cut) };
    catch_unwind(AssertUnwindSafe(|| check.run())).unwrap_or_else(|panic| {
        let message = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(message), _) => (*message).to_owned(),
            (None, Some(message)) => message.clone(),
            (None, None) => "of an unknown kind".to_owned(),
        };
        Err(Violation::Panicked(message))
    })
}

struct Image<'a> {
    disk: Arc<MemoryDisk>,
    dir: &'a Path,
    plan: &'a Plan,
    ledger: &'a Ledger,
    cut: u64,
    rng: Rng,
}

impl Image<'_> {
    fn run(mut self) -> Result<(), Violation> {
        let shards = 1 + self.rng.small(3);
        let (first, recovery) = self.recover(shards)?;
        drop(recovery);
        self.ledger.check(&first, self.cut)?;
        let (second, recovery) = self.recover(shards)?;
        if let Some(difference) = difference(&first, &second) {
            return Err(Violation::Differs(difference));
        }
        let mut after = self.ledger.after(&second, self.cut);
        self.go_on(recovery, shards, &mut after)?;
        let (third, _) = self.recover(shards)?;
        after.check(&third, u64::MAX)
    }

    fn recover(&self, shards: u16) -> Result<(Recovered, Recovery), Violation> {
        let disk: Arc<MemoryDisk> = Arc::clone(&self.disk);
        let options = self.plan.image_options(self.dir, disk).shards(shards);
        let mut recovery =
            Log::recover(options).map_err(|error| Violation::Refused(error.to_string()))?;
        Ok((read_log(&mut recovery)?, recovery))
    }

    fn go_on(
        &mut self,
        recovery: Recovery,
        shards: u16,
        ledger: &mut Ledger,
    ) -> Result<(), Violation> {
        let mut log = recovery.open().map_err(stuck)?;
        log.prepare();
        ledger.opened(1, log.incarnation(), shards);
        let mut writers = Vec::new();
        for seat in log.take_seats() {
            writers.push(seat.sit().map_err(stuck)?);
        }
        let epoch_count = self.rng.below(3);
        for _ in 0..epoch_count {
            for writer in &mut writers {
                self.append_some(writer, ledger)?;
                match writer.close_epoch() {
                    Ok(epoch) => ledger.closed_epoch(1, writer.shard(), epoch),
                    Err(AppendError::Full | AppendError::EpochsAhead { .. }) => {}
                    Err(error) => return Err(stuck(error)),
                }
                writer.sync().map_err(stuck)?;
                ledger.acknowledged(2, writer.shard(), writer.frontier());
            }
            ledger.committed(2, log.committed_epoch());
        }
        let is_clean = self.rng.chance(50);
        for mut writer in writers {
            self.append_some(&mut writer, ledger)?;
            if is_clean {
                let shard = writer.shard();
                let end = writer.close().map_err(stuck)?;
                ledger.acknowledged(2, shard, end);
            }
        }
        ledger.committed(2, log.committed_epoch());
        if is_clean {
            log.close().map_err(stuck)?;
        }
        Ok(())
    }

    fn append_some(
        &mut self,
        writer: &mut ShardWriter,
        ledger: &mut Ledger,
    ) -> Result<(), Violation> {
        for _ in 0..self.rng.below(3) {
            let mut payload = vec![0; self.rng.index(300)];
            payload.fill_with(|| self.rng.next().to_le_bytes()[0]);
            match writer.append_bytes(Kind::PUT, &payload) {
                Ok(stamp) => {
                    ledger.appended(1, stamp, Kind::PUT, &payload);
                    if self.rng.chance(50) {
                        writer.wait(stamp).map_err(stuck)?;
                        ledger.acknowledged(2, stamp.shard, stamp.seq);
                    }
                }
                // Segments are small, and nobody prepares more.
                Err(AppendError::Full) => return Ok(()),
                Err(error) => return Err(stuck(error)),
            }
        }
        Ok(())
    }
}

fn stuck(error: impl std::fmt::Display) -> Violation {
    Violation::Stuck(error.to_string())
}

fn difference(first: &Recovered, second: &Recovered) -> Option<String> {
    if first.committed != second.committed {
        return Some(format!("committed epoch {} and {}", first.committed, second.committed));
    }
    let at = first.items.iter().zip(&second.items).position(|(first, second)| first != second);
    match at {
        Some(at) => Some(format!("{:?} and {:?}", first.items[at], second.items[at])),
        None if first.items.len() != second.items.len() => {
            Some(format!("{} and {} entries", first.items.len(), second.items.len()))
        }
        None => None,
    }
}

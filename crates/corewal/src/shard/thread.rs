//! A writer on a thread of the log: producers fill the intake, the thread drives the ring.

use std::sync::Arc;

use crate::error::{AppendError, Failure, FailureCause};
use crate::events;
use crate::shard::entrance::{Entrance, Party};
use crate::shard::intake::Intake;
use crate::shard::turn::{Drive, Ending, Sealing, Then, Turn};
use crate::sync::yield_now;
use crate::wakeup::wake_all;

/// A gathering ends after so many looks in a row at an intake that has not grown.
const QUIET_LOOKS: u32 = 3;

/// And after so many in all. A model need not try more than one.
const MAX_LOOKS: u32 = if cfg!(loom) { 1 } else { 256 };

/// The thread's side of a shard.
///
/// However it ends, by a close, a failure or a panic, everybody who waits is told.
#[derive(Debug)]
pub(crate) struct WriterThread {
    drive: Drive,
    entrance: Arc<Entrance>,
    /// Those who were let in, on their way out of the lock.
    let_in: Vec<Party>,
    is_closed: bool,
}

impl WriterThread {
    pub(crate) fn new(drive: Drive, intake: Intake) -> Self {
        let entrance = Arc::new(Entrance::new(intake));
        Self { drive, entrance, let_in: Vec::new(), is_closed: false }
    }

    pub(crate) fn entrance(&self) -> Arc<Entrance> {
        Arc::clone(&self.entrance)
    }

    /// The control flow of the thread, to the end of the shard.
    ///
    /// # Errors
    /// The failure of the shard.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        loop {
            let (turn, is_ended) = self.turn()?;
            match turn {
                Turn::Again => {}
                Turn::Sleep => self.drive.sleep(None)?,
                Turn::Idle(_) if is_ended && self.close()? => return Ok(()),
                Turn::Idle(limit) => self.drive.sleep(limit)?,
            }
        }
    }

    /// A turn, with the lock held for the load only.
    fn turn(&mut self) -> Result<(Turn, bool), Failure> {
        self.drive.begin()?;
        self.drive.reap()?;
        self.gather();
        let inside = self.entrance.lock();
        let mut inside = inside.map_err(|failure| self.drive.fail(failure.cause))?;
        let loaded = self.drive.load(&mut inside.intake, Sealing::Now);
        inside.admit(self.drive.sealable_from(), &mut self.let_in);
        let is_ended = inside.is_ended();
        drop(inside);
        let next = loaded.inspect_err(events::failed)?;
        self.drive.sync_wanted |= is_ended;
        let turn = self.drive.launch(next, Then::Return)?;
        wake_all(self.let_in.drain(..), Party::wake);
        self.drive.tell();
        Ok((turn, is_ended))
    }

    /// Lets the producers whom the last batch has just released come back before the next one is sealed.
    ///
    /// A hundred threads that each wait for their entry would else be parted for ever: the first one back gets a
    /// batch of its own, and the others wait for the disk twice. No time is waited for, only as long as entries
    /// keep coming, and not for a lone producer.
    fn gather(&self) {
        let Some(herd) = self.drive.herd() else { return };
        let (mut before, mut quiet) = (0, 0);
        for _ in 0..MAX_LOOKS {
            let Ok(inside) = self.entrance.lock() else { return };
            let count = inside.intake.waiting_count();
            drop(inside);
            quiet = if count > before { 0 } else { quiet + 1 };
            if count == 0 || 2 * count >= herd || quiet > QUIET_LOOKS {
                return;
            }
            before = count;
            yield_now();
        }
    }

    /// Closes the shard if everything that was taken is durable.
    fn close(&mut self) -> Result<bool, Failure> {
        let inside = self.entrance.lock();
        let inside = inside.map_err(|failure| self.drive.fail(failure.cause))?;
        if !self.drive.is_drained(&inside.intake) {
            return Ok(false);
        }
        self.drive.close(&inside.intake)?;
        self.is_closed = true;
        Ok(true)
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        if self.is_closed {
            return;
        }
        let cause =
            if std::thread::panicking() { FailureCause::Panicked } else { FailureCause::Dropped };
        let failure = self.drive.abandon(cause);
        self.entrance.end(AppendError::Failed(failure));
        if let Ok(inside) = self.entrance.lock() {
            self.drive.leave_desk(&inside.intake, Ending::Abandoned);
        }
    }
}

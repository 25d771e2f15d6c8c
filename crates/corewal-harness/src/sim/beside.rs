//! Reading beside the writers of an open log: the whole of it, and tails of its shards.

use std::sync::Arc;

use corewal::{Log, Stamp, Standing, TailError};
use corewal_disk::sim::SimDisk;

use crate::sim::Finding;
use crate::sim::history::Geometry;
use crate::sim::reading::{Unread, read};
use crate::sim::session::{Desk, Session, Stop};

impl Desk {
    /// Reads on with both tails; what is wrong, if anything.
    fn read_tails(
        &mut self,
        log: &Log,
        geometry: &Geometry,
        disk: &Arc<SimDisk>,
    ) -> Result<Option<String>, TailError> {
        if self.tails.is_none() {
            let inside = log.tail(self.shard, self.tails_from)?;
            let outside = Log::follow(geometry.options(disk), self.shard, self.tails_from)?;
            self.tails = inside.zip(outside).map(|(inside, outside)| [inside, outside]);
        }
        let Some(tails) = &mut self.tails else { return Ok(Some("is not there".into())) };
        for tail in tails.iter_mut() {
            loop {
                let from = tail.position();
                let Some(entry) = tail.try_next()? else { break };
                let (stamp, seq) = (entry.stamp(), entry.stamp().seq);
                // What an earlier life has left is durable, and above no frontier of this one.
                if seq < from || seq > self.acknowledged {
                    return Ok(Some(format!("gives seq {seq} at {from}")));
                }
                if log.standing(stamp) == Standing::Voided {
                    return Ok(Some(format!("gives seq {seq}, which was cut off")));
                }
            }
        }
        let [inside, _] = tails;
        // A vouch behind a seq that was observed moves the frontier without any entry.
        let shown = |stamp: &&Stamp| stamp.seq > self.began && stamp.seq <= self.acknowledged;
        let last = self.given.iter().rev().find(shown);
        let is_behind = last.is_some_and(|last| inside.position() <= last.seq);
        Ok(is_behind.then(|| format!("stops at {}", inside.position())))
    }
}

impl Session<'_> {
    /// A reader beside the writers sees a beginning of what was appended, with all that was acknowledged.
    pub(crate) fn read_beside(&mut self, geometry: &Geometry) -> Result<(), Stop> {
        *self.clock += 1;
        let found = match Log::read(geometry.options(&self.disk)) {
            Ok(mut reader) => read(&mut reader),
            Err(error) => Err(Unread::Refused(error)),
        };
        match found {
            Ok(found) => {
                self.ledger.check(&found, *self.clock).map_err(Finding::from)?;
                Ok(())
            }
            Err(Unread::Broken(violation)) => Err(Finding::from(violation).into()),
            Err(Unread::Refused(_)) if self.excuses.faults => Ok(()),
            Err(Unread::Refused(error)) => Err(self.trouble(&error)),
        }
    }

    /// Tails give, in order, what is durable and nothing else; the one inside gives all of it.
    pub(crate) fn read_tails(&mut self, geometry: &Geometry) -> Result<(), Stop> {
        if self.excuses.faults {
            return Ok(());
        }
        for index in 0..self.desks.len() {
            let desk = &mut self.desks[index];
            let (shard, frontier) = (desk.shard, desk.acknowledged);
            let outcome = desk.read_tails(&self.log, geometry, &self.disk);
            match outcome {
                // What a checkpoint has let go of is gone for tails too; they begin anew behind it.
                Err(TailError::Released { released, .. }) if released >= desk.tails_from => {
                    desk.tails = None;
                    desk.tails_from = released.next();
                }
                Ok(Some(found)) => {
                    return Err(Finding::Tail(shard, found, frontier).into());
                }
                Ok(None) => {}
                Err(error) => return Err(self.trouble(&error)),
            }
        }
        Ok(())
    }
}

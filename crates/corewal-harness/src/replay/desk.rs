//! The writers of an open log, and the operations that they have in flight.

use std::collections::BTreeMap;
use std::sync::Arc;

use corewal::{AppendError, Epoch, Kind, Log, Seq, ShardWriter, Stamp};
use corewal_disk::sim::{FlightId, SimDisk, UnitId};
use corewal_model::{Given, InFlight, Shape};

use super::player::Wrong;

/// An open log.
pub(super) struct Desk {
    pub(super) log: Log,
    writers: Vec<ShardWriter>,
    /// Writes in flight, by shard and batch of the model.
    writes: BTreeMap<(u8, u8), FlightId>,
    /// Syncs in flight, by shard.
    syncs: BTreeMap<u8, FlightId>,
    disk: Arc<SimDisk>,
    shape: Shape,
}

/// Where a batch was written.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub(super) path: Arc<str>,
    pub(super) at: u64,
    pub(super) unit: UnitId,
}

/// The content of an entry, with the rest of its batch in a second sector.
pub(super) fn payload(shape: Shape, id: usize) -> Vec<u8> {
    let byte = u8::try_from(id + 1).expect("the bounds are small");
    vec![byte; 700 / usize::from(shape.batch)]
}

/// The stamp that the model gave out, as the engine's.
pub(super) fn stamp(given: &Given) -> Stamp {
    Stamp {
        epoch: Epoch(given.stamp.epoch.into()),
        seq: Seq(given.stamp.seq.into()),
        shard: corewal::ShardId(given.stamp.shard.into()),
    }
}

impl Desk {
    pub(super) fn start(mut log: Log, disk: Arc<SimDisk>, shape: Shape) -> Result<Self, Wrong> {
        let seats = log.take_seats().into_iter();
        let writers: Result<Vec<_>, _> = seats.map(corewal::Seat::sit).collect();
        let writers = writers.map_err(Wrong::of)?;
        Ok(Self { log, writers, writes: BTreeMap::new(), syncs: BTreeMap::new(), disk, shape })
    }

    pub(super) fn epochs(&self) -> impl Iterator<Item = (usize, Epoch)> {
        self.writers.iter().map(ShardWriter::epoch).enumerate()
    }

    fn writer(&mut self, shard: u8) -> Result<&mut ShardWriter, Wrong> {
        let writer = self.writers.get_mut(usize::from(shard));
        writer.ok_or_else(|| Wrong("the shard has no writer".into()))
    }

    /// A call that needs room; where segments are not prepared ahead, they are when they are needed.
    fn with_room<T>(
        &mut self,
        shard: u8,
        mut call: impl FnMut(&mut ShardWriter) -> Result<T, AppendError>,
    ) -> Result<T, Wrong> {
        for _ in 0..3 {
            match call(self.writer(shard)?) {
                Err(AppendError::Full) => {}
                other => return other.map_err(Wrong::of),
            }
            if self.shape.ahead == 0 {
                self.log.prepare();
            }
            self.turn(shard)?;
        }
        Err(Wrong("the engine has no room".into()))
    }

    pub(super) fn append(&mut self, shard: u8, id: usize) -> Result<Stamp, Wrong> {
        let payload = payload(self.shape, id);
        self.with_room(shard, |writer| writer.append_bytes(Kind::PUT, &payload))
    }

    pub(super) fn close_epoch(&mut self, shard: u8) -> Result<Epoch, Wrong> {
        self.with_room(shard, ShardWriter::close_epoch)
    }

    pub(super) fn vouch(&mut self, shard: u8) -> Result<(), Wrong> {
        self.writer(shard)?.seal_promises();
        Ok(())
    }

    pub(super) fn turn(&mut self, shard: u8) -> Result<(), Wrong> {
        self.writer(shard)?.turn().map(drop).map_err(Wrong::of)
    }

    /// A turn after which the shard has failed.
    pub(super) fn fail(&mut self, shard: u8) -> Result<(), Wrong> {
        match self.writer(shard)?.turn() {
            Err(_) => Ok(()),
            Ok(_) => Err(Wrong("the engine goes on after a failed sync".into())),
        }
    }

    /// A batch is handed to the disk; where it is written.
    pub(super) fn submit(&mut self, shard: u8, batch: InFlight) -> Result<Spot, Wrong> {
        self.turn(shard)?;
        let folder = format!("/shard-{shard:04}/");
        let mut new = self.disk.flights();
        new.retain(|it| it.path.contains(&folder) && !self.is_known(it.id));
        let [flight] = &new[..] else {
            return Err(Wrong(format!("the engine has submitted {new:?}")));
        };
        let Some((at, unit)) = flight.write else {
            return Err(Wrong("the engine has submitted a sync".into()));
        };
        self.writes.insert((shard, batch.batch), flight.id);
        if self.shape.ahead > 0 && batch.block == 0 {
            self.log.prepare();
        }
        Ok(Spot { path: Arc::clone(&flight.path), at, unit })
    }

    fn is_known(&self, id: FlightId) -> bool {
        self.writes.values().chain(self.syncs.values()).any(|it| *it == id)
    }

    fn land(&self, flight: Option<FlightId>) -> Result<(), Wrong> {
        match flight {
            Some(flight) if self.disk.land(flight) => Ok(()),
            _ => Err(Wrong("the engine has nothing of the kind in flight".into())),
        }
    }

    pub(super) fn complete(&mut self, shard: u8, batch: u8) -> Result<(), Wrong> {
        let flight = self.writes.remove(&(shard, batch));
        self.land(flight)?;
        // Otherwise the sync that follows starts in the same turn.
        if self.shape.syncs { Ok(()) } else { self.turn(shard) }
    }

    pub(super) fn start_sync(&mut self, shard: u8) -> Result<(), Wrong> {
        self.turn(shard)?;
        let flights = self.disk.flights();
        let sync = flights.iter().find(|it| it.write.is_none() && !self.is_known(it.id));
        let sync = sync.ok_or_else(|| Wrong("the engine starts no sync".into()))?;
        self.syncs.insert(shard, sync.id);
        Ok(())
    }

    pub(super) fn land_sync(&mut self, shard: u8) -> Result<(), Wrong> {
        let flight = self.syncs.remove(&shard);
        self.land(flight)
    }

    /// Nothing is in flight that the model knows nothing of.
    pub(super) fn check_flights(&self) -> Result<(), Wrong> {
        let mut flights = self.disk.flights();
        flights.retain(|it| !self.is_known(it.id));
        if flights.is_empty() {
            Ok(())
        } else {
            Err(Wrong(format!("the engine has {flights:?} in flight")))
        }
    }

    pub(super) fn frontier(&mut self, shard: u8) -> Result<Seq, Wrong> {
        Ok(self.writer(shard)?.frontier())
    }

    /// Closes everything; the disk may stop in the middle of it.
    pub(super) fn close(self) -> Result<(), Wrong> {
        for writer in self.writers {
            writer.close().map_err(Wrong::of)?;
        }
        let report = self.log.close().map_err(Wrong::of)?;
        if report.left_open.is_empty() { Ok(()) } else { Err(Wrong(format!("{report:?}"))) }
    }
}

//! Power cuts: what is pending, and what a cut leaves of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::SECTOR_LEN;
use super::flight::Work;
use super::image::Write;
use super::names::Change;
use super::node::Node;
use super::options::NameOrder;
use super::random::{below, draw};
use super::state::{ROOT, State};
use super::trace::TraceStep;

/// Names something that a power cut may keep or lose. Given out in the order of the operations, so
/// the same run gives the same ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitId(pub u64);

impl UnitId {
    /// The growth of the file that comes with a write.
    pub(super) fn of_size(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Something that was done and is not durable, or is in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingUnit {
    /// Names it in a [`Cut`].
    pub id: UnitId,
    /// The file that it changes, or the name that it makes or takes away.
    pub path: Arc<str>,
    /// What it is.
    pub kind: UnitKind,
    /// It was submitted to a ring and has not landed.
    pub in_flight: bool,
    /// Whether it makes a difference if it is kept; `false` for zeros over durable zeros, for
    /// example. An exhaustive checker may leave the others out.
    pub matters: bool,
}

/// What a pending unit is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnitKind {
    /// Bytes, in whole sectors of [`SECTOR_LEN`]; may be torn.
    Data {
        /// First sector.
        sector: u64,
        /// How many.
        sector_count: u64,
    },
    /// A size of the file in bytes, greater than before.
    Size(u64),
    /// A new file or directory.
    Create,
    /// A name that was taken away.
    Remove,
    /// A name that was changed to this one.
    Rename(Arc<str>),
}

/// What becomes of a pending unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It never happened.
    Lost,
    /// It is durable.
    Kept,
    /// Some of its sectors are durable. A size or a name cannot be torn: it is kept.
    Torn(Tear),
}

/// Which sectors of a torn write are durable. The others are as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tear {
    /// The first so many.
    First(u64),
    /// All but the first so many.
    AllBut(u64),
    /// Those with a bit; sector `i` has bit `i % 64`.
    Mask(u64),
}

impl Tear {
    fn keeps(self, sector: u64) -> bool {
        match self {
            Self::First(count) => sector < count,
            Self::AllBut(count) => sector >= count,
            Self::Mask(mask) => mask >> (sector % 64) & 1 == 1,
        }
    }

    fn drawn(number: u64, sectors: u64) -> Self {
        let count = below(number << 8, sectors + 1);
        match number % 3 {
            0 => Self::First(count),
            1 => Self::AllBut(count),
            _ => Self::Mask(super::random::mix(number)),
        }
    }
}

/// A choice of what a power cut leaves.
///
/// ```
/// use corewal_disk::sim::{Cut, Fate, SimDisk, Tear};
/// use corewal_disk::{Disk, Open};
///
/// let disk = SimDisk::new(1);
/// let file = disk.open("/a".as_ref(), Open::CREATE)?;
/// file.write_at(&[7; 1024], 0)?;
/// let [name, data, size] = &disk.pending_units()[..] else { panic!() };
///
/// let cut = Cut::lose_all().with(name.id, Fate::Kept).with(size.id, Fate::Kept);
/// let torn = cut.clone().with(data.id, Fate::Torn(Tear::First(1)));
/// let after = disk.fork().power_cut(&torn);
/// assert_eq!(after.visible("/a").unwrap()[511..513], [7, 0]);
/// let after = disk.power_cut(&cut);
/// assert_eq!(after.visible("/a").unwrap(), [0; 1024]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cut {
    rest: Rest,
    fates: Vec<(UnitId, Fate)>,
}

#[derive(Clone, Copy, Debug)]
enum Rest {
    All(Fate),
    /// With a number that tells how many are kept.
    Drawn(u64),
}

impl Cut {
    /// Nothing pending is kept.
    #[must_use]
    pub fn lose_all() -> Self {
        Self { rest: Rest::All(Fate::Lost), fates: Vec::new() }
    }

    /// Everything pending is kept.
    #[must_use]
    pub fn keep_all() -> Self {
        Self { rest: Rest::All(Fate::Kept), fates: Vec::new() }
    }

    /// Each unit is kept, lost or torn, as drawn from `seed`; so is whether many are lost, or few.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        Self { rest: Rest::Drawn(seed), fates: Vec::new() }
    }

    /// The same, with this fate for one unit.
    #[must_use]
    pub fn with(mut self, unit: UnitId, fate: Fate) -> Self {
        self.fates.push((unit, fate));
        self
    }

    /// Of a write of so many sectors, or of something that cannot be torn: 0.
    pub(super) fn fate(&self, unit: UnitId, sectors: u64) -> Fate {
        if let Some((_, fate)) = self.fates.iter().rev().find(|(id, _)| *id == unit) {
            return *fate;
        }
        match self.rest {
            Rest::All(fate) => fate,
            Rest::Drawn(seed) => {
                let keep = 1 + below(draw(seed, 1, 0), 7);
                let tear = below(draw(seed, 2, 0), 3);
                let number = draw(seed, 3, unit.0);
                let in_eight = below(number, 8);
                if sectors > 0 && below(draw(seed, 4, unit.0), 4) < tear {
                    Fate::Torn(Tear::drawn(draw(seed, 5, unit.0), sectors))
                } else if in_eight < keep {
                    Fate::Kept
                } else {
                    Fate::Lost
                }
            }
        }
    }
}

impl State {
    /// The same with everything that is in flight landed, but not durable.
    fn landed(&self) -> Self {
        let mut next = self.clone();
        let mut flights = std::mem::take(&mut next.flights);
        flights.sort_unstable_by_key(|flight| flight.order);
        for flight in flights {
            if let Work::Write(mut landing, _) = flight.work
                && flight.refusal.is_none()
            {
                let room = next.room(flight.node, landing.at, landing.len);
                landing = landing.first(room.div_ceil(SECTOR_LEN) as u64);
                next.landed += 1;
                landing.landed = next.landed;
                if landing.len > 0 {
                    next.file_mut(flight.node).land(&landing);
                }
            }
        }
        next
    }

    /// What a power cut may keep or lose, by id.
    pub(super) fn pending_units(&self) -> Vec<PendingUnit> {
        let all = self.landed();
        let mut units = BTreeMap::new();
        let in_flight = |landed: u64| landed > self.landed;
        for node in all.nodes.values() {
            let Some(file) = node.file() else { continue };
            for write in &file.pending {
                let overlapped = |other: &Write| {
                    other.unit != write.unit && other.overlaps(write.sector, write.payload.sectors)
                };
                let matters = !file.durable.holds(write.sector, &write.payload)
                    || file.pending.iter().any(overlapped);
                let (sector, sector_count) = write.whole;
                let unit = units.entry(write.unit).or_insert_with(|| PendingUnit {
                    id: write.unit,
                    path: Arc::clone(&node.path),
                    kind: UnitKind::Data { sector, sector_count },
                    in_flight: in_flight(write.landed),
                    matters: false,
                });
                unit.matters |= matters;
            }
            for grow in &file.grows {
                let unit = PendingUnit {
                    id: grow.unit,
                    path: Arc::clone(&node.path),
                    kind: UnitKind::Size(grow.to),
                    in_flight: in_flight(grow.landed),
                    matters: grow.to > file.durable_size,
                };
                units.insert(grow.unit, unit);
            }
        }
        for change in &self.names {
            let (path, kind) = match &change.what {
                Change::Create(place) => (self.path_of(place), UnitKind::Create),
                Change::Remove(place) => (self.path_of(place), UnitKind::Remove),
                Change::Rename(from, to) => {
                    (self.path_of(from), UnitKind::Rename(self.path_of(to)))
                }
            };
            let id = change.unit;
            units.insert(id, PendingUnit { id, path, kind, in_flight: false, matters: true });
        }
        units.into_values().collect()
    }

    /// The next life, after a power cut.
    pub(super) fn cut(&self, cut: &Cut) -> Self {
        let mut next = self.landed();
        next.begin_life();
        for file in next.nodes.values_mut().filter_map(Node::file_mut) {
            for write in std::mem::take(&mut file.pending) {
                match cut.fate(write.unit, write.whole.1) {
                    Fate::Lost => {}
                    Fate::Kept => file.durable.write(write.sector, &write.payload),
                    Fate::Torn(tear) => {
                        for offset in 0..write.payload.sectors {
                            if tear.keeps(write.sector + offset - write.whole.0) {
                                let part = write.payload.part(offset, 1);
                                file.durable.write(write.sector + offset, &part);
                            }
                        }
                    }
                }
            }
            for grow in std::mem::take(&mut file.grows) {
                if cut.fate(grow.unit, 0) != Fate::Lost {
                    file.durable_size = file.durable_size.max(grow.to);
                }
            }
            file.durable.cut(file.durable_size);
            file.size = file.durable_size;
            file.stale.clear();
            file.errors = 0;
        }
        for change in std::mem::take(&mut next.names) {
            if cut.fate(change.unit, 0) != Fate::Lost {
                next.make_durable(&change);
            } else if next.options.name_order == NameOrder::Journaled {
                break;
            }
        }
        next.rings.clear();
        next.locks.clear();
        next.show_durable_names();
        next.forget_nameless();
        next.record(&"".into(), TraceStep::PowerCut);
        next
    }

    /// After a power cut, what can be seen is what is durable.
    fn show_durable_names(&mut self) {
        for directory in self.nodes.values_mut().filter_map(Node::directory_mut) {
            directory.visible = directory.durable.clone();
        }
        self.call(ROOT, "/".into());
    }
}

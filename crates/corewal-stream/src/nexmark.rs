//! Nexmark: an auction house, the field's standard workload (Tucker, Tufte, Papadimos, Maier: NEXMark, 2002).
//!
//! | query | what | how |
//! |---|---|---|
//! | 1 | each bid's price in euros | where it is read |
//! | 2 | bids on every 123rd auction | where it is read |
//! | 5 | the auctions with the most bids in a window | bids are counted by auction; each core's leaders meet by window |
//! | 8 | who registered and opened an auction in the same window | by person |
//!
//! All four run at once over the same events. Windows are tumbling ones.

use corewal::Record;
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::Event as Generated;

use crate::exchange::KeyHash;
use crate::source::{Offset, PARTITIONS, Partition, index_of};
use crate::time::Time;
use crate::window::{PaneChange, Windows};
use crate::workload::{Chain, Emit, Home, Operator, Workload};

/// The window of query 5, in milliseconds.
const HOT_ITEMS_MS: u64 = 2_000;
/// The window of query 8, in milliseconds.
const NEW_USERS_MS: u64 = 10_000;
/// Query 2 wants auctions whose number is a multiple of this.
const WANTED_AUCTIONS: u64 = 123;
/// The first moment of the auction house.
const OPENING: u64 = 1_700_000_000_000;
/// Events come out of order inside of groups of this size: 5 ms at 10,000 events a second of event time.
const DISORDER_EVENTS: usize = 50;
/// Events of one round of the generator: persons, auctions and bids in their proportion.
const ROUND: u64 = 50;
/// Seeds beyond this come again: the generator counts its ids up from the seed.
const SEEDS: u64 = 1 << 20;

/// The workload.
#[derive(Clone, Copy, Debug)]
pub struct Nexmark {
    seed: u64,
    events: u64,
}

impl Nexmark {
    /// So many events; the seed decides what is in them.
    #[must_use]
    pub fn new(seed: u64, events: u64) -> Self {
        Self { seed: seed % SEEDS, events }
    }

    fn config(self) -> NexmarkConfig {
        NexmarkConfig {
            base_time: OPENING,
            // The generator draws each event from its id. Whole rounds keep ids and kinds in step.
            first_event_id: usize::try_from(self.seed * ROUND).expect("64-bit numbers"),
            out_of_order_group_size: DISORDER_EVENTS,
            ..NexmarkConfig::default()
        }
    }
}

impl Workload for Nexmark {
    type Event = Event;
    type Change = Change;
    type Reader = Partitioned;

    const DISORDER_MS: u64 = 100;

    fn read(&self, partition: Partition, from: Offset) -> Partitioned {
        let index = index_of(partition, from);
        let generator =
            EventGenerator::new(self.config()).with_offset(index).with_step(u64::from(PARTITIONS));
        Partitioned { generator, events: self.events }
    }

    fn chain(&self) -> Chain<Self> {
        vec![
            Box::new(PerEvent),
            Box::new(PerKey {
                bids: Windows::new(HOT_ITEMS_MS),
                newcomers: Windows::new(NEW_USERS_MS),
            }),
            Box::new(PerWindow { leaders: Windows::new(HOT_ITEMS_MS) }),
        ]
    }

    fn home(change: &Change) -> Home {
        match change {
            Change::Bids(change) => Home { stage: 1, key: KeyHash::of_number(change.key) },
            Change::Newcomer(change) => Home { stage: 1, key: KeyHash::of_number(change.key) },
            Change::Leaders(change) => Home { stage: 2, key: KeyHash::of_number(change.window.0) },
        }
    }
}

/// One partition.
#[derive(Clone, Debug)]
pub struct Partitioned {
    generator: EventGenerator,
    events: u64,
}

impl Iterator for Partitioned {
    type Item = (Time, Event);

    fn next(&mut self) -> Option<(Time, Event)> {
        if self.generator.offset() >= self.events {
            return None;
        }
        let generated = self.generator.next()?;
        let time = Time(generated.timestamp());
        let event = match generated {
            Generated::Person(person) => {
                Event::Person { time, person: person.id as u64, name: person.name.into() }
            }
            Generated::Auction(auction) => Event::Auction { time, seller: auction.seller as u64 },
            Generated::Bid(bid) => Event::Bid {
                time,
                auction: bid.auction as u64,
                bidder: bid.bidder as u64,
                price: bid.price as u64,
            },
        };
        Some((time, event))
    }
}

/// What travels between the operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody has registered.
    Person {
        /// When.
        time: Time,
        /// Who.
        person: u64,
        /// Their name.
        name: Box<str>,
    },
    /// An auction was opened.
    Auction {
        /// When.
        time: Time,
        /// By whom.
        seller: u64,
    },
    /// A bid was made.
    Bid {
        /// When.
        time: Time,
        /// In which auction.
        auction: u64,
        /// By whom.
        bidder: u64,
        /// How much, in cents of a dollar.
        price: u64,
    },
    /// An auction leads on the core that counts it.
    Leader {
        /// In the window that starts here.
        window: Time,
        /// Which auction.
        auction: u64,
        /// With how many bids.
        bids: u64,
    },
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Change {
    /// Bids of an auction in a window.
    Bids(PaneChange<u64, u64>),
    /// What is known of a person in a window.
    Newcomer(PaneChange<u64, Newcomer>),
    /// The auctions with the most bids in a window.
    Leaders(PaneChange<(), Leaders>),
}

impl Record for Change {}

/// What is known of a person in a window.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct Newcomer {
    /// The name, if they registered.
    name: Option<String>,
    /// Auctions that they opened.
    auctions: u64,
}

/// The auctions with the most bids.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct Leaders {
    bids: u64,
    /// Sorted: which core's leader comes first must not matter.
    auctions: Vec<u64>,
}

impl Leaders {
    fn add(&mut self, auction: u64, bids: u64) {
        if bids > self.bids {
            *self = Self { bids, auctions: vec![auction] };
        } else if bids == self.bids
            && let Err(at) = self.auctions.binary_search(&auction)
        {
            self.auctions.insert(at, auction);
        }
    }
}

/// Queries 1 and 2, and the way to the others.
struct PerEvent;

impl Operator<Event, Change> for PerEvent {
    fn event(&mut self, event: Event, emit: &mut Emit<'_, Event>) {
        match event {
            Event::Bid { time, auction, bidder, price } => {
                // 0.908 euros a dollar, as the benchmark has it.
                let thousandths = price * 908;
                emit.line(format_args!(
                    "q1\t{time}\t{auction}\t{bidder}\t{}.{:03}",
                    thousandths / 1000,
                    thousandths % 1000
                ));
                if auction.is_multiple_of(WANTED_AUCTIONS) {
                    emit.line(format_args!("q2\t{time}\t{auction}\t{price}"));
                }
                emit.send(KeyHash::of_number(auction), event);
            }
            Event::Person { person, .. } => emit.send(KeyHash::of_number(person), event),
            Event::Auction { seller, .. } => emit.send(KeyHash::of_number(seller), event),
            Event::Leader { .. } => unreachable!("no source has leaders"),
        }
    }
}

/// Query 8, and the first half of query 5.
struct PerKey {
    bids: Windows<u64, u64>,
    newcomers: Windows<u64, Newcomer>,
}

impl Operator<Event, Change> for PerKey {
    fn event(&mut self, event: Event, _: &mut Emit<'_, Event>) {
        match event {
            Event::Bid { time, auction, .. } => self.bids.add(time, auction, |bids| *bids += 1),
            Event::Person { time, person, name } => {
                self.newcomers.add(time, person, |it| it.name = Some(name.into()));
            }
            Event::Auction { time, seller } => {
                self.newcomers.add(time, seller, |it| it.auctions += 1);
            }
            Event::Leader { .. } => unreachable!("leaders come from here"),
        }
    }

    fn watermark(&mut self, time: Time, emit: &mut Emit<'_, Event>) {
        let mut leaders: Vec<(Time, Leaders)> = Vec::new();
        self.bids.close(time, |window, auction, bids| {
            match leaders.last_mut() {
                Some((last, leaders)) if *last == window => leaders.add(auction, bids),
                _ => leaders.push((window, Leaders { bids, auctions: vec![auction] })),
            };
        });
        for (window, Leaders { bids, auctions }) in leaders {
            for auction in auctions {
                emit.send(KeyHash::of_number(window.0), Event::Leader { window, auction, bids });
            }
        }
        self.newcomers.close(time, |window, person, newcomer| {
            if let (Some(name), 1..) = (newcomer.name, newcomer.auctions) {
                emit.line(format_args!("q8\t{window}\t{person}\t{name}"));
            }
        });
    }

    fn changes(&mut self, into: &mut Vec<Change>) {
        into.extend(self.bids.changes().map(Change::Bids));
        into.extend(self.newcomers.changes().map(Change::Newcomer));
    }

    fn state(&self, into: &mut Vec<Change>) {
        into.extend(self.bids.open_panes().map(Change::Bids));
        into.extend(self.newcomers.open_panes().map(Change::Newcomer));
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Bids(change) => self.bids.apply(change),
            Change::Newcomer(change) => self.newcomers.apply(change),
            Change::Leaders(_) => unreachable!("leaders live in the next stage"),
        }
    }

    fn late(&self) -> u64 {
        self.bids.late() + self.newcomers.late()
    }
}

/// The second half of query 5: the leaders of all cores.
struct PerWindow {
    leaders: Windows<(), Leaders>,
}

impl Operator<Event, Change> for PerWindow {
    fn event(&mut self, event: Event, _: &mut Emit<'_, Event>) {
        let Event::Leader { window, auction, bids } = event else {
            unreachable!("only leaders come this far");
        };
        self.leaders.add(window, (), |leaders| leaders.add(auction, bids));
    }

    fn watermark(&mut self, time: Time, emit: &mut Emit<'_, Event>) {
        self.leaders.close(time, |window, (), Leaders { bids, auctions }| {
            for auction in auctions {
                emit.line(format_args!("q5\t{window}\t{auction}\t{bids}"));
            }
        });
    }

    fn changes(&mut self, into: &mut Vec<Change>) {
        into.extend(self.leaders.changes().map(Change::Leaders));
    }

    fn state(&self, into: &mut Vec<Change>) {
        into.extend(self.leaders.open_panes().map(Change::Leaders));
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Leaders(change) => self.leaders.apply(change),
            Change::Bids(_) | Change::Newcomer(_) => unreachable!("they live in the stage before"),
        }
    }

    fn late(&self) -> u64 {
        self.leaders.late()
    }
}

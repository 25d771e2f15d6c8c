//! Flights: traffic and delays for each airport of departure and hour.
//!
//! 20,000 real flights of the spring of 2001. Where more events are asked for, the same months come again, later.

use std::fmt;
use std::sync::Arc;

use corewal::Record;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::exchange::KeyHash;
use crate::source::{Offset, PARTITIONS, Partition, index_of};
use crate::time::Time;
use crate::window::{PaneChange, Windows};
use crate::workload::{Chain, Emit, Home, Operator, Workload};

/// The file that comes with the crate: a JSON object in each line, in the order of the dates.
pub const FILE: &str = include_str!("../data/flights-20k.ndjson");

const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// A flight counts as late from here on, in minutes: the rule of the US Department of Transportation.
const LATE_MINUTES: i64 = 15;

/// The workload.
#[derive(Clone, Debug)]
pub struct Flights {
    file: Arc<[Flight]>,
    /// What the dates move on by when the file comes again.
    lap_ms: u64,
    events: u64,
}

/// One flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flight {
    /// When it took off.
    pub time: Time,
    /// Where.
    pub origin: Airport,
    /// How much later than planned, in minutes; negative when earlier.
    pub delay: i64,
    /// How far it went, in miles.
    pub distance: u64,
}

/// The three letters of an airport.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct Airport([u8; 3]);

impl Airport {
    fn key(self) -> KeyHash {
        let [a, b, c] = self.0;
        KeyHash::of_number(u64::from(u32::from_le_bytes([a, b, c, 0])))
    }
}

impl fmt::Display for Airport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&letter| write!(f, "{}", char::from(letter)))
    }
}

/// A line of a file of flights that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("flight {line}: {reason}")]
pub struct BadFlight {
    /// Which line, from 1 on.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

#[derive(serde::Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    date: &'a str,
    delay: i64,
    distance: u64,
    #[serde(borrow)]
    origin: &'a str,
}

impl Flights {
    /// So many flights of the file that comes with the crate.
    ///
    /// # Panics
    /// If that file is not what it was when the crate was built and tested.
    #[must_use]
    pub fn new(events: u64) -> Self {
        Self::parse(FILE, events).expect("the crate's own file is good")
    }

    /// So many flights of a file.
    ///
    /// # Errors
    /// The first bad line, or an empty file.
    pub fn parse(file: &str, events: u64) -> Result<Self, BadFlight> {
        let flight = |(index, line): (usize, &str)| {
            let bad = |reason: &dyn fmt::Display| BadFlight {
                line: index + 1,
                reason: reason.to_string(),
            };
            let line: Line<'_> = serde_json::from_str(line).map_err(|error| bad(&error))?;
            let origin = <[u8; 3]>::try_from(line.origin.as_bytes())
                .map_err(|_| bad(&"an airport has three letters"))?;
            let date = DateTime::strptime("%Y/%m/%d %H:%M", line.date)
                .and_then(|date| date.to_zoned(TimeZone::UTC))
                .map_err(|error| bad(&error))?;
            let time = u64::try_from(date.timestamp().as_millisecond())
                .map_err(|_| bad(&"before 1970"))?;
            let (delay, distance) = (line.delay, line.distance);
            Ok(Flight { time: Time(time), origin: Airport(origin), delay, distance })
        };
        let flights: Vec<Flight> =
            file.lines().enumerate().map(flight).collect::<Result<_, _>>()?;
        let (Some(first), Some(last)) = (flights.first(), flights.last()) else {
            return Err(BadFlight { line: 1, reason: "the file is empty".into() });
        };
        let days = (last.time.0 / DAY_MS).saturating_sub(first.time.0 / DAY_MS) + 1;
        Ok(Self { lap_ms: days * DAY_MS, file: flights.into(), events })
    }

    fn flight(&self, index: u64) -> Flight {
        let count = self.file.len() as u64;
        let flight = self.file[usize::try_from(index % count).expect("below a length")];
        Flight { time: Time(flight.time.0 + index / count * self.lap_ms), ..flight }
    }
}

impl Workload for Flights {
    type Event = Flight;
    type Change = Change;
    type Reader = Partitioned;

    /// Each partition is in the order of its dates.
    const DISORDER_MS: u64 = 0;

    fn read(&self, partition: Partition, from: Offset) -> Partitioned {
        Partitioned { flights: self.clone(), index: index_of(partition, from) }
    }

    fn chain(&self) -> Chain<Self> {
        vec![Box::new(ByAirport), Box::new(Hourly { hours: Windows::new(HOUR_MS) })]
    }

    fn home(change: &Change) -> Home {
        Home { stage: 1, key: change.0.key.key() }
    }
}

/// One partition.
#[derive(Clone, Debug)]
pub struct Partitioned {
    flights: Flights,
    index: u64,
}

impl Iterator for Partitioned {
    type Item = (Time, Flight);

    fn next(&mut self) -> Option<(Time, Flight)> {
        (self.index < self.flights.events).then(|| {
            let flight = self.flights.flight(self.index);
            self.index += u64::from(PARTITIONS);
            (flight.time, flight)
        })
    }
}

/// A change of an airport's hour.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Change(PaneChange<Airport, Traffic>);

impl Record for Change {}

/// What is known of an airport's hour.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
struct Traffic {
    flights: u64,
    late: u64,
    delay_sum: i64,
    delay_max: i64,
    distance_sum: u64,
}

impl Traffic {
    fn add(&mut self, flight: &Flight) {
        self.delay_max =
            if self.flights == 0 { flight.delay } else { self.delay_max.max(flight.delay) };
        self.flights += 1;
        self.late += u64::from(flight.delay >= LATE_MINUTES);
        self.delay_sum += flight.delay;
        self.distance_sum += flight.distance;
    }
}

/// Sends each flight to the core that counts for its airport.
struct ByAirport;

impl Operator<Flight, Change> for ByAirport {
    fn event(&mut self, flight: Flight, emit: &mut Emit<'_, Flight>) {
        emit.send(flight.origin.key(), flight);
    }
}

struct Hourly {
    hours: Windows<Airport, Traffic>,
}

impl Operator<Flight, Change> for Hourly {
    fn event(&mut self, flight: Flight, _: &mut Emit<'_, Flight>) {
        self.hours.add(flight.time, flight.origin, |traffic| traffic.add(&flight));
    }

    fn watermark(&mut self, time: Time, emit: &mut Emit<'_, Flight>) {
        self.hours.close(time, |hour, airport, traffic| {
            let Traffic { flights, late, delay_sum, delay_max, distance_sum } = traffic;
            emit.line(format_args!(
                "{}\t{airport}\t{flights}\t{late}\t{delay_sum}\t{delay_max}\t{distance_sum}",
                Hour(hour)
            ));
        });
    }

    fn changes(&mut self, into: &mut Vec<Change>) {
        into.extend(self.hours.changes().map(Change));
    }

    fn state(&self, into: &mut Vec<Change>) {
        into.extend(self.hours.open_panes().map(Change));
    }

    fn apply(&mut self, change: Change) {
        self.hours.apply(change.0);
    }

    fn late(&self) -> u64 {
        self.hours.late()
    }
}

/// An hour, as it is written.
struct Hour(Time);

impl fmt::Display for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = i64::try_from(self.0.0).unwrap_or(i64::MAX);
        match Timestamp::from_millisecond(ms) {
            Ok(time) => write!(f, "{}", time.strftime("%Y-%m-%d %H:00")),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

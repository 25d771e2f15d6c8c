//! The same results, computed in the simplest way: all events in memory, no windows that close, no cores.

use std::collections::{BTreeMap, BTreeSet};

use corewal_stream::flights::{FILE, Flight};
use corewal_stream::nexmark::Event;
use corewal_stream::{Flights, Nexmark, Offset, PARTITIONS, Partition, Workload};

/// Every event of a source.
fn events<W: Workload>(workload: &W) -> Vec<W::Event> {
    let partition = |partition| workload.read(Partition(partition), Offset(0));
    (0..PARTITIONS).flat_map(partition).map(|(_, event)| event).collect()
}

fn sorted(mut lines: Vec<String>) -> Vec<u8> {
    lines.sort_unstable();
    lines.concat().into_bytes()
}

pub(crate) fn flights(workload: &Flights) -> Vec<u8> {
    let mut hours: BTreeMap<(u64, String), Vec<Flight>> = BTreeMap::new();
    for flight in events(workload) {
        let place = (flight.time.0 / 3_600_000, flight.origin.to_string());
        hours.entry(place).or_default().push(flight);
    }
    let line = |((hour, origin), flights): ((u64, String), Vec<Flight>)| {
        let late = flights.iter().filter(|flight| flight.delay >= 15).count();
        let delay: i64 = flights.iter().map(|flight| flight.delay).sum();
        let most = flights.iter().map(|flight| flight.delay).max().unwrap();
        let distance: u64 = flights.iter().map(|flight| flight.distance).sum();
        let count = flights.len();
        let date = jiff::Timestamp::from_second(hour as i64 * 3600).unwrap();
        let date = date.strftime("%Y-%m-%d %H:00");
        format!("{date}\t{origin}\t{count}\t{late}\t{delay}\t{most}\t{distance}\n")
    };
    sorted(hours.into_iter().map(line).collect())
}

pub(crate) fn nexmark(workload: &Nexmark) -> Vec<u8> {
    let mut lines = Vec::new();
    let mut bids: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    let mut sellers = BTreeSet::new();
    let mut persons = Vec::new();
    for event in events(workload) {
        match event {
            Event::Bid { time, auction, bidder, price } => {
                let euros = format!("{}.{:03}", price * 908 / 1000, price * 908 % 1000);
                lines.push(format!("q1\t{time}\t{auction}\t{bidder}\t{euros}\n"));
                if auction % 123 == 0 {
                    lines.push(format!("q2\t{time}\t{auction}\t{price}\n"));
                }
                *bids.entry((time.0 / 2_000, auction)).or_default() += 1;
            }
            Event::Person { time, person, name } => persons.push((time.0 / 10_000, person, name)),
            Event::Auction { time, seller } => {
                sellers.insert((time.0 / 10_000, seller));
            }
            Event::Leader { .. } => panic!("no source has leaders"),
        }
    }
    for (&(window, auction), &count) in &bids {
        let most = bids.range((window, 0)..(window + 1, 0)).map(|(_, count)| *count).max();
        if Some(count) == most {
            lines.push(format!("q5\t{}\t{auction}\t{count}\n", window * 2_000));
        }
    }
    for (window, person, name) in persons {
        if sellers.contains(&(window, person)) {
            lines.push(format!("q8\t{}\t{person}\t{name}\n", window * 10_000));
        }
    }
    sorted(lines)
}

#[test]
fn the_file_is_read_whole_and_its_laps_follow_each_other() {
    let count = FILE.lines().count() as u64;
    assert_eq!(count, 20_000);
    let mut times: Vec<u64> =
        events(&Flights::new(count * 2)).iter().map(|flight| flight.time.0).collect();
    assert_eq!(times.len() as u64, count * 2);
    times.sort_unstable();
    let (first, second) = times.split_at(times.len() / 2);
    let lap = second[0] - first[0];
    assert!(first.iter().zip(second).all(|(first, second)| second - first == lap));
}

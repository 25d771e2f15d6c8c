//! The exchange between cores: bounded single-producer queues, watermarks, and barriers that are aligned.
//!
//! Each stage behind an exchange has one [`Inbox`] on each core, with one queue from every core, its own
//! included. An [`Outbox`] is the other side. Nothing here blocks: what does not fit waits in the outbox, and
//! its owner takes no further input until it is gone.

use std::collections::VecDeque;

use corewal::Epoch;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::time::Time;

/// Messages that one queue holds.
const QUEUE_CAPACITY: usize = 1024;

/// What travels from one core to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message<E> {
    /// Something that happened.
    Event(E),
    /// No event before this time follows on this queue.
    Watermark(Time),
    /// Everything of this epoch was before; what follows belongs to the next one.
    Barrier(Epoch),
}

/// What an inbox gives to the stage behind it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival<E> {
    /// An event, from any of the cores.
    Event(E),
    /// The least watermark over all cores has moved on to this time.
    Watermark(Time),
    /// The barrier of this epoch has come from every core, and nothing behind it was given out.
    Aligned(Epoch),
}

/// A hash that decides where a key lives. The same in every run and on every machine: it is part of what is
/// on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyHash(u64);

impl KeyHash {
    /// Of a number.
    #[must_use]
    pub fn of_number(number: u64) -> Self {
        // The finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
        let mut hash = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(hash ^ (hash >> 31))
    }

    /// Which of `cores` owns the key.
    ///
    /// # Panics
    /// If there are no cores.
    #[must_use]
    pub fn owner(self, cores: usize) -> usize {
        usize::try_from(self.0 % cores as u64).expect("below a usize")
    }
}

/// Every core's ends of one exchange.
#[must_use]
pub(crate) fn mesh<E>(cores: usize, floor: Time) -> Vec<(Outbox<E>, Inbox<E>)> {
    let mut lanes: Vec<Vec<Lane<E>>> = (0..cores).map(|_| Vec::with_capacity(cores)).collect();
    let mut outboxes = Vec::with_capacity(cores);
    for _from in 0..cores {
        let queues = lanes.iter_mut().map(|lanes| {
            let (producer, consumer) = RingBuffer::new(QUEUE_CAPACITY);
            lanes.push(Lane { queue: consumer, watermark: floor, at_barrier: None });
            Route { queue: producer, waiting: VecDeque::new() }
        });
        outboxes.push(Outbox { routes: queues.collect() });
    }
    let inbox = |lanes| Inbox { lanes, next_lane: 0, watermark: floor };
    outboxes.into_iter().zip(lanes.into_iter().map(inbox)).collect()
}

/// The sending side on one core: a route to every core.
#[derive(Debug)]
pub(crate) struct Outbox<E> {
    routes: Vec<Route<E>>,
}

#[derive(Debug)]
struct Route<E> {
    queue: Producer<Message<E>>,
    /// What did not fit, in order. Bounded by what one step of the stage before emits.
    waiting: VecDeque<Message<E>>,
}

impl<E> Route<E> {
    fn send(&mut self, message: Message<E>) {
        if !self.waiting.is_empty() {
            self.waiting.push_back(message);
        } else if let Err(rtrb::PushError::Full(message)) = self.queue.push(message) {
            self.waiting.push_back(message);
        }
    }

    fn flush(&mut self) -> bool {
        while let Some(message) = self.waiting.pop_front() {
            if let Err(rtrb::PushError::Full(message)) = self.queue.push(message) {
                self.waiting.push_front(message);
                return false;
            }
        }
        true
    }
}

impl<E> Outbox<E> {
    /// Sends an event to the owner of its key.
    pub(crate) fn send(&mut self, key: KeyHash, event: E) {
        let owner = key.owner(self.routes.len());
        self.routes[owner].send(Message::Event(event));
    }

    pub(crate) fn watermark(&mut self, time: Time) {
        self.routes.iter_mut().for_each(|route| route.send(Message::Watermark(time)));
    }

    pub(crate) fn barrier(&mut self, epoch: Epoch) {
        self.routes.iter_mut().for_each(|route| route.send(Message::Barrier(epoch)));
    }

    /// Moves what waits into the queues; true when nothing waits any more.
    pub(crate) fn flush(&mut self) -> bool {
        let mut all = true;
        for route in &mut self.routes {
            // Also behind a full one: its reader may wait for a core that waits for what another route holds.
            all &= route.flush();
        }
        all
    }
}

/// The receiving side on one core.
#[derive(Debug)]
pub(crate) struct Inbox<E> {
    lanes: Vec<Lane<E>>,
    next_lane: usize,
    /// The least of the lanes' watermarks that was given out.
    watermark: Time,
}

/// The queue from one core.
#[derive(Debug)]
struct Lane<E> {
    queue: Consumer<Message<E>>,
    watermark: Time,
    /// A lane whose barrier has come is not read before those of all other lanes have.
    at_barrier: Option<Epoch>,
}

impl<E> Inbox<E> {
    /// The next thing that may be looked at, or nothing.
    pub(crate) fn next(&mut self) -> Option<Arrival<E>> {
        let mut idle = 0;
        while idle < self.lanes.len() {
            let index = self.next_lane;
            self.next_lane = (index + 1) % self.lanes.len();
            let lane = &mut self.lanes[index];
            let message = match lane.at_barrier {
                Some(_) => None,
                None => lane.queue.pop().ok(),
            };
            match message {
                None => {
                    idle += 1;
                    continue;
                }
                Some(Message::Event(event)) => return Some(Arrival::Event(event)),
                Some(Message::Watermark(time)) => {
                    lane.watermark = lane.watermark.max(time);
                    if let Some(moved) = self.move_watermark() {
                        return Some(Arrival::Watermark(moved));
                    }
                }
                Some(Message::Barrier(epoch)) => {
                    lane.at_barrier = Some(epoch);
                    if let Some(epoch) = self.align() {
                        return Some(Arrival::Aligned(epoch));
                    }
                }
            }
            idle = 0;
        }
        None
    }

    fn move_watermark(&mut self) -> Option<Time> {
        let least = self.lanes.iter().map(|lane| lane.watermark).min()?;
        (least > self.watermark).then(|| {
            self.watermark = least;
            least
        })
    }

    /// When every lane stands at its barrier, all go on.
    fn align(&mut self) -> Option<Epoch> {
        let epoch = self.lanes.first()?.at_barrier?;
        for lane in &self.lanes {
            assert_eq!(lane.at_barrier?, epoch, "every core sends every barrier, in order");
        }
        self.lanes.iter_mut().for_each(|lane| lane.at_barrier = None);
        Some(epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(inbox: &mut Inbox<u32>) -> Vec<Arrival<u32>> {
        std::iter::from_fn(|| inbox.next()).collect()
    }

    /// A key that `owner` of two cores owns.
    fn key_of(owner: usize) -> KeyHash {
        let mut keys = (0..).map(KeyHash::of_number);
        keys.find(|key| key.owner(2) == owner).expect("every core owns keys")
    }

    #[test]
    fn nothing_behind_a_barrier_is_given_out_before_it_has_come_from_every_core() {
        let mut ends = mesh::<u32>(2, Time::START);
        let to_first = key_of(0);
        ends[0].0.send(to_first, 1);
        ends[0].0.barrier(Epoch(1));
        ends[0].0.send(to_first, 2);
        assert_eq!(drain(&mut ends[0].1), [Arrival::Event(1)]);
        ends[1].0.send(to_first, 3);
        assert_eq!(drain(&mut ends[0].1), [Arrival::Event(3)]);
        ends[1].0.barrier(Epoch(1));
        assert_eq!(drain(&mut ends[0].1), [Arrival::Aligned(Epoch(1)), Arrival::Event(2)]);
    }

    #[test]
    fn the_watermark_is_the_least_of_all_cores_and_never_goes_back() {
        let mut ends = mesh::<u32>(2, Time::START);
        ends[0].0.watermark(Time(50));
        assert_eq!(drain(&mut ends[0].1), []);
        ends[1].0.watermark(Time(20));
        assert_eq!(drain(&mut ends[0].1), [Arrival::Watermark(Time(20))]);
        ends[1].0.watermark(Time(10));
        ends[1].0.watermark(Time(70));
        assert_eq!(drain(&mut ends[0].1), [Arrival::Watermark(Time(50))]);
    }

    #[test]
    fn a_full_queue_holds_nothing_back_from_other_cores() {
        let mut ends = mesh::<u32>(2, Time::START);
        let (full, other) = (key_of(0), key_of(1));
        let outbox = &mut ends[0].0;
        (0..=QUEUE_CAPACITY).for_each(|_| outbox.send(full, 0));
        (0..=QUEUE_CAPACITY).for_each(|_| outbox.send(other, 1));
        outbox.barrier(Epoch(1));
        ends[1].0.barrier(Epoch(1));
        assert_eq!(drain(&mut ends[1].1).len(), QUEUE_CAPACITY);
        assert!(!ends[0].0.flush(), "nobody reads the queue to the first core");
        assert_eq!(drain(&mut ends[1].1), [Arrival::Event(1), Arrival::Aligned(Epoch(1))]);
    }

    #[test]
    fn what_does_not_fit_waits_and_keeps_its_order() {
        let mut ends = mesh::<u32>(1, Time::START);
        let (outbox, inbox) = &mut ends[0];
        let count = u32::try_from(QUEUE_CAPACITY).expect("a small queue") * 2 + 7;
        (0..count).for_each(|number| outbox.send(KeyHash::of_number(0), number));
        assert!(!outbox.flush());
        let mut seen = Vec::new();
        while !outbox.flush() || seen.len() < count as usize {
            seen.extend(drain(inbox));
        }
        assert!(seen.into_iter().eq((0..count).map(Arrival::Event)));
        assert!(outbox.flush());
    }
}

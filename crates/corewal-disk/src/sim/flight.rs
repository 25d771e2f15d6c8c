//! What is in flight on rings, and how time makes it land.

use super::faults::Errno;
use super::node::{HandleId, Landing, NodeId};
use super::random::{below, draw, mix};
use super::state::{State, Written};
use super::trace::TraceStep;
use crate::{Durability, Token};

/// How much later than otherwise what a killed process has submitted may land, in nanoseconds.
const LATE_TIME: u64 = 5_000_000;

/// How long what is landed by hand stays in flight, in nanoseconds: a thousand days.
const HELD_TIME: u64 = 1_000 * 86_400 * 1_000_000_000;

/// An operation between its submission and its completion.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    /// Breaks ties between those that are due at one moment.
    pub(super) order: u64,
    pub(super) due: u64,
    pub(super) ring: u64,
    pub(super) token: Token,
    pub(super) node: NodeId,
    pub(super) handle: HandleId,
    /// Why the kernel does not even try.
    pub(super) refusal: Option<Errno>,
    pub(super) work: Work,
}

#[derive(Clone, Debug)]
pub(super) enum Work {
    Write(Landing, Durability),
    /// The sync that is linked to a write, which has landed.
    Linked {
        written: usize,
        upto: u64,
    },
    /// Covers what had landed when it was submitted.
    Sync {
        upto: u64,
    },
}

/// What a sync covers of what landed while it was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coverage {
    /// All of it or nothing, as drawn.
    Drawn,
    /// Nothing.
    Exact,
}

/// A ring of this life, or one whose process was killed.
#[derive(Clone, Debug, Default)]
pub(super) struct RingState {
    /// The lock that it registered.
    pub(super) lock: Option<NodeId>,
    pub(super) is_orphan: bool,
    /// Completed and not reaped.
    pub(super) done: Vec<(Token, Result<usize, Errno>)>,
}

impl State {
    /// Starts an operation.
    pub(super) fn launch(&mut self, mut flight: Flight) {
        flight.order = self.next_flight;
        self.next_flight += 1;
        let latency = self.latency(flight.node);
        flight.due = self.now + if self.options.by_hand { HELD_TIME } else { latency };
        self.flights.push(flight);
    }

    /// Lets time pass, and lands what is due, until the power is cut.
    pub(super) fn advance_to(&mut self, until: u64) {
        while let Some((due, index)) = self.next_due(|_| true)
            && due <= until
        {
            if self.is_crashed() {
                return;
            }
            self.now = self.now.max(due);
            self.land(index, Coverage::Drawn);
        }
        self.now = self.now.max(until);
    }

    /// The next landing among some, as its time and its index.
    fn next_due(&self, among: impl Fn(&Flight) -> bool) -> Option<(u64, usize)> {
        let some = self.flights.iter().enumerate().filter(|(_, flight)| among(flight));
        let first = some.min_by_key(|(_, flight)| (flight.due, flight.order));
        first.map(|(index, flight)| (flight.due, index))
    }

    /// When something of a ring lands next.
    pub(super) fn next_due_of(&self, ring: u64) -> Option<u64> {
        self.next_due(|flight| flight.ring == ring).map(|(due, _)| due)
    }

    /// Lands one out of its turn, without a draw.
    pub(super) fn land_exactly(&mut self, index: usize) {
        self.land(index, Coverage::Exact);
    }

    fn land(&mut self, index: usize, coverage: Coverage) {
        let mut flight = self.flights.swap_remove(index);
        self.operations += 1;
        let (ring, token, node) = (flight.ring, flight.token, flight.node);
        if let Some(errno) = flight.refusal {
            return self.finish(ring, token, Err(errno));
        }
        let path = self.path(node);
        let result = match flight.work {
            Work::Write(landing, durability) => {
                let (at, len) = (landing.at, landing.len);
                let durable = durability == Durability::Dsync;
                let number = token.0;
                self.record(&path, TraceStep::Land { ring, token: number, at, len, durable });
                match self.write(node, landing, durable) {
                    Written::Count(count)
                        if count == len
                            && matches!(
                                durability,
                                Durability::LinkedSync | Durability::DrainedSync
                            ) =>
                    {
                        flight.work = Work::Linked { written: count, upto: self.landed };
                        self.launch(flight);
                        return;
                    }
                    Written::Count(count) => Ok(count),
                    Written::Failed(errno) => Err(errno),
                }
            }
            Work::Linked { written, upto } => {
                self.record(&path, TraceStep::LandSync { ring, token: token.0 });
                self.cover_some(node, flight.handle, upto, coverage).map(|()| written)
            }
            Work::Sync { upto } => {
                self.record(&path, TraceStep::LandSync { ring, token: token.0 });
                self.cover_some(node, flight.handle, upto, coverage).map(|()| 0)
            }
        };
        self.finish(ring, token, result);
    }

    /// A sync covers what had landed when it was submitted; sometimes what landed since, too.
    fn cover_some(
        &mut self,
        node: NodeId,
        handle: HandleId,
        upto: u64,
        coverage: Coverage,
    ) -> Result<(), Errno> {
        let more = coverage == Coverage::Drawn && below(self.draw(node), 2) == 1;
        self.cover(node, handle, if more { u64::MAX } else { upto })
    }

    fn finish(&mut self, ring: u64, token: Token, result: Result<usize, Errno>) {
        let busy = self.flights.iter().any(|flight| flight.ring == ring);
        let Some(state) = self.rings.get_mut(&ring) else { return };
        if !state.is_orphan {
            state.done.push((token, result));
        } else if !busy {
            let lock = state.lock;
            self.rings.remove(&ring);
            self.free(lock);
        }
    }

    /// A lock is free when no ring holds it any more. For locks of a killed process.
    fn free(&mut self, lock: Option<NodeId>) {
        if let Some(lock) = lock
            && !self.rings.values().any(|ring| ring.lock == Some(lock))
        {
            self.locks.remove(&lock);
        }
    }

    /// The process is killed; what it had submitted may land later, or be cancelled.
    pub(super) fn kill(&self, holds_lock: bool) -> Self {
        let mut next = self.clone();
        next.begin_life();
        let (seed, life) = (next.options.seed, next.life);
        next.flights.retain_mut(|flight| {
            let number = draw(seed, life, flight.order);
            flight.due += below(mix(number), LATE_TIME);
            below(number, 4) != 0
        });
        let flights = &next.flights;
        next.rings.retain(|id, ring| {
            ring.is_orphan = true;
            ring.done.clear();
            flights.iter().any(|flight| flight.ring == *id)
        });
        let rings = &next.rings;
        next.locks
            .retain(|lock, _| holds_lock && rings.values().any(|ring| ring.lock == Some(*lock)));
        next.forget_nameless();
        next.record(&"".into(), TraceStep::Kill);
        next
    }

    /// Nobody has a handle in a new life.
    pub(super) fn begin_life(&mut self) {
        self.life += 1;
        self.operations = 0;
        self.crash_after = None;
        self.stopped = None;
        for node in self.nodes.values_mut() {
            if let Some(file) = node.file_mut() {
                file.handles.clear();
            }
        }
    }
}

//! What a job computes: a replayable source and a chain of operators.

use std::fmt;
use std::io::Write;

use corewal::Record;
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use crate::exchange::{KeyHash, Outbox};
use crate::source::{Offset, Partition};
use crate::time::Time;

/// What a job computes.
///
/// The first operator of the chain runs where an event is read; each further one behind an exchange, on the
/// core that owns the event's key.
pub trait Workload: Clone + Send + Sync + 'static {
    /// What travels along the chain.
    type Event: Send + 'static;
    /// A change of an operator's state, as it is logged.
    type Change: Stored;
    /// One partition of the source.
    type Reader: Iterator<Item = (Time, Self::Event)> + Send;

    /// How far behind the newest event of its partition an event may come, in milliseconds.
    const DISORDER_MS: u64;

    /// The partition from an offset on. The same offset gives the same event, always: exactly once rests on it.
    fn read(&self, partition: Partition, from: Offset) -> Self::Reader;

    /// A chain of operators without state.
    fn chain(&self) -> Chain<Self>;

    /// Where the state lives that a change belongs to.
    fn home(change: &Self::Change) -> Home;
}

/// The operators of one core, in the order in which an event passes them; at least two.
pub type Chain<W> = Vec<Box<dyn Operator<<W as Workload>::Event, <W as Workload>::Change> + Send>>;

/// Where a piece of state lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    /// Which operator of the chain.
    pub stage: usize,
    /// The key; its owner has the state.
    pub key: KeyHash,
}

/// One step of a chain, on one core. Deterministic: it looks at nothing but its input.
pub trait Operator<E, C> {
    /// Takes an event.
    fn event(&mut self, event: E, emit: &mut Emit<'_, E>);

    /// No event before this time will come.
    fn watermark(&mut self, time: Time, emit: &mut Emit<'_, E>) {
        let _ = (time, emit);
    }

    /// Gives what has changed since the last call.
    fn changes(&mut self, into: &mut Vec<C>) {
        let _ = into;
    }

    /// Gives the whole state.
    fn state(&self, into: &mut Vec<C>) {
        let _ = into;
    }

    /// Puts a recorded change back.
    fn apply(&mut self, change: C) {
        let _ = change;
    }

    /// Events that came too late and were left out.
    fn late(&self) -> u64 {
        0
    }
}

/// Where an operator's results go.
#[derive(Debug)]
pub struct Emit<'a, E> {
    lines: &'a mut Vec<u8>,
    next: Option<&'a mut Outbox<E>>,
}

impl<'a, E> Emit<'a, E> {
    pub(crate) fn new(lines: &'a mut Vec<u8>, next: Option<&'a mut Outbox<E>>) -> Self {
        Self { lines, next }
    }

    /// Emits a line of output.
    pub fn line(&mut self, line: fmt::Arguments<'_>) {
        writeln!(self.lines, "{line}").expect("memory takes it");
    }

    /// Sends an event to the next operator of the chain, on the core that owns `key`.
    ///
    /// # Panics
    /// If this is the last operator.
    pub fn send(&mut self, key: KeyHash, event: E) {
        let next = self.next.as_mut().expect("an operator sends to the next one; this is the last");
        next.send(key, event);
    }
}

/// A record that is also kept in snapshots. Implemented for every [`Record`] that derives rkyv's three traits.
pub trait Stored: Record + Send + Sized + 'static {
    /// Its archive.
    ///
    /// # Errors
    /// What rkyv says.
    fn freeze(&self) -> Result<AlignedVec, Error>;

    /// From its archive in place.
    ///
    /// # Errors
    /// What rkyv says.
    fn thaw(archived: &Self::Archived) -> Result<Self, Error>;

    /// From the bytes of its archive, validated.
    ///
    /// # Errors
    /// What rkyv says about the bytes.
    fn from_bytes(bytes: &[u8]) -> Result<Self, Error>;
}

impl<T> Stored for T
where
    T: Record + Send + 'static,
    T: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, Error>>,
    T::Archived:
        for<'a> CheckBytes<HighValidator<'a, Error>> + Deserialize<T, HighDeserializer<Error>>,
    T: Archive,
{
    fn freeze(&self) -> Result<AlignedVec, Error> {
        rkyv::to_bytes::<Error>(self)
    }

    fn thaw(archived: &T::Archived) -> Result<Self, Error> {
        rkyv::deserialize::<T, Error>(archived)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        rkyv::from_bytes::<T, Error>(bytes)
    }
}

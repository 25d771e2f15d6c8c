//! What can be appended: something that is encoded into the room that a batch has for it, perhaps more than once.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use corewal_format::{EntryFlags, Kind};
use rkyv::ser::allocator::Arena;

use crate::record::{self, EncodeError, Record, Room};

/// An entry before it has a place.
pub(crate) trait Payload {
    fn kind(&self) -> Kind;

    /// What follows from the payload alone.
    #[inline]
    fn flags(&self) -> EntryFlags {
        EntryFlags::NONE
    }

    /// Writes the payload and returns its length. It does not fit where that is more than the room has.
    fn encode(&mut self, room: Room<'_>, scratch: &mut Arena) -> Result<usize, EncodeError>;
}

/// A record.
pub(crate) struct Typed<'a, T>(pub(crate) &'a T);

impl<T: Record> Payload for Typed<'_, T> {
    #[inline]
    fn kind(&self) -> Kind {
        T::KIND
    }

    #[inline]
    fn encode(&mut self, room: Room<'_>, scratch: &mut Arena) -> Result<usize, EncodeError> {
        record::encode(self.0, room, scratch)
    }
}

/// Bytes.
pub(crate) struct Raw<'a>(pub(crate) Kind, pub(crate) &'a [u8]);

impl Payload for Raw<'_> {
    #[inline]
    fn kind(&self) -> Kind {
        self.0
    }

    #[inline]
    fn encode(&mut self, room: Room<'_>, _: &mut Arena) -> Result<usize, EncodeError> {
        room.put(self.1)
    }
}

/// What a codec of the user's writes, at most so many bytes.
pub(crate) struct Coded<F>(pub(crate) Kind, pub(crate) usize, pub(crate) F);

impl<F: FnMut(&mut [u8]) -> Result<usize, EncodeError>> Payload for Coded<F> {
    #[inline]
    fn kind(&self) -> Kind {
        self.0
    }

    #[inline]
    fn encode(&mut self, room: Room<'_>, _: &mut Arena) -> Result<usize, EncodeError> {
        room.fill(self.1, &mut self.2)
    }
}

/// A timestamp before another payload.
pub(crate) struct Timed<P>(pub(crate) i64, pub(crate) P);

impl<P: Payload> Payload for Timed<P> {
    #[inline]
    fn kind(&self) -> Kind {
        self.1.kind()
    }

    #[inline]
    fn flags(&self) -> EntryFlags {
        EntryFlags::TIMESTAMP
    }

    #[inline]
    fn encode(&mut self, room: Room<'_>, scratch: &mut Arena) -> Result<usize, EncodeError> {
        room.timed(self.0, |room| self.1.encode(room, scratch))
    }
}

/// What a serializer panicked with.
pub(super) type Panic = Cell<Option<Box<dyn Any + Send>>>;

/// A payload whose panic becomes an error, so that it leaves no trace under a lock.
pub(super) struct Guarded<'a, P> {
    pub(super) inner: &'a mut P,
    pub(super) panic: &'a Panic,
}

impl<P: Payload> Payload for Guarded<'_, P> {
    #[inline]
    fn kind(&self) -> Kind {
        self.inner.kind()
    }

    #[inline]
    fn flags(&self) -> EntryFlags {
        self.inner.flags()
    }

    #[inline]
    fn encode(&mut self, room: Room<'_>, scratch: &mut Arena) -> Result<usize, EncodeError> {
        let encode = || self.inner.encode(room, scratch);
        catch_unwind(AssertUnwindSafe(encode)).unwrap_or_else(|payload| {
            self.panic.set(Some(payload));
            Err(EncodeError::custom("its serializer panicked"))
        })
    }
}

//! Typed records: rkyv's bounds, hidden behind one trait.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;

use rkyv::api::high::HighValidator;
use rkyv::bytecheck::CheckBytes;
use rkyv::primitive::{ArchivedU64, ArchivedUsize};
use rkyv::rancor::{self, Source, Strategy, Trace};
use rkyv::ser::allocator::{Arena, ArenaHandle};
use rkyv::ser::{Positional, Serializer, Writer};
use rkyv::{Archive, Serialize};

use corewal_format::{ENTRY_ALIGN, Kind, RkyvLayout, SchemaId, TIMESTAMP_LEN, timestamp_bytes};

/// A type that can be appended, and read in place.
///
/// Derive rkyv's traits and add one line:
///
/// ```
/// use corewal::Record;
///
/// #[derive(rkyv::Archive, rkyv::Serialize)]
/// struct Trade {
///     symbol: String,
///     price: u64,
/// }
///
/// impl Record for Trade {}
/// ```
pub trait Record:
    Archive<Archived: for<'a> CheckBytes<HighValidator<'a, rancor::Error>>>
    + for<'a> Serialize<Encoder<'a>>
{
    /// The kind of its entries.
    const KIND: Kind = Kind::PUT;
}

/// The serializer that writes straight into the block that the kernel will read.
pub type Encoder<'a> = Strategy<Serializer<Room<'a>, ArenaHandle<'a>, ()>, EncodeError>;

/// Where a record is serialized to: the rest of an open batch, or a count of bytes.
#[derive(Debug)]
pub struct Room<'a> {
    bytes: &'a mut [u8],
    len: usize,
    wish: Wish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Write,
    Count,
}

impl<'a> Room<'a> {
    pub(crate) fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, len: 0, wish: Wish::Write }
    }

    /// Writes nothing, and only learns how long the record is.
    pub(crate) fn counting() -> Self {
        Self { bytes: &mut [], len: 0, wish: Wish::Count }
    }

    /// Copies `bytes`, the whole payload.
    pub(crate) fn put(self, bytes: &[u8]) -> Result<usize, EncodeError> {
        if self.wish == Wish::Write {
            self.bytes
                .get_mut(..bytes.len())
                .ok_or_else(EncodeError::no_room)?
                .copy_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    /// Puts a timestamp before what `encode` writes.
    pub(crate) fn timed(
        self,
        timestamp: i64,
        encode: impl FnOnce(Room<'_>) -> Result<usize, EncodeError>,
    ) -> Result<usize, EncodeError> {
        let rest = match self.wish {
            Wish::Count => Room::counting(),
            Wish::Write => {
                let parts = self.bytes.split_first_chunk_mut();
                let (head, rest) = parts.ok_or_else(EncodeError::no_room)?;
                *head = timestamp_bytes(timestamp);
                Room::new(rest)
            }
        };
        Ok(TIMESTAMP_LEN + encode(rest)?)
    }

    /// Lets `encode` write at most `max_len` bytes. A count is the bound: the exact length is known only by
    /// writing.
    pub(crate) fn fill(
        self,
        max_len: usize,
        encode: &mut impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
    ) -> Result<usize, EncodeError> {
        if self.wish == Wish::Count {
            return Ok(max_len);
        }
        let room = self.bytes.get_mut(..max_len).ok_or_else(EncodeError::no_room)?;
        let len = encode(room)?;
        if len > max_len {
            return Err(EncodeError::custom("the codec returned more than its maximum"));
        }
        Ok(len)
    }
}

impl Positional for Room<'_> {
    #[inline]
    fn pos(&self) -> usize {
        self.len
    }
}

impl Writer<EncodeError> for Room<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        // rkyv pads with nothing more often than not, and calls for it.
        if bytes.is_empty() {
            return Ok(());
        }
        let end = self.len + bytes.len();
        match self.bytes.get_mut(self.len..end) {
            Some(room) => copy(bytes, room),
            None if self.wish == Wish::Count => {}
            None => return Err(EncodeError::no_room()),
        }
        self.len = end;
        Ok(())
    }
}

/// Copies a field. Short ones, as strings are, without a call.
#[inline]
fn copy(from: &[u8], to: &mut [u8]) {
    if let (Some((head, _)), Some((_, tail))) =
        (from.split_first_chunk::<16>(), from.split_last_chunk::<16>())
        && from.len() <= 32
        && to.len() == from.len()
    {
        let len = to.len();
        to[..16].copy_from_slice(head);
        to[len - 16..].copy_from_slice(tail);
    } else {
        to.copy_from_slice(from);
    }
}

/// Serializes `record` into `room` and returns its exact length; rkyv's root is at the end.
pub(crate) fn encode<T: Record>(
    record: &T,
    room: Room<'_>,
    scratch: &mut Arena,
) -> Result<usize, EncodeError> {
    const { assert!(align_of::<T::Archived>() <= ENTRY_ALIGN, "payloads are aligned to 16 bytes") };
    let mut serializer = Serializer::new(room, scratch.acquire(), ());
    rkyv::api::serialize_using::<_, EncodeError>(record, &mut serializer)?;
    Ok(serializer.into_writer().len)
}

/// Why a record could not be encoded.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("the record cannot be encoded: {message}")]
pub struct EncodeError {
    message: Cow<'static, str>,
    /// The block is full; the record goes into the next one.
    no_room: bool,
}

impl EncodeError {
    /// An error of a codec of your own, for [`append_with`](crate::ShardWriter::append_with).
    #[must_use]
    pub fn custom(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), no_room: false }
    }

    pub(crate) fn no_room() -> Self {
        Self { message: Cow::Borrowed("no room"), no_room: true }
    }

    pub(crate) fn is_no_room(&self) -> bool {
        self.no_room
    }
}

impl fmt::Debug for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EncodeError").field(&self.message).finish()
    }
}

impl Trace for EncodeError {
    fn trace<R>(self, _: R) -> Self
    where
        R: fmt::Debug + fmt::Display + Send + Sync + 'static,
    {
        self
    }
}

impl Source for EncodeError {
    fn new<T>(source: T) -> Self
    where
        T: std::error::Error + Send + Sync + 'static,
    {
        match (&source as &dyn Any).downcast_ref::<Self>() {
            Some(error) => error.clone(),
            None => Self::custom(source.to_string()),
        }
    }
}

/// Why an entry cannot be read as a record of a type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The segment was written with another schema.
    #[error("the entry has schema {found}, not {expected}")]
    Schema {
        /// The schema of the segment.
        found: SchemaId,
        /// The schema that was asked for.
        expected: SchemaId,
    },
    /// The segment was written by a program whose rkyv lays archives out otherwise.
    #[error("the entry was archived with another layout ({0:?})")]
    Layout(RkyvLayout),
    /// The bytes are no valid archive of the type.
    #[error("no valid archive of this type: {0}")]
    Invalid(String),
}

/// How this program's rkyv lays out archives: its cargo features decide, for the whole program.
pub(crate) fn rkyv_layout() -> RkyvLayout {
    let low_byte_first = rkyv::to_bytes::<rancor::Error>(&1_u16).is_ok_and(|bytes| bytes[0] == 1);
    RkyvLayout {
        endianness: if low_byte_first { 1 } else { 2 },
        alignment: if align_of::<ArchivedU64>() == 1 { 2 } else { 1 },
        pointer_width: const {
            match size_of::<ArchivedUsize>() {
                2 => 16,
                4 => 32,
                _ => 64,
            }
        },
    }
}

/// Reads an archived record in place, with validation.
pub(crate) fn access<T: Record>(bytes: &[u8]) -> Result<&T::Archived, AccessError> {
    rkyv::access::<T::Archived, rancor::Error>(bytes)
        .map_err(|error| AccessError::Invalid(error.to_string()))
}

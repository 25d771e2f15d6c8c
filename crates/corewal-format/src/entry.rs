//! One entry: a header of 16 bytes, then its payload, then zeros up to a multiple of 16.

use crate::bytes::{put, u16_at, u32_at};
#[cfg(test)]
use crate::format_doc::Field;
use crate::{Crc, Seed};

/// Bytes of an entry's header.
pub const ENTRY_HEADER_LEN: usize = 16;
/// Entries and their payloads start at multiples of this, counted from the start of the batch.
pub const ENTRY_ALIGN: usize = 16;

/// Bytes at the start of a payload that hold its timestamp, if it has one.
pub const TIMESTAMP_LEN: usize = 16;

const AT_CRC: usize = 0;
const AT_LEN: usize = 4;
const AT_KIND: usize = 8;
const AT_FLAGS: usize = 10;
const AT_DELTA: usize = 12;

const _: () = assert!(AT_FLAGS == AT_KIND + 2 && AT_DELTA == AT_KIND + 4);
// The user's bytes behind a timestamp are aligned as all payloads are.
const _: () = assert!(TIMESTAMP_LEN.is_multiple_of(ENTRY_ALIGN));
const _: () =
    assert!(AT_DELTA + 4 == ENTRY_HEADER_LEN && ENTRY_HEADER_LEN.is_multiple_of(ENTRY_ALIGN));

/// The fields of an entry header as the format document lists them.
#[cfg(test)]
pub(crate) const FIELDS: &[Field] = &[
    ("crc", AT_CRC, 4),
    ("length", AT_LEN, 4),
    ("kind", AT_KIND, 2),
    ("flags", AT_FLAGS, 2),
    ("delta", AT_DELTA, 4),
];

/// `len` rounded up to where the next entry starts.
#[must_use]
pub const fn padded(len: usize) -> usize {
    len.next_multiple_of(ENTRY_ALIGN)
}

/// What the payload of an entry with [`EntryFlags::TIMESTAMP`] starts with.
#[must_use]
pub fn timestamp_bytes(timestamp: i64) -> [u8; TIMESTAMP_LEN] {
    let mut bytes = [0; TIMESTAMP_LEN];
    put(&mut bytes, 0, timestamp.to_le_bytes());
    bytes
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u16);

impl Kind {
    /// A record, or a value that is put.
    pub const PUT: Self = Self(1);
    /// A deletion.
    pub const DELETE: Self = Self(2);
    /// What must become visible atomically with its epoch: source offsets and the watermark.
    pub const COMMIT: Self = Self(3);
    /// A checkpoint of the user's state inside the shard, or a mark of one outside.
    pub const CHECKPOINT: Self = Self(4);
    /// The entry that closes an epoch on a shard; the last of its batch. Only the engine writes it, without
    /// payload or flags, and in no group.
    pub const BARRIER: Self = Self(5);
    /// The first of the kinds that users define.
    pub const FIRST_USER: Self = Self(0x8000);

    /// Whether an entry of this kind may be appended by a user.
    #[must_use]
    #[inline]
    pub const fn is_appendable(self) -> bool {
        matches!(self, Self::PUT | Self::DELETE | Self::COMMIT | Self::CHECKPOINT)
            || self.0 >= Self::FIRST_USER.0
    }

    /// Whether this version of the format knows the kind.
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.is_appendable() || matches!(self, Self::BARRIER)
    }
}

/// Flags of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EntryFlags(pub u16);

impl EntryFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The next entry of the batch, which is no barrier, belongs to the same atomic group.
    pub const GROUP_CONTINUES: Self = Self(1);
    /// The payload starts with a user timestamp: a signed 64-bit number, then 8 zero bytes.
    pub const TIMESTAMP: Self = Self(2);

    const KNOWN: u16 = Self::GROUP_CONTINUES.0 | Self::TIMESTAMP.0;

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn is_known(self) -> bool {
        self.0 & !Self::KNOWN == 0
    }
}

/// The header of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// Exact length of the payload, in bytes, without padding.
    pub len: u32,
    /// What the entry is.
    pub kind: Kind,
    /// Its flags.
    pub flags: EntryFlags,
    /// Its seq, counted from the batch's first.
    pub delta: u32,
}

impl EntryHeader {
    /// Writes the header before a payload that is already in place, and returns the entry's CRC.
    ///
    /// `entry` is the header's 16 bytes and the exact payload: the CRC is one pass over it.
    ///
    /// # Panics
    /// If `entry` is not as long as header and payload.
    #[inline]
    pub fn seal(&self, seed: Seed, entry: &mut [u8]) -> Crc {
        assert_eq!(entry.len(), ENTRY_HEADER_LEN + self.len as usize);
        put(entry, AT_LEN, self.len.to_le_bytes());
        // One store, as the CRC reads it: several small ones behind one load would hold it up.
        let rest =
            u64::from(self.kind.0) | u64::from(self.flags.0) << 16 | u64::from(self.delta) << 32;
        put(entry, AT_KIND, rest.to_le_bytes());
        let crc = seed.crc(&entry[AT_LEN..]);
        put(entry, AT_CRC, crc.to_le_bytes());
        crc
    }

    /// Reads the header at the start of `bytes` with the CRC that it states; nothing is verified.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, Crc)> {
        let bytes = bytes.get(..ENTRY_HEADER_LEN)?;
        let header = Self {
            len: u32_at(bytes, AT_LEN),
            kind: Kind(u16_at(bytes, AT_KIND)),
            flags: EntryFlags(u16_at(bytes, AT_FLAGS)),
            delta: u32_at(bytes, AT_DELTA),
        };
        Some((header, u32_at(bytes, AT_CRC)))
    }

    /// CRC of header and payload as they stand in `entry`.
    pub(crate) fn crc(seed: Seed, entry: &[u8]) -> Crc {
        seed.crc(&entry[AT_LEN..])
    }

    /// Bytes that the entry takes in its batch.
    #[must_use]
    pub const fn stride(&self) -> usize {
        ENTRY_HEADER_LEN + padded(self.len as usize)
    }
}

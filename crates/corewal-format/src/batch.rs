//! The batch: one header with its promises, and its entries, in whole blocks of its own.

use crate::bytes::{is_zero, put, take, u16_at, u32_at, u64_at};
#[cfg(test)]
use crate::format_doc::Field;
use crate::{
    BatchNumber, Chain, Crc, ENTRY_ALIGN, ENTRY_HEADER_LEN, EntryFlags, EntryHeader, Epoch,
    Incarnation, Kind, LogId, MAX_BLOCK_LEN, MIN_BLOCK_LEN, Seed, SegmentNumber, Seq, ShardId,
    Stamp, TIMESTAMP_LEN,
};

/// Bytes of a batch header; the first entry follows at once.
pub const BATCH_HEADER_LEN: usize = 112;

const MAGIC: [u8; 4] = *b"CWBT";

const AT_MAGIC: usize = 0;
const AT_CRC: usize = 4;
const AT_FLAGS: usize = 8;
const AT_SHARD: usize = 10;
const AT_BLOCK: usize = 12;
const AT_SEGMENT: usize = 16;
const AT_INCARNATION: usize = 24;
const AT_NUMBER: usize = 32;
const AT_FIRST_SEQ: usize = 40;
const AT_EPOCH: usize = 48;
const AT_DURABLE_BATCH: usize = 56;
const AT_DURABLE_SEQ: usize = 64;
const AT_COMMITTED_EPOCH: usize = 72;
const AT_ENTRY_COUNT: usize = 80;
const AT_BODY_LEN: usize = 84;
const AT_BODY_CRC: usize = 88;
const AT_LAST_DELTA: usize = 92;
const AT_BLOCK_SHIFT: usize = 96;
const AT_RESERVED: usize = 97;

const _: () =
    assert!(AT_RESERVED < BATCH_HEADER_LEN && BATCH_HEADER_LEN.is_multiple_of(ENTRY_ALIGN));
const _: () = assert!(BATCH_HEADER_LEN + ENTRY_HEADER_LEN <= MIN_BLOCK_LEN as usize);
const _: () = assert!(AT_CRC + 4 == AT_FLAGS && AT_LAST_DELTA + 4 == AT_BLOCK_SHIFT);

/// The fields of a batch header as the format document lists them.
#[cfg(test)]
pub(crate) const FIELDS: &[Field] = &[
    ("magic", AT_MAGIC, 4),
    ("crc", AT_CRC, 4),
    ("flags", AT_FLAGS, 2),
    ("shard", AT_SHARD, 2),
    ("block", AT_BLOCK, 4),
    ("segment", AT_SEGMENT, 8),
    ("incarnation", AT_INCARNATION, 8),
    ("batch number", AT_NUMBER, 8),
    ("first seq", AT_FIRST_SEQ, 8),
    ("epoch", AT_EPOCH, 8),
    ("durable batch", AT_DURABLE_BATCH, 8),
    ("durable seq", AT_DURABLE_SEQ, 8),
    ("committed epoch", AT_COMMITTED_EPOCH, 8),
    ("entry count", AT_ENTRY_COUNT, 4),
    ("body length", AT_BODY_LEN, 4),
    ("body crc", AT_BODY_CRC, 4),
    ("last delta", AT_LAST_DELTA, 4),
    ("block shift", AT_BLOCK_SHIFT, 1),
    ("reserved", AT_RESERVED, BATCH_HEADER_LEN - AT_RESERVED),
];

/// Flags of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchFlags(pub u16);

impl BatchFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The last entry is a barrier: the batch closes its epoch on this shard.
    pub const BARRIER: Self = Self(1);
    /// No entries: the batch exists for its promises.
    pub const VOUCH: Self = Self(2);

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The header of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Its flags.
    pub flags: BatchFlags,
    /// The shard, in clear.
    pub shard: ShardId,
    /// The segment, in clear.
    pub segment: SegmentNumber,
    /// The incarnation, in clear.
    pub incarnation: Incarnation,
    /// Index of its first block in the segment, in clear.
    pub block: u32,
    /// Size of a block, in bytes; a power of two.
    pub block_len: u32,
    /// Its number; one more than that of the batch before it in the run.
    pub number: BatchNumber,
    /// Seq of the first entry; of a vouch, the next seq.
    pub first_seq: Seq,
    /// Seq of the last entry, counted from the first.
    pub last_delta: u32,
    /// The epoch of all entries.
    pub epoch: Epoch,
    /// Promise: every batch of the shard up to this one was durable when this one was sealed.
    pub durable_batch: BatchNumber,
    /// The seq that goes with `durable_batch`; for readers, not for judgement.
    pub durable_seq: Seq,
    /// Promise: this epoch was committed, and published, when the batch was sealed.
    pub committed_epoch: Epoch,
    /// How many entries.
    pub entry_count: u32,
    /// Bytes of the entries with the padding of each; the block's padding not included.
    pub body_len: u32,
    /// CRC over the entries' CRCs.
    pub body_crc: Crc,
}

/// Why a place does not hold the batch header that was expected there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchFault {
    /// Nothing was written there.
    #[error("only zeros")]
    Zero,
    /// Bytes that are no batch header.
    #[error("no batch header")]
    Magic,
    /// A damaged header.
    #[error("batch header checksum mismatch")]
    Checksum,
    /// An intact header from an earlier use of the file.
    #[error("a batch of an earlier life (segment {segment}, incarnation {incarnation})")]
    OlderLife {
        /// The segment that the file was.
        segment: SegmentNumber,
        /// The incarnation that wrote it.
        incarnation: Incarnation,
    },
    /// An intact header that was meant for another place.
    #[error("a batch of segment {shard}-{segment} block {block}: written to a wrong place")]
    Misdirected {
        /// The shard that it names.
        shard: ShardId,
        /// The segment that it names.
        segment: SegmentNumber,
        /// The block that it names.
        block: u32,
    },
    /// The checksum holds, but a field cannot be: `0` names it.
    #[error("impossible {0} in a batch header")]
    Impossible(&'static str),
}

/// Why the entries of a batch do not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyFault {
    /// The file ends inside the batch.
    #[error("batch is cut off")]
    Cut,
    /// An entry's checksum does not match.
    #[error("entry {index} at offset {at} of the batch: checksum mismatch")]
    Entry {
        /// Which entry, from 0.
        index: u32,
        /// Offset of its header from the start of the batch, in bytes.
        at: usize,
    },
    /// Each entry may verify, but they are not those that the header was sealed over.
    #[error("batch body checksum mismatch")]
    Body,
    /// A field of an entry cannot be.
    #[error("entry {index}: impossible {what}")]
    Impossible {
        /// Which entry, from 0.
        index: u32,
        /// The field.
        what: &'static str,
    },
    /// Bytes that must be zero are not.
    #[error("padding is not zero")]
    Padding,
}

impl BatchHeader {
    /// The seed of the batch's CRCs, from what the header says of its place.
    #[must_use]
    pub fn seed(&self, log: LogId) -> Seed {
        Seed::of(log, self.shard, self.segment, self.incarnation, self.block)
    }

    /// Writes the header into the start of `batch`.
    ///
    /// # Panics
    /// If `batch` is shorter than a header.
    pub fn encode(&self, log: LogId, batch: &mut [u8]) {
        debug_assert!(self.check().is_ok());
        let bytes = &mut batch[..BATCH_HEADER_LEN];
        put(bytes, AT_MAGIC, MAGIC);
        put(bytes, AT_FLAGS, self.flags.0.to_le_bytes());
        put(bytes, AT_SHARD, self.shard.0.to_le_bytes());
        put(bytes, AT_BLOCK, self.block.to_le_bytes());
        put(bytes, AT_SEGMENT, self.segment.0.to_le_bytes());
        put(bytes, AT_INCARNATION, self.incarnation.0.to_le_bytes());
        put(bytes, AT_NUMBER, self.number.0.to_le_bytes());
        put(bytes, AT_FIRST_SEQ, self.first_seq.0.to_le_bytes());
        put(bytes, AT_EPOCH, self.epoch.0.to_le_bytes());
        put(bytes, AT_DURABLE_BATCH, self.durable_batch.0.to_le_bytes());
        put(bytes, AT_DURABLE_SEQ, self.durable_seq.0.to_le_bytes());
        put(bytes, AT_COMMITTED_EPOCH, self.committed_epoch.0.to_le_bytes());
        put(bytes, AT_ENTRY_COUNT, self.entry_count.to_le_bytes());
        put(bytes, AT_BODY_LEN, self.body_len.to_le_bytes());
        put(bytes, AT_BODY_CRC, self.body_crc.to_le_bytes());
        put(bytes, AT_LAST_DELTA, self.last_delta.to_le_bytes());
        bytes[AT_BLOCK_SHIFT] = self.block_len.trailing_zeros().to_le_bytes()[0];
        bytes[AT_RESERVED..].fill(0);
        let crc = self.seed(log).crc(&bytes[AT_FLAGS..]);
        put(bytes, AT_CRC, crc.to_le_bytes());
    }

    /// Reads the header at the start of `batch`, which stands at block `block` of the given segment.
    ///
    /// # Errors
    /// Why there is no batch header of that place.
    pub fn decode(
        log: LogId,
        shard: ShardId,
        segment: SegmentNumber,
        incarnation: Incarnation,
        block: u32,
        batch: &[u8],
    ) -> Result<Self, BatchFault> {
        let header = Self::decode_anywhere(log, batch)?;
        if (header.shard, header.block) != (shard, block) {
            return Err(header.misdirected());
        }
        if (header.segment, header.incarnation) == (segment, incarnation) {
            return Ok(header);
        }
        if header.segment <= segment && header.incarnation <= incarnation {
            return Err(BatchFault::OlderLife {
                segment: header.segment,
                incarnation: header.incarnation,
            });
        }
        Err(header.misdirected())
    }

    /// Reads a header that verifies for the place that it names itself, wherever it was found.
    ///
    /// # Errors
    /// Why there is none.
    pub fn decode_anywhere(log: LogId, batch: &[u8]) -> Result<Self, BatchFault> {
        let bytes = batch.get(..BATCH_HEADER_LEN).ok_or(BatchFault::Magic)?;
        if take::<4>(bytes, AT_MAGIC) != MAGIC {
            return Err(if is_zero(bytes) { BatchFault::Zero } else { BatchFault::Magic });
        }
        let header = Self {
            flags: BatchFlags(u16_at(bytes, AT_FLAGS)),
            shard: ShardId(u16_at(bytes, AT_SHARD)),
            block: u32_at(bytes, AT_BLOCK),
            segment: SegmentNumber(u64_at(bytes, AT_SEGMENT)),
            incarnation: Incarnation(u64_at(bytes, AT_INCARNATION)),
            number: BatchNumber(u64_at(bytes, AT_NUMBER)),
            first_seq: Seq(u64_at(bytes, AT_FIRST_SEQ)),
            epoch: Epoch(u64_at(bytes, AT_EPOCH)),
            durable_batch: BatchNumber(u64_at(bytes, AT_DURABLE_BATCH)),
            durable_seq: Seq(u64_at(bytes, AT_DURABLE_SEQ)),
            committed_epoch: Epoch(u64_at(bytes, AT_COMMITTED_EPOCH)),
            entry_count: u32_at(bytes, AT_ENTRY_COUNT),
            body_len: u32_at(bytes, AT_BODY_LEN),
            body_crc: u32_at(bytes, AT_BODY_CRC),
            last_delta: u32_at(bytes, AT_LAST_DELTA),
            block_len: 1_u32.checked_shl(u32::from(bytes[AT_BLOCK_SHIFT])).unwrap_or(0),
        };
        if u32_at(bytes, AT_CRC) != header.seed(log).crc(&bytes[AT_FLAGS..]) {
            return Err(BatchFault::Checksum);
        }
        if !is_zero(&bytes[AT_RESERVED..]) {
            return Err(BatchFault::Impossible("reserved field"));
        }
        header.check().map_err(BatchFault::Impossible)?;
        Ok(header)
    }

    fn misdirected(&self) -> BatchFault {
        BatchFault::Misdirected { shard: self.shard, segment: self.segment, block: self.block }
    }

    /// The field that cannot be, if any.
    fn check(&self) -> Result<(), &'static str> {
        let vouch = self.flags.contains(BatchFlags::VOUCH);
        let possible = [
            ("flags", self.flags.0 <= 2),
            ("block size", (MIN_BLOCK_LEN..=MAX_BLOCK_LEN).contains(&self.block_len)),
            ("block size", self.block_len.is_power_of_two()),
            ("incarnation", self.incarnation.0 > 0 && self.incarnation.0 < u64::MAX),
            ("batch number", self.number.0 > 0 && self.number.0 < u64::MAX),
            ("first seq", self.first_seq.0 > 0 && self.first_seq.0 < u64::MAX),
            ("last seq", self.last_seq().0 < u64::MAX),
            ("epoch", self.epoch.0 > 0 && self.epoch.0 < u64::MAX),
            ("durable batch", self.durable_batch < self.number),
            ("durable seq", self.durable_seq < self.first_seq),
            ("committed epoch", self.committed_epoch < self.epoch),
            ("entry count", vouch == (self.entry_count == 0)),
            ("last seq", self.last_delta >= self.entry_count.saturating_sub(1)),
            ("last seq", !vouch || self.last_delta == 0),
            (
                "body length",
                u64::from(self.body_len) >= u64::from(self.entry_count) * ENTRY_HEADER_LEN as u64
                    && (self.body_len as usize).is_multiple_of(ENTRY_ALIGN)
                    && (!vouch || self.body_len == 0),
            ),
        ];
        possible.iter().try_for_each(|&(what, holds)| if holds { Ok(()) } else { Err(what) })
    }

    /// Seq of the last entry; of a vouch, the seq before its `first_seq`.
    #[must_use]
    pub fn last_seq(&self) -> Seq {
        if self.entry_count == 0 {
            return self.first_seq.before();
        }
        Seq(self.first_seq.0.saturating_add(u64::from(self.last_delta)))
    }

    /// Bytes of the batch on disk: header, entries and padding, whole blocks.
    #[must_use]
    pub fn disk_len(&self) -> u64 {
        (BATCH_HEADER_LEN as u64 + u64::from(self.body_len))
            .next_multiple_of(u64::from(self.block_len))
    }

    /// Blocks of the batch.
    #[must_use]
    pub fn block_count(&self) -> u64 {
        self.disk_len() / u64::from(self.block_len)
    }

    /// Offset of the batch in its segment, in bytes.
    #[must_use]
    pub fn at(&self) -> u64 {
        u64::from(self.block) * u64::from(self.block_len)
    }

    /// Verifies the entries of the batch, whose bytes (header, entries, padding) are `batch`.
    ///
    /// # Errors
    /// The first thing that does not verify.
    pub fn verify<'a>(&self, log: LogId, batch: &'a [u8]) -> Result<BatchView<'a>, BodyFault> {
        let disk_len = usize::try_from(self.disk_len()).map_err(|_| BodyFault::Cut)?;
        let batch = batch.get(..disk_len).ok_or(BodyFault::Cut)?;
        let body_end = BATCH_HEADER_LEN + self.body_len as usize;
        let body = &batch[BATCH_HEADER_LEN..body_end];
        let seed = self.seed(log);
        let mut chain: Chain = seed.chain();
        let mut rest = body;
        let mut before: Option<EntryHeader> = None;
        for index in 0..self.entry_count {
            let at = body_end - rest.len();
            let damaged = BodyFault::Entry { index, at };
            let (entry, crc) = EntryHeader::parse(rest).ok_or(damaged)?;
            // So that the sums below stay far from the end of `usize`, also where it has 32 bits.
            if entry.len > self.body_len {
                return Err(damaged);
            }
            let end = ENTRY_HEADER_LEN + entry.len as usize;
            let bytes = rest.get(..end).ok_or(damaged)?;
            let padding = rest.get(end..entry.stride()).ok_or(damaged)?;
            if EntryHeader::crc(seed, bytes) != crc {
                return Err(damaged);
            }
            if !is_zero(padding) {
                return Err(BodyFault::Padding);
            }
            self.check_entry(index, &entry, &bytes[ENTRY_HEADER_LEN..], before)?;
            chain.link(crc);
            rest = &rest[entry.stride()..];
            before = Some(entry);
        }
        let sealed_over = chain.crc() == self.body_crc
            && before.map_or(0, |entry| entry.delta) == self.last_delta
            && rest.is_empty();
        if !sealed_over {
            return Err(BodyFault::Body);
        }
        if !is_zero(&batch[body_end..]) {
            return Err(BodyFault::Padding);
        }
        Ok(BatchView { header: *self, batch })
    }

    /// The entry at offset `at` of the body of a verified batch, whose bytes from its header on are `batch`,
    /// and the offset of the entry after it; `None` behind the last one.
    #[must_use]
    pub fn entry_at<'a>(&self, batch: &'a [u8], at: usize) -> Option<(EntryView<'a>, usize)> {
        let body = batch.get(BATCH_HEADER_LEN..BATCH_HEADER_LEN + self.body_len as usize)?;
        let rest = body.get(at..)?;
        let (entry, _) = EntryHeader::parse(rest)?;
        let bytes = rest.get(ENTRY_HEADER_LEN..ENTRY_HEADER_LEN + entry.len as usize)?;
        let seq = Seq(self.first_seq.0 + u64::from(entry.delta));
        let stamp = Stamp { epoch: self.epoch, seq, shard: self.shard };
        let view = EntryView { stamp, kind: entry.kind, flags: entry.flags, bytes };
        Some((view, at + entry.stride()))
    }

    /// The entries of a damaged batch whose own checksums hold, for a salvage; `batch` are its bytes, as many as
    /// there are. Lengths are followed, also those of entries that do not verify: what stands behind one that is
    /// wrong is not found.
    pub fn intact_entries<'a>(
        &self,
        log: LogId,
        batch: &'a [u8],
    ) -> impl Iterator<Item = EntryView<'a>> + use<'a> {
        let (header, seed) = (*self, self.seed(log));
        let body_end = batch.len().min(BATCH_HEADER_LEN.saturating_add(self.body_len as usize));
        let mut rest = batch.get(BATCH_HEADER_LEN..body_end).unwrap_or_default();
        let mut left = self.entry_count;
        core::iter::from_fn(move || {
            while left > 0 {
                let (entry, crc) = EntryHeader::parse(rest)?;
                if entry.len > header.body_len {
                    return None;
                }
                let end = ENTRY_HEADER_LEN + entry.len as usize;
                let bytes = rest.get(..end)?;
                rest = rest.get(entry.stride()..).unwrap_or_default();
                left -= 1;
                let holds = EntryHeader::crc(seed, bytes) == crc
                    && entry.delta <= header.last_delta
                    && has_room_for_timestamp(&entry);
                if holds {
                    let seq = Seq(header.first_seq.0 + u64::from(entry.delta));
                    let stamp = Stamp { epoch: header.epoch, seq, shard: header.shard };
                    let bytes = &bytes[ENTRY_HEADER_LEN..];
                    return Some(EntryView { stamp, kind: entry.kind, flags: entry.flags, bytes });
                }
            }
            None
        })
    }

    fn check_entry(
        &self,
        index: u32,
        entry: &EntryHeader,
        payload: &[u8],
        before: Option<EntryHeader>,
    ) -> Result<(), BodyFault> {
        let last = index + 1 == self.entry_count;
        let barrier = entry.kind == Kind::BARRIER;
        let in_order = match before {
            None => entry.delta == 0,
            Some(before) => before.delta < entry.delta,
        };
        let goes_on = |entry: EntryHeader| entry.flags.contains(EntryFlags::GROUP_CONTINUES);
        let possible = [
            ("seq", in_order),
            ("kind", entry.kind.is_known()),
            ("flags", entry.flags.is_known()),
            ("group that goes on behind the batch", { !(last && goes_on(*entry)) }),
            ("barrier", barrier == (last && self.flags.contains(BatchFlags::BARRIER))),
            ("payload of a barrier", !barrier || entry.len == 0),
            ("flags of a barrier", !barrier || entry.flags == EntryFlags::NONE),
            ("group that goes on with a barrier", !(barrier && before.is_some_and(goes_on))),
            ("timestamp", {
                !entry.flags.contains(EntryFlags::TIMESTAMP)
                    || payload.get(8..TIMESTAMP_LEN).is_some_and(is_zero)
            }),
        ];
        possible.iter().try_for_each(|&(what, holds)| {
            if holds { Ok(()) } else { Err(BodyFault::Impossible { index, what }) }
        })
    }
}

/// Whether the timestamp that the flags speak of has room in the payload.
fn has_room_for_timestamp(entry: &EntryHeader) -> bool {
    !entry.flags.contains(EntryFlags::TIMESTAMP) || entry.len as usize >= TIMESTAMP_LEN
}

/// A batch whose every byte was verified.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    header: BatchHeader,
    batch: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// The header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The entries, in order.
    #[must_use]
    pub fn entries(&self) -> Entries<'a> {
        Entries { header: self.header, batch: self.batch, at: 0, left: self.header.entry_count }
    }
}

/// The entries of a verified batch.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    header: BatchHeader,
    batch: &'a [u8],
    at: usize,
    left: u32,
}

impl<'a> Iterator for Entries<'a> {
    type Item = EntryView<'a>;

    fn next(&mut self) -> Option<EntryView<'a>> {
        let (entry, at) = self.header.entry_at(self.batch, self.at)?;
        self.at = at;
        self.left -= 1;
        Some(entry)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Entries<'_> {}

/// One entry of a verified batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryView<'a> {
    /// Its place in the merged order.
    pub stamp: Stamp,
    /// What it is.
    pub kind: Kind,
    /// Its flags.
    pub flags: EntryFlags,
    bytes: &'a [u8],
}

impl<'a> EntryView<'a> {
    /// The payload behind its timestamp, at a multiple of 16 bytes from the start of its batch.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        let start = if self.flags.contains(EntryFlags::TIMESTAMP) { TIMESTAMP_LEN } else { 0 };
        &self.bytes[start..]
    }

    /// The user's timestamp, if the entry has one. Information only; takes part in no order.
    #[must_use]
    pub fn timestamp(&self) -> Option<i64> {
        self.flags.contains(EntryFlags::TIMESTAMP).then(|| i64::from_le_bytes(take(self.bytes, 0)))
    }
}

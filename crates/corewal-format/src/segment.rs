//! The segment header: two copies, in the first two blocks of the file.

use corewal_crc::extend;

use crate::bytes::{is_zero, put, take, u16_at, u32_at, u64_at};
#[cfg(test)]
use crate::format_doc::Field;
use crate::{Crc, FORMAT_VERSION, Incarnation, LogId, SchemaId, SegmentNumber, ShardId};

/// Bytes of a segment header. The rest of its block is zero.
pub const SEGMENT_HEADER_LEN: usize = 128;
/// Blocks before the first batch: one for each copy of the header.
pub const HEADER_BLOCKS: u32 = 2;
/// The smallest block, in bytes: a disk sector.
pub const MIN_BLOCK_LEN: u32 = 512;
/// The largest block, in bytes.
pub const MAX_BLOCK_LEN: u32 = 65536;
/// The largest segment, in bytes: offsets of batches are block numbers of 32 bits, lengths 32 bits.
pub const MAX_SEGMENT_LEN: u64 = 1 << 32;

const MAGIC: [u8; 8] = *b"CWALSEGM";

const AT_MAGIC: usize = 0;
const AT_CRC: usize = 8;
const AT_VERSION: usize = 12;
const AT_SHARD: usize = 14;
const AT_LOG: usize = 16;
const AT_SEGMENT: usize = 32;
const AT_INCARNATION: usize = 40;
const AT_SEGMENT_LEN: usize = 48;
const AT_BLOCK_LEN: usize = 56;
const AT_ENDIANNESS: usize = 60;
const AT_ALIGNMENT: usize = 61;
const AT_POINTER_WIDTH: usize = 62;
const AT_COPY: usize = 63;
const AT_SCHEMA: usize = 64;
const AT_RESERVED: usize = 72;

const _: () = assert!(AT_RESERVED < SEGMENT_HEADER_LEN);
const _: () = assert!(SEGMENT_HEADER_LEN <= MIN_BLOCK_LEN as usize);
const _: () = assert!(AT_LOG + 16 == AT_SEGMENT && AT_SCHEMA + 8 == AT_RESERVED);

/// The fields of a segment header as the format document lists them.
#[cfg(test)]
pub(crate) const FIELDS: &[Field] = &[
    ("magic", AT_MAGIC, 8),
    ("crc", AT_CRC, 4),
    ("version", AT_VERSION, 2),
    ("shard", AT_SHARD, 2),
    ("log id", AT_LOG, 16),
    ("segment", AT_SEGMENT, 8),
    ("incarnation", AT_INCARNATION, 8),
    ("segment length", AT_SEGMENT_LEN, 8),
    ("block length", AT_BLOCK_LEN, 4),
    ("endianness", AT_ENDIANNESS, 1),
    ("alignment", AT_ALIGNMENT, 1),
    ("pointer width", AT_POINTER_WIDTH, 1),
    ("copy", AT_COPY, 1),
    ("schema", AT_SCHEMA, 8),
    ("reserved", AT_RESERVED, SEGMENT_HEADER_LEN - AT_RESERVED),
];

/// How rkyv laid out the archived records of a segment. They cannot be read with another layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RkyvLayout {
    /// 1: little-endian, 2: big-endian.
    pub endianness: u8,
    /// 1: aligned primitives, 2: unaligned.
    pub alignment: u8,
    /// Bits of a relative pointer: 16, 32 or 64.
    pub pointer_width: u8,
}

impl RkyvLayout {
    /// The field that cannot be, if any.
    fn check(self) -> Result<(), &'static str> {
        match self {
            Self { endianness: 0 | 3.., .. } => Err("endianness"),
            Self { alignment: 0 | 3.., .. } => Err("alignment"),
            Self { pointer_width: 16 | 32 | 64, .. } => Ok(()),
            _ => Err("pointer width"),
        }
    }
}

/// What a segment file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The log that it belongs to.
    pub log: LogId,
    /// The shard that it belongs to.
    pub shard: ShardId,
    /// Its number in the shard.
    pub segment: SegmentNumber,
    /// The incarnation that prepared it, and alone may write batches into it.
    pub incarnation: Incarnation,
    /// Size of the file, in bytes; a multiple of `block_len`.
    pub segment_len: u64,
    /// Size of a block, in bytes; a power of two.
    pub block_len: u32,
    /// Layout of archived records.
    pub rkyv: RkyvLayout,
    /// The user's name for the types of its records.
    pub schema: SchemaId,
}

/// Why bytes are not the segment header that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentFault {
    /// Nothing was ever written there, or it was zeroed.
    #[error("no segment header, only zeros")]
    Zero,
    /// Another kind of file, or bytes that were overwritten.
    #[error("no segment header")]
    Magic,
    /// A damaged header.
    #[error("segment header checksum mismatch")]
    Checksum,
    /// A header of a later version of the format.
    #[error("format version {0} is not known to this program (it knows {FORMAT_VERSION})")]
    Version(u16),
    /// Both copies are readable, and differ.
    #[error("the two copies of the segment header differ")]
    CopiesDiffer,
    /// The checksum holds, but a field cannot be: `0` names it.
    #[error("impossible {0} in a segment header")]
    Impossible(&'static str),
}

impl SegmentHeader {
    /// Writes copy `copy` (0 or 1) into the start of `block`.
    ///
    /// # Panics
    /// If `block` is shorter than a header.
    pub fn encode(&self, copy: u8, block: &mut [u8]) {
        let bytes = &mut block[..SEGMENT_HEADER_LEN];
        bytes.fill(0);
        put(bytes, AT_MAGIC, MAGIC);
        put(bytes, AT_VERSION, FORMAT_VERSION.to_le_bytes());
        put(bytes, AT_SHARD, self.shard.0.to_le_bytes());
        put(bytes, AT_LOG, self.log.0);
        put(bytes, AT_SEGMENT, self.segment.0.to_le_bytes());
        put(bytes, AT_INCARNATION, self.incarnation.0.to_le_bytes());
        put(bytes, AT_SEGMENT_LEN, self.segment_len.to_le_bytes());
        put(bytes, AT_BLOCK_LEN, self.block_len.to_le_bytes());
        bytes[AT_ENDIANNESS] = self.rkyv.endianness;
        bytes[AT_ALIGNMENT] = self.rkyv.alignment;
        bytes[AT_POINTER_WIDTH] = self.rkyv.pointer_width;
        bytes[AT_COPY] = copy;
        put(bytes, AT_SCHEMA, self.schema.0.to_le_bytes());
        let crc = Self::crc(bytes);
        put(bytes, AT_CRC, crc.to_le_bytes());
    }

    /// Reads copy `copy` from the start of `block`.
    ///
    /// # Errors
    /// Why it is no valid header. Whether it is the *expected* one is for the caller to compare.
    pub fn decode(copy: u8, block: &[u8]) -> Result<Self, SegmentFault> {
        let bytes = block.get(..SEGMENT_HEADER_LEN).ok_or(SegmentFault::Magic)?;
        if is_zero(bytes) {
            return Err(SegmentFault::Zero);
        }
        if take::<8>(bytes, AT_MAGIC) != MAGIC {
            return Err(SegmentFault::Magic);
        }
        if u32_at(bytes, AT_CRC) != Self::crc(bytes) {
            return Err(SegmentFault::Checksum);
        }
        match u16_at(bytes, AT_VERSION) {
            FORMAT_VERSION => {}
            other => return Err(SegmentFault::Version(other)),
        }
        let header = Self {
            log: LogId(take(bytes, AT_LOG)),
            shard: ShardId(u16_at(bytes, AT_SHARD)),
            segment: SegmentNumber(u64_at(bytes, AT_SEGMENT)),
            incarnation: Incarnation(u64_at(bytes, AT_INCARNATION)),
            segment_len: u64_at(bytes, AT_SEGMENT_LEN),
            block_len: u32_at(bytes, AT_BLOCK_LEN),
            rkyv: RkyvLayout {
                endianness: bytes[AT_ENDIANNESS],
                alignment: bytes[AT_ALIGNMENT],
                pointer_width: bytes[AT_POINTER_WIDTH],
            },
            schema: SchemaId(u64_at(bytes, AT_SCHEMA)),
        };
        if bytes[AT_COPY] != copy {
            return Err(SegmentFault::Impossible("copy number"));
        }
        if !is_zero(&bytes[AT_RESERVED..]) {
            return Err(SegmentFault::Impossible("reserved field"));
        }
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), SegmentFault> {
        let block = self.block_len;
        if !block.is_power_of_two() || !(MIN_BLOCK_LEN..=MAX_BLOCK_LEN).contains(&block) {
            return Err(SegmentFault::Impossible("block size"));
        }
        let blocks = self.segment_len / u64::from(block);
        if !self.segment_len.is_multiple_of(u64::from(block))
            || self.segment_len > MAX_SEGMENT_LEN
            || blocks <= u64::from(HEADER_BLOCKS)
        {
            return Err(SegmentFault::Impossible("segment size"));
        }
        if self.segment.0 == 0 || self.segment.0 == u64::MAX {
            return Err(SegmentFault::Impossible("segment number"));
        }
        if self.incarnation.0 == 0 || self.incarnation.0 == u64::MAX {
            return Err(SegmentFault::Impossible("incarnation"));
        }
        self.rkyv.check().map_err(SegmentFault::Impossible)
    }

    fn crc(bytes: &[u8]) -> Crc {
        extend(0, &bytes[AT_VERSION..SEGMENT_HEADER_LEN])
    }

    /// Offset of the first batch, in bytes.
    #[must_use]
    pub fn first_batch_at(&self) -> u64 {
        u64::from(HEADER_BLOCKS) * u64::from(self.block_len)
    }

    /// Offset of copy `copy` of the header, in bytes.
    #[must_use]
    pub fn copy_at(&self, copy: u8) -> u64 {
        u64::from(copy) * u64::from(self.block_len)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> SegmentHeader {
        SegmentHeader {
            log: LogId(*b"0123456789abcdef"),
            shard: ShardId(3),
            segment: SegmentNumber(17),
            incarnation: Incarnation(2),
            segment_len: 1 << 20,
            block_len: 4096,
            rkyv: RkyvLayout { endianness: 1, alignment: 1, pointer_width: 32 },
            schema: SchemaId(0xfeed),
        }
    }

    #[test]
    fn a_header_comes_back_as_it_was_written() {
        let mut block = [0; 512];
        for copy in [0, 1] {
            sample().encode(copy, &mut block);
            assert_eq!(SegmentHeader::decode(copy, &block), Ok(sample()));
        }
    }

    #[test]
    fn one_copy_is_not_taken_for_the_other() {
        let mut block = [0; 512];
        sample().encode(0, &mut block);
        assert_eq!(SegmentHeader::decode(1, &block), Err(SegmentFault::Impossible("copy number")));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut block = [0; 512];
        sample().encode(0, &mut block);
        for bit in 0..SEGMENT_HEADER_LEN * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(0, &block).is_err(), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn zeros_and_short_input_are_no_header() {
        assert_eq!(SegmentHeader::decode(0, &[0; 512]), Err(SegmentFault::Zero));
        assert_eq!(SegmentHeader::decode(0, &[0; 7]), Err(SegmentFault::Magic));
    }

    #[test]
    fn impossible_sizes_are_refused_though_the_checksum_holds() {
        let mut block = [0; 512];
        for (block_len, segment_len) in [
            (0, 1 << 20),
            (4097, 4097 * 16),
            (256, 1 << 20),
            (4096, 8192),
            (4096, 1 << 33),
            (4096, 12289),
        ] {
            SegmentHeader { block_len, segment_len, ..sample() }.encode(0, &mut block);
            assert!(matches!(SegmentHeader::decode(0, &block), Err(SegmentFault::Impossible(_))));
        }
    }
}

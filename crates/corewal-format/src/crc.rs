//! CRC32C and the seeds that bind bytes to their place.

use corewal_crc::extend;

use crate::bytes::put;
#[cfg(test)]
use crate::format_doc::Field;
use crate::{Incarnation, LogId, SegmentNumber, ShardId};

/// A CRC32C value (RFC 3720, appendix B.4; polynomial 0x1EDC6F41, reflected).
pub type Crc = u32;

/// CRC32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> Crc {
    corewal_crc::crc32c(bytes)
}

/// Bytes of a place, as its CRC becomes the seed.
pub(crate) const PLACE_LEN: usize = 38;
const AT_LOG: usize = 0;
const AT_SHARD: usize = 16;
const AT_SEGMENT: usize = 18;
const AT_INCARNATION: usize = 26;
const AT_BLOCK: usize = 34;

const _: () = assert!(AT_BLOCK + 4 == PLACE_LEN);

/// The fields of a place as the format document lists them.
#[cfg(test)]
pub(crate) const PLACE_FIELDS: &[Field] = &[
    ("log id", AT_LOG, 16),
    ("shard", AT_SHARD, 2),
    ("segment", AT_SEGMENT, 8),
    ("incarnation", AT_INCARNATION, 8),
    ("block", AT_BLOCK, 4),
];

/// Where every CRC of a batch starts: derived from the one place where the batch may stand.
///
/// So nothing verifies that an earlier life of a recycled file left behind, that was written to a wrong
/// place, or that is the image of a batch inside a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(Crc);

impl Seed {
    /// The seed of the batch that starts at block `block` of this segment, in this incarnation.
    #[must_use]
    pub fn of(
        log: LogId,
        shard: ShardId,
        segment: SegmentNumber,
        incarnation: Incarnation,
        block: u32,
    ) -> Self {
        let mut bytes = [0; PLACE_LEN];
        put(&mut bytes, AT_LOG, log.0);
        put(&mut bytes, AT_SHARD, shard.0.to_le_bytes());
        put(&mut bytes, AT_SEGMENT, segment.0.to_le_bytes());
        put(&mut bytes, AT_INCARNATION, incarnation.0.to_le_bytes());
        put(&mut bytes, AT_BLOCK, block.to_le_bytes());
        Self(crc32c(&bytes))
    }

    /// CRC of `bytes`, from this seed on.
    #[must_use]
    #[inline]
    pub fn crc(self, bytes: &[u8]) -> Crc {
        extend(self.0, bytes)
    }

    /// The empty chain of entry CRCs.
    #[must_use]
    pub fn chain(self) -> Chain {
        Chain { crc: self.0, waiting: [0; WAITING_LEN], waiting_len: 0 }
    }
}

/// The running CRC over the CRCs of a batch's entries, in order.
///
/// Links wait for each other: one pass over sixteen costs little more than one over a single one.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    crc: Crc,
    /// Links that are not in the CRC yet, one behind the other.
    waiting: [u8; WAITING_LEN],
    waiting_len: usize,
}

const WAITING_LEN: usize = 64;

impl Chain {
    /// Adds the next entry's CRC.
    #[inline]
    pub fn link(&mut self, crc: Crc) {
        if self.waiting_len == WAITING_LEN {
            self.crc = extend(self.crc, &self.waiting);
            self.waiting_len = 0;
        }
        put(&mut self.waiting, self.waiting_len, crc.to_le_bytes());
        self.waiting_len += size_of::<Crc>();
    }

    /// The CRC so far.
    #[must_use]
    pub fn crc(&self) -> Crc {
        extend(self.crc, &self.waiting[..self.waiting_len])
    }
}

const _: () = assert!(WAITING_LEN.is_multiple_of(size_of::<Crc>()));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_and_chain_of_the_format_document_hold() {
        let log = LogId(*b"golden log no. 1");
        let seed = Seed::of(log, ShardId(3), SegmentNumber(17), Incarnation(2), 5);
        assert_eq!(seed.crc(b""), 0x169D_1777);
        assert_eq!(seed.crc(b"123456789"), 0x5719_9A57);
        let mut chain = seed.chain();
        chain.link(0x0102_0304);
        assert_eq!(chain.crc(), 0xB635_433E);
    }

    #[test]
    fn a_chain_is_the_crc_of_its_links_however_many() {
        let seed = Seed(7);
        let mut chain = seed.chain();
        let mut bytes = Vec::new();
        for link in 0..200_u32 {
            assert_eq!(chain.crc(), extend(7, &bytes), "{link} links");
            chain.link(link.wrapping_mul(2_654_435_761));
            bytes.extend(link.wrapping_mul(2_654_435_761).to_le_bytes());
        }
    }

    #[test]
    fn every_part_of_the_place_changes_the_seed() {
        let seed = |log, shard, segment, incarnation, block| {
            Seed::of(
                LogId([log; 16]),
                ShardId(shard),
                SegmentNumber(segment),
                Incarnation(incarnation),
                block,
            )
        };
        let base = seed(1, 1, 1, 1, 1);
        for other in [
            seed(2, 1, 1, 1, 1),
            seed(1, 2, 1, 1, 1),
            seed(1, 1, 2, 1, 1),
            seed(1, 1, 1, 2, 1),
            seed(1, 1, 1, 1, 2),
        ] {
            assert_ne!(base, other);
        }
    }
}

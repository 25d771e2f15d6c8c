//! What entries are made of.

use corewal::{BatchNumber, Epoch, LogId, SegmentNumber, Seq};
use corewal_format::{BATCH_HEADER_LEN, BatchFlags, BatchHeader};

use crate::Rng;
use crate::sim::history::Geometry;
use crate::sim::session::Session;

/// Where a batch is expected to be placed, for a shard: segment and block.
pub(crate) type BatchSpot = (SegmentNumber, u32);

/// Bytes that differ from those of every other entry.
pub(crate) fn payload(number: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::of(number, 0xbeef);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend(rng.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// An entry that holds, at every place where a block can begin, the header of a batch of another log, made for
/// just that place: as when a log is copied into a log.
pub(crate) fn image(session: &Session<'_>, geometry: &Geometry, shard: u16) -> Vec<u8> {
    const BEFORE_PAYLOAD: usize = 128;
    let block_len = geometry.block_len as usize;
    let (shard, place) = session.next_place(shard);
    let (segment, block) = place;
    let mut bytes = vec![0; (3 * block_len - BEFORE_PAYLOAD).min(geometry.max_record())];
    for index in 1..3_u32 {
        let at = index as usize * block_len - BEFORE_PAYLOAD;
        let header = BatchHeader {
            flags: BatchFlags::VOUCH,
            shard,
            segment,
            incarnation: session.incarnation(),
            block: block + index,
            block_len: geometry.block_len,
            number: BatchNumber(1 << 40),
            first_seq: Seq(1 << 40),
            last_delta: 0,
            epoch: Epoch(1 << 40),
            durable_batch: BatchNumber((1 << 40) - 1),
            durable_seq: Seq((1 << 40) - 1),
            committed_epoch: Epoch((1 << 40) - 1),
            entry_count: 0,
            body_len: 0,
            body_crc: 0,
        };
        if let Some(part) = bytes.get_mut(at..)
            && part.len() >= BATCH_HEADER_LEN
        {
            header.encode(LogId(*b"some other log's"), part);
        }
    }
    bytes
}

//! Fresh checksums over changed bytes, so that the checks behind them are reached.

use corewal_format::{Incarnation, LogId, Seed, SegmentNumber, ShardId, crc32c};

const BATCH_HEADER_LEN: usize = corewal_format::BATCH_HEADER_LEN;
const ENTRY_HEADER_LEN: usize = corewal_format::ENTRY_HEADER_LEN;
const SECTOR: usize = 512;

/// Seals everything in a segment file that looks like a header. Fields stay as they are.
pub(crate) fn segment(log: LogId, file: &mut [u8]) {
    for at in (0..file.len()).step_by(SECTOR) {
        let block = &mut file[at..];
        if block.starts_with(b"CWALSEGM") && block.len() >= 128 {
            let crc = crc32c(&block[12..128]);
            block[8..12].copy_from_slice(&crc.to_le_bytes());
        } else if block.starts_with(b"CWBT") && block.len() >= BATCH_HEADER_LEN {
            batch(log, block);
        }
    }
}

fn batch(log: LogId, batch: &mut [u8]) {
    let seed = Seed::of(
        log,
        ShardId(u16::from_le_bytes(array(batch, 10))),
        SegmentNumber(u64::from_le_bytes(array(batch, 16))),
        Incarnation(u64::from_le_bytes(array(batch, 24))),
        u32::from_le_bytes(array(batch, 12)),
    );
    let entry_count = u32::from_le_bytes(array(batch, 80));
    let mut chain = seed.chain();
    let mut at = BATCH_HEADER_LEN;
    for _ in 0..entry_count {
        let Some(entry) = batch.get_mut(at..).filter(|rest| rest.len() >= ENTRY_HEADER_LEN) else {
            break;
        };
        let len = u32::from_le_bytes(array(entry, 4)) as usize;
        let Some(entry) = entry.get_mut(..ENTRY_HEADER_LEN + len) else { break };
        let crc = seed.crc(&entry[4..]);
        entry[..4].copy_from_slice(&crc.to_le_bytes());
        chain.link(crc);
        at += ENTRY_HEADER_LEN + len.next_multiple_of(16);
    }
    batch[88..92].copy_from_slice(&chain.crc().to_le_bytes());
    let crc = seed.crc(&batch[8..BATCH_HEADER_LEN]);
    batch[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Seals a manifest over the length that it states.
pub(crate) fn manifest(file: &mut [u8]) {
    if file.len() < 20 {
        return;
    }
    let len = u32::from_le_bytes(array(file, 16)) as usize;
    if let Some(bytes) = file.get(12..len) {
        let crc = crc32c(bytes);
        file[8..12].copy_from_slice(&crc.to_le_bytes());
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("N bytes")
}

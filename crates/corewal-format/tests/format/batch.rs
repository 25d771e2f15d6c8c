//! Batches: what comes back, and what damage is called.

use corewal_format::{
    BATCH_HEADER_LEN, BatchFault, BatchFlags, BatchHeader, BatchNumber, BodyFault,
    ENTRY_HEADER_LEN, EntryFlags, Epoch, Incarnation, Kind, LogId, Seed, SegmentNumber, Seq,
    ShardId, Stamp, padded, timestamp_bytes,
};
use proptest::prelude::*;

use crate::samples::{Draft, LOG, batches, build, place};

/// Where fields of a batch header stand.
const FLAGS: usize = 8;
const SHARD: usize = 10;
const BLOCK: usize = 12;
const SEGMENT: usize = 16;
const INCARNATION: usize = 24;
const NUMBER: usize = 32;
const FIRST_SEQ: usize = 40;
const EPOCH: usize = 48;
const DURABLE_BATCH: usize = 56;
const DURABLE_SEQ: usize = 64;
const COMMITTED_EPOCH: usize = 72;
const ENTRY_COUNT: usize = 80;
const BODY_LEN: usize = 84;
const BODY_CRC: usize = 88;
const LAST_DELTA: usize = 92;
const BLOCK_SHIFT: usize = 96;
const RESERVED: usize = 97;

/// Every field, with its size.
const FIELDS: [(usize, usize); 17] = [
    (FLAGS, 2),
    (SHARD, 2),
    (BLOCK, 4),
    (SEGMENT, 8),
    (INCARNATION, 8),
    (NUMBER, 8),
    (FIRST_SEQ, 8),
    (EPOCH, 8),
    (DURABLE_BATCH, 8),
    (DURABLE_SEQ, 8),
    (COMMITTED_EPOCH, 8),
    (ENTRY_COUNT, 4),
    (BODY_LEN, 4),
    (BODY_CRC, 4),
    (LAST_DELTA, 4),
    (BLOCK_SHIFT, 1),
    (RESERVED, 15),
];

/// Every field of an entry header behind the checksum, with its size.
const ENTRY_FIELDS: [(usize, usize); 4] = [(4, 4), (8, 2), (10, 2), (12, 4)];

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The seed of the place that the header names.
fn seed(bytes: &[u8]) -> Seed {
    let shard = u16::from_le_bytes(bytes[SHARD..SHARD + 2].try_into().unwrap());
    Seed::of(
        LOG,
        ShardId(shard),
        SegmentNumber(u64_at(bytes, SEGMENT)),
        Incarnation(u64_at(bytes, INCARNATION)),
        u32_at(bytes, BLOCK),
    )
}

/// Makes the checksum of a changed header right again.
fn reseal(bytes: &mut [u8]) {
    let crc = seed(bytes).crc(&bytes[FLAGS..BATCH_HEADER_LEN]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Makes the checksums of the entries at `starts`, of the body and of the header right.
fn reseal_entries(bytes: &mut [u8], starts: &[usize]) {
    let seed = seed(bytes);
    let mut chain = seed.chain();
    for &at in starts {
        let end = at + ENTRY_HEADER_LEN + u32_at(bytes, at + 4) as usize;
        let crc = seed.crc(&bytes[at + 4..end]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        chain.link(crc);
    }
    bytes[BODY_CRC..BODY_CRC + 4].copy_from_slice(&chain.crc().to_le_bytes());
    reseal(bytes);
}

/// Decodes what stands where `place` is.
fn decode(place: &BatchHeader, bytes: &[u8]) -> Result<BatchHeader, BatchFault> {
    BatchHeader::decode(LOG, place.shard, place.segment, place.incarnation, place.block, bytes)
}

/// Whether header and body verify at `place`.
fn verifies(place: &BatchHeader, bytes: &[u8]) -> bool {
    decode(place, bytes).is_ok_and(|header| header.verify(LOG, bytes).is_ok())
}

/// Asserts that `bytes` verify as a batch of `drafts`.
pub(crate) fn assert_holds(header: &BatchHeader, bytes: &[u8], drafts: &[Draft]) {
    let view = header.verify(LOG, bytes).unwrap();
    assert_eq!(view.header(), header);
    assert_eq!(view.entries().len(), drafts.len());
    let mut last = header.first_seq.before();
    for (entry, draft) in view.entries().zip(drafts) {
        let seq = Seq(header.first_seq.0 + u64::from(draft.delta));
        assert_eq!(entry.stamp, Stamp { epoch: header.epoch, seq, shard: header.shard });
        assert_eq!((entry.kind, entry.flags), (draft.kind, draft.sealed_flags()));
        assert_eq!(entry.timestamp(), draft.timestamp);
        assert_eq!(entry.payload(), draft.payload);
        last = seq;
    }
    assert_eq!(header.last_seq(), last);
}

/// What is wrong with the body of a batch of `drafts` when `change` has been made to it and every checksum
/// is right again.
fn fault_of_first(drafts: &[Draft], change: impl Fn(&mut [u8])) -> Result<(), BodyFault> {
    let (_, mut bytes) = build(place(), drafts);
    let mut starts = vec![BATCH_HEADER_LEN];
    for draft in &drafts[..drafts.len() - 1] {
        let stamp = if draft.timestamp.is_some() { 16 } else { 0 };
        let stride = ENTRY_HEADER_LEN + padded(stamp + draft.payload.len());
        starts.push(starts[starts.len() - 1] + stride);
    }
    change(&mut bytes);
    reseal_entries(&mut bytes, &starts);
    decode(&place(), &bytes).unwrap().verify(LOG, &bytes).map(drop)
}

fn impossible(index: u32, what: &'static str) -> Result<(), BodyFault> {
    Err(BodyFault::Impossible { index, what })
}

#[test]
fn every_flipped_bit_of_a_batch_is_noticed() {
    for (name, header, drafts) in batches() {
        let (_, mut bytes) = build(header, &drafts);
        assert!(verifies(&header, &bytes), "{name}");
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!verifies(&header, &bytes), "{name}: bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn a_batch_that_is_cut_off_is_named_cut() {
    for (name, place, drafts) in batches() {
        let (header, bytes) = build(place, &drafts);
        for len in [BATCH_HEADER_LEN, bytes.len() - 1] {
            assert_eq!(header.verify(LOG, &bytes[..len]).unwrap_err(), BodyFault::Cut, "{name}");
        }
        assert_eq!(decode(&place, &bytes[..BATCH_HEADER_LEN - 1]), Err(BatchFault::Magic));
    }
}

#[test]
fn bytes_behind_a_batch_do_not_matter() {
    let (header, mut bytes) = build(place(), &[Draft::put(0, b"one")]);
    bytes.extend_from_slice(&[0xff; 512]);
    assert!(header.verify(LOG, &bytes).is_ok());
}

#[test]
fn an_unwritten_place_is_named_zero_and_foreign_bytes_are_no_header() {
    assert_eq!(decode(&place(), &[0; 512]), Err(BatchFault::Zero));
    assert_eq!(decode(&place(), &[1; 512]), Err(BatchFault::Magic));
}

#[test]
fn a_batch_of_another_log_is_a_checksum_mismatch() {
    let (header, bytes) = build(place(), &[Draft::put(0, b"one")]);
    let other = LogId(*b"golden log no. 2");
    assert_eq!(BatchHeader::decode_anywhere(other, &bytes), Err(BatchFault::Checksum));
    let fault = BodyFault::Entry { index: 0, at: BATCH_HEADER_LEN };
    assert_eq!(header.verify(other, &bytes).unwrap_err(), fault);
}

#[test]
fn a_batch_left_by_the_earlier_life_of_a_recycled_file_is_named_older_life() {
    for (segment, incarnation) in [(16, 2), (16, 1), (1, 1), (17, 1)] {
        let (segment, incarnation) = (SegmentNumber(segment), Incarnation(incarnation));
        let (_, bytes) =
            build(BatchHeader { segment, incarnation, ..place() }, &[Draft::put(0, b"old")]);
        assert_eq!(decode(&place(), &bytes), Err(BatchFault::OlderLife { segment, incarnation }));
    }
}

#[test]
fn the_body_of_an_older_life_does_not_verify_under_a_new_header() {
    let drafts = [Draft::put(0, b"same length")];
    let (_, old) = build(BatchHeader { segment: SegmentNumber(16), ..place() }, &drafts);
    let (header, mut bytes) = build(place(), &drafts);
    bytes[BATCH_HEADER_LEN..].copy_from_slice(&old[BATCH_HEADER_LEN..]);
    let fault = BodyFault::Entry { index: 0, at: BATCH_HEADER_LEN };
    assert_eq!(header.verify(LOG, &bytes).unwrap_err(), fault);
}

#[test]
fn a_batch_that_was_meant_for_another_place_is_named_misdirected() {
    for meant in [
        BatchHeader { shard: ShardId(2), ..place() },
        BatchHeader { block: 6, ..place() },
        BatchHeader { block: 4, segment: SegmentNumber(16), ..place() },
        BatchHeader { segment: SegmentNumber(18), ..place() },
        BatchHeader { incarnation: Incarnation(3), ..place() },
        BatchHeader { segment: SegmentNumber(16), incarnation: Incarnation(3), ..place() },
        BatchHeader { segment: SegmentNumber(18), incarnation: Incarnation(1), ..place() },
    ] {
        let (_, bytes) = build(meant, &[Draft::put(0, b"elsewhere")]);
        let fault = BatchFault::Misdirected {
            shard: meant.shard,
            segment: meant.segment,
            block: meant.block,
        };
        assert_eq!(decode(&place(), &bytes), Err(fault));
    }
}

#[test]
fn the_image_of_a_batch_inside_a_payload_does_not_verify_where_it_stands() {
    // The payload starts 128 bytes into the batch: 384 bytes later the image starts a block of its own.
    let (_, image) = build(place(), &[Draft::put(0, b"inner")]);
    let mut payload = vec![0; 384];
    payload.extend_from_slice(&image);
    let (outer, bytes) = build(place(), &[Draft::put(0, &payload)]);
    assert!(outer.verify(LOG, &bytes).is_ok());
    assert_eq!(bytes[512..512 + image.len()], image);
    let inside = BatchHeader { block: place().block + 1, ..place() };
    assert!(matches!(decode(&inside, &bytes[512..]), Err(BatchFault::Misdirected { .. })));
    // Nor with the block number of the place where it stands now, which the checksum covers.
    let mut forged = bytes[512..].to_vec();
    forged[BLOCK] += 1;
    assert_eq!(decode(&inside, &forged), Err(BatchFault::Checksum));
}

#[test]
fn two_entries_that_changed_places_are_noticed() {
    let drafts = [Draft::put(0, b"aaaa"), Draft::put(1, b"bbbb")];
    let (header, bytes) = build(place(), &drafts);
    let (first, second) = (BATCH_HEADER_LEN, BATCH_HEADER_LEN + 32);
    let mut swapped = bytes.clone();
    swapped[first..first + 32].copy_from_slice(&bytes[second..second + 32]);
    swapped[second..second + 32].copy_from_slice(&bytes[first..first + 32]);
    let fault = header.verify(LOG, &swapped).unwrap_err();
    assert_eq!(fault, BodyFault::Impossible { index: 0, what: "seq" });
}

#[test]
fn an_intact_entry_that_the_header_was_not_sealed_over_is_noticed() {
    let (header, mut bytes) = build(place(), &[Draft::put(0, b"aaaa"), Draft::put(1, b"bbbb")]);
    let (_, other) = build(place(), &[Draft::put(0, b"aaaa"), Draft::put(1, b"cccc")]);
    bytes[BATCH_HEADER_LEN..].copy_from_slice(&other[BATCH_HEADER_LEN..]);
    assert_eq!(header.verify(LOG, &bytes).unwrap_err(), BodyFault::Body);
}

#[test]
fn a_header_field_that_cannot_be_is_named_though_the_checksum_holds() {
    let max = u64::MAX.to_le_bytes();
    let (one, zero) = (1_u64.to_le_bytes(), [0; 8]);
    let number = place().number.0.to_le_bytes();
    let first_seq = place().first_seq.0.to_le_bytes();
    let epoch = place().epoch.0.to_le_bytes();
    let cases: &[(usize, &[u8], &str)] = &[
        (FLAGS, &[3, 0], "flags"),
        (FLAGS, &[4, 0], "flags"),
        (FLAGS, &[0, 0x80], "flags"),
        (FLAGS, &[2, 0], "entry count"),
        (INCARNATION, &zero, "incarnation"),
        (INCARNATION, &max, "incarnation"),
        (NUMBER, &zero, "batch number"),
        (NUMBER, &max, "batch number"),
        (NUMBER, &one, "durable batch"),
        (FIRST_SEQ, &zero, "first seq"),
        (FIRST_SEQ, &max, "first seq"),
        (FIRST_SEQ, &(u64::MAX - 1).to_le_bytes(), "last seq"),
        (FIRST_SEQ, &one, "durable seq"),
        (EPOCH, &zero, "epoch"),
        (EPOCH, &max, "epoch"),
        (EPOCH, &one, "committed epoch"),
        (DURABLE_BATCH, &number, "durable batch"),
        (DURABLE_BATCH, &max, "durable batch"),
        (DURABLE_SEQ, &first_seq, "durable seq"),
        (DURABLE_SEQ, &max, "durable seq"),
        (COMMITTED_EPOCH, &epoch, "committed epoch"),
        (COMMITTED_EPOCH, &max, "committed epoch"),
        (ENTRY_COUNT, &[0; 4], "entry count"),
        (ENTRY_COUNT, &[3, 0, 0, 0], "last seq"),
        (ENTRY_COUNT, &[0xff; 4], "last seq"),
        (LAST_DELTA, &[0; 4], "last seq"),
        (BODY_LEN, &[0; 4], "body length"),
        (BODY_LEN, &[65, 0, 0, 0], "body length"),
        (BODY_LEN, &[0xff; 4], "body length"),
        (BLOCK_SHIFT, &[0], "block size"),
        (BLOCK_SHIFT, &[8], "block size"),
        (BLOCK_SHIFT, &[17], "block size"),
        (BLOCK_SHIFT, &[31], "block size"),
        (BLOCK_SHIFT, &[32], "block size"),
        (BLOCK_SHIFT, &[0xff], "block size"),
        (RESERVED, &[1], "reserved field"),
        (BATCH_HEADER_LEN - 1, &[0x80], "reserved field"),
    ];
    for &(at, field, what) in cases {
        let (_, mut bytes) = build(place(), &[Draft::put(0, b"one"), Draft::put(1, b"two")]);
        bytes[at..at + field.len()].copy_from_slice(field);
        reseal(&mut bytes);
        let fault = Err(BatchFault::Impossible(what));
        assert_eq!(decode(&place(), &bytes), fault, "{field:?} at {at}");
    }
}

#[test]
fn a_vouch_with_a_body_cannot_be() {
    let vouch = BatchHeader { flags: BatchFlags::VOUCH, ..place() };
    for (at, what) in [(BODY_LEN, "body length"), (LAST_DELTA, "last seq")] {
        let (_, mut bytes) = build(vouch, &[]);
        bytes[at] = 16;
        reseal(&mut bytes);
        assert_eq!(decode(&vouch, &bytes), Err(BatchFault::Impossible(what)));
    }
}

#[test]
fn hostile_lengths_under_a_right_header_checksum_are_noticed_in_the_body() {
    let entry = |index, at| BodyFault::Entry { index, at };
    let behind = BATCH_HEADER_LEN + 64;
    let cases: &[(usize, u32, BodyFault)] = &[
        // Beyond every file, and inside the block but beyond the entries.
        (BODY_LEN, u32::MAX - 15, BodyFault::Cut),
        (BODY_LEN, 80, BodyFault::Body),
        // The second entry does not fit any more.
        (BODY_LEN, 48, entry(1, BATCH_HEADER_LEN + 32)),
        (ENTRY_COUNT, 1, BodyFault::Body),
        (ENTRY_COUNT, 3, entry(2, behind)),
        (LAST_DELTA, u32::MAX, BodyFault::Body),
        (BODY_CRC, 0, BodyFault::Body),
    ];
    for &(at, value, fault) in cases {
        let (_, mut bytes) = build(place(), &[Draft::put(0, b"one"), Draft::put(9, b"end")]);
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        reseal(&mut bytes);
        let header = decode(&place(), &bytes).unwrap();
        let found = header.verify(LOG, &bytes).unwrap_err();
        assert_eq!(found, fault, "{value} at {at}");
    }
}

#[test]
fn hostile_entry_lengths_are_noticed() {
    for len in [0, 4, 15, 16, 17, 400, 512, u32::MAX - 31, u32::MAX - 15, u32::MAX] {
        let (header, mut bytes) = build(place(), &[Draft::put(0, b"five!")]);
        bytes[BATCH_HEADER_LEN + 4..BATCH_HEADER_LEN + 8].copy_from_slice(&len.to_le_bytes());
        let fault = BodyFault::Entry { index: 0, at: BATCH_HEADER_LEN };
        assert_eq!(header.verify(LOG, &bytes).unwrap_err(), fault, "{len}");
    }
}

#[test]
fn an_entry_field_that_cannot_be_is_named_though_every_checksum_holds() {
    let (first, second) = (BATCH_HEADER_LEN, BATCH_HEADER_LEN + 32);
    let two = [Draft::put(0, b"aaaa"), Draft::put(1, b"bbbb")];
    let set = |at: usize, field: &'static [u8]| {
        move |bytes: &mut [u8]| bytes[at..at + field.len()].copy_from_slice(field)
    };
    let check = |at, field| fault_of_first(&two, set(at, field));
    assert_eq!(check(first, &[]), Ok(()));
    assert_eq!(check(first + 8, &[0, 0]), impossible(0, "kind"));
    assert_eq!(check(first + 8, &[6, 0]), impossible(0, "kind"));
    assert_eq!(check(first + 8, &[0xff, 0x7f]), impossible(0, "kind"));
    assert_eq!(check(first + 8, &[0xff, 0xff]), Ok(()));
    assert_eq!(check(first + 8, &[5, 0]), impossible(0, "barrier"));
    assert_eq!(check(second + 8, &[5, 0]), impossible(1, "barrier"));
    assert_eq!(check(first + 10, &[4, 0]), impossible(0, "flags"));
    assert_eq!(check(first + 10, &[0, 0x80]), impossible(0, "flags"));
    assert_eq!(check(first + 10, &[1, 0]), Ok(()));
    let goes_on = impossible(1, "group that goes on behind the batch");
    assert_eq!(check(second + 10, &[1, 0]), goes_on);
    assert_eq!(check(first + 10, &[2, 0]), impossible(0, "timestamp"));
    assert_eq!(check(first + 12, &[1, 0]), impossible(0, "seq"));
    assert_eq!(check(second + 12, &[0, 0]), impossible(1, "seq"));
    // The delta of the last entry is also in the header.
    assert_eq!(check(second + 12, &[2, 0]), Err(BodyFault::Body));
    // A shorter payload leaves a byte of itself in the padding.
    assert_eq!(check(first + 4, &[3]), Err(BodyFault::Padding));
    assert_eq!(check(first + 20, &[1]), Err(BodyFault::Padding));
    // The block's padding.
    assert_eq!(check(second + 32, &[1]), Err(BodyFault::Padding));
    assert_eq!(check(511, &[1]), Err(BodyFault::Padding));
}

#[test]
fn a_timestamp_is_eight_bytes_low_byte_first_and_eight_zeros() {
    for timestamp in [0, 1, -2, i64::MIN, i64::MAX] {
        let bytes = timestamp_bytes(timestamp);
        assert_eq!((&bytes[..8], &bytes[8..]), (&timestamp.to_le_bytes()[..], &[0; 8][..]));
    }
}

#[test]
fn the_bytes_between_a_timestamp_and_its_payload_are_zero() {
    let drafts = [Draft::put(0, b"aaaa").at(77)];
    for at in [24, 31] {
        let found = fault_of_first(&drafts, |bytes| bytes[BATCH_HEADER_LEN + at] = 1);
        assert_eq!(found, impossible(0, "timestamp"));
    }
    assert_eq!(fault_of_first(&drafts, |_| {}), Ok(()));
}

#[test]
fn a_barrier_flag_without_a_barrier_is_noticed() {
    let (_, mut bytes) = build(place(), &[Draft::put(0, b"no barrier")]);
    bytes[FLAGS] = 1;
    reseal(&mut bytes);
    let found = decode(&place(), &bytes).unwrap().verify(LOG, &bytes).unwrap_err();
    assert_eq!(found, BodyFault::Impossible { index: 0, what: "barrier" });
}

/// What is wrong with a batch of `drafts` that says of itself that it ends with a barrier.
fn fault_of_barrier(drafts: &[Draft]) -> Result<(), BodyFault> {
    let (header, bytes) = build(BatchHeader { flags: BatchFlags::BARRIER, ..place() }, drafts);
    header.verify(LOG, &bytes).map(drop)
}

#[test]
fn a_barrier_has_neither_payload_nor_flags() {
    let barrier = |payload| Draft::put(0, payload).with_kind(Kind::BARRIER);
    assert_eq!(fault_of_barrier(&[barrier(b"")]), Ok(()));
    let payload = impossible(0, "payload of a barrier");
    assert_eq!(fault_of_barrier(&[barrier(b"x")]), payload);
    assert_eq!(fault_of_barrier(&[barrier(b"").at(77)]), payload);
    // Without the bytes that the flag announces.
    let flags = EntryFlags::TIMESTAMP;
    let found = fault_of_barrier(&[Draft { flags, ..barrier(b"") }]);
    assert_eq!(found, impossible(0, "flags of a barrier"));
    let found = fault_of_barrier(&[barrier(b"").going_on()]);
    assert_eq!(found, impossible(0, "group that goes on behind the batch"));
}

#[test]
fn an_atomic_group_does_not_go_on_with_a_barrier() {
    let barrier = || Draft::put(2, b"").with_kind(Kind::BARRIER);
    let group = [Draft::put(0, b"one").going_on(), Draft::put(1, b"two"), barrier()];
    assert_eq!(fault_of_barrier(&group), Ok(()));
    let open = [Draft::put(0, b"one"), Draft::put(1, b"two").going_on(), barrier()];
    assert_eq!(fault_of_barrier(&open), impossible(2, "group that goes on with a barrier"));
}

#[test]
fn a_header_counts_its_blocks_and_knows_its_offset() {
    for (payload, blocks) in [(0, 1), (384, 1), (385, 2), (896, 2), (897, 3)] {
        let (header, bytes) = build(place(), &[Draft::put(0, &vec![1; payload])]);
        assert_eq!(header.block_count(), blocks, "{payload} bytes");
        assert_eq!(header.disk_len(), bytes.len() as u64);
        assert_eq!(header.at(), 5 * 512);
    }
}

/// Entries with ascending deltas, groups that end inside, and kinds that a user may append.
fn drafts() -> impl Strategy<Value = Vec<Draft>> {
    let kind =
        prop_oneof![(1..=4_u16).prop_map(Kind), (Kind::FIRST_USER.0..=u16::MAX).prop_map(Kind),];
    let payload = prop::collection::vec(any::<u8>(), 0..200);
    let draft = (kind, any::<bool>(), 1..1000_u32, any::<Option<i64>>(), payload);
    prop::collection::vec(draft, 1..12).prop_map(|list| {
        let count = list.len();
        let mut delta = 0;
        let drafts = list.into_iter().enumerate();
        drafts
            .map(|(index, (kind, going_on, jump, timestamp, payload))| {
                delta += if index == 0 { 0 } else { jump };
                let going_on = going_on && index + 1 < count;
                let flags = if going_on { EntryFlags::GROUP_CONTINUES } else { EntryFlags::NONE };
                Draft { kind, flags, delta, timestamp, payload }
            })
            .collect()
    })
}

prop_compose! {
    /// Places and promises of a batch.
    fn places()(
        (shard, segment, incarnation, block) in (any::<u16>(), any::<u64>(), 1..u64::MAX, any::<u32>()),
        shift in 9..=16_u32,
        number in 1..u64::MAX,
        first_seq in 1..u64::MAX / 2,
        epoch in 1..u64::MAX,
        promises: (u64, u64, u64),
    ) -> BatchHeader {
        BatchHeader {
            shard: ShardId(shard),
            segment: SegmentNumber(segment),
            incarnation: Incarnation(incarnation),
            block,
            block_len: 1 << shift,
            number: BatchNumber(number),
            first_seq: Seq(first_seq),
            epoch: Epoch(epoch),
            durable_batch: BatchNumber(promises.0 % number),
            durable_seq: Seq(promises.1 % first_seq),
            committed_epoch: Epoch(promises.2 % epoch),
            ..place()
        }
    }
}

proptest! {
    #[test]
    fn every_batch_comes_back(place in places(), drafts in drafts(), barrier: bool) {
        let (mut place, mut drafts) = (place, drafts);
        if barrier {
            place.flags = BatchFlags::BARRIER;
            let delta = drafts.last().unwrap().delta + 1;
            drafts.push(Draft::put(delta, b"").with_kind(Kind::BARRIER));
        }
        let (header, bytes) = build(place, &drafts);
        prop_assert_eq!(decode(&place, &bytes), Ok(header));
        prop_assert_eq!(BatchHeader::decode_anywhere(LOG, &bytes), Ok(header));
        assert_holds(&header, &bytes, &drafts);
    }

    #[test]
    fn every_vouch_comes_back(place in places()) {
        let place = BatchHeader { flags: BatchFlags::VOUCH, ..place };
        let (header, bytes) = build(place, &[]);
        prop_assert_eq!(decode(&place, &bytes), Ok(header));
        assert_holds(&header, &bytes, &[]);
    }

    #[test]
    fn a_burst_of_garbage_is_noticed(
        drafts in drafts(), at: usize, garbage in prop::collection::vec(any::<u8>(), 1..64),
    ) {
        let (_, bytes) = build(place(), &drafts);
        let at = at % bytes.len();
        let end = (at + garbage.len()).min(bytes.len());
        let mut damaged = bytes.clone();
        damaged[at..end].copy_from_slice(&garbage[..end - at]);
        prop_assert!(damaged == bytes || !verifies(&place(), &damaged));
    }

    #[test]
    fn arbitrary_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..1200)) {
        let (header, _) = build(place(), &[Draft::put(0, b"one")]);
        prop_assert!(decode(&place(), &bytes).is_err());
        prop_assert!(header.verify(LOG, &bytes).is_err());
        // The same bytes as the body under an intact header.
        let mut batch = build(place(), &[Draft::put(0, b"one")]).1;
        let end = batch.len().min(BATCH_HEADER_LEN + bytes.len());
        batch[BATCH_HEADER_LEN..end].copy_from_slice(&bytes[..end - BATCH_HEADER_LEN]);
        let _ = header.verify(LOG, &batch);
    }

    #[test]
    fn extreme_fields_under_right_checksums_are_answered(
        fields in prop::collection::vec((prop::sample::select(&FIELDS[..]), hostile()), 1..4),
        entry_fields in prop::collection::vec((prop::sample::select(&ENTRY_FIELDS[..]), hostile()), 0..3),
    ) {
        let (_, mut bytes) = build(place(), &[Draft::put(0, b"five!"), Draft::put(1, b"")]);
        for ((at, size), value) in entry_fields {
            bytes[BATCH_HEADER_LEN + at..][..size].copy_from_slice(&value[..size]);
        }
        for ((at, size), value) in fields {
            bytes[at..at + size].copy_from_slice(&value[..size]);
        }
        let len = u32_at(&bytes, BATCH_HEADER_LEN + 4) as usize;
        let starts = [BATCH_HEADER_LEN, BATCH_HEADER_LEN + ENTRY_HEADER_LEN + padded(len)];
        if len <= 300 {
            reseal_entries(&mut bytes, &starts);
        } else {
            reseal(&mut bytes);
        }
        prop_assert_ne!(decode(&place(), &bytes), Err(BatchFault::Checksum));
        if let Ok(header) = BatchHeader::decode_anywhere(LOG, &bytes) {
            let _ = (header.disk_len(), header.block_count(), header.at(), header.first_seq.next());
            if let Ok(view) = header.verify(LOG, &bytes) {
                for entry in view.entries() {
                    prop_assert!(entry.stamp.seq <= header.last_seq());
                    let _ = (entry.payload(), entry.timestamp());
                }
            }
        }
    }
}

/// Values at the edges, and any.
fn hostile() -> impl Strategy<Value = [u8; 16]> {
    prop_oneof![
        Just([0; 16]),
        Just([0xff; 16]),
        (0..=255_u8).prop_map(|low| u128::from(low).to_le_bytes()),
        (0..=255_u8).prop_map(|low| (u128::MAX - u128::from(low)).to_le_bytes()),
        any::<[u8; 16]>(),
    ]
}

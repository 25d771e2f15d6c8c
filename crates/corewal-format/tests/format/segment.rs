//! Segment headers from arbitrary and hostile bytes.

use corewal_format::{
    Incarnation, LogId, MAX_SEGMENT_LEN, RkyvLayout, SEGMENT_HEADER_LEN, SchemaId, SegmentFault,
    SegmentHeader, SegmentNumber, ShardId, crc32c,
};
use proptest::prelude::*;

use crate::samples;

fn block() -> Vec<u8> {
    let mut block = vec![0; 512];
    samples::segment().encode(0, &mut block);
    block
}

/// Makes the checksum of a changed header right again.
fn reseal(block: &mut [u8]) {
    let crc = crc32c(&block[12..SEGMENT_HEADER_LEN]);
    block[8..12].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn a_check_behind_the_checksum_names_the_field() {
    for (at, bytes, fault) in [
        (12, &[2, 0][..], SegmentFault::Version(2)),
        (12, &[0, 0], SegmentFault::Version(0)),
        (32, &[0; 8], SegmentFault::Impossible("segment number")),
        (32, &[0xff; 8], SegmentFault::Impossible("segment number")),
        (40, &[0; 8], SegmentFault::Impossible("incarnation")),
        (40, &[0xff; 8], SegmentFault::Impossible("incarnation")),
        (48, &[0; 8], SegmentFault::Impossible("segment size")),
        (48, &[0xff; 8], SegmentFault::Impossible("segment size")),
        (56, &[0; 4], SegmentFault::Impossible("block size")),
        (56, &[0xff; 4], SegmentFault::Impossible("block size")),
        (63, &[1], SegmentFault::Impossible("copy number")),
        (72, &[1], SegmentFault::Impossible("reserved field")),
        (127, &[0x80], SegmentFault::Impossible("reserved field")),
    ] {
        let mut block = block();
        block[at..at + bytes.len()].copy_from_slice(bytes);
        reseal(&mut block);
        assert_eq!(SegmentHeader::decode(0, &block), Err(fault), "{bytes:?} at {at}");
    }
}

#[test]
fn only_the_layouts_that_rkyv_has_are_taken() {
    for (at, known, what) in [
        (60, &[1, 2][..], "endianness"),
        (61, &[1, 2], "alignment"),
        (62, &[16, 32, 64], "pointer width"),
    ] {
        for byte in 0..=u8::MAX {
            let mut block = block();
            block[at] = byte;
            reseal(&mut block);
            let fault = SegmentHeader::decode(0, &block).err();
            let expected = (!known.contains(&byte)).then_some(SegmentFault::Impossible(what));
            assert_eq!(fault, expected, "{what} {byte}");
        }
    }
}

proptest! {
    #[test]
    fn every_header_comes_back(
        log: [u8; 16], shard: u16, segment in 1..u64::MAX, incarnation in 1..u64::MAX, schema: u64,
        rkyv in (1..=2_u8, 1..=2_u8, prop::sample::select(&[16_u8, 32, 64][..])), shift in 9..=16_u32, blocks in 3..65536_u64, copy in 0..=1_u8,
    ) {
        let block_len = 1 << shift;
        let header = SegmentHeader {
            log: LogId(log),
            shard: ShardId(shard),
            segment: SegmentNumber(segment),
            incarnation: Incarnation(incarnation),
            segment_len: (blocks * u64::from(block_len)).min(MAX_SEGMENT_LEN),
            block_len,
            rkyv: RkyvLayout { endianness: rkyv.0, alignment: rkyv.1, pointer_width: rkyv.2 },
            schema: SchemaId(schema),
        };
        let mut block = [0xaa; 512];
        header.encode(copy, &mut block);
        prop_assert_eq!(SegmentHeader::decode(copy, &block), Ok(header));
    }

    #[test]
    fn arbitrary_bytes_are_answered(bytes: Vec<u8>, copy: u8) {
        prop_assert!(SegmentHeader::decode(copy, &bytes).is_err());
    }

    #[test]
    fn sealed_arbitrary_fields_are_answered(fields in prop::array::uniform32(any::<u8>()), at in 12..96_usize) {
        let mut block = block();
        block[at..at + 32].copy_from_slice(&fields);
        reseal(&mut block);
        if let Ok(header) = SegmentHeader::decode(0, &block) {
            let mut again = [0; 512];
            header.encode(0, &mut again);
            prop_assert_eq!(&again[..], &block[..]);
        }
    }
}

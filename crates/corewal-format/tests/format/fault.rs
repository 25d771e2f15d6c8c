//! Texts of errors: lower case, no full stop, with the numbers that they name.

use corewal_format::{
    BatchFault, BodyFault, Incarnation, ManifestFault, SegmentFault, SegmentNumber, ShardId,
};

#[test]
fn texts_of_faults_say_what_and_where() {
    let (segment, shard) = (SegmentNumber(17), ShardId(3));
    let texts = [
        (SegmentFault::Zero.to_string(), "no segment header, only zeros"),
        (SegmentFault::Magic.to_string(), "no segment header"),
        (SegmentFault::Checksum.to_string(), "segment header checksum mismatch"),
        (
            SegmentFault::Version(2).to_string(),
            "format version 2 is not known to this program (it knows 1)",
        ),
        (SegmentFault::CopiesDiffer.to_string(), "the two copies of the segment header differ"),
        (
            SegmentFault::Impossible("block size").to_string(),
            "impossible block size in a segment header",
        ),
        (BatchFault::Zero.to_string(), "only zeros"),
        (BatchFault::Magic.to_string(), "no batch header"),
        (BatchFault::Checksum.to_string(), "batch header checksum mismatch"),
        (
            BatchFault::OlderLife { segment, incarnation: Incarnation(2) }.to_string(),
            "a batch of an earlier life (segment 17, incarnation 2)",
        ),
        (
            BatchFault::Misdirected { shard, segment, block: 5 }.to_string(),
            "a batch of segment 3-17 block 5: written to a wrong place",
        ),
        (BatchFault::Impossible("epoch").to_string(), "impossible epoch in a batch header"),
        (BodyFault::Cut.to_string(), "batch is cut off"),
        (
            BodyFault::Entry { index: 4, at: 240 }.to_string(),
            "entry 4 at offset 240 of the batch: checksum mismatch",
        ),
        (BodyFault::Body.to_string(), "batch body checksum mismatch"),
        (BodyFault::Impossible { index: 4, what: "kind" }.to_string(), "entry 4: impossible kind"),
        (BodyFault::Padding.to_string(), "padding is not zero"),
        (ManifestFault::Cut.to_string(), "manifest is cut off"),
        (ManifestFault::Magic.to_string(), "no manifest"),
        (ManifestFault::Checksum.to_string(), "manifest checksum mismatch"),
        (
            ManifestFault::Version(2).to_string(),
            "format version 2 is not known to this program (it knows 1)",
        ),
        (
            ManifestFault::Impossible("run order").to_string(),
            "impossible run order in the manifest",
        ),
    ];
    for (text, expected) in texts {
        assert_eq!(text, expected);
        assert!(text.starts_with(char::is_lowercase) && !text.ends_with('.'), "{text}");
    }
}

//! The names of a log's files. After parsing, nobody looks at strings.

use alloc::format;
use alloc::string::String;
use core::fmt;

use crate::{Generation, SegmentNumber, ShardId};

/// The file that is locked while a log is open, and says by whom.
pub const LOCK_NAME: &str = "LOCK";

/// The next manifest while it is written; allocated ahead.
pub const MANIFEST_NEXT_NAME: &str = "MANIFEST-next";

/// The slot in which generation `generation` of the manifest lives.
#[must_use]
pub fn manifest_name(generation: Generation) -> &'static str {
    if generation.0.is_multiple_of(2) { "MANIFEST-0" } else { "MANIFEST-1" }
}

/// The name of a shard's folder: `shard-0007`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShardName(pub ShardId);

impl ShardName {
    /// Parses exactly what `Display` writes.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let shard = name.strip_prefix("shard-")?.parse().ok()?;
        let parsed = Self(ShardId(shard));
        (format!("{parsed}") == name).then_some(parsed)
    }
}

impl fmt::Display for ShardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard-{:04}", self.0.0)
    }
}

/// The name of a segment file: `0000000042.seg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName(pub SegmentNumber);

impl SegmentName {
    /// Parses exactly what `Display` writes; segment numbers start at 1, and the largest is never used.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let number: u64 = name.strip_suffix(".seg")?.parse().ok()?;
        let parsed = Self(SegmentNumber(number));
        let written: String = format!("{parsed}");
        (number > 0 && number < u64::MAX && written == name).then_some(parsed)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}.seg", self.0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_written_form_of_a_name_is_parsed() {
        for number in [1, 42, 9_999_999_999, 10_000_000_000, u64::MAX - 1] {
            let name = SegmentName(SegmentNumber(number));
            assert_eq!(SegmentName::parse(&format!("{name}")), Some(name));
        }
        for name in [
            "0000000000.seg",
            "1.seg",
            "+000000001.seg",
            "00000000001.seg",
            "0000000001.sig",
            ".seg",
            "18446744073709551615.seg",
            "",
        ] {
            assert_eq!(SegmentName::parse(name), None, "{name}");
        }
        for shard in [0, 7, 9999, u16::MAX] {
            let name = ShardName(ShardId(shard));
            assert_eq!(ShardName::parse(&format!("{name}")), Some(name));
        }
        for name in ["shard-7", "shard-00007", "shard-65536", "shard-+007", "shard-", "shards-0007"]
        {
            assert_eq!(ShardName::parse(name), None, "{name}");
        }
    }
}

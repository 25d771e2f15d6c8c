//! Whether segments are written past the page cache, and why not.

use std::fmt;

use corewal_disk::Access;

use crate::AccessWish;

/// How segments are written; [`Capabilities::access`](crate::Capabilities::access). Buffered is no less durable, but
/// slower: the writes of one file wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SegmentAccess {
    /// Past the page cache.
    Direct,
    /// Through the page cache, as [`AccessWish::Buffered`] says.
    Buffered,
    /// Through the page cache: the file system or the platform has no direct I/O.
    NoDirect,
    /// Through the page cache: the log's blocks are smaller than what direct I/O asks for.
    Misaligned {
        /// What direct I/O must be aligned to, in bytes.
        align: usize,
    },
}

impl SegmentAccess {
    /// What a segment that was opened with this access gets.
    pub(crate) fn of(wish: AccessWish, access: Access, block_len: u32) -> Self {
        match (wish, access) {
            (AccessWish::Buffered, _) => Self::Buffered,
            (AccessWish::Direct, Access::Buffered) => Self::NoDirect,
            (AccessWish::Direct, Access::Direct { align }) if align > block_len as usize => {
                Self::Misaligned { align }
            }
            (AccessWish::Direct, Access::Direct { .. }) => Self::Direct,
        }
    }

    /// Whether direct I/O was wished for and cannot be had.
    #[must_use]
    pub fn is_refused(self) -> bool {
        matches!(self, Self::NoDirect | Self::Misaligned { .. })
    }
}

/// As in "written ..".
impl fmt::Display for SegmentAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("past the page cache"),
            Self::Buffered => f.write_str("through the page cache"),
            Self::NoDirect => f.write_str("through the page cache: no direct I/O here"),
            Self::Misaligned { align } => {
                write!(f, "through the page cache: direct I/O needs blocks of {align} bytes")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_told_from_what_was_not_wished_for() {
        let judge = |wish, access| SegmentAccess::of(wish, access, 4096);
        let (coarse, fine) = (Access::Direct { align: 8192 }, Access::Direct { align: 512 });
        assert_eq!(judge(AccessWish::Direct, fine), SegmentAccess::Direct);
        assert_eq!(judge(AccessWish::Direct, Access::Buffered), SegmentAccess::NoDirect);
        assert_eq!(judge(AccessWish::Direct, coarse), SegmentAccess::Misaligned { align: 8192 });
        assert_eq!(judge(AccessWish::Buffered, Access::Buffered), SegmentAccess::Buffered);
        assert!(!judge(AccessWish::Buffered, Access::Buffered).is_refused());
    }
}

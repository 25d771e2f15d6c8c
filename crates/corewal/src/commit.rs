//! What a stream processor must have atomically with its epoch: source offsets and a watermark.

use corewal_format::Kind;

/// How far the input of an epoch goes. Appended before the epoch is closed, it is committed with it: a recovery of
/// committed epochs then finds from where its sources are to be read again.
///
/// ```
/// use corewal::{Commit, Kind, Log, Options};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("log");
/// let mut log = Log::recover(Options::new(&dir))?.open()?;
/// let mut writer = log.take_seats().remove(0).sit()?;
/// let commit = Commit { watermark: 1_000_047, offsets: vec![("flights/0".into(), 4711)] };
/// writer.append_commit(&commit)?;
/// let epoch = writer.close_epoch()?;
/// writer.wait_epoch(epoch)?;
/// writer.close()?;
/// log.close()?;
///
/// let mut reader = Log::read(Options::new(&dir))?;
/// let entry = reader.next_entry()?.expect("it was committed");
/// assert_eq!(entry.kind(), Kind::COMMIT);
/// assert_eq!(Commit::decode(entry.bytes())?, commit);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// No event before this time is expected any more; in the program's own unit.
    pub watermark: i64,
    /// For each source, by a name of the program's choice, the offset to read on from.
    pub offsets: Vec<(String, u64)>,
}

/// Bytes of a commit without sources.
const HEADER_LEN: usize = 12;
/// Bytes of a source without its name.
const SOURCE_LEN: usize = 12;

/// The bytes are no commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these {len} bytes are no commit")]
pub struct NoCommit {
    /// How many bytes there are.
    pub len: usize,
}

impl Commit {
    /// The kind of its entries.
    pub const KIND: Kind = Kind::COMMIT;

    /// Its bytes: docs/FORMAT.md.
    ///
    /// # Panics
    /// If a name has more than 4 GiB, which no record has.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let names = self.offsets.iter().map(|(name, _)| SOURCE_LEN + name.len());
        let mut bytes = Vec::with_capacity(HEADER_LEN + names.sum::<usize>());
        let count = |count: usize| u32::try_from(count).expect("records are below 4 GiB");
        bytes.extend(self.watermark.to_le_bytes());
        bytes.extend(count(self.offsets.len()).to_le_bytes());
        for (name, offset) in &self.offsets {
            bytes.extend(offset.to_le_bytes());
            bytes.extend(count(name.len()).to_le_bytes());
            bytes.extend(name.as_bytes());
        }
        bytes
    }

    /// Reads a commit back.
    ///
    /// # Errors
    /// [`NoCommit`], if another program wrote something else under this kind.
    pub fn decode(bytes: &[u8]) -> Result<Self, NoCommit> {
        Self::parse(bytes).ok_or(NoCommit { len: bytes.len() })
    }

    fn parse(mut rest: &[u8]) -> Option<Self> {
        let watermark = i64::from_le_bytes(take(&mut rest)?);
        let count = u32::from_le_bytes(take(&mut rest)?) as usize;
        // Each source has bytes of its own, so a count that lies allocates nothing.
        if count > rest.len() / SOURCE_LEN {
            return None;
        }
        let mut offsets = Vec::with_capacity(count);
        for _ in 0..count {
            let offset = u64::from_le_bytes(take(&mut rest)?);
            let len = u32::from_le_bytes(take(&mut rest)?) as usize;
            let (name, behind) = rest.split_at_checked(len)?;
            offsets.push((str::from_utf8(name).ok()?.to_owned(), offset));
            rest = behind;
        }
        rest.is_empty().then_some(Self { watermark, offsets })
    }
}

fn take<const LEN: usize>(rest: &mut &[u8]) -> Option<[u8; LEN]> {
    let (first, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Commit {
        Commit { watermark: -5, offsets: vec![("a".into(), 1), (String::new(), u64::MAX)] }
    }

    #[test]
    fn a_commit_comes_back() {
        for commit in [Commit::default(), sample()] {
            assert_eq!(Commit::decode(&commit.encode()), Ok(commit));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let bytes = Commit { watermark: 2, offsets: vec![("ab".into(), 3)] }.encode();
        let expected =
            [2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 97, 98];
        assert_eq!(bytes, expected);
    }

    #[test]
    fn every_other_length_and_every_count_that_lies_is_refused() {
        let bytes = sample().encode();
        for len in 0..bytes.len() {
            assert_eq!(Commit::decode(&bytes[..len]), Err(NoCommit { len }));
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(Commit::decode(&longer).is_err());
        for count in [0, 1, 3, u32::MAX] {
            let mut bytes = bytes.clone();
            bytes[8..12].copy_from_slice(&count.to_le_bytes());
            assert!(Commit::decode(&bytes).is_err(), "{count}");
        }
    }
}

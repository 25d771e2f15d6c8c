//! What the segments of a log look like: what a program keeps that opens somebody else's log for a moment.

use corewal_format::{BATCH_HEADER_LEN, ENTRY_ALIGN, ENTRY_HEADER_LEN, SchemaId, SegmentHeader};

use crate::Options;
use crate::error::RecoverError;
use crate::layout::{Layout, Listing};
use crate::manifests::{self, Found};
use crate::recovery::{Opened, open_segment};

use super::Manifest;

/// What the last incarnation of a log was opened with, as far as the log says so itself.
///
/// A program that opens a log which is not its own, to release or to truncate something, passes it to
/// [`Options::shape`]: then the next segments are like those before.
///
/// ```
/// use corewal::inspect::Shape;
/// use corewal::{Log, Options};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("log");
/// # Log::recover(Options::new(&dir).shards(3))?.open()?.close()?;
/// let options = Options::new(&dir);
/// let shape = Shape::read(&options)?.ok_or("no log")?;
/// assert_eq!(shape.shards, 3);
/// let log = Log::recover(options.shape(&shape))?.open()?;
/// # log.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shape {
    /// Active shards.
    pub shards: u16,
    /// How many epochs a shard may close ahead of the committed one.
    pub pipeline_bound: u32,
    /// The segments; none if no segment of the log has a readable header.
    pub segments: Option<SegmentShape>,
}

/// What the segments of an incarnation have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentShape {
    /// Size of a block, in bytes.
    pub block_len: u32,
    /// Size of a segment, in bytes.
    pub segment_len: u64,
    /// Size of the first segment of a run, in bytes; none if no segment tells.
    pub first_segment_len: Option<u64>,
    /// The name of the records' types.
    pub schema: SchemaId,
}

impl Shape {
    /// Reads the manifest and the headers of the segments, without the log's lock; none if there is no log. Of the
    /// options, the directory and the disk count.
    ///
    /// # Errors
    /// [`RecoverError::Manifest`] if the manifests do not verify or do not belong together; [`RecoverError::Io`].
    pub fn read(options: &Options) -> Result<Option<Self>, RecoverError> {
        let layout = Layout { disk: options.disk.clone(), dir: options.dir.clone() };
        let listing = match layout.list() {
            Err(fault) if fault.cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            listing => listing?,
        };
        let Found::Log(manifest) = manifests::read(&layout, &listing)? else { return Ok(None) };
        let active = manifest.shards.iter().filter(|it| it.active).count();
        Ok(Some(Self {
            shards: u16::try_from(active).unwrap_or(u16::MAX).max(1),
            pipeline_bound: manifest.pipeline_bound,
            segments: segments(&layout, &listing, &manifest)?,
        }))
    }
}

/// What the segments of the newest incarnations look like.
fn segments(
    layout: &Layout,
    listing: &Listing,
    manifest: &Manifest,
) -> Result<Option<SegmentShape>, RecoverError> {
    let mut headers: Vec<SegmentHeader> = Vec::new();
    for (shard, numbers) in &listing.shards {
        for &number in numbers {
            if let Opened::Segment(open) = open_segment(layout, *shard, number)?
                && open.header.log == manifest.log
            {
                headers.push(open.header);
            }
        }
    }
    headers.sort_by_key(|it| (it.incarnation, it.segment));
    let Some(newest) = headers.last() else { return Ok(None) };
    let (segment_len, first_segment_len) = lengths(&headers);
    Ok(Some(SegmentShape {
        block_len: newest.block_len,
        segment_len,
        first_segment_len,
        schema: newest.schema,
    }))
}

/// The length of segments, and of the first one of a run if it is told apart, of headers in order of incarnation.
///
/// An incarnation that ended early may have left nothing but first segments, so an older one is asked, too.
fn lengths(headers: &[SegmentHeader]) -> (u64, Option<u64>) {
    let mut newer: Option<u64> = None;
    for segments in headers.chunk_by(|a, b| a.incarnation == b.incarnation).rev() {
        let longest = segments.iter().map(|it| it.segment_len).max().unwrap_or(0);
        let shortest = segments.iter().map(|it| it.segment_len).min().unwrap_or(0);
        let has_two =
            segments.iter().any(|a| segments.iter().any(|b| a.shard == b.shard && a != b));
        if !has_two {
            newer = newer.or(Some(longest));
            continue;
        }
        let first = (shortest < longest).then_some(shortest);
        return match newer {
            Some(len) if len > longest => (len, None),
            Some(len) if len < longest => (longest, Some(len)),
            _ => (longest, first),
        };
    }
    (newer.unwrap_or(0), None)
}

impl Options {
    /// As many shards, and segments of the same sizes and schema, as a log has. Write size, largest batch and
    /// largest record are lowered to what its segments hold.
    #[must_use]
    pub fn shape(self, shape: &Shape) -> Self {
        let options = self.shards(shape.shards).pipeline_bound(shape.pipeline_bound);
        let Some(segments) = shape.segments else { return options };
        let block = u64::from(segments.block_len);
        let room = usize::try_from(segments.segment_len.saturating_sub(2 * block));
        let max_batch = options.max_batch.min(room.unwrap_or(usize::MAX));
        let write_len = options.write_len.min(max_batch) / segments.block_len as usize;
        let headers = BATCH_HEADER_LEN + ENTRY_HEADER_LEN;
        let max_record = max_batch.saturating_sub(headers) / ENTRY_ALIGN * ENTRY_ALIGN;
        let first = options.first_segment_len.min(segments.segment_len);
        Self {
            block_len: segments.block_len,
            segment_len: segments.segment_len,
            first_segment_len: segments.first_segment_len.unwrap_or(first),
            schema: segments.schema,
            max_batch,
            write_len: write_len * segments.block_len as usize,
            max_record: options.max_record.min(max_record),
            ..options
        }
    }
}

#[cfg(test)]
mod tests {
    use corewal_format::{Incarnation, LogId, SegmentNumber, ShardId};

    use super::*;

    /// Segments of shards, by incarnation and length; numbers ascend.
    fn headers(of: &[(u16, u64, u64)]) -> Vec<SegmentHeader> {
        let header =
            |(number, &(shard, incarnation, segment_len)): (u64, &(u16, u64, u64))| SegmentHeader {
                log: LogId([1; 16]),
                shard: ShardId(shard),
                segment: SegmentNumber(number),
                incarnation: Incarnation(incarnation),
                segment_len,
                block_len: 4096,
                rkyv: crate::record::rkyv_layout(),
                schema: SchemaId(0),
            };
        (1..).zip(of).map(header).collect()
    }

    #[test]
    fn lengths_are_those_of_the_newest_incarnation_that_tells() {
        let told = |of: &[(u16, u64, u64)]| lengths(&headers(of));
        assert_eq!(told(&[(0, 1, 10), (0, 1, 64), (0, 1, 64)]), (64, Some(10)));
        // The first one was released, or is as long as the others.
        assert_eq!(told(&[(0, 1, 64), (0, 1, 64)]), (64, None));
        assert_eq!(told(&[(0, 1, 10), (0, 1, 64), (0, 2, 20), (0, 2, 32)]), (32, Some(20)));
        // Nothing but first segments.
        assert_eq!(told(&[(0, 1, 10), (1, 1, 10)]), (10, None));
        assert_eq!(told(&[(0, 1, 10), (0, 1, 64), (0, 2, 10), (1, 2, 10)]), (64, Some(10)));
        assert_eq!(told(&[(0, 1, 10), (0, 1, 64), (0, 2, 64)]), (64, Some(10)));
        assert_eq!(told(&[(0, 1, 10), (0, 1, 64), (0, 2, 20), (0, 3, 20)]), (64, Some(20)));
        assert_eq!(told(&[(0, 1, 10), (0, 1, 64), (0, 2, 96)]), (96, None));
    }
}

//! What stands on the disk, read with nothing but the format: manifests, and the batches of every run. The
//! engine's judgement takes no part in it.

use std::collections::BTreeMap;
use std::rc::Rc;

use corewal::{BatchNumber, Epoch, Incarnation, LogId, SegmentNumber, Seq, ShardId};
use corewal_disk::sim::SimDisk;
use corewal_format::{
    BatchHeader, Generation, HEADER_BLOCKS, Manifest, SegmentHeader, SegmentName, ShardName,
    manifest_name,
};

use crate::sim::{DIR, Finding};

/// What was known when a batch was sealed: acknowledged and committed before the call that sealed it, and after.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seal {
    pub(crate) least: (Seq, Epoch),
    pub(crate) most: (Seq, Epoch),
}

/// The seals of one incarnation.
#[derive(Clone, Debug)]
pub(crate) struct Seals {
    pub(crate) incarnation: Incarnation,
    /// The first batch of each shard.
    pub(crate) firsts: Vec<(ShardId, BatchNumber)>,
    pub(crate) shards: Vec<(ShardId, Vec<Seal>)>,
}

/// A log on a disk.
#[derive(Debug)]
pub(crate) struct Anatomy {
    /// By slot; none if it is not there, or cannot be read.
    pub(crate) slots: [Option<Manifest>; 2],
    pub(crate) segments: BTreeMap<(ShardId, SegmentNumber), Segment>,
}

/// A file of a shard.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) bytes: Rc<[u8]>,
    pub(crate) header: Option<SegmentHeader>,
}

/// A batch that stands at its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) header: BatchHeader,
    pub(crate) segment: SegmentNumber,
}

impl Standing {
    pub(crate) fn bytes(&self) -> std::ops::Range<u64> {
        self.header.at()..self.header.at() + self.header.disk_len()
    }
}

pub(crate) fn manifest_path(slot: u64) -> String {
    format!("{DIR}/{}", manifest_name(Generation(slot)))
}

pub(crate) fn segment_path(shard: ShardId, segment: SegmentNumber) -> String {
    format!("{DIR}/{}/{}", ShardName(shard), SegmentName(segment))
}

impl Anatomy {
    /// Reads what can be seen.
    pub(crate) fn of(disk: &SimDisk) -> Self {
        let slot = |slot| Manifest::decode(&disk.visible(manifest_path(slot))?).ok();
        let mut segments = BTreeMap::new();
        for (shard, segment) in names(disk) {
            let Some(bytes) = disk.visible(segment_path(shard, segment)) else { continue };
            let header = segment_header(&bytes);
            segments.insert((shard, segment), Segment { bytes: bytes.into(), header });
        }
        Self { slots: [slot(0), slot(1)], segments }
    }

    /// The newest manifest, if both are there.
    pub(crate) fn manifest(&self) -> Option<&Manifest> {
        let [Some(even), Some(odd)] = &self.slots else { return None };
        Some(if even.generation > odd.generation { even } else { odd })
    }

    /// The batches of a run from its first one on, as far as each follows the one before.
    pub(crate) fn chain(
        &self,
        log: LogId,
        shard: ShardId,
        incarnation: Incarnation,
        first: (SegmentNumber, BatchNumber),
        last: Option<BatchNumber>,
    ) -> Vec<Standing> {
        let mut chain = Vec::new();
        let (mut segment, mut expected) = first;
        let mut at = 0;
        while last.is_none_or(|last| expected <= last) {
            let here = self.batch(log, shard, incarnation, segment, at, expected);
            let found = here.or_else(|| {
                segment = segment.next();
                self.batch(log, shard, incarnation, segment, 0, expected)
            });
            let Some(header) = found else { break };
            at = header.at() + header.disk_len();
            expected = expected.next();
            chain.push(Standing { header, segment });
        }
        chain
    }

    fn batch(
        &self,
        log: LogId,
        shard: ShardId,
        incarnation: Incarnation,
        segment: SegmentNumber,
        at: u64,
        expected: BatchNumber,
    ) -> Option<BatchHeader> {
        let found = self.segments.get(&(shard, segment))?;
        let block_len = u64::from(found.header?.block_len);
        let at = at.max(u64::from(HEADER_BLOCKS) * block_len);
        let bytes = found.bytes.get(usize::try_from(at).ok()?..)?;
        let block = u32::try_from(at / block_len).ok()?;
        let header = BatchHeader::decode(log, shard, segment, incarnation, block, bytes).ok()?;
        let is_next = header.number == expected && u64::from(header.block_len) == block_len;
        (is_next && header.verify(log, bytes).is_ok()).then_some(header)
    }

    /// Every header of the shard's incarnation that verifies where it stands, in segments from `first` on.
    pub(crate) fn headers(
        &self,
        log: LogId,
        shard: ShardId,
        incarnation: Incarnation,
        first: SegmentNumber,
    ) -> Vec<Standing> {
        let mut found = Vec::new();
        for (&(_, number), segment) in self.segments.range((shard, first)..) {
            let Some(header) = segment.header.filter(|it| it.shard == shard) else { continue };
            let block_len = header.block_len as usize;
            for (block, bytes) in (0_u32..).zip(segment.bytes.chunks(block_len)) {
                let batch = BatchHeader::decode(log, shard, number, incarnation, block, bytes);
                if let Ok(header) = batch
                    && header.block_len as usize == block_len
                    && block >= HEADER_BLOCKS
                {
                    found.push(Standing { header, segment: number });
                }
            }
        }
        found
    }

    /// Compares the promises of every batch with what was known when it was sealed.
    pub(crate) fn check_seals(&self, seals: &Seals) -> Result<(), Finding> {
        let Some(manifest) = self.manifest() else { return Ok(()) };
        if manifest.incarnation != seals.incarnation {
            return Ok(());
        }
        for (shard, list) in &seals.shards {
            let Some(current) = manifest.shard(*shard).and_then(|it| it.current) else { continue };
            let first = current.first_segment;
            for found in self.headers(manifest.log, *shard, manifest.incarnation, first) {
                let header = found.header;
                let begun = seals.firsts.iter().find(|(of, _)| of == shard);
                let Some(index) = begun.and_then(|it| header.number.0.checked_sub(it.1.0)) else {
                    continue;
                };
                let Ok(index) = usize::try_from(index) else { continue };
                let Some(seal) = list.get(index) else { continue };
                let says = (header.durable_seq, header.committed_epoch);
                let holds = (seal.least.0..=seal.most.0).contains(&says.0)
                    && (seal.least.1..=seal.most.1).contains(&says.1);
                if !holds {
                    let (least, most) = (seal.least, seal.most);
                    return Err(Finding::Promise { shard: *shard, index, says, least, most });
                }
            }
        }
        Ok(())
    }

    /// Compares what the log says of itself with what an idle shard must have said.
    pub(crate) fn check_vouched(
        &self,
        shard: ShardId,
        acknowledged: Seq,
        committed: Epoch,
    ) -> Result<(), Finding> {
        let Some(manifest) = self.manifest() else { return Ok(()) };
        let Some(record) = manifest.shard(shard) else { return Ok(()) };
        let Some(current) = record.current else { return Ok(()) };
        let first = (current.first_segment, current.first_batch);
        let chain = self.chain(manifest.log, shard, manifest.incarnation, first, None);
        // The last batch that has entries below the acknowledged seq must be promised by a later one.
        let wanted = chain
            .iter()
            .filter(|it| it.header.entry_count > 0 && it.header.last_seq() <= acknowledged);
        let wanted = wanted.map(|it| it.header.number).max();
        let says = chain.iter().map(|it| it.header.durable_batch).max().unwrap_or_default();
        let epoch = chain.iter().map(|it| it.header.committed_epoch).max().unwrap_or_default();
        let is_committed = manifest.committed_epoch >= committed || epoch >= committed;
        if wanted.is_some_and(|wanted| says < wanted) || !is_committed {
            return Err(Finding::Unvouched(shard, acknowledged));
        }
        Ok(())
    }
}

/// Every segment that has a name.
fn names(disk: &SimDisk) -> Vec<(ShardId, SegmentNumber)> {
    use corewal_disk::Disk;
    let mut names = Vec::new();
    let list = |dir: &str| disk.list(dir.as_ref()).unwrap_or_default();
    for folder in list(DIR) {
        let Some(ShardName(shard)) = ShardName::parse(&folder.name) else { continue };
        for file in list(&format!("{DIR}/{}", folder.name)) {
            if let Some(SegmentName(number)) = SegmentName::parse(&file.name) {
                names.push((shard, number));
            }
        }
    }
    names
}

/// Either copy of the header.
fn segment_header(bytes: &[u8]) -> Option<SegmentHeader> {
    let first = SegmentHeader::decode(0, bytes).ok();
    first.or_else(|| {
        [512_usize, 1024, 2048, 4096].into_iter().find_map(|at| {
            let header = SegmentHeader::decode(1, bytes.get(at..)?).ok()?;
            (header.block_len as usize == at).then_some(header)
        })
    })
}

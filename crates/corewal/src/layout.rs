//! Where the files of a log are, and what else lies beside them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use corewal_disk::{Disk, EntryType};
use corewal_format::{
    Generation, LOCK_NAME, MANIFEST_NEXT_NAME, SegmentName, SegmentNumber, ShardId, ShardName,
    manifest_name,
};

use crate::error::{Doing, IoFault};

/// The answer of a measurement of the device. No recovery looks at it.
const METHOD_NAME: &str = "SYNC-METHOD";
/// The same while it is written.
const METHOD_NEXT_NAME: &str = "SYNC-METHOD-next";
/// What the name of a folder with a salvage's copies begins with, before its generation.
const SALVAGE_PREFIX: &str = "salvage-";
/// What the names of files begin with that are there to be measured with.
pub(crate) const PROBE_PREFIX: &str = "PROBE-";

/// The directory of a log, and the disk that it is on.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
}

/// The files of a log, as the directories list them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    /// Every shard's folder with its segments, both in order.
    pub(crate) shards: Vec<(ShardId, Vec<SegmentNumber>)>,
    /// Files of a measurement that is going on, or was broken off.
    pub(crate) probes: Vec<PathBuf>,
    /// Folders of copies that salvages have put aside. They are left alone.
    pub(crate) salvages: Vec<PathBuf>,
    /// What does not belong to a log. It is left alone.
    pub(crate) foreign: Vec<PathBuf>,
}

impl Listing {
    /// The segments of `shard`, in order.
    pub(crate) fn segments(&self, shard: ShardId) -> &[SegmentNumber] {
        match self.shards.binary_search_by_key(&shard, |(shard, _)| *shard) {
            Ok(index) => &self.shards[index].1,
            Err(_) => &[],
        }
    }
}

impl Layout {
    pub(crate) fn lock(&self) -> PathBuf {
        self.dir.join(LOCK_NAME)
    }

    pub(crate) fn manifest(&self, generation: Generation) -> PathBuf {
        self.dir.join(manifest_name(generation))
    }

    pub(crate) fn manifest_next(&self) -> PathBuf {
        self.dir.join(MANIFEST_NEXT_NAME)
    }

    pub(crate) fn method(&self) -> PathBuf {
        self.dir.join(METHOD_NAME)
    }

    pub(crate) fn method_next(&self) -> PathBuf {
        self.dir.join(METHOD_NEXT_NAME)
    }

    /// Where the salvage that writes this generation puts its copies.
    pub(crate) fn salvage(&self, generation: Generation) -> PathBuf {
        self.dir.join(format!("{SALVAGE_PREFIX}{generation}"))
    }

    pub(crate) fn shard(&self, shard: ShardId) -> PathBuf {
        self.dir.join(ShardName(shard).to_string())
    }

    pub(crate) fn segment(&self, shard: ShardId, number: SegmentNumber) -> PathBuf {
        self.shard(shard).join(SegmentName(number).to_string())
    }

    /// Lists the log's directory and the shards' folders.
    pub(crate) fn list(&self) -> Result<Listing, IoFault> {
        let mut listing = Listing::default();
        for entry in self.entries(&self.dir)? {
            match (entry.entry_type, ShardName::parse(&entry.name)) {
                (EntryType::Directory, Some(ShardName(shard))) => {
                    let segments = self.list_shard(shard, &mut listing.foreign)?;
                    listing.shards.push((shard, segments));
                }
                (EntryType::File, _) if is_log_file(&entry.name) => {}
                (EntryType::File, _) if entry.name.starts_with(PROBE_PREFIX) => {
                    listing.probes.push(self.dir.join(entry.name));
                }
                (EntryType::Directory, _) if is_salvage(&entry.name) => {
                    listing.salvages.push(self.dir.join(entry.name));
                }
                _ => listing.foreign.push(self.dir.join(entry.name)),
            }
        }
        listing.shards.sort_unstable();
        listing.salvages.sort_unstable();
        listing.foreign.sort_unstable();
        Ok(listing)
    }

    fn list_shard(
        &self,
        shard: ShardId,
        foreign: &mut Vec<PathBuf>,
    ) -> Result<Vec<SegmentNumber>, IoFault> {
        let folder = self.shard(shard);
        let mut segments = Vec::new();
        for entry in self.entries(&folder)? {
            match (entry.entry_type, SegmentName::parse(&entry.name)) {
                (EntryType::File, Some(SegmentName(number))) => segments.push(number),
                _ => foreign.push(folder.join(entry.name)),
            }
        }
        segments.sort_unstable();
        Ok(segments)
    }

    fn entries(&self, dir: &Path) -> Result<Vec<corewal_disk::Entry>, IoFault> {
        self.disk.list(dir).doing("list", dir)
    }
}

fn is_log_file(name: &str) -> bool {
    let manifests = [manifest_name(Generation(0)), manifest_name(Generation(1))];
    let others = [LOCK_NAME, MANIFEST_NEXT_NAME, METHOD_NAME, METHOD_NEXT_NAME];
    manifests.contains(&name) || others.contains(&name)
}

fn is_salvage(name: &str) -> bool {
    let generation = name.strip_prefix(SALVAGE_PREFIX).and_then(|it| it.parse().ok());
    generation.is_some_and(|it: u64| it.to_string() == name[SALVAGE_PREFIX.len()..])
}

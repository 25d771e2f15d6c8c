//! The two slots of the manifest: reading them, judging what they say together, and writing the next one.

use std::io;

use corewal_disk::{BLOCK_ALIGN, Block, File, Open};
use corewal_format::{
    Generation, MAX_BLOCK_LEN, MAX_MANIFEST_LEN, MIN_BLOCK_LEN, Manifest, ManifestFault,
    SEGMENT_HEADER_LEN,
};

use crate::error::{Doing, IoFault, ManifestError, RecoverError};
use crate::layout::{Layout, Listing};

/// Space that is kept allocated for the next manifest, in bytes, so that a full disk cannot block it.
const NEXT_LEN: u64 = 64 << 10;

/// What stands in the slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A log, and its newest manifest.
    Log(Box<Manifest>),
    /// Nothing, or a creation that a crash interrupted before anything was written.
    Nothing,
}

/// Reads both slots from the device and judges them together.
pub(crate) fn read(layout: &Layout, listing: &Listing) -> Result<Found, RecoverError> {
    let even = read_slot(layout, Generation(0))?;
    let odd = read_slot(layout, Generation(1))?;
    let refuse = |cause| {
        let path = layout.dir.clone();
        Err(RecoverError::Manifest { path, cause })
    };
    match (even, odd) {
        (Some(even), Some(odd)) => {
            let (newer, older) =
                if even.generation > odd.generation { (even, odd) } else { (odd, even) };
            if older.generation.next() != newer.generation || older.log != newer.log {
                return refuse(ManifestError::Unrelated(older.generation, newer.generation));
            }
            Ok(Found::Log(Box::new(newer)))
        }
        (None, None) if has_segment(layout, listing)? => refuse(ManifestError::AllMissing),
        (None, None) => Ok(Found::Nothing),
        (None, Some(only))
            if only.generation == Generation(1) && !has_segment(layout, listing)? =>
        {
            Ok(Found::Nothing)
        }
        (Some(only), None) | (None, Some(only)) => {
            refuse(ManifestError::OneMissing(only.generation))
        }
    }
}

/// Everything that is wrong with the slots, each by itself or both together.
pub(crate) fn faults(layout: &Layout, listing: &Listing) -> Vec<RecoverError> {
    let slots = [Generation(0), Generation(1)];
    let mut faults: Vec<RecoverError> =
        slots.into_iter().filter_map(|slot| read_slot(layout, slot).err()).collect();
    let missing = |slot: &Generation| matches!(read_slot(layout, *slot), Ok(None));
    if faults.is_empty() {
        faults.extend(read(layout, listing).err());
    } else if let Some(slot) = slots.iter().find(|slot| missing(slot)) {
        let path = layout.manifest(*slot);
        faults.push(RecoverError::Manifest { path, cause: ManifestError::Missing });
    }
    faults
}

/// The manifest in the slot of `slot`'s parity; `None` if there is no file.
pub(crate) fn read_slot(
    layout: &Layout,
    slot: Generation,
) -> Result<Option<Manifest>, RecoverError> {
    let path = layout.manifest(slot);
    let file = match layout.disk.open(&path, Open::READ.direct()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(IoFault::new("open", &path, error).into()),
    };
    let refuse = |cause| RecoverError::Manifest { path: path.clone(), cause };
    let (block, len) = read_whole(&file)
        .doing("read", &path)?
        .ok_or_else(|| refuse(ManifestError::Broken(ManifestFault::Cut)))?;
    let manifest =
        Manifest::decode(&block[..len]).map_err(|fault| refuse(ManifestError::Broken(fault)))?;
    if manifest.generation.0 % 2 != slot.0 % 2 {
        return Err(refuse(ManifestError::WrongSlot(manifest.generation)));
    }
    Ok(Some(manifest))
}

/// All bytes of a file, from the device; `None` if it is empty or too long for a manifest.
fn read_whole(file: &File) -> io::Result<Option<(Block, usize)>> {
    file.drop_cache()?;
    let len = file.len()?;
    if len == 0 || len > MAX_MANIFEST_LEN as u64 + NEXT_LEN {
        return Ok(None);
    }
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let mut block = Block::zeroed(len.next_multiple_of(BLOCK_ALIGN));
    let read = file.read_at(&mut block, 0)?;
    Ok(Some((block, read)))
}

/// Whether any segment has a header that is not all zeros: then there was a manifest once.
fn has_segment(layout: &Layout, listing: &Listing) -> Result<bool, IoFault> {
    for (shard, segments) in &listing.shards {
        for number in segments {
            let path = layout.segment(*shard, *number);
            let file = layout.disk.open(&path, Open::READ.direct()).doing("open", &path)?;
            let mut block = Block::zeroed(MAX_BLOCK_LEN as usize + BLOCK_ALIGN);
            file.drop_cache().doing("sync", &path)?;
            file.read_at(&mut block, 0).doing("read", &path)?;
            // The second copy stands one block behind the first, whatever the size of a block is.
            let sizes = (MIN_BLOCK_LEN..=MAX_BLOCK_LEN).filter(|len| len.is_power_of_two());
            let mut copies = std::iter::once(0).chain(sizes.map(|len| len as usize));
            let is_written =
                |at: usize| block[at..at + SEGMENT_HEADER_LEN].iter().any(|&it| it != 0);
            if copies.any(is_written) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Makes what the slots hold durable: a process that died may have left them in the cache.
pub(crate) fn sync(layout: &Layout) -> Result<(), IoFault> {
    for slot in [Generation(0), Generation(1)] {
        let path = layout.manifest(slot);
        match layout.disk.open(&path, Open::WRITE) {
            Ok(file) => file.sync_all().doing("sync", &path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(IoFault::new("open", &path, error)),
        }
    }
    layout.disk.sync_dir(&layout.dir).doing("sync", &layout.dir)
}

/// Writes manifests, one generation after the other.
///
/// After the first failure that leaves open what is durable it writes no more: a manifest that is told of as
/// failed must not become the one before the newest.
#[derive(Debug)]
pub(crate) struct ManifestWriter {
    layout: Layout,
    written: Manifest,
    /// The latch: the first cause stays.
    failed: Option<IoFault>,
}

/// Why a manifest was not written, as far as is known.
#[derive(Debug)]
pub(crate) struct WriteFault {
    pub(crate) fault: IoFault,
    pub(crate) fate: Fate,
}

/// What is known of a manifest whose writing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing has changed.
    Unwritten,
    /// It may be durable or not.
    Unknown,
}

impl From<WriteFault> for IoFault {
    fn from(fault: WriteFault) -> Self {
        fault.fault
    }
}

impl ManifestWriter {
    /// Goes on after `written`, which is durable.
    pub(crate) fn after(layout: Layout, written: Manifest) -> Self {
        Self { layout, written, failed: None }
    }

    /// Creates a log: generations 1 and 2 are durable when this returns, and no segment exists.
    pub(crate) fn create(layout: Layout, mut first: Manifest) -> Result<Self, IoFault> {
        first.generation = Generation(1);
        write(&layout, &first)?;
        let mut writer = Self::after(layout, first.clone());
        writer.write(first)?;
        Ok(writer)
    }

    /// The newest manifest.
    pub(crate) fn written(&self) -> &Manifest {
        &self.written
    }

    /// Whether no manifest can be written any more.
    pub(crate) fn check_latch(&self) -> Result<(), IoFault> {
        match &self.failed {
            None => Ok(()),
            Some(fault) => Err(fault.clone()),
        }
    }

    /// Writes `next` as the next generation; it is durable when this returns.
    pub(crate) fn write(&mut self, mut next: Manifest) -> Result<(), WriteFault> {
        let unknown = |fault| WriteFault { fault, fate: Fate::Unknown };
        self.check_latch().map_err(unknown)?;
        next.generation = self.written.generation.next();
        if let Err(fault) = write(&self.layout, &next) {
            if fault.fate == Fate::Unknown {
                self.failed = Some(fault.fault.clone());
            }
            return Err(fault);
        }
        self.written = next;
        Ok(())
    }
}

/// Temporary file, fsync, rename over the generation before the last, fsync of the directory.
fn write(layout: &Layout, manifest: &Manifest) -> Result<(), WriteFault> {
    let encoded = manifest.encode();
    let file = next_file(layout, encoded.len() as u64)
        .map_err(|fault| WriteFault { fault, fate: Fate::Unwritten })?;
    put(layout, manifest.generation, &encoded, &file)
        .map_err(|fault| WriteFault { fault, fate: Fate::Unknown })?;
    // Space for the generation after this one. Without it the next write may fail on a full disk, and says so.
    // Durable, so that a power cut does not take it back while others fill the disk.
    let _ = next_file(layout, NEXT_LEN).and_then(|file| {
        file.sync_all().doing("sync", &layout.manifest_next())?;
        layout.disk.sync_dir(&layout.dir).doing("sync", &layout.dir)
    });
    Ok(())
}

fn put(
    layout: &Layout,
    generation: Generation,
    encoded: &[u8],
    file: &File,
) -> Result<(), IoFault> {
    let next = layout.manifest_next();
    let len = file.len().doing("stat", &next)?.max(encoded.len() as u64);
    let len = usize::try_from(len).map_err(io::Error::other).doing("stat", &next)?;
    let mut block = Block::zeroed(len.next_multiple_of(BLOCK_ALIGN));
    block[..encoded.len()].copy_from_slice(encoded);
    file.write_at(&block, 0).doing("write", &next)?;
    file.sync_all().doing("sync", &next)?;
    let slot = layout.manifest(generation);
    layout.disk.rename(&next, &slot).doing("rename", &next)?;
    layout.disk.sync_dir(&layout.dir).doing("sync", &layout.dir)
}

/// The file that the next manifest is written to, with at least `len` bytes allocated.
fn next_file(layout: &Layout, len: u64) -> Result<File, IoFault> {
    let path = layout.manifest_next();
    let file = match layout.disk.open(&path, Open::WRITE.direct()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            layout.disk.open(&path, Open::CREATE.direct())
        }
        other => other,
    }
    .doing("open", &path)?;
    let len = len.max(NEXT_LEN).next_multiple_of(BLOCK_ALIGN as u64);
    if file.len().doing("stat", &path)? < len {
        file.allocate(len).doing("allocate", &path)?;
    }
    Ok(file)
}

//! Files and directories, each with what is durable and what can be seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cut::UnitId;
use super::image::{Image, Payload, Write, carve, index};
use super::random::{below, draw};
use super::{SECTOR, SECTOR_LEN};

/// Names a file or a directory, whatever it is called; never used again.
pub(super) type NodeId = u64;

/// Names an open file.
pub(super) type HandleId = u64;

/// A file or a directory.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Where it was seen last.
    pub(super) path: Arc<str>,
    /// Numbers drawn for it so far.
    pub(super) draws: u64,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    File(FileNode),
    Directory(Directory),
}

/// Names of a directory.
pub(super) type Names = BTreeMap<Arc<str>, NodeId>;

#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    pub(super) visible: Names,
    pub(super) durable: Names,
}

#[derive(Clone, Debug, Default)]
pub(super) struct FileNode {
    /// What is on the medium for certain.
    pub(super) durable: Image,
    pub(super) durable_size: u64,
    /// The size that can be seen, in bytes.
    pub(super) size: u64,
    /// Written and not durable, in the order of landing.
    pub(super) pending: Vec<Write>,
    /// Growth that is not durable.
    pub(super) grows: Vec<Grow>,
    /// What the page cache goes on showing although the device does not have it.
    pub(super) stale: Vec<Write>,
    /// Failed syncs so far.
    pub(super) errors: u64,
    /// Open handles, with the failed syncs that each was told of.
    pub(super) handles: Vec<(HandleId, u64)>,
}

/// A size that is not durable. A failed sync leaves it in the journal, where a later one finds it.
#[derive(Clone, Debug)]
pub(super) struct Grow {
    pub(super) unit: UnitId,
    pub(super) to: u64,
    pub(super) landed: u64,
}

/// Whose view of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// Past the page cache.
    Device,
    /// Through it.
    Cache,
}

/// Bytes on their way into a file.
#[derive(Clone, Debug)]
pub(super) struct Landing {
    pub(super) unit: UnitId,
    pub(super) landed: u64,
    /// Offset in bytes.
    pub(super) at: u64,
    /// How many bytes; the payload is padded to whole sectors.
    pub(super) len: usize,
    pub(super) payload: Payload,
    pub(super) buffered: bool,
}

impl Landing {
    pub(super) fn end(&self) -> u64 {
        self.at + self.len as u64
    }

    /// Its first bytes: `sectors` of them as sectors.
    pub(super) fn first(&self, sectors: u64) -> Self {
        let payload = self.payload.part(0, sectors);
        let len = self.len.min(payload.len());
        Self { payload, len, ..*self }
    }
}

impl FileNode {
    /// Reads up to the end; returns how many bytes there were.
    pub(super) fn read(&self, view: View, at: u64, buf: &mut [u8]) -> usize {
        let len = index(self.size.saturating_sub(at).min(buf.len() as u64));
        self.show(view, at, &mut buf[..len]);
        len
    }

    fn show(&self, view: View, at: u64, buf: &mut [u8]) {
        self.durable.read(at, buf);
        self.pending.iter().for_each(|write| write.show(at, buf));
        if view == View::Cache {
            self.stale.iter().for_each(|write| write.show(at, buf));
        }
    }

    /// All bytes.
    pub(super) fn bytes(&self, view: View) -> Vec<u8> {
        let mut bytes = vec![0; index(self.size)];
        self.show(view, 0, &mut bytes);
        bytes
    }

    /// A landing as whole sectors: what shares a sector with it is written too.
    fn whole_sectors(&self, landing: &Landing) -> (u64, Payload) {
        let sector = landing.at / SECTOR;
        if landing.at.is_multiple_of(SECTOR) && landing.len.is_multiple_of(SECTOR_LEN) {
            return (sector, landing.payload.clone());
        }
        let lead = index(landing.at - sector * SECTOR);
        let mut bytes = vec![0; (lead + landing.len).next_multiple_of(SECTOR_LEN)];
        self.show(View::Cache, sector * SECTOR, &mut bytes);
        let data = landing.payload.data();
        let data = &data[..data.len().min(landing.len)];
        let part = &mut bytes[lead..lead + landing.len];
        part[..data.len()].copy_from_slice(data);
        part[data.len()..].fill(0);
        (sector, Payload::new(&bytes))
    }

    /// Puts bytes where they can be seen; they are not durable.
    pub(super) fn land(&mut self, landing: &Landing) {
        let (sector, payload) = self.whole_sectors(landing);
        carve(&mut self.stale, sector, payload.sectors);
        self.pending.push(Write {
            unit: landing.unit,
            landed: landing.landed,
            sector,
            whole: (sector, payload.sectors),
            payload,
            buffered: landing.buffered,
        });
        self.grow(landing.end(), landing.unit.of_size(), landing.landed);
    }

    /// Puts bytes onto the medium, with as much of the size as they need.
    pub(super) fn land_durably(&mut self, landing: &Landing) {
        let (sector, payload) = self.whole_sectors(landing);
        carve(&mut self.stale, sector, payload.sectors);
        carve(&mut self.pending, sector, payload.sectors);
        self.durable.write(sector, &payload);
        self.durable_size = self.durable_size.max(landing.end());
        self.size = self.size.max(landing.end());
        self.grows.retain(|grow| grow.to > self.durable_size);
    }

    /// Makes the file at least `to` bytes long.
    pub(super) fn grow(&mut self, to: u64, unit: UnitId, landed: u64) {
        if to > self.size {
            self.size = to;
            self.grows.push(Grow { unit, to, landed });
        }
    }

    /// Whether a sync would change anything.
    pub(super) fn is_dirty(&self) -> bool {
        !self.pending.is_empty() || !self.grows.is_empty()
    }

    /// Makes durable what landed up to `upto`.
    pub(super) fn cover(&mut self, upto: u64) {
        let (covered, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|it| it.landed <= upto);
        covered.iter().for_each(|write| self.durable.write(write.sector, &write.payload));
        self.pending = left;
        self.grows.retain(|grow| {
            let covered = grow.landed <= upto;
            if covered {
                self.durable_size = self.durable_size.max(grow.to);
            }
            !covered
        });
    }

    /// A sync fails: dirty pages are marked clean and never written. Of what went to the device
    /// directly, the device forgets some, by `number`; the rest is in its cache still.
    pub(super) fn fail_sync(&mut self, number: u64) {
        self.errors += 1;
        for write in std::mem::take(&mut self.pending) {
            if write.buffered {
                self.stale.push(write);
            } else if below(draw(number, write.unit.0, 0), 2) == 0 {
                self.pending.push(write);
            }
        }
    }

    /// Whether `handle` was not told yet of a failed sync; it is now.
    pub(super) fn take_error(&mut self, handle: HandleId) -> bool {
        let errors = self.errors;
        let seen = self.handles.iter_mut().find(|(id, _)| *id == handle);
        seen.is_some_and(|(_, seen)| std::mem::replace(seen, errors) < errors)
    }
}

impl Node {
    pub(super) fn file(&self) -> Option<&FileNode> {
        match &self.content {
            Content::File(file) => Some(file),
            Content::Directory(_) => None,
        }
    }

    pub(super) fn file_mut(&mut self) -> Option<&mut FileNode> {
        match &mut self.content {
            Content::File(file) => Some(file),
            Content::Directory(_) => None,
        }
    }

    pub(super) fn directory(&self) -> Option<&Directory> {
        match &self.content {
            Content::Directory(directory) => Some(directory),
            Content::File(_) => None,
        }
    }

    pub(super) fn directory_mut(&mut self) -> Option<&mut Directory> {
        match &mut self.content {
            Content::Directory(directory) => Some(directory),
            Content::File(_) => None,
        }
    }
}

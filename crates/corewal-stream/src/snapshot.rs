//! Snapshots: the state of every core at a barrier, in a file of its own.
//!
//! A file has a header of 32 bytes (magic, count of changes, length of what follows, its CRC32C) and then each
//! change: its length in 16 bytes and its archive, padded to a multiple of 16.

use std::path::PathBuf;

use corewal::Epoch;
use corewal_disk::EntryType;
use rkyv::util::AlignedVec;

use crate::error::{FileError, JobError, Trying};
use crate::place::Place;
use crate::workload::Stored;

const MAGIC: &[u8; 8] = b"cwsnap01";
const HEADER_LEN: usize = 32;
const ALIGN: usize = 16;

/// The state of a core, ready to be written.
#[derive(Debug)]
pub(crate) struct Image(Vec<u8>);

impl Image {
    pub(crate) fn of<C: Stored>(state: &[C]) -> Result<Self, JobError> {
        let mut bytes = vec![0; HEADER_LEN];
        for change in state {
            let archive = change.freeze().map_err(JobError::Archive)?;
            bytes.extend_from_slice(&(archive.len() as u64).to_le_bytes());
            bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
            bytes.extend_from_slice(&archive);
            bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
        }
        let body = &bytes[HEADER_LEN..];
        let (len, crc) = (body.len() as u64, crc32c::crc32c(body));
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&(state.len() as u64).to_le_bytes());
        bytes[16..24].copy_from_slice(&len.to_le_bytes());
        bytes[24..28].copy_from_slice(&crc.to_le_bytes());
        Ok(Self(bytes))
    }

    /// Writes it; it is durable then.
    pub(crate) fn write(&self, place: &Place, epoch: Epoch, core: u16) -> Result<(), FileError> {
        place.write_durably(&path_of(place, epoch, core), &self.0)
    }
}

fn path_of(place: &Place, epoch: Epoch, core: u16) -> PathBuf {
    place.snapshots().join(format!("{}{core:04}.snap", prefix(epoch)))
}

fn prefix(epoch: Epoch) -> String {
    format!("epoch-{:020}-core-", epoch.0)
}

/// Reads a core's state back.
pub(crate) fn read<C: Stored>(place: &Place, epoch: Epoch, core: u16) -> Result<Vec<C>, JobError> {
    let path = path_of(place, epoch, core);
    let bytes = place.read(&path)?;
    let bad = |what: &str| JobError::Checkpointed { path: path.clone(), what: what.to_owned() };
    let (header, body) = bytes.split_at_checked(HEADER_LEN).ok_or_else(|| bad("too short"))?;
    let number = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&header[at..at + 8]);
        u64::from_le_bytes(number)
    };
    if &header[..8] != MAGIC {
        return Err(bad("no snapshot"));
    }
    let (count, len, crc) = (number(8), number(16), number(24));
    if len != body.len() as u64 || crc != u64::from(crc32c::crc32c(body)) {
        return Err(bad("checksum mismatch"));
    }
    let mut state = Vec::new();
    let mut rest = body;
    while let Some((head, behind)) = rest.split_at_checked(ALIGN) {
        let mut len = [0; 8];
        len.copy_from_slice(&head[..8]);
        let len = usize::try_from(u64::from_le_bytes(len)).unwrap_or(usize::MAX);
        let archive = behind.get(..len).ok_or_else(|| bad("a change is cut short"))?;
        rest = behind.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
        let mut aligned = AlignedVec::<ALIGN>::with_capacity(len);
        aligned.extend_from_slice(archive);
        state.push(C::from_bytes(&aligned).map_err(JobError::Archive)?);
    }
    if state.len() as u64 != count {
        return Err(bad("another number of changes than stated"));
    }
    Ok(state)
}

/// Removes all snapshots but that of `kept`: no checkpoint speaks of them.
pub(crate) fn remove_others(place: &Place, kept: Epoch) -> Result<(), FileError> {
    let dir = place.snapshots();
    let kept = prefix(kept);
    for entry in place.disk.list(&dir).trying("list", &dir)? {
        if entry.entry_type == EntryType::File && !entry.name.starts_with(&kept) {
            let path = dir.join(&entry.name);
            place.disk.remove(&path).trying("remove", &path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use corewal_disk::sim::SimDisk;

    use super::*;
    use crate::nexmark::Change;
    use crate::time::Time;
    use crate::window::PaneChange;

    fn state() -> Vec<Change> {
        let bids = |key| PaneChange { window: Time(key * 10), key, pane: Some(key) };
        (0..9).map(bids).map(Change::Bids).collect()
    }

    #[test]
    fn a_snapshot_comes_back_and_any_flipped_bit_is_noticed() {
        let disk = Arc::new(SimDisk::new(1));
        let place = Place::new(disk.clone(), "/job");
        place.create().expect("the disk works");
        let image = Image::of(&state()).expect("archived");
        image.write(&place, Epoch(4), 1).expect("written");
        assert_eq!(read::<Change>(&place, Epoch(4), 1).expect("read"), state());
        let path = path_of(&place, Epoch(4), 1);
        for at in (0..image.0.len()).filter(|at| !(28..32).contains(at)) {
            let disk = disk.fork();
            disk.corrupt(&path, at as u64, 1).expect("it is there");
            let place = Place::new(Arc::new(disk), "/job");
            assert!(read::<Change>(&place, Epoch(4), 1).is_err(), "byte {at}");
        }
    }
}

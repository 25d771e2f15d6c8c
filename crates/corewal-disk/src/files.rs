//! The files of a ring.

use crate::{File, FileSlot};

/// Files by slot. An entry keeps its file from registration until it was released *and* its last
/// operation was reaped; only then is the entry used again.
#[derive(Debug, Default)]
pub(crate) struct FileTable {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Counts the uses of this entry, so that a released [`FileSlot`] does not name the next file.
    generation: u16,
    file: Option<File>,
    /// Operations queued or in flight.
    users: usize,
    released: bool,
}

const INDEX_BITS: u32 = 16;

impl FileTable {
    /// # Panics
    /// If 65,536 files are registered.
    pub(crate) fn insert(&mut self, file: File) -> FileSlot {
        let index = match self.entries.iter().position(|entry| entry.file.is_none()) {
            Some(index) => index,
            None => {
                self.entries.push(Entry { generation: 0, file: None, users: 0, released: false });
                self.entries.len() - 1
            }
        };
        let entry = &mut self.entries[index];
        entry.generation = entry.generation.wrapping_add(1);
        entry.file = Some(file);
        entry.released = false;
        let index = u16::try_from(index).expect("a ring has fewer than 65,536 files");
        FileSlot(u32::from(entry.generation) << INDEX_BITS | u32::from(index))
    }

    /// The index of a slot that is registered and not released.
    ///
    /// # Panics
    /// If it is neither.
    pub(crate) fn index(&self, slot: FileSlot) -> usize {
        let index = (slot.0 & 0xffff) as usize;
        let known = self.entries.get(index).is_some_and(|entry| {
            entry.file.is_some()
                && !entry.released
                && u32::from(entry.generation) == slot.0 >> INDEX_BITS
        });
        assert!(known, "file slot {:#x} is not registered with this ring", slot.0);
        index
    }

    /// Counts an operation on `slot`.
    pub(crate) fn begin(&mut self, slot: FileSlot) -> usize {
        let index = self.index(slot);
        self.entries[index].users += 1;
        index
    }

    /// Ends an operation. Returns the file if nothing needs it any more; the entry is then free.
    pub(crate) fn end(&mut self, index: usize) -> Option<File> {
        let entry = &mut self.entries[index];
        entry.users = entry.users.checked_sub(1).expect("an operation ends once");
        entry.take_unused()
    }

    /// Ends the use of `slot`. Returns the file if nothing needs it any more; the entry is then
    /// free.
    pub(crate) fn release(&mut self, slot: FileSlot) -> Option<File> {
        let index = self.index(slot);
        let entry = &mut self.entries[index];
        entry.released = true;
        entry.take_unused()
    }

    /// The file of an operation.
    pub(crate) fn file(&self, index: usize) -> &File {
        self.entries[index].file.as_ref().expect("a file in use stays in the table")
    }
}

impl Entry {
    fn take_unused(&mut self) -> Option<File> {
        if self.released && self.users == 0 { self.file.take() } else { None }
    }
}

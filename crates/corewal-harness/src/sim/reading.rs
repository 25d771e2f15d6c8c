//! Reading a whole log, by a recovery or beside a writer.

use corewal::{Checkpoint, Epoch, LogReader, RecoverError, Recovery};

use crate::{Item, Mark, Recovered, Violation};

/// Why a log was not read to its end.
#[derive(Debug)]
pub(crate) enum Unread {
    Refused(RecoverError),
    Broken(Violation),
}

/// What gives entries.
pub(crate) trait Entries {
    fn committed(&self) -> Epoch;
    fn last_checkpoint(&self) -> Option<Mark>;
    fn next_item(&mut self) -> Result<Option<(Item, bool)>, RecoverError>;
}

fn item(entry: &corewal::Entry<'_>) -> (Item, bool) {
    let item = Item {
        stamp: entry.stamp(),
        kind: entry.kind(),
        payload: entry.bytes().into(),
        continues: entry.group_continues(),
    };
    (item, entry.is_committed())
}

fn mark(checkpoint: Option<&Checkpoint>) -> Option<Mark> {
    checkpoint.map(|it| (it.epoch, it.bytes.as_slice().into()))
}

impl Entries for Recovery {
    fn last_checkpoint(&self) -> Option<Mark> {
        mark(self.checkpoint())
    }

    fn committed(&self) -> Epoch {
        self.report().committed_epoch
    }

    fn next_item(&mut self) -> Result<Option<(Item, bool)>, RecoverError> {
        Ok(self.next_entry()?.as_ref().map(item))
    }
}

impl Entries for LogReader {
    fn last_checkpoint(&self) -> Option<Mark> {
        mark(self.checkpoint())
    }

    fn committed(&self) -> Epoch {
        self.report().committed_epoch
    }

    fn next_item(&mut self) -> Result<Option<(Item, bool)>, RecoverError> {
        Ok(self.next_entry()?.as_ref().map(item))
    }
}

/// Reads everything.
pub(crate) fn read(entries: &mut impl Entries) -> Result<Recovered, Unread> {
    let (committed, checkpoint) = (entries.committed(), entries.last_checkpoint());
    let mut recovered = Recovered { committed, checkpoint, ..Recovered::default() };
    let mut is_beginning = true;
    while let Some((item, is_committed)) = entries.next_item().map_err(Unread::Refused)? {
        is_beginning &= is_committed;
        recovered.committed_count += usize::from(is_committed);
        if is_committed && !is_beginning {
            return Err(Unread::Broken(Violation::CommittedMark(recovered.committed)));
        }
        recovered.items.push(item);
    }
    Ok(recovered)
}

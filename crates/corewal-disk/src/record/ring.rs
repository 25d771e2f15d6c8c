//! A ring whose operations are written down.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::record::{Action, Event, FileId, Notes, Outcome, RecordedFile};
use crate::{Alarm, Block, Completion, File, FileSlot, Operation, Ring, RingFacts, Token};

#[derive(Debug)]
pub(super) struct RecordedRing {
    inner: Box<dyn Ring>,
    notes: Notes,
    files: HashMap<FileSlot, FileId>,
    /// Pushed and not submitted: nothing of it can be on the disk.
    queued: Vec<(Token, Action)>,
    /// Where the operations in flight begin.
    flying: HashMap<Token, usize>,
}

impl RecordedRing {
    pub(super) fn new(inner: Box<dyn Ring>, notes: Notes) -> Self {
        let (files, queued, flying) = Default::default();
        Self { inner, notes, files, queued, flying }
    }

    fn action(&self, operation: &Operation) -> Option<Action> {
        Some(match operation {
            Operation::Write { file, block, len, at, durability, .. } => Action::Write {
                file: *self.files.get(file)?,
                at: *at,
                bytes: self.notes.store(block.get(..*len)?),
                durability: *durability,
            },
            Operation::Sync { file, .. } => Action::Sync { file: *self.files.get(file)? },
        })
    }

    fn begin_queued(&mut self) {
        for (token, action) in self.queued.drain(..) {
            let begin = self.notes.push(Event::Begin(action));
            self.flying.insert(token, begin);
        }
    }

    fn end(&mut self, completions: &[Completion]) {
        for completion in completions {
            if let Some(begin) = self.flying.remove(&completion.token) {
                let len = completion.result.as_ref().copied().unwrap_or_default();
                let outcome = Outcome::of(&completion.result, len);
                self.notes.push(Event::End { begin, outcome });
            }
        }
    }
}

impl Ring for RecordedRing {
    fn register(&mut self, file: &File) -> io::Result<FileSlot> {
        let recorded = RecordedFile::of(file)?;
        let slot = self.inner.register(recorded.inner())?;
        self.files.insert(slot, recorded.id());
        Ok(slot)
    }

    fn release(&mut self, slot: FileSlot) {
        self.inner.release(slot);
        self.files.remove(&slot);
    }

    fn take_block(&mut self) -> Option<Block> {
        self.inner.take_block()
    }

    fn push(&mut self, operation: Operation) -> Result<(), Operation> {
        let token = operation.token();
        // An operation that cannot be described is one that the ring below refuses with a panic.
        let action = self.action(&operation);
        self.inner.push(operation)?;
        self.queued.extend(action.map(|action| (token, action)));
        Ok(())
    }

    fn submit(&mut self) -> io::Result<()> {
        self.begin_queued();
        self.inner.submit()
    }

    fn reap(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        let known = completions.len();
        let result = self.inner.reap(completions);
        self.end(&completions[known..]);
        result
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.inner.wait(timeout)
    }

    fn listen(&mut self, alarm: &Arc<Alarm>) {
        self.inner.listen(alarm);
    }

    fn announce(&mut self) -> io::Result<()> {
        self.inner.announce()
    }

    fn submit_and_wait(&mut self) -> io::Result<()> {
        self.begin_queued();
        self.inner.submit_and_wait()
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }

    fn calls(&self) -> u64 {
        self.inner.calls()
    }

    fn facts(&self) -> RingFacts {
        self.inner.facts()
    }

    fn drain(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.begin_queued();
        let known = completions.len();
        let result = self.inner.drain(completions);
        self.end(&completions[known..]);
        result
    }
}

impl Drop for RecordedRing {
    /// The ring below lands what was submitted; here too, so that the ends are written down.
    fn drop(&mut self) {
        let mut completions = Vec::new();
        while self.inner.in_flight() > self.queued.len() {
            let waited = self.inner.wait(None).and_then(|()| self.inner.reap(&mut completions));
            self.end(&completions);
            completions.clear();
            if waited.is_err() {
                return;
            }
        }
    }
}

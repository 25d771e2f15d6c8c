//! The ring of a simulated disk: owns the blocks; everything else is in the disk's state.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::faults::Errno;
use super::file::{Shared, SimFile};
use super::flight::{Flight, RingState, Work};
use super::image::Payload;
use super::node::Landing;
use super::trace::TraceStep;
use crate::files::FileTable;
use crate::inflight::Tokens;
use crate::{
    Alarm, Block, Completion, Engine, File, FileSlot, Lock, Operation, Ring, RingConfig, RingFacts,
    Token,
};

/// A ring of a simulated disk.
#[derive(Debug)]
pub(super) struct SimRing {
    shared: Arc<Shared>,
    id: u64,
    depth: usize,
    /// Operations complete in order, inside of submit.
    is_blocking: bool,
    queued: Vec<(usize, Operation)>,
    /// Blocks of operations in flight, with the index of each one's file.
    flying: Vec<(Token, usize, Option<Block>)>,
    tokens: Tokens,
    files: FileTable,
    pool: Vec<Block>,
    lock: Option<Lock>,
    /// Empty between calls.
    done: Vec<(Token, Result<usize, Errno>)>,
    calls: u64,
    alarm: Option<Arc<Alarm>>,
    announces: bool,
}

impl SimRing {
    pub(super) fn new(shared: &Arc<Shared>, config: RingConfig) -> io::Result<Self> {
        let mut state = shared.state();
        state.check()?;
        let id = state.next_ring;
        state.next_ring += 1;
        let lock = match &config.lock {
            Some(lock) => Some(SimFile::of(lock.file(), shared)?.node()),
            None => None,
        };
        state.rings.insert(id, RingState { lock, ..RingState::default() });
        drop(state);
        let depth = config.depth as usize;
        Ok(Self {
            shared: Arc::clone(shared),
            id,
            depth,
            is_blocking: config.engine == Engine::Blocking,
            queued: Vec::with_capacity(depth),
            flying: Vec::with_capacity(depth),
            tokens: Tokens::with_capacity(depth),
            files: FileTable::default(),
            pool: config.pool(),
            lock: config.lock,
            done: Vec::with_capacity(depth),
            calls: 0,
            alarm: None,
            announces: false,
        })
    }

    /// What goes to the disk of an operation; its block stays here.
    fn flight(&self, index: usize, operation: &Operation) -> Flight {
        let file = SimFile::of(self.files.file(index), &self.shared).expect("was registered");
        let mut state = self.shared.state();
        let mut refusal = None;
        let work = match operation {
            Operation::Write { block, len, at, durability, .. } => {
                refusal = file.refusal(&block[..*len], *at);
                let landing = Landing {
                    unit: state.unit(),
                    landed: 0,
                    at: *at,
                    len: *len,
                    payload: Payload::new(&block[..*len]),
                    buffered: file.is_buffered(),
                };
                Work::Write(landing, *durability)
            }
            Operation::Sync { .. } => Work::Sync { upto: state.landed },
        };
        Flight {
            order: 0,
            due: 0,
            ring: self.id,
            token: operation.token(),
            node: file.node(),
            handle: file.handle(),
            refusal,
            work,
        }
    }

    /// Time passes only in calls, so while something is in flight the alarm stays raised.
    fn announce_flights(&self) {
        if self.announces
            && self.tokens.len() > 0
            && let Some(alarm) = &self.alarm
        {
            alarm.raise();
        }
    }

    /// Lets time pass until nothing of this ring is in flight, or the power is cut.
    fn land_all(&self) {
        let mut state = self.shared.state();
        while let Some(due) = state.next_due_of(self.id)
            && state.check().is_ok()
        {
            state.advance_to(due);
        }
    }
}

impl Ring for SimRing {
    fn register(&mut self, file: &File) -> io::Result<FileSlot> {
        SimFile::of(file, &self.shared)?;
        self.shared.state().check()?;
        Ok(self.files.insert(file.clone()))
    }

    fn release(&mut self, slot: FileSlot) {
        self.files.release(slot);
    }

    fn take_block(&mut self) -> Option<Block> {
        self.pool.pop()
    }

    fn push(&mut self, operation: Operation) -> Result<(), Operation> {
        operation.assert_valid();
        if self.tokens.len() == self.depth {
            return Err(operation);
        }
        let index = self.files.begin(operation.file());
        self.tokens.begin(operation.token());
        self.queued.push((index, operation));
        Ok(())
    }

    fn submit(&mut self) -> io::Result<()> {
        if self.queued.is_empty() {
            return self.shared.state().check();
        }
        let step = TraceStep::Submit { ring: self.id, count: self.queued.len() };
        self.shared.state().step(&"".into(), step)?;
        self.calls += 1;
        let mut queued = std::mem::take(&mut self.queued);
        for (index, operation) in queued.drain(..) {
            let flight = self.flight(index, &operation);
            self.shared.state().launch(flight);
            let token = operation.token();
            let block = match operation {
                Operation::Write { block, .. } => Some(block),
                Operation::Sync { .. } => None,
            };
            self.flying.push((token, index, block));
            if self.is_blocking {
                self.land_all();
            }
        }
        self.queued = queued;
        self.announce_flights();
        self.shared.state().check()
    }

    fn reap(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        {
            let mut state = self.shared.state();
            state.tick()?;
            let Some(ring) = state.rings.get_mut(&self.id) else { return Ok(()) };
            std::mem::swap(&mut ring.done, &mut self.done);
        }
        // Without the state: the last handle of a file may go, and that needs it.
        for (token, result) in self.done.drain(..) {
            let at = self.flying.iter().position(|(known, ..)| *known == token);
            let (_, index, block) =
                self.flying.swap_remove(at.expect("a completed operation was in flight"));
            self.tokens.end(token);
            self.files.end(index);
            completions.push(Completion { token, result: result.map_err(Into::into), block });
        }
        self.announce_flights();
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut state = self.shared.state();
        state.check()?;
        let nanos = timeout.and_then(|it| u64::try_from(it.as_nanos()).ok());
        let until = nanos.and_then(|nanos| state.now.checked_add(nanos)).unwrap_or(u64::MAX);
        let mut slept = false;
        while state.rings.get(&self.id).is_some_and(|ring| ring.done.is_empty())
            && let Some(due) = state.next_due_of(self.id)
        {
            slept = true;
            state.advance_to(due.min(until));
            state.check()?;
            if due > until {
                break;
            }
        }
        self.calls += u64::from(slept);
        Ok(())
    }

    fn listen(&mut self, alarm: &Arc<Alarm>) {
        self.alarm = Some(Arc::clone(alarm));
    }

    fn announce(&mut self) -> io::Result<()> {
        assert!(self.alarm.is_some(), "the ring listens to an alarm");
        self.announces = true;
        self.announce_flights();
        self.shared.state().check()
    }

    fn in_flight(&self) -> usize {
        self.tokens.len()
    }

    fn calls(&self) -> u64 {
        self.calls
    }

    fn facts(&self) -> RingFacts {
        RingFacts {
            engine: if self.is_blocking { Engine::Blocking } else { Engine::Uring },
            fallback: None,
            flags: vec!["SIMULATED"],
            refused_flags: Vec::new(),
            registered_files: true,
            registered_blocks: Ok(()),
            calls: self.calls,
        }
    }

    fn drain(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.submit()?;
        while self.tokens.len() > 0 {
            self.wait(None)?;
            self.reap(completions)?;
        }
        if let Some(ring) = self.shared.state().rings.get_mut(&self.id) {
            ring.lock = None;
        }
        self.lock = None;
        Ok(())
    }
}

impl Drop for SimRing {
    /// Waits for what was submitted, as a kernel does for a process that goes on living.
    fn drop(&mut self) {
        self.land_all();
        let mut state = self.shared.state();
        if state.check().is_ok() {
            state.rings.remove(&self.id);
        }
    }
}

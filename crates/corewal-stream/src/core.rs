//! One core: its sources, its part of every operator, its shard of the log, its output file. One thread drives
//! it, by [`poll`](Core::poll); it shares nothing with other cores but queues and the [`Pace`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use corewal::{Epoch, Log, Seat};

use crate::checkpoint::{CheckpointRule, Piece};
use crate::cut::Cut;
use crate::error::JobError;
use crate::exchange::{Arrival, Inbox, Outbox};
use crate::journal::{Cursor, Journal, Position, Wrote};
use crate::pace::Pace;
use crate::sink::Sink;
use crate::snapshot::Image;
use crate::source::Sources;
use crate::throttle::Throttle;
use crate::time::Time;
use crate::workload::{Emit, Operator, Workload};

/// Messages that a stage takes before the other parts of the core have their turn.
const STAGE_BUDGET: usize = 512;
/// Events that the sources give before the other parts of the core have their turn.
const SOURCE_BUDGET: usize = 256;
/// Epochs that a core may have open before it reads on: what is open is held in memory.
const OPEN_CUTS: usize = 4;

/// What a poll has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Something: poll again.
    Busy,
    /// Nothing could be done: sleep for a moment.
    Idle,
    /// The job's last epoch is committed and its output written.
    Finished,
}

/// What others can see of a core.
#[derive(Debug, Default)]
pub struct Gauge {
    /// Events that its sources have read since the core started.
    pub read: AtomicU64,
    /// The last epoch that it has closed.
    pub closed: AtomicU64,
    /// The last epoch whose output it has released.
    pub released: AtomicU64,
    /// Events that came too late and were left out.
    pub late: AtomicU64,
}

/// Everything that a core needs, before its thread runs. Can be sent to that thread.
pub struct CoreSeat<W: Workload> {
    pub(crate) index: u16,
    pub(crate) seat: Option<(Seat, Arc<Log>)>,
    pub(crate) sources: Sources<W>,
    pub(crate) stages: Vec<Stage<W>>,
    pub(crate) sink: Sink,
    pub(crate) pace: Arc<Pace>,
    pub(crate) gauge: Arc<Gauge>,
    pub(crate) throttle: Throttle,
    pub(crate) checkpoints: CheckpointRule,
    pub(crate) early_events: u64,
    pub(crate) pieces: Sender<Piece>,
}

/// One operator with what is before and behind it. The first one has no inbox, the last one no outbox.
pub(crate) struct Stage<W: Workload> {
    pub(crate) operator: Box<dyn Operator<W::Event, W::Change> + Send>,
    pub(crate) inbox: Option<Inbox<W::Event>>,
    pub(crate) outbox: Option<Outbox<W::Event>>,
    /// Output since the last barrier.
    pub(crate) lines: Vec<u8>,
}

/// A core at work, on its own thread.
pub struct Core<W: Workload> {
    index: u16,
    sources: Sources<W>,
    stages: Vec<Stage<W>>,
    /// What the source has told of its watermark.
    watermark: Time,
    /// The first epoch of this run, on every core.
    first: Epoch,
    /// How many barriers the source has sent.
    barriers: u64,
    source: SourceState,
    /// Changes of the open epoch that go into the log before its barrier comes.
    early: Vec<W::Change>,
    /// Events of the stages since changes were last taken from them.
    events: u64,
    /// After so many of them changes are taken early.
    early_events: u64,
    /// Epochs whose barrier is on its way through the stages, or that wait to be written.
    cuts: VecDeque<Cut<W::Change>>,
    cursor: Cursor,
    journal: Journal,
    /// Epochs that are in the log and not committed yet, with their output.
    unreleased: VecDeque<Closed>,
    sink: Sink,
    pace: Arc<Pace>,
    gauge: Arc<Gauge>,
    throttle: Throttle,
    checkpoints: CheckpointRule,
    pieces: Sender<Piece>,
    is_finished: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SourceState {
    Reading,
    /// Every event has been read; barriers may still be asked for.
    Ended,
    /// The last barrier has been sent.
    Done,
}

/// An epoch that is in the log.
struct Closed {
    epoch: Epoch,
    lines: Vec<u8>,
    /// The core's state at the barrier, if the epoch ends with a checkpoint.
    image: Option<(Image, Position)>,
}

impl<W: Workload> CoreSeat<W> {
    /// Which core.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Makes the calling thread the core's.
    ///
    /// # Errors
    /// No ring can be had for its shard of the log.
    pub fn sit(self) -> Result<Core<W>, JobError> {
        let journal = match self.seat {
            Some((seat, log)) => Journal::Shard { writer: seat.sit()?, log },
            None => Journal::Nowhere { open: Epoch(1) },
        };
        let first = journal.epoch();
        Ok(Core {
            index: self.index,
            sources: self.sources,
            stages: self.stages,
            watermark: Time::START,
            first,
            barriers: 0,
            source: SourceState::Reading,
            early: Vec::new(),
            events: 0,
            early_events: self.early_events,
            cuts: VecDeque::new(),
            cursor: Cursor::default(),
            journal,
            unreleased: VecDeque::new(),
            sink: self.sink,
            pace: self.pace,
            gauge: self.gauge,
            throttle: self.throttle,
            checkpoints: self.checkpoints,
            pieces: self.pieces,
            is_finished: false,
        })
    }
}

impl<W: Workload> Core<W> {
    /// Does a bounded amount of whatever can be done; never blocks. From the end to the beginning: what was
    /// finished makes room for what comes.
    ///
    /// # Errors
    /// [`JobError`]; the core is of no use then. [`JobError::Halted`] when another one has failed.
    pub fn poll(&mut self) -> Result<Polled, JobError> {
        if self.pace.is_halted() {
            return Err(JobError::Halted);
        }
        self.journal.turn()?;
        let mut busy = self.release()?;
        busy |= self.write()?;
        self.write_early()?;
        for index in (1..self.stages.len()).rev() {
            busy |= self.run_stage(index);
        }
        busy |= self.read();
        Ok(match (self.is_finished, busy) {
            (true, _) => Polled::Finished,
            (false, true) => Polled::Busy,
            (false, false) => Polled::Idle,
        })
    }

    /// Sleeps for a moment: until a write has completed, or messages may have come.
    ///
    /// # Errors
    /// The shard has failed.
    pub fn sleep(&mut self, limit: Duration) -> Result<(), JobError> {
        Ok(self.journal.sleep(limit)?)
    }

    /// Ends the core in good order, once it has [`Finished`](Polled::Finished): its output is durable then.
    ///
    /// # Errors
    /// The shard has failed, or the output file.
    pub fn close(self) -> Result<(), JobError> {
        self.sink.end().sync(self.index)?;
        Ok(self.journal.close()?)
    }

    /// Writes the output of committed epochs; not before: a file cannot take anything back.
    fn release(&mut self) -> Result<bool, JobError> {
        let committed = self.journal.committed();
        let mut busy = false;
        while self.unreleased.front().is_some_and(|closed| closed.epoch <= committed) {
            let Some(closed) = self.unreleased.pop_front() else { break };
            busy = true;
            self.sink.release(closed.epoch, &closed.lines)?;
            self.gauge.released.store(closed.epoch.0, Ordering::Relaxed);
            if let Some((image, position)) = closed.image {
                let (core, epoch, written) = (self.index, closed.epoch, self.sink.end());
                // Without a keeper the job is ending with an error of its own.
                let _ = self.pieces.send(Piece { core, epoch, image, position, written });
            }
            self.is_finished = self.pace.is_last(closed.epoch.0 - self.first.before().0);
        }
        Ok(busy)
    }

    /// Writes cuts that every stage has passed into the log, oldest first.
    fn write(&mut self) -> Result<bool, JobError> {
        let all = self.stages.len();
        let Some(cut) = self.cuts.front().filter(|cut| cut.stages == all) else { return Ok(false) };
        if self.journal.write(cut, &mut self.cursor)? == Wrote::Part {
            return Ok(false);
        }
        self.cursor = Cursor::default();
        let Some(cut) = self.cuts.pop_front() else { return Ok(false) };
        let Cut { epoch, position, lines, state, .. } = cut;
        let image = match state {
            Some(state) => Some((Image::of(&state)?, position)),
            None => None,
        };
        self.gauge.closed.store(epoch.0, Ordering::Relaxed);
        self.unreleased.push_back(Closed { epoch, lines, image });
        Ok(true)
    }

    /// Writes changes of the open epoch, so that not all of them wait for its barrier. Only when no barrier is
    /// on its way: else what the stages hold belongs to different epochs.
    fn write_early(&mut self) -> Result<(), JobError> {
        if !self.cuts.is_empty() {
            return Ok(());
        }
        if self.events >= self.early_events {
            self.events = 0;
            for stage in &mut self.stages {
                stage.operator.changes(&mut self.early);
            }
        }
        self.journal.write_early(&mut self.early)
    }

    /// Lets a stage work on what has arrived, as long as what it emits finds room.
    fn run_stage(&mut self, index: usize) -> bool {
        for count in 0..STAGE_BUDGET {
            let stage = &mut self.stages[index];
            if !stage.has_room() {
                return count > 0;
            }
            let Some(arrival) = stage.inbox.as_mut().and_then(Inbox::next) else {
                return count > 0;
            };
            match arrival {
                Arrival::Event(event) => {
                    self.events += 1;
                    stage.event(event);
                }
                Arrival::Watermark(time) => stage.watermark(time),
                Arrival::Aligned(epoch) => self.pass(index, epoch),
            }
        }
        true
    }

    /// Reads events, and sends a barrier when one is asked for.
    fn read(&mut self) -> bool {
        if self.source == SourceState::Done || !self.stages[0].has_room() {
            return false;
        }
        if self.barriers < self.pace.asked() {
            self.send_barrier();
            return true;
        }
        if self.source == SourceState::Ended || self.cuts.len() >= OPEN_CUTS {
            return false;
        }
        let budget = self.throttle.allowed(SOURCE_BUDGET);
        let stage = &mut self.stages[0];
        let count = self.sources.read(budget, |event| stage.event(event));
        self.tell_watermark();
        self.throttle.spend(count);
        self.gauge.read.fetch_add(count as u64, Ordering::Relaxed);
        self.pace.record(count as u64);
        if self.sources.has_ended() {
            self.source = SourceState::Ended;
            self.pace.end();
            return true;
        }
        count > 0
    }

    fn tell_watermark(&mut self) {
        let watermark = self.sources.watermark();
        if watermark > self.watermark {
            self.watermark = watermark;
            self.stages[0].watermark(watermark);
        }
    }

    fn send_barrier(&mut self) {
        let epoch = Epoch(self.first.0 + self.barriers);
        self.barriers += 1;
        self.cuts.push_back(Cut {
            epoch,
            position: Position::new(self.sources.offsets(), self.sources.watermark()),
            changes: std::mem::take(&mut self.early),
            lines: Vec::new(),
            state: self.checkpoints.is_due(epoch).then(Vec::new),
            stages: 0,
        });
        self.pass(0, epoch);
        if self.pace.is_last(self.barriers) {
            self.source = SourceState::Done;
        }
    }

    /// The barrier of `epoch` passes a stage: its share goes into the cut, and the barrier goes on.
    fn pass(&mut self, index: usize, epoch: Epoch) {
        let mut cuts = self.cuts.iter_mut();
        let cut = cuts.find(|cut| cut.epoch == epoch).expect("the core's source sent the barrier");
        assert_eq!(cut.stages, index, "a barrier passes one stage after the other");
        cut.stages += 1;
        let stage = &mut self.stages[index];
        stage.operator.changes(&mut cut.changes);
        cut.lines.append(&mut stage.lines);
        if let Some(state) = &mut cut.state {
            stage.operator.state(state);
        }
        self.gauge.late.fetch_max(stage.operator.late(), Ordering::Relaxed);
        if let Some(outbox) = &mut stage.outbox {
            outbox.barrier(epoch);
        }
    }
}

impl<W: Workload> Stage<W> {
    /// Whether everything that was emitted has left.
    fn has_room(&mut self) -> bool {
        self.outbox.as_mut().is_none_or(Outbox::flush)
    }

    pub(crate) fn event(&mut self, event: W::Event) {
        self.operator.event(event, &mut Emit::new(&mut self.lines, self.outbox.as_mut()));
    }

    /// The operator first: what it emits is before the watermark.
    pub(crate) fn watermark(&mut self, time: Time) {
        self.operator.watermark(time, &mut Emit::new(&mut self.lines, self.outbox.as_mut()));
        if let Some(outbox) = &mut self.outbox {
            outbox.watermark(time);
        }
    }
}

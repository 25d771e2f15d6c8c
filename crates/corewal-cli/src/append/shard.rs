//! One shard's writer on its thread: append, take a turn, acknowledge, sleep.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::Duration;

use corewal::{AppendError, Epoch, Kind, Seat, Seq, ShardId, ShardWriter, Stamp, Turn};

use crate::append::input::Stop;
use crate::append::queue::{Lines, Message, Queue, Taken};
use crate::trouble::{Trouble, remark};

/// How long to sleep when the next segment is not prepared yet.
const UNTIL_SEGMENT: Duration = Duration::from_millis(1);
/// How long to sleep when the disk is full.
const UNTIL_SPACE: Duration = Duration::from_millis(50);

/// What the threads of an append share.
#[derive(Debug)]
pub(crate) struct Board {
    /// The first trouble of any thread.
    trouble: Mutex<Option<Trouble>>,
    /// Somebody has said that the disk is full.
    told_of_space: AtomicBool,
    /// Lines that are durable.
    durable: AtomicU64,
    stop: Stop,
    on_full_disk: OnFullDisk,
    acks: AckWish,
}

/// What to do when the disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnFullDisk {
    Stop,
    Wait,
}

/// Whether acknowledgements are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckWish {
    Print,
    Silent,
}

impl Board {
    pub(crate) fn new(on_full_disk: OnFullDisk, acks: AckWish) -> Self {
        Self {
            trouble: Mutex::new(None),
            told_of_space: AtomicBool::new(false),
            durable: AtomicU64::new(0),
            stop: Stop::default(),
            on_full_disk,
            acks,
        }
    }

    /// Keeps the first trouble, and stops the reading of input.
    pub(crate) fn tell(&self, trouble: Trouble) {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(trouble);
        self.stop.set();
    }

    /// Is set with the first trouble.
    pub(crate) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// The first trouble, and how many lines are durable.
    pub(crate) fn into_result(self) -> (Result<(), Trouble>, u64) {
        let trouble = self.trouble.into_inner().unwrap_or_else(PoisonError::into_inner);
        (trouble.map_or(Ok(()), Err), self.durable.into_inner())
    }
}

/// Appends what comes through `queue` until it ends; everything is durable when this returns without trouble.
///
/// After a trouble that is not the shard's own, what was appended is still made durable and acknowledged.
///
/// Nobody starts before everybody has sat down (or failed to): an epoch cannot be waited for while a seat is
/// not taken.
pub(crate) fn run(seat: Seat, queue: &Queue, board: &Board, seated: &Barrier) {
    let writer = seat.sit();
    seated.wait();
    let done = writer.map_err(Trouble::from).and_then(|writer| {
        queue.sit(writer.waker());
        ShardLoop {
            writer,
            queue,
            board,
            pending: Unacknowledged::default(),
            acks: board.acks,
            lines: None,
            is_closing: false,
            has_closed: false,
        }
        .serve()
    });
    if let Err(trouble) = done {
        board.tell(trouble);
    }
    queue.abandon();
}

struct ShardLoop<'a> {
    writer: ShardWriter,
    queue: &'a Queue,
    board: &'a Board,
    pending: Unacknowledged,
    /// Silent from the first acknowledgement on that nobody takes.
    acks: AckWish,
    /// Lines that were taken, and how many of them were appended.
    lines: Option<(Lines, usize)>,
    /// An end of an epoch was taken, and not written yet.
    is_closing: bool,
    /// An epoch was ended since the last sync that was asked for here.
    has_closed: bool,
}

/// How the feeding of the writer went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fed {
    /// There may be more at once.
    Some,
    /// The queue is empty.
    Nothing,
    /// The writer takes nothing now; if nothing is in flight, try again after this.
    Refused(Duration),
    /// The queue has ended.
    End,
}

impl ShardLoop<'_> {
    fn serve(mut self) -> Result<(), Trouble> {
        let followed = self.follow();
        self.queue.abandon();
        let drained = self.drain();
        let closed = self.writer.close();
        followed.and(drained)?;
        closed?;
        Ok(())
    }

    /// The control flow of the thread.
    fn follow(&mut self) -> Result<(), Trouble> {
        loop {
            let fed = self.feed()?;
            if fed == Fed::End {
                return Ok(());
            }
            let turn = self.writer.turn()?;
            self.acknowledge()?;
            match (turn, fed) {
                (Turn::Again, _) | (_, Fed::Some) => {}
                (Turn::Sleep, _) => self.writer.sleep(None)?,
                // Under another policy than every batch, what was written may go no further by itself; an epoch
                // that was ended is to be committed, and other shards may wait for it.
                (Turn::Idle(_), _) if self.has_closed => self.drain()?,
                (Turn::Idle(limit), _) => {
                    let limit = if let Fed::Refused(until) = fed { Some(until) } else { limit };
                    self.writer.sleep(limit)?;
                }
            }
        }
    }

    /// Makes everything that was appended durable, whatever the policy, and acknowledges what is; all of it, unless
    /// the shard has failed.
    fn drain(&mut self) -> Result<(), Trouble> {
        let synced = self.writer.sync();
        self.has_closed = false;
        self.acknowledge()?;
        Ok(synced?)
    }

    /// Appends at most one message of the queue.
    fn feed(&mut self) -> Result<Fed, Trouble> {
        if self.lines.is_none() && !self.is_closing {
            match self.queue.take() {
                Taken::Message(Message::Lines(lines)) => self.lines = Some((lines, 0)),
                Taken::Message(Message::CloseEpoch) => self.is_closing = true,
                Taken::Nothing => return Ok(Fed::Nothing),
                Taken::End => return Ok(Fed::End),
            }
        }
        if self.is_closing {
            return match self.writer.close_epoch() {
                Ok(_) => {
                    (self.is_closing, self.has_closed) = (false, true);
                    Ok(Fed::Some)
                }
                Err(refusal) => self.refused(refusal),
            };
        }
        while let Some((lines, at)) = &mut self.lines {
            let Some(line) = lines.line(*at) else {
                self.lines = None;
                break;
            };
            match self.writer.append_bytes(Kind::PUT, line) {
                Ok(stamp) => {
                    *at += 1;
                    self.pending.add(stamp);
                }
                Err(refusal) => return self.refused(refusal),
            }
        }
        Ok(Fed::Some)
    }

    fn refused(&mut self, refusal: AppendError) -> Result<Fed, Trouble> {
        match refusal {
            AppendError::Full => Ok(Fed::Refused(UNTIL_SEGMENT)),
            AppendError::NoSpace(_) if self.board.on_full_disk == OnFullDisk::Wait => {
                if !self.board.told_of_space.swap(true, Ordering::Relaxed) {
                    remark(format_args!("waiting: {refusal}"));
                }
                Ok(Fed::Refused(UNTIL_SPACE))
            }
            AppendError::NoSpace(_) => Err(Trouble::world(refusal)
                .with("or give --wait-for-space; what was acknowledged is durable")),
            AppendError::EpochsAhead { open, .. } => {
                self.wait_for_epochs(open)?;
                Ok(Fed::Some)
            }
            other => Err(Trouble::world(format_args!("shard {}: {other}", self.writer.shard()))),
        }
    }

    /// Too many epochs are closed and not committed: waits for the first of them. Its barrier on this shard is
    /// made durable before, so that nobody waits for this shard meanwhile.
    fn wait_for_epochs(&mut self, open: u32) -> Result<(), Trouble> {
        self.drain()?;
        let first = Epoch(self.writer.epoch().0.saturating_sub(u64::from(open)));
        Ok(self.writer.wait_epoch(first)?)
    }

    /// Prints what has become durable, at once.
    fn acknowledge(&mut self) -> Result<(), Trouble> {
        let frontier = self.writer.frontier();
        let shard = self.writer.shard();
        let mut text = Vec::new();
        let count = self.pending.take_to(frontier, |epoch, seq| match self.acks {
            AckWish::Silent => {}
            AckWish::Print => write_ack(&mut text, shard, seq, epoch),
        });
        self.board.durable.fetch_add(count, Ordering::Relaxed);
        if text.is_empty() {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        out.write_all(&text).and_then(|()| out.flush()).map_err(|error| {
            self.acks = AckWish::Silent;
            Trouble::output(&error)
        })
    }
}

fn write_ack(text: &mut Vec<u8>, shard: ShardId, seq: Seq, epoch: Epoch) {
    writeln!(text, "ack\t{shard}\t{seq}\t{epoch}").expect("memory takes it");
}

/// Entries that were appended and are not known to be durable, as ranges of seqs.
#[derive(Debug, Default)]
struct Unacknowledged {
    ranges: VecDeque<Range>,
}

#[derive(Debug)]
struct Range {
    epoch: Epoch,
    first: u64,
    last: u64,
}

impl Unacknowledged {
    fn add(&mut self, stamp: Stamp) {
        let Stamp { epoch, seq: Seq(seq), .. } = stamp;
        match self.ranges.back_mut() {
            Some(range) if (range.epoch, range.last + 1) == (epoch, seq) => range.last = seq,
            _ => self.ranges.push_back(Range { epoch, first: seq, last: seq }),
        }
    }

    /// Hands out every entry up to the frontier, once; returns how many.
    fn take_to(&mut self, frontier: Seq, mut give: impl FnMut(Epoch, Seq)) -> u64 {
        let mut count = 0;
        while let Some(range) = self.ranges.front_mut()
            && range.first <= frontier.0
        {
            let last = range.last.min(frontier.0);
            (range.first..=last).for_each(|seq| give(range.epoch, Seq(seq)));
            count += last - range.first + 1;
            if last < range.last {
                range.first = last + 1;
                break;
            }
            self.ranges.pop_front();
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_acknowledged_once_and_not_before_the_frontier_reaches_it() {
        let mut acks = Unacknowledged::default();
        let stamp = |epoch, seq| Stamp { epoch: Epoch(epoch), seq: Seq(seq), shard: ShardId(0) };
        // Seq 3 is a barrier.
        for (epoch, seq) in [(1, 1), (1, 2), (2, 4), (2, 5)] {
            acks.add(stamp(epoch, seq));
        }
        let mut take = |frontier| {
            let mut given = Vec::new();
            let count = acks.take_to(Seq(frontier), |epoch, seq| given.push((epoch.0, seq.0)));
            assert_eq!(count, given.len() as u64);
            given
        };
        assert_eq!(take(0), []);
        assert_eq!(take(1), [(1, 1)]);
        assert_eq!(take(3), [(1, 2)]);
        assert_eq!(take(4), [(2, 4)]);
        assert_eq!(take(4), []);
        assert_eq!(take(9), [(2, 5)]);
        assert_eq!(take(9), []);
    }
}

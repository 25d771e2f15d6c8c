//! The way from the reader of the input to the writer of a shard: bounded by bytes, in order.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use corewal::ShardWaker;

/// Bytes that may wait in one queue; one message more may be on top.
const LIMIT: usize = 1 << 20;
/// What a message counts for besides its lines.
const MESSAGE_COST: usize = 64;

/// Consecutive lines of one shard, without their line ends.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    /// Where each line ends in `bytes`.
    ends: Vec<usize>,
}

impl Lines {
    pub(crate) fn push(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The line with this index.
    pub(crate) fn line(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.bytes[start..end])
    }

    fn cost(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<usize>()
    }
}

/// What a writer is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Append these.
    Lines(Lines),
    /// The epoch ends here.
    CloseEpoch,
}

impl Message {
    fn cost(&self) -> usize {
        MESSAGE_COST
            + match self {
                Self::Lines(lines) => lines.cost(),
                Self::CloseEpoch => 0,
            }
    }
}

/// What a writer finds in its queue.
#[derive(Debug)]
pub(crate) enum Taken {
    Message(Message),
    /// Nothing yet. The writer is woken when there is more.
    Nothing,
    /// Nothing, and nothing will come.
    End,
}

/// The writer takes no more: it has failed, or found no space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abandoned;

/// Messages for one shard.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// There is room, or the queue was abandoned.
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Message>,
    cost: usize,
    /// Wakes the writer that takes, when there is something.
    taker: Option<ShardWaker>,
    is_ended: bool,
    is_abandoned: bool,
}

impl Queue {
    /// Puts a message in, as soon as there is room.
    pub(crate) fn push(&self, message: Message) -> Result<(), Abandoned> {
        let mut state = self.lock();
        while state.cost > LIMIT && !state.is_abandoned {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_abandoned {
            return Err(Abandoned);
        }
        state.cost += message.cost();
        state.messages.push_back(message);
        wake(&state);
        Ok(())
    }

    /// Nothing more will be put in.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.is_ended = true;
        wake(&state);
    }

    /// Makes this writer the one that takes.
    pub(crate) fn sit(&self, taker: ShardWaker) {
        self.lock().taker = Some(taker);
    }

    /// The next message. Never waits.
    pub(crate) fn take(&self) -> Taken {
        let mut state = self.lock();
        match state.messages.pop_front() {
            Some(message) => {
                state.cost -= message.cost();
                self.room.notify_one();
                Taken::Message(message)
            }
            None if state.is_ended => Taken::End,
            None => Taken::Nothing,
        }
    }

    /// Nothing more will be taken: whoever puts in is told.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.is_abandoned = true;
        state.messages.clear();
        self.room.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Under the lock, after the change: a taker that saw the queue before it is woken, one that comes later sees it.
fn wake(state: &State) {
    if let Some(taker) = &state.taker {
        taker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_as_they_went_in() {
        let mut lines = Lines::default();
        let put: [&[u8]; 4] = [b"a", b"", b"\r", b"long"];
        put.iter().for_each(|line| lines.push(line));
        let back: Vec<&[u8]> = (0..).map_while(|index| lines.line(index)).collect();
        assert_eq!(back, put);
    }

    #[test]
    fn a_writer_that_is_gone_does_not_block_the_reader() {
        let queue = Queue::default();
        let mut large = Lines::default();
        large.push(&vec![0; LIMIT + 1]);
        assert_eq!(queue.push(Message::Lines(large)), Ok(()));
        std::thread::scope(|scope| {
            let blocked = scope.spawn(|| queue.push(Message::CloseEpoch));
            queue.abandon();
            assert_eq!(blocked.join().expect("no panic"), Err(Abandoned));
        });
    }
}

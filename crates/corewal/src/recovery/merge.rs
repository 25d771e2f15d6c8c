//! The merge of the shards' streams by stamp, one entry in memory for each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use corewal_format::{Seq, ShardId, Stamp};

use crate::error::RecoverError;
use crate::keep::Piece;
use crate::recovery::stream::ShardStream;

/// A k-way merge: the next entry is the one with the least stamp.
#[derive(Debug)]
pub(crate) struct Merge {
    streams: Vec<ShardStream>,
    heads: BinaryHeap<Reverse<(Stamp, usize)>>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// No stream stands on its first entry yet.
    New,
    /// The stream whose entry was returned last must move before the next one.
    Behind(usize),
    /// Every stream is at its end.
    Done,
    /// The merge ends here: whoever goes on gets the same error again, and never takes it for the end.
    Broken(RecoverError),
}

impl Merge {
    pub(crate) fn new(streams: Vec<ShardStream>) -> Self {
        Self { streams, heads: BinaryHeap::new(), state: State::New }
    }

    /// Moves to the next entry; returns the stream that stands on it.
    pub(crate) fn advance(&mut self) -> Result<Option<&ShardStream>, RecoverError> {
        let moving = match &self.state {
            State::New => 0..self.streams.len(),
            State::Behind(index) => *index..*index + 1,
            State::Done => 0..0,
            State::Broken(error) => return Err(error.clone()),
        };
        for index in moving {
            match self.streams[index].advance() {
                Ok(Some(stamp)) => self.heads.push(Reverse((stamp, index))),
                Ok(None) => {}
                Err(error) => {
                    self.heads.clear();
                    self.state = State::Broken(error.clone());
                    return Err(error);
                }
            }
        }
        match self.heads.pop() {
            None => {
                self.state = State::Done;
                Ok(None)
            }
            Some(Reverse((_, index))) => {
                self.state = State::Behind(index);
                Ok(Some(&self.streams[index]))
            }
        }
    }

    /// The streams, to be read one by one. What was not delivered of them comes then, or when the merge goes on.
    pub(crate) fn part(&mut self) -> &mut [ShardStream] {
        for Reverse((_, index)) in self.heads.drain() {
            self.streams[index].hold();
        }
        if !matches!(self.state, State::Broken(_)) {
            self.state = State::New;
        }
        &mut self.streams
    }

    pub(crate) fn streams(&self) -> &[ShardStream] {
        &self.streams
    }

    /// The stream that stands on the entry that [`advance`](Self::advance) has moved to.
    pub(crate) fn current(&self) -> Option<&ShardStream> {
        match self.state {
            State::Behind(index) => Some(&self.streams[index]),
            State::New | State::Done | State::Broken(_) => None,
        }
    }

    /// What stands in which segment, of every shard, as far as it was read.
    pub(crate) fn take_pieces(&mut self) -> Vec<(ShardId, Vec<Piece>)> {
        self.streams.iter_mut().map(|it| (it.shard(), it.take_pieces())).collect()
    }

    /// The lowest seq that the next batch of a shard may start with; none at its end.
    pub(crate) fn next_seq(&self, shard: ShardId) -> Option<Seq> {
        self.streams.iter().find(|it| it.shard() == shard)?.next_seq()
    }

    pub(crate) fn read_len(&self) -> u64 {
        self.streams.iter().map(ShardStream::read_len).sum()
    }
}

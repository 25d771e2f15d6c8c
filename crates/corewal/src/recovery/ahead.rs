//! Reading ahead: the next pieces of a file come from the device while the one before is verified.
//!
//! Knows offsets and bytes, not what they mean. What went wrong ahead of its use is not told: whoever needs the
//! place reads it again, and gets the error for it.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use corewal_disk::{Block, File};

/// How many pieces are asked for at once.
const PIECES: usize = 2;
/// How many files a process reads ahead at once; it bounds the threads, and their memory.
const MAX_THREADS: usize = 16;

/// Pieces of one file, in order, read by a thread of their own.
///
/// Its memory is `PIECES + 1` blocks, with the one that is in use; they go round.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    requests: Sender<Request>,
    replies: Receiver<Piece>,
    /// Offsets of the pieces that were asked for and not taken yet, in order.
    asked: VecDeque<u64>,
    spare: Vec<Block>,
    piece_len: usize,
    room: usize,
}

/// A piece that was read.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Its bytes begin behind the room that was asked for.
    pub(crate) block: Block,
    /// How many bytes there are; fewer than a whole piece at the end of the file.
    pub(crate) len: usize,
    read: io::Result<()>,
}

#[derive(Debug)]
struct Request {
    file: File,
    at: u64,
    block: Block,
}

/// One of the threads that there may be; given back when it ends.
#[derive(Debug)]
struct Permit;

static PERMITS: AtomicUsize = AtomicUsize::new(MAX_THREADS);

impl Permit {
    fn take() -> Option<Self> {
        let less = |left: usize| left.checked_sub(1);
        PERMITS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok().map(|_| Self)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        PERMITS.fetch_add(1, Ordering::Relaxed);
    }
}

impl ReadAhead {
    /// Starts the thread; none if there can be none. Pieces have `piece_len` bytes, behind `room` free ones.
    pub(crate) fn start(piece_len: usize, room: usize) -> Option<Self> {
        let permit = Permit::take()?;
        let (requests, to_read) = channel::<Request>();
        let (done, replies) = channel();
        let thread = thread::Builder::new().name("corewal-ahead".to_owned());
        let started = thread.spawn(move || {
            let _permit = permit;
            // Until either end is dropped.
            for Request { file, at, mut block } in to_read {
                let end = room + piece_len;
                let (len, read) = match file.read_at(&mut block[room..end], at) {
                    Ok(len) => (len, Ok(())),
                    Err(error) => (0, Err(error)),
                };
                if done.send(Piece { block, len, read }).is_err() {
                    return;
                }
            }
        });
        started.ok()?;
        let (asked, spare) = (VecDeque::new(), Vec::new());
        Some(Self { requests, replies, asked, spare, piece_len, room })
    }

    /// Asks for what follows `at`, up to the end of the file, as far as nothing was asked for yet.
    pub(crate) fn ask(&mut self, file: &File, at: u64, file_len: u64) {
        if self.asked.front().is_some_and(|&first| first != at) {
            self.forget();
        }
        let piece_len = self.piece_len as u64;
        let mut next = self.asked.back().map_or(at, |last| last + piece_len);
        while self.asked.len() < PIECES && next < file_len {
            let len = self.room + self.piece_len;
            let block = self.spare.pop().unwrap_or_else(|| Block::zeroed(len));
            if self.requests.send(Request { file: file.clone(), at: next, block }).is_err() {
                return;
            }
            self.asked.push_back(next);
            next += piece_len;
        }
    }

    /// The piece at `at`, if it was asked for and could be read. Anything else that was asked for is dropped.
    pub(crate) fn take(&mut self, at: u64) -> Option<Piece> {
        if self.asked.front() != Some(&at) {
            self.forget();
            return None;
        }
        self.asked.pop_front();
        let piece = self.replies.recv().ok()?;
        if piece.read.is_err() {
            self.give_back(piece.block);
            self.forget();
            return None;
        }
        Some(piece)
    }

    /// Drops what was asked for: the file is another one, or must be read again.
    pub(crate) fn forget(&mut self) {
        while self.asked.pop_front().is_some() {
            let Ok(piece) = self.replies.recv() else { return };
            self.give_back(piece.block);
        }
    }

    /// Takes a block back, to read into it again.
    pub(crate) fn give_back(&mut self, block: Block) {
        if block.len() == self.room + self.piece_len && self.spare.len() < PIECES {
            self.spare.push(block);
        }
    }
}

impl Drop for ReadAhead {
    /// No read is under way when the files may be removed. The thread ends by itself.
    fn drop(&mut self) {
        self.forget();
    }
}

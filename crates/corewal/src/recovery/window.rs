//! A sliding view of a segment file, read from the device.

use std::io;
use std::ops::Range;

use corewal_disk::{Access, BLOCK_ALIGN, Block, File};

use crate::recovery::ahead::ReadAhead;

/// How much is read at once, in bytes, unless one batch needs more.
pub(crate) const WINDOW_LEN: usize = 1 << 20;
/// What of a window may lie before a piece that was read ahead, in bytes: the beginning of a batch.
const ROOM: usize = 1 << 20;

const _: () = assert!(WINDOW_LEN.is_multiple_of(BLOCK_ALIGN) && ROOM.is_multiple_of(BLOCK_ALIGN));

/// When the device is asked for what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// When it is needed, on the calling thread.
    Inline,
    /// Before, by a thread that starts as soon as a file is read from one window to the next, unless there are too
    /// many already.
    Ahead,
}

/// The bytes of a file from `start` on, as far as they have been read.
///
/// Its memory is one block of [`WINDOW_LEN`], or of the largest batch at hand. A window that reads ahead has three
/// blocks, each with room for the part of a batch that was in the block before.
#[derive(Debug)]
pub(crate) struct Window {
    block: Block,
    /// Where in the file the bytes begin, and where in the block.
    start: u64,
    begin: usize,
    /// Where in the block they end.
    end: usize,
    /// How much is read at once, in bytes.
    ahead: usize,
    reading: Reading,
    helper: Option<ReadAhead>,
    /// A batch was seen that has no room before a piece: such are read by themselves.
    is_large: bool,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self {
            block: Block::zeroed(BLOCK_ALIGN),
            start: 0,
            begin: 0,
            end: 0,
            ahead: WINDOW_LEN,
            reading: Reading::Inline,
            helper: None,
            is_large: false,
        }
    }

    /// Reads so many bytes at once, unless one batch needs more.
    pub(crate) fn read_ahead(&mut self, len: usize) {
        self.ahead = len;
    }

    /// Says when the device is asked.
    pub(crate) fn reading(mut self, reading: Reading) -> Self {
        self.reading = reading;
        self
    }

    /// Forgets what was read: the file is another one, or must be read again.
    pub(crate) fn forget(&mut self) {
        (self.begin, self.end) = (0, 0);
        self.is_large = false;
        if let Some(helper) = &mut self.helper {
            helper.forget();
        }
    }

    /// Up to `len` bytes at `at`; fewer only where the file ends.
    ///
    /// The caller has checked `len` against the size of the file: it bounds the memory.
    pub(crate) fn bytes(&mut self, file: &File, at: u64, len: usize) -> io::Result<&[u8]> {
        if self.offset_of(at).is_none_or(|offset| self.end - offset < len) {
            self.refill(file, at, len)?;
        }
        let offset = self.offset_of(at).unwrap_or(self.end);
        let end = self.end.min(offset + len);
        Ok(&self.block[offset..end])
    }

    /// What [`bytes`](Self::bytes) returned last for this place, without reading.
    pub(crate) fn held(&self, at: u64, len: usize) -> &[u8] {
        let offset = self.offset_of(at).expect("the window still holds what it was asked for");
        &self.block[offset..offset + len]
    }

    fn offset_of(&self, at: u64) -> Option<usize> {
        let offset = self.begin + usize::try_from(at.checked_sub(self.start)?).ok()?;
        (offset <= self.end).then_some(offset)
    }

    /// Reads from `at` on, at least `len` bytes if the file has them; keeps what is already there.
    fn refill(&mut self, file: &File, at: u64, len: usize) -> io::Result<()> {
        let align = match file.access() {
            Access::Direct { align } => align as u64,
            Access::Buffered => 1,
        };
        let start = at - at % align;
        let lead = usize::try_from(at - start).map_err(io::Error::other)?;
        let kept = match self.offset_of(start) {
            Some(offset) if ((self.end - offset) as u64).is_multiple_of(align) => offset..self.end,
            _ => 0..0,
        };
        let file_len = file.len()?;
        let is_next = self.end > 0 && self.offset_of(start).is_some();
        self.is_large |= lead + len > ROOM;
        if is_next && self.take_piece(start, kept.clone()) {
            self.ask(file, file_len);
            return Ok(());
        }
        self.read_inline(file, start, lead + len, kept, file_len)?;
        if is_next {
            self.ask(file, file_len);
        }
        Ok(())
    }

    /// Reads what follows `kept`, which stands at `start`, on this thread.
    fn read_inline(
        &mut self,
        file: &File,
        start: u64,
        needed: usize,
        kept: Range<usize>,
        file_len: u64,
    ) -> io::Result<()> {
        // A small file needs no large window: zeroing its memory would take longer than reading it.
        let left = file_len.saturating_sub(start).min(self.ahead as u64);
        let left = usize::try_from(left).map_err(io::Error::other)?;
        let wanted = needed.max(left).next_multiple_of(BLOCK_ALIGN);
        let kept_len = kept.len();
        // A block that has more than is wanted held a large batch, which is behind: its memory is given back.
        let usual = if self.helper.is_some() { ROOM + WINDOW_LEN } else { WINDOW_LEN };
        let is_too_large = self.block.len() > usual && wanted <= WINDOW_LEN;
        if self.block.len() < wanted || (is_too_large && kept_len <= WINDOW_LEN) {
            let mut other = Block::zeroed(if is_too_large { WINDOW_LEN } else { wanted });
            other[..kept_len].copy_from_slice(&self.block[kept]);
            self.block = other;
        } else {
            self.block.copy_within(kept, 0);
        }
        (self.start, self.begin, self.end) = (start, 0, kept_len);
        let end = self.block.len();
        self.end += file.read_at(&mut self.block[kept_len..end], start + kept_len as u64)?;
        Ok(())
    }

    /// Puts the piece that was read ahead behind `kept`, which stands at `start`, if there is one.
    fn take_piece(&mut self, start: u64, kept: Range<usize>) -> bool {
        let Some(helper) = &mut self.helper else { return false };
        if self.is_large || kept.len() > ROOM {
            helper.forget();
            return false;
        }
        let Some(mut piece) = helper.take(start + kept.len() as u64) else { return false };
        let begin = ROOM - kept.len();
        piece.block[begin..ROOM].copy_from_slice(&self.block[kept]);
        (self.start, self.begin, self.end) = (start, begin, ROOM + piece.len);
        helper.give_back(std::mem::replace(&mut self.block, piece.block));
        true
    }

    /// Asks for what follows the window.
    fn ask(&mut self, file: &File, file_len: u64) {
        if self.reading == Reading::Inline || self.is_large {
            return;
        }
        let next = self.start + (self.end - self.begin) as u64;
        if self.helper.is_none() && next < file_len {
            // Without a thread it goes on as before.
            self.helper = ReadAhead::start(WINDOW_LEN, ROOM);
        }
        if let Some(helper) = &mut self.helper {
            helper.ask(file, next, file_len);
        }
    }
}

#[cfg(test)]
mod tests {
    use corewal_disk::{Disk, Open, RealDisk};

    use super::*;

    const FILE_LEN: usize = 9 * WINDOW_LEN + 5 * 4096;

    fn noise(len: usize, salt: usize) -> Vec<u8> {
        let word = |n: usize| (n.wrapping_add(salt) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (0..len / 8).flat_map(|n| word(n).to_le_bytes()).collect()
    }

    /// A file, opened past the cache where that can be, and what is in it.
    fn file(dir: &tempfile::TempDir, salt: usize) -> (File, Vec<u8>) {
        let (disk, path) = (RealDisk::new(), dir.path().join("a"));
        let bytes = noise(FILE_LEN, salt);
        std::fs::write(&path, &bytes).unwrap();
        disk.open(&path, Open::WRITE).unwrap().sync_all().unwrap();
        (disk.open(&path, Open::READ.direct()).unwrap(), bytes)
    }

    /// Asks as a walk does: a header, then the batch that it tells of.
    fn walk(window: &mut Window, file: &File, bytes: &[u8], len_of: impl Fn(usize) -> usize) {
        let (mut at, mut index) = (0, 0);
        while at < bytes.len() {
            let len = len_of(index).min(bytes.len() - at);
            let header = window.bytes(file, at as u64, 4096).unwrap();
            assert_eq!(header, &bytes[at..at + 4096], "header {index}");
            let batch = window.bytes(file, at as u64, len).unwrap();
            assert!(batch == &bytes[at..at + len], "batch {index} at {at}");
            assert!(window.held(at as u64, len) == &bytes[at..at + len], "batch {index} held");
            (at, index) = (at + len, index + 1);
        }
        assert!(window.bytes(file, bytes.len() as u64, 4096).unwrap().is_empty());
    }

    #[test]
    fn what_is_read_ahead_is_what_stands_there() {
        let dir = tempfile::tempdir().unwrap();
        let (file, bytes) = file(&dir, 1);
        let lens: [fn(usize) -> usize; 5] = [
            |_| 4096,
            |index| 4096 * (index % 64 + 1),
            |_| ROOM,
            // Larger than there is room for, among small ones.
            |index| if index == 200 { 2 * WINDOW_LEN + 4096 } else { 4096 * 3 },
            |_| 3 * WINDOW_LEN,
        ];
        for (index, len_of) in lens.into_iter().enumerate() {
            let mut window = Window::new().reading(Reading::Ahead);
            walk(&mut window, &file, &bytes, len_of);
            let is_large = index >= 3;
            assert_eq!(window.is_large, is_large);
            assert!(window.helper.is_some() || index == 4, "nothing was read ahead, {index}");
            if !is_large {
                assert_eq!(window.block.len(), ROOM + WINDOW_LEN, "the memory goes round");
            }
            walk(&mut Window::new(), &file, &bytes, len_of);
        }
    }

    #[test]
    fn what_was_read_ahead_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (before, old) = file(&dir, 1);
        let mut window = Window::new().reading(Reading::Ahead);
        // Pieces are on their way when the file becomes another one.
        for at in [0, WINDOW_LEN] {
            let found = window.bytes(&before, at as u64, 4096).unwrap();
            assert_eq!(found, &old[at..at + 4096]);
        }
        assert!(window.helper.is_some(), "nothing was read ahead");
        std::fs::remove_file(dir.path().join("a")).unwrap();
        let (after, new) = file(&dir, 2);
        window.forget();
        // In order, so that the second place is the one that was on its way.
        for at in [WINDOW_LEN, 2 * WINDOW_LEN] {
            assert_eq!(window.bytes(&after, at as u64, 4096).unwrap(), &new[at..at + 4096]);
        }
        window.forget();
        walk(&mut window, &after, &new, |_| 8192);
    }

    #[test]
    fn a_window_goes_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        let (file, bytes) = file(&dir, 3);
        let mut window = Window::new().reading(Reading::Ahead);
        for step in 0..200_usize {
            let at = if step % 5 == 4 { step * 7919 % (FILE_LEN / 4096 - 64) } else { step * 40 };
            let (at, len) = (at * 4096, 4096 * (step % 64 + 1));
            let end = bytes.len().min(at + len);
            let found = window.bytes(&file, at as u64, len).unwrap();
            assert!(found == &bytes[at.min(end)..end], "{len} bytes at {at}");
        }
    }
}

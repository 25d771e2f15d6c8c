//! A sliding view of a segment file, read from the device.

use std::io;

use corewal_disk::{Access, BLOCK_ALIGN, Block, File};

/// How much is read at once, in bytes, unless one batch needs more.
pub(crate) const WINDOW_LEN: usize = 1 << 20;

/// The bytes of a file from `start` on, as far as they have been read.
#[derive(Debug)]
pub(crate) struct Window {
    block: Block,
    start: u64,
    filled: usize,
    /// How much is read at once, in bytes.
    ahead: usize,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self { block: Block::zeroed(BLOCK_ALIGN), start: 0, filled: 0, ahead: WINDOW_LEN }
    }

    /// Reads so many bytes at once, unless one batch needs more.
    pub(crate) fn read_ahead(&mut self, len: usize) {
        self.ahead = len;
    }

    /// Forgets what was read: the file is another one, or must be read again.
    pub(crate) fn forget(&mut self) {
        self.filled = 0;
    }

    /// Up to `len` bytes at `at`; fewer only where the file ends.
    ///
    /// The caller has checked `len` against the size of the file: it bounds the memory.
    pub(crate) fn bytes(&mut self, file: &File, at: u64, len: usize) -> io::Result<&[u8]> {
        if self.offset_of(at).is_none_or(|offset| self.filled - offset < len) {
            self.refill(file, at, len)?;
        }
        let offset = self.offset_of(at).unwrap_or(self.filled);
        let end = self.filled.min(offset + len);
        Ok(&self.block[offset..end])
    }

    /// What [`bytes`](Self::bytes) returned last for this place, without reading.
    pub(crate) fn held(&self, at: u64, len: usize) -> &[u8] {
        let offset = self.offset_of(at).expect("the window still holds what it was asked for");
        &self.block[offset..offset + len]
    }

    fn offset_of(&self, at: u64) -> Option<usize> {
        let offset = usize::try_from(at.checked_sub(self.start)?).ok()?;
        (offset <= self.filled).then_some(offset)
    }

    /// Reads from `at` on, at least `len` bytes if the file has them; keeps what is already there.
    fn refill(&mut self, file: &File, at: u64, len: usize) -> io::Result<()> {
        let align = match file.access() {
            Access::Direct { align } => align as u64,
            Access::Buffered => 1,
        };
        let start = at - at % align;
        let lead = usize::try_from(at - start).map_err(io::Error::other)?;
        // A small file needs no large window: zeroing its memory would take longer than reading it.
        let left = file.len()?.saturating_sub(start).min(self.ahead as u64);
        let left = usize::try_from(left).map_err(io::Error::other)?;
        let wanted = (lead + len).max(left).next_multiple_of(BLOCK_ALIGN);
        let kept = match self.offset_of(start) {
            Some(offset) if ((self.filled - offset) as u64).is_multiple_of(align) => {
                offset..self.filled
            }
            _ => 0..0,
        };
        let kept_len = kept.len();
        if self.block.len() < wanted {
            let mut larger = Block::zeroed(wanted);
            larger[..kept_len].copy_from_slice(&self.block[kept]);
            self.block = larger;
        } else {
            self.block.copy_within(kept, 0);
            if self.block.len() > WINDOW_LEN && wanted <= WINDOW_LEN && kept_len <= WINDOW_LEN {
                // A large batch is behind us: give its memory back.
                let mut smaller = Block::zeroed(WINDOW_LEN);
                smaller[..kept_len].copy_from_slice(&self.block[..kept_len]);
                self.block = smaller;
            }
        }
        self.start = start;
        self.filled = kept_len;
        let end = self.block.len();
        self.filled += file.read_at(&mut self.block[kept_len..end], start + kept_len as u64)?;
        Ok(())
    }
}

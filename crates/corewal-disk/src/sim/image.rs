//! Bytes in sectors: what a file has on the medium, and what is on its way there.

use std::sync::Arc;

use super::cut::UnitId;
use super::{SECTOR, SECTOR_LEN};

/// Pages are shared between copies of a disk until one of them writes.
const PAGE_LEN: usize = 8 * SECTOR_LEN;

static ZEROS: [u8; SECTOR_LEN] = [0; SECTOR_LEN];

/// Part of a length or of an offset that is known to be inside of memory.
pub(super) fn index(value: u64) -> usize {
    usize::try_from(value).expect("a place in memory")
}

/// The content of a file. Zeros take no memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    pages: Vec<Option<Arc<[u8; PAGE_LEN]>>>,
}

impl Image {
    /// Fills `buf` from `at` on; zeros where nothing was ever written.
    pub(super) fn read(&self, at: u64, buf: &mut [u8]) {
        let mut done = 0;
        while done < buf.len() {
            let at = index(at) + done;
            let (page, from) = (at / PAGE_LEN, at % PAGE_LEN);
            let len = (PAGE_LEN - from).min(buf.len() - done);
            let part = &mut buf[done..done + len];
            match self.pages.get(page) {
                Some(Some(bytes)) => part.copy_from_slice(&bytes[from..from + len]),
                _ => part.fill(0),
            }
            done += len;
        }
    }

    /// Writes `payload` at `sector`.
    pub(super) fn write(&mut self, sector: u64, payload: &Payload) {
        let start = index(sector * SECTOR);
        let (data, len) = (payload.data(), payload.len());
        let mut done = 0;
        while done < len {
            let (page, from) = ((start + done) / PAGE_LEN, (start + done) % PAGE_LEN);
            let part_len = (PAGE_LEN - from).min(len - done);
            let part = &data[done.min(data.len())..(done + part_len).min(data.len())];
            self.write_page(page, from, part, part_len);
            done += part_len;
        }
    }

    /// `data`, then zeros up to `len`.
    fn write_page(&mut self, page: usize, from: usize, data: &[u8], len: usize) {
        if data.is_empty() {
            match self.pages.get_mut(page) {
                None | Some(None) => return,
                Some(slot) if len == PAGE_LEN => {
                    *slot = None;
                    return;
                }
                Some(_) => {}
            }
        }
        if self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        let page = self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE_LEN]));
        let bytes = &mut Arc::make_mut(page)[from..from + len];
        bytes[..data.len()].copy_from_slice(data);
        bytes[data.len()..].fill(0);
    }

    /// Makes everything from `size` on zero.
    pub(super) fn cut(&mut self, size: u64) {
        let size = index(size);
        self.pages.truncate(size.div_ceil(PAGE_LEN));
        let tail = size % PAGE_LEN;
        if tail > 0
            && let Some(Some(page)) = self.pages.get_mut(size / PAGE_LEN)
            && page[tail..].iter().any(|&byte| byte != 0)
        {
            Arc::make_mut(page)[tail..].fill(0);
        }
    }

    /// Flips bits of the byte at `at`.
    pub(super) fn xor(&mut self, at: u64, bits: u8) {
        let sector = at / SECTOR;
        let mut bytes = [0; SECTOR_LEN];
        self.read(sector * SECTOR, &mut bytes);
        bytes[index(at % SECTOR)] ^= bits;
        self.write(sector, &Payload::new(&bytes));
    }

    /// Whether writing `payload` at `sector` would change nothing.
    pub(super) fn holds(&self, sector: u64, payload: &Payload) -> bool {
        let mut bytes = [0; SECTOR_LEN];
        (0..payload.sectors).all(|offset| {
            self.read((sector + offset) * SECTOR, &mut bytes);
            bytes[..] == *payload.sector(offset)
        })
    }
}

/// Whole sectors to be written. Zeros at the end take no memory.
#[derive(Clone, Debug)]
pub(super) struct Payload {
    bytes: Arc<[u8]>,
    from: usize,
    pub(super) sectors: u64,
}

impl Payload {
    /// A copy of `bytes`, padded to whole sectors.
    pub(super) fn new(bytes: &[u8]) -> Self {
        let sectors = bytes.len().div_ceil(SECTOR_LEN) as u64;
        let used = bytes
            .chunks(SECTOR_LEN)
            .rposition(|sector| *sector != ZEROS[..sector.len()])
            .map_or(0, |last| (last + 1) * SECTOR_LEN);
        let bytes = if used <= bytes.len() {
            Arc::from(&bytes[..used])
        } else {
            let mut padded = bytes.to_vec();
            padded.resize(used, 0);
            Arc::from(padded)
        };
        Self { bytes, from: 0, sectors }
    }

    pub(super) fn len(&self) -> usize {
        index(self.sectors) * SECTOR_LEN
    }

    /// The bytes before the zeros at the end.
    pub(super) fn data(&self) -> &[u8] {
        let end = (self.from + self.len()).min(self.bytes.len());
        &self.bytes[self.from.min(end)..end]
    }

    pub(super) fn sector(&self, offset: u64) -> &[u8] {
        let data = self.data();
        data.get(index(offset) * SECTOR_LEN..).and_then(|it| it.get(..SECTOR_LEN)).unwrap_or(&ZEROS)
    }

    /// `count` sectors of it from `skip` on.
    pub(super) fn part(&self, skip: u64, count: u64) -> Self {
        assert!(skip + count <= self.sectors, "a part is inside of the whole");
        let from = self.from + index(skip) * SECTOR_LEN;
        Self { bytes: Arc::clone(&self.bytes), from, sectors: count }
    }

    fn xor(&mut self, at: usize, bits: u8) {
        let mut bytes = self.data().to_vec();
        bytes.resize(self.len(), 0);
        bytes[at] ^= bits;
        *self = Self::new(&bytes);
    }
}

/// Sectors that were written and are not durable.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) unit: UnitId,
    /// Counts landings; a sync covers those up to a number.
    pub(super) landed: u64,
    pub(super) sector: u64,
    pub(super) payload: Payload,
    /// First sector and count of the write that this is what is left of.
    pub(super) whole: (u64, u64),
    /// Written through the page cache.
    pub(super) buffered: bool,
}

impl Write {
    pub(super) fn end(&self) -> u64 {
        self.sector + self.payload.sectors
    }

    pub(super) fn overlaps(&self, sector: u64, count: u64) -> bool {
        self.sector < sector + count && sector < self.end()
    }

    /// Copies what it has of the bytes from `at` on into `buf`.
    pub(super) fn show(&self, at: u64, buf: &mut [u8]) {
        let (start, end) = (self.sector * SECTOR, self.end() * SECTOR);
        let from = start.max(at);
        let to = end.min(at + buf.len() as u64);
        if from >= to {
            return;
        }
        let part = &mut buf[index(from - at)..index(to - at)];
        let data = self.payload.data();
        let data = &data[index(from - start).min(data.len())..index(to - start).min(data.len())];
        part[..data.len()].copy_from_slice(data);
        part[data.len()..].fill(0);
    }

    pub(super) fn xor(&mut self, at: u64, bits: u8) {
        if (self.sector * SECTOR..self.end() * SECTOR).contains(&at) {
            self.payload.xor(index(at - self.sector * SECTOR), bits);
        }
    }

    fn part(&self, skip: u64, count: u64) -> Self {
        let payload = self.payload.part(skip, count);
        Self { sector: self.sector + skip, payload, ..*self }
    }
}

/// Takes the given sectors out of every write.
pub(super) fn carve(writes: &mut Vec<Write>, sector: u64, count: u64) {
    let hit = |write: &Write| write.overlaps(sector, count);
    if !writes.iter().any(hit) {
        return;
    }
    let mut left = Vec::with_capacity(writes.len() + 1);
    for write in writes.drain(..) {
        if !hit(&write) {
            left.push(write);
            continue;
        }
        if write.sector < sector {
            left.push(write.part(0, sector - write.sector));
        }
        let end = sector + count;
        if end < write.end() {
            left.push(write.part(end - write.sector, write.end() - end));
        }
    }
    *writes = left;
}

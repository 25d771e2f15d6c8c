//! What is on the disk: files, manifests, and what a power cut may do to what is not durable yet.
//!
//! Nothing here knows what a log means. A write is *volatile* from its submission until it is made durable; of
//! what is volatile, a power cut keeps, tears or loses each piece on its own.

use std::sync::Arc;

/// What the ledger, outside the log, knew when something was sealed: a ghost, which no part of the protocol reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Ghost {
    /// The entries that had been acknowledged, as bits.
    pub(crate) acked: u32,
    /// The epoch that had been reported committed.
    pub(crate) reported: u8,
}

/// An entry on disk. `id` is its number in the ledger; it takes part in nothing but checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) id: u8,
    pub(crate) epoch: u8,
    pub(crate) seq: u8,
}

/// A batch: one header and its entries. Without entries it is a vouch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Batch {
    pub(crate) number: u8,
    pub(crate) segment: u8,
    pub(crate) incarnation: u8,
    pub(crate) epoch: u8,
    pub(crate) entries: Vec<Entry>,
    pub(crate) barrier: bool,
    /// Promise: the last durable batch when this one was sealed.
    pub(crate) durable: u8,
    /// Promise: the published committed epoch when this one was sealed.
    pub(crate) committed: u8,
    pub(crate) ghost: Ghost,
}

/// What a block holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Content {
    Zero,
    Whole(Arc<Batch>),
    /// The header verifies, the body does not.
    Torn(Arc<Batch>),
    Garbage,
}

/// A block: what a power cut cannot take, and what was written over it since.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Block {
    pub(crate) durable: Content,
    pub(crate) volatile: Option<Content>,
    /// A failed sync dropped the volatile content: only the page cache still shows it.
    pub(crate) is_cache_only: bool,
}

impl Block {
    pub(crate) fn zero() -> Self {
        Self { durable: Content::Zero, volatile: None, is_cache_only: false }
    }

    /// What the device returns.
    pub(crate) fn device(&self) -> &Content {
        match &self.volatile {
            Some(content) if !self.is_cache_only => content,
            _ => &self.durable,
        }
    }

    /// What the page cache returns.
    pub(crate) fn cache(&self) -> &Content {
        self.volatile.as_ref().unwrap_or(&self.durable)
    }

    pub(crate) fn write(&mut self, content: Content) {
        self.volatile = Some(content);
        self.is_cache_only = false;
    }

    pub(crate) fn sync(&mut self) {
        if !self.is_cache_only
            && let Some(content) = self.volatile.take()
        {
            self.durable = content;
        }
    }
}

/// The two copies of a segment's header, as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Header {
    /// Zeros: not written yet, or zeroed for recycling.
    Zero,
    Volatile(HeaderText),
    Durable(HeaderText),
    /// Both copies damaged.
    Broken,
}

/// What a segment header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct HeaderText {
    pub(crate) incarnation: u8,
    /// Only without the rule against it: a truncation.
    pub(crate) cut: Option<Cut>,
}

/// A truncation that stands in the header of the segment behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Cut {
    pub(crate) last_batch: u8,
    pub(crate) last_seq: u8,
    pub(crate) next_batch: u8,
}

impl Header {
    pub(crate) fn text(self) -> Option<HeaderText> {
        match self {
            Self::Volatile(text) | Self::Durable(text) => Some(text),
            Self::Zero | Self::Broken => None,
        }
    }
}

/// The file of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct File {
    pub(crate) number: u8,
    /// The name is durable in the folder.
    pub(crate) is_named: bool,
    /// The name it had before a renaming that is not durable yet.
    pub(crate) was: Option<u8>,
    pub(crate) header: Header,
    /// The preparer's zero-fill is in flight.
    pub(crate) is_filling: bool,
    pub(crate) blocks: Vec<Block>,
    /// Writes of a killed process that may still land.
    pub(crate) late: Vec<(u8, Content)>,
}

impl File {
    pub(crate) fn sync(&mut self) {
        self.blocks.iter_mut().for_each(Block::sync);
        self.sync_header();
    }

    /// The header, and the file's name in its folder.
    pub(crate) fn sync_header(&mut self) {
        self.is_named = true;
        self.was = None;
        if let Header::Volatile(text) = self.header {
            self.header = Header::Durable(text);
        }
    }
}

/// A shard's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Run {
    pub(crate) incarnation: u8,
    pub(crate) first_epoch: u8,
    pub(crate) first_segment: u8,
    pub(crate) first_batch: u8,
    pub(crate) first_seq: u8,
    pub(crate) last_segment: u8,
    pub(crate) last_batch: u8,
    pub(crate) last_kept_seq: u8,
}

/// Where the current run of a shard starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Current {
    pub(crate) segment: u8,
    pub(crate) batch: u8,
    pub(crate) seq: u8,
}

/// What a manifest says of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Record {
    pub(crate) active: bool,
    pub(crate) runs: Vec<Run>,
    pub(crate) next_segment: u8,
    pub(crate) next_batch: u8,
    pub(crate) next_seq: u8,
    pub(crate) current: Option<Current>,
    /// Promise: the last batch of the current run that was durable.
    pub(crate) durable: u8,
    /// Promise: the last epoch that a durable barrier of this incarnation closed.
    pub(crate) barrier: u8,
}

/// A manifest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Manifest {
    pub(crate) generation: u8,
    pub(crate) incarnation: u8,
    pub(crate) committed: u8,
    pub(crate) first_epoch: u8,
    pub(crate) bound: u8,
    pub(crate) checkpoint: u8,
    pub(crate) shards: Vec<Record>,
    pub(crate) ghost: Ghost,
}

/// What a manifest slot durably holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Slot {
    Absent,
    Broken,
    Held(Arc<Manifest>),
}

/// The whole disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Disk {
    pub(crate) shards: Vec<Vec<File>>,
    pub(crate) slots: [Slot; 2],
    /// A manifest that was renamed over its slot; the directory is not synced yet.
    pub(crate) renamed: Option<Arc<Manifest>>,
}

/// What becomes of one volatile piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It is durable.
    Survives,
    /// Its header is durable, its body is not.
    Torn,
    /// It never happened.
    Lost,
    /// Of a kill only: it is still under way.
    Late,
}

/// A volatile piece of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "Display says each in words")]
pub enum Piece {
    Block { shard: u8, segment: u8, block: u8 },
    Name { shard: u8, segment: u8 },
    Header { shard: u8, segment: u8 },
    Fill { shard: u8, segment: u8 },
    Manifest,
}

impl Disk {
    pub(crate) fn file(&self, shard: u8, segment: u8) -> Option<&File> {
        self.shards[usize::from(shard)].iter().find(|file| file.number == segment)
    }

    pub(crate) fn file_mut(&mut self, shard: u8, segment: u8) -> Option<&mut File> {
        self.shards[usize::from(shard)].iter_mut().find(|file| file.number == segment)
    }

    /// Adds a file, or takes up `file` again, in the order of numbers.
    pub(crate) fn put(&mut self, shard: u8, file: File) {
        let files = &mut self.shards[usize::from(shard)];
        files.push(file);
        files.sort_by_key(|file| file.number);
    }

    /// Everything that a power cut may lose.
    pub(crate) fn volatile(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (shard, files) in (0_u8..).zip(&self.shards) {
            for file in files {
                let segment = file.number;
                if !file.is_named || file.was.is_some() {
                    pieces.push(Piece::Name { shard, segment });
                }
                if matches!(file.header, Header::Volatile(_)) {
                    pieces.push(Piece::Header { shard, segment });
                }
                if file.is_filling {
                    pieces.push(Piece::Fill { shard, segment });
                }
                for (block, it) in (0_u8..).zip(&file.blocks) {
                    if it.volatile.is_some() && !it.is_cache_only {
                        pieces.push(Piece::Block { shard, segment, block });
                    }
                }
            }
        }
        if self.renamed.is_some() {
            pieces.push(Piece::Manifest);
        }
        pieces
    }

    /// The power is cut. `fates` goes with the volatile pieces.
    pub(crate) fn cut(&mut self, fates: &[(Piece, Fate)]) {
        // Names last: the other pieces are found by the name that they have now.
        for &(piece, fate) in fates {
            self.settle(piece, fate);
        }
        for &(piece, fate) in fates {
            if let Piece::Name { shard, segment } = piece {
                let files = &mut self.shards[usize::from(shard)];
                let index = files.iter().position(|file| file.number == segment);
                let Some(index) = index else { continue };
                match (fate, files[index].was) {
                    (Fate::Survives, _) => {}
                    (_, Some(was)) => files[index].number = was,
                    (_, None) => drop(files.remove(index)),
                }
            }
        }
        for files in &mut self.shards {
            files.sort_by_key(|file| file.number);
            for file in files {
                file.is_named = true;
                file.was = None;
                file.late.clear();
                for block in &mut file.blocks {
                    block.volatile = None;
                    block.is_cache_only = false;
                }
            }
        }
    }

    fn settle(&mut self, piece: Piece, fate: Fate) {
        let survives = fate == Fate::Survives;
        match piece {
            Piece::Name { .. } => {}
            Piece::Header { shard, segment } => {
                if let Some(file) = self.file_mut(shard, segment) {
                    file.header = match file.header.text() {
                        Some(text) if survives => Header::Durable(text),
                        _ => Header::Zero,
                    };
                }
            }
            Piece::Fill { shard, segment } => {
                if let Some(file) = self.file_mut(shard, segment) {
                    if survives {
                        file.fill();
                    }
                    file.is_filling = false;
                }
            }
            Piece::Block { shard, segment, block } => {
                if let Some(file) = self.file_mut(shard, segment) {
                    let block = &mut file.blocks[usize::from(block)];
                    block.durable = match (block.volatile.take(), fate) {
                        (Some(content), Fate::Survives) => content,
                        (Some(Content::Whole(batch)), Fate::Torn) => Content::Torn(batch),
                        _ => return,
                    };
                }
            }
            Piece::Manifest => {
                let renamed = self.renamed.take();
                if let (Some(manifest), true) = (renamed, survives) {
                    self.hold(manifest);
                }
            }
        }
    }

    /// A manifest is durable in its slot.
    pub(crate) fn hold(&mut self, manifest: Arc<Manifest>) {
        let slot = usize::from(manifest.generation % 2);
        self.slots[slot] = Slot::Held(manifest);
    }

    /// Everything that was written becomes durable, except what only the page cache holds.
    pub(crate) fn sync_all(&mut self) {
        for file in self.shards.iter_mut().flatten() {
            file.sync();
        }
        if let Some(manifest) = self.renamed.take() {
            self.hold(manifest);
        }
    }

    /// What a slot shows: a renaming is visible at once.
    pub(crate) fn slot(&self, index: u8) -> Slot {
        match &self.renamed {
            Some(manifest) if manifest.generation % 2 == index => Slot::Held(manifest.clone()),
            _ => self.slots[usize::from(index)].clone(),
        }
    }
}

impl File {
    /// The preparer's zeros land: over whatever is there.
    pub(crate) fn fill(&mut self) {
        self.is_filling = false;
        for block in &mut self.blocks {
            *block = Block::zero();
        }
    }
}

//! What is drawn of a segment: its stretches, classified.

use corewal::inspect::{Content, Proof, Stretch, Survey, SurveyedSegment};
use corewal::{BatchNumber, Epoch, Kind, Place, RecoverError, Seq};

/// What a block is to its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Proven,
    Intact,
    Damaged,
    Torn,
    Void,
    Beyond,
    Older,
    Zero,
    Header,
    Unused,
}

impl Class {
    pub(super) const IN_STREAM: [Self; 5] =
        [Self::Proven, Self::Intact, Self::Damaged, Self::Torn, Self::Void];
    pub(super) const ALL: [Self; 10] = [
        Self::Proven,
        Self::Intact,
        Self::Damaged,
        Self::Torn,
        Self::Void,
        Self::Beyond,
        Self::Older,
        Self::Zero,
        Self::Header,
        Self::Unused,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Intact => "intact",
            Self::Damaged => "damaged",
            Self::Torn => "torn",
            Self::Void => "void",
            Self::Beyond => "beyond",
            Self::Older => "older",
            Self::Zero => "zero",
            Self::Header => "header",
            Self::Unused => "unused",
        }
    }

    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::Proven => "proven: a witness says that it was durable",
            Self::Intact => "intact: verifies, without a witness",
            Self::Damaged => "damaged: must be there, does not verify",
            Self::Torn => "torn: behind the end, does not verify",
            Self::Void => "void: left out by the manifest",
            Self::Beyond => "beyond: behind the end of its run",
            Self::Older => "older life of the file",
            Self::Zero => "zeros: never written",
            Self::Header => "header of the segment",
            Self::Unused => "of no run: will be used again",
        }
    }
}

/// A stretch as it is drawn.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) class: Class,
    pub(super) at: u64,
    pub(super) len: u64,
    batches: Option<(BatchNumber, BatchNumber)>,
    seqs: Option<(Seq, Seq)>,
    epochs: Option<(Epoch, Epoch)>,
    /// The epoch that its last batch closes.
    pub(super) closes: Option<Epoch>,
    why: String,
}

/// Everything that a segment holds.
pub(super) fn blocks(
    survey: &Survey,
    segment: &SurveyedSegment,
) -> Result<Vec<Block>, RecoverError> {
    if !segment.is_in_run {
        let why = "of no run".to_owned();
        return Ok(vec![Block::plain(Class::Unused, 0, segment.file_len, why)]);
    }
    let mut blocks = Vec::new();
    survey.stretches(segment.shard, segment.number, &mut |stretch| {
        let at = Place { shard: segment.shard, segment: segment.number, at: stretch.at };
        let is_accused = survey.findings().iter().any(|finding| match &finding.error {
            RecoverError::Damaged(damage) => damage.at == at,
            _ => false,
        });
        let mut block = Block::of(&stretch);
        if is_accused && matches!(block.class, Class::Zero | Class::Older | Class::Beyond) {
            block.class = Class::Damaged;
        }
        blocks.push(block);
    })?;
    if blocks.is_empty() {
        let why = "no header can be read".to_owned();
        blocks.push(Block::plain(Class::Unused, 0, segment.file_len, why));
    }
    Ok(blocks)
}

impl Block {
    fn plain(class: Class, at: u64, len: u64, why: String) -> Self {
        Self { class, at, len, batches: None, seqs: None, epochs: None, closes: None, why }
    }

    fn of(stretch: &Stretch<'_>) -> Self {
        let plain = |class, why: String| Self::plain(class, stretch.at, stretch.len, why);
        match &stretch.content {
            Content::Header { copy, fault: None } => {
                plain(Class::Header, format!("copy {copy} of the header"))
            }
            Content::Header { copy, fault: Some(fault) } => {
                plain(Class::Damaged, format!("copy {copy} of the header: {fault}"))
            }
            Content::Broken { reason, is_torn: true } => plain(Class::Torn, reason.to_string()),
            Content::Broken { reason, is_torn: false } => plain(Class::Damaged, reason.to_string()),
            Content::OlderLife => plain(Class::Older, String::new()),
            Content::Batch { header, proof, .. } => {
                let (class, why) = match proof {
                    Proof::Proven(witness) => (Class::Proven, witness.to_string()),
                    Proof::Intact => (Class::Intact, String::new()),
                    Proof::Void(_) => (Class::Void, String::new()),
                    _ => (Class::Beyond, String::new()),
                };
                let is_barrier =
                    stretch.content.entries().last().is_some_and(|it| it.kind == Kind::BARRIER);
                let mut block = plain(class, why);
                block.batches = Some((header.number, header.number));
                block.epochs = Some((header.epoch, header.epoch));
                block.closes = is_barrier.then_some(header.epoch);
                if header.entry_count > 0 {
                    block.seqs = Some((header.first_seq, header.last_seq()));
                }
                block
            }
            _ => plain(Class::Zero, String::new()),
        }
    }

    /// Adds the neighbour behind it.
    pub(super) fn merge(&mut self, next: &Self) {
        fn join<T: Copy>(one: Option<(T, T)>, other: Option<(T, T)>) -> Option<(T, T)> {
            match (one, other) {
                (Some((first, _)), Some((_, last))) => Some((first, last)),
                (one, other) => one.or(other),
            }
        }
        self.len += next.len;
        self.batches = join(self.batches, next.batches);
        self.seqs = join(self.seqs, next.seqs);
        self.epochs = join(self.epochs, next.epochs);
        self.closes = next.closes.or(self.closes);
    }

    /// Width in pixels: by the logarithm of the length.
    pub(super) fn width(&self) -> u32 {
        let blocks = (self.len / 512).max(1);
        4 + 2 * blocks.ilog2()
    }

    /// What is told of `count` stretches that are drawn as one.
    pub(super) fn tip(&self, count: usize) -> String {
        let mut tip = format!("{} at {}, {} bytes", self.class.name(), self.at, self.len);
        let range = |name: &str, first: u64, last: u64| match first == last {
            true => format!("; {name} {first}"),
            false => format!("; {name}s {first} to {last}"),
        };
        if let Some((first, last)) = self.batches {
            tip += &range("batch", first.0, last.0).replace("batchs", "batches");
        }
        if let Some((first, last)) = self.seqs {
            tip += &range("seq", first.0, last.0);
        }
        if let Some((first, last)) = self.epochs {
            tip += &range("epoch", first.0, last.0);
        }
        if let Some(epoch) = self.closes {
            tip += &format!("; closes epoch {epoch}");
        }
        if count == 1 && !self.why.is_empty() {
            tip += "; ";
            tip += &self.why;
        }
        tip
    }
}

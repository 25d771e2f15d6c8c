//! What a log was given and what it acknowledged, kept outside of it; and what a recovery must give back.
//!
//! Lines are numbered, and their text follows from seed, cycle and number, so only numbers are kept. `append` deals
//! lines out in turn, so the lines of a shard in a cycle are known, and in which order: a recovery must give a
//! beginning of them, at least up to the last acknowledgement.

use std::collections::{HashMap, VecDeque};

use corewal::{Epoch, Kind, Seq, Stamp};

/// A line that was given to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) seed: u64,
    pub(super) cycle: u64,
    pub(super) number: u64,
}

impl Line {
    /// Its text: its name, then filler that differs from line to line in length and content.
    pub(super) fn text(self) -> Vec<u8> {
        let mut text = format!("{}.{} ", self.cycle, self.number).into_bytes();
        let mut rng = Rng::new(self.seed ^ self.cycle.rotate_left(32) ^ self.number);
        let len = match rng.below(20) {
            0 => rng.below(16 << 10),
            1..=4 => rng.below(1024),
            _ => rng.below(120),
        };
        text.extend((0..len).map(|_| b'a' + rng.byte() % 26));
        text
    }
}

/// Numbers that look random and follow from a seed (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// What a recovery gave of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) stamp: Stamp,
    pub(super) kind: Kind,
    pub(super) payload: Vec<u8>,
}

/// What a recovery gave, or a reader.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) items: Vec<Item>,
    pub(super) committed: Epoch,
}

impl Given {
    /// Whether `later` has on every shard what this has, and maybe more behind it.
    pub(super) fn is_part_of(&self, later: &Self) -> Result<(), String> {
        if self.committed > later.committed {
            return Err(format!(
                "a reader said that epoch {} is committed, the recovery after it says {}",
                self.committed, later.committed
            ));
        }
        let mut followed: HashMap<_, VecDeque<&Item>> = HashMap::new();
        for item in &later.items {
            followed.entry(item.stamp.shard).or_default().push_back(item);
        }
        for item in &self.items {
            let next = followed.get_mut(&item.stamp.shard).and_then(VecDeque::pop_front);
            if next != Some(item) {
                let next = next.map_or("nothing".to_owned(), |it| it.stamp.to_string());
                return Err(format!(
                    "a reader gave {}, the recovery after it gave {next} in its place",
                    item.stamp
                ));
            }
        }
        Ok(())
    }
}

/// What one run of the writer was given, and what it acknowledged.
#[derive(Clone, Debug, Default)]
pub(super) struct Cycle {
    pub(super) number: u64,
    /// Lines that were handed to it, at most: the last one may have been cut off.
    pub(super) sent: u64,
    /// Acknowledged stamps, by shard, in order.
    pub(super) acked: Vec<Vec<(Seq, Epoch)>>,
}

impl Cycle {
    pub(super) fn acked_count(&self) -> u64 {
        self.acked.iter().map(|it| it.len() as u64).sum()
    }
}

/// What the log is known to hold.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    seed: u64,
    /// What earlier recoveries have given, by shard: it stays.
    kept: Vec<Vec<(Seq, Line)>>,
    committed: Epoch,
}

impl Ledger {
    pub(super) fn new(seed: u64, shards: u16) -> Self {
        Self { seed, kept: vec![Vec::new(); usize::from(shards)], committed: Epoch(0) }
    }

    /// Checks what was recovered after a cycle; from then on it stays.
    pub(super) fn check(
        &mut self,
        cycle: &Cycle,
        items: &[Item],
        committed: Epoch,
    ) -> Result<(), String> {
        if committed < self.committed {
            return Err(format!("committed epoch {committed}, and {} was before", self.committed));
        }
        let mut pairs = items.iter().zip(items.iter().skip(1));
        if let Some((first, second)) = pairs.find(|(first, second)| first.stamp >= second.stamp) {
            return Err(format!("{} comes after {}", second.stamp, first.stamp));
        }
        let shards = self.kept.len();
        let mut of_shard: Vec<Vec<&Item>> = vec![Vec::new(); shards];
        for item in items.iter().filter(|item| item.kind != Kind::BARRIER) {
            match of_shard.get_mut(usize::from(item.stamp.shard.0)) {
                Some(list) => list.push(item),
                None => return Err(format!("{} is of a shard that was never written", item.stamp)),
            }
        }
        for (shard, items) in of_shard.iter().enumerate() {
            self.check_shard(shard, cycle, items)?;
        }
        self.committed = committed;
        Ok(())
    }

    fn check_shard(&mut self, shard: usize, cycle: &Cycle, items: &[&Item]) -> Result<(), String> {
        let shards = self.kept.len() as u64;
        let kept = &mut self.kept[shard];
        for (index, (seq, line)) in kept.iter().enumerate() {
            match items.get(index) {
                None => {
                    return Err(format!("seq {seq} of shard {shard} is lost, recovered before"));
                }
                Some(item) if item.stamp.seq != *seq || item.payload != line.text() => {
                    let stamp = item.stamp;
                    return Err(format!("{stamp} stands where seq {seq} was recovered before"));
                }
                Some(_) => {}
            }
        }
        let new = &items[kept.len()..];
        let acked = cycle.acked.get(shard).map_or(&[][..], Vec::as_slice);
        if let Some((seq, epoch)) = acked.get(new.len()) {
            return Err(format!(
                "seq {seq} of shard {shard}, epoch {epoch}, was acknowledged and is lost"
            ));
        }
        for (index, item) in new.iter().enumerate() {
            let number = shard as u64 + shards * index as u64;
            let line = Line { seed: self.seed, cycle: cycle.number, number };
            let stamp = item.stamp;
            if number >= cycle.sent {
                return Err(format!("{stamp} was never appended"));
            }
            if item.payload != line.text() {
                return Err(format!("{stamp} is not line {number} of cycle {}", cycle.number));
            }
            if let Some(&(seq, epoch)) = acked.get(index)
                && (seq, epoch) != (stamp.seq, stamp.epoch)
            {
                return Err(format!("{stamp} was acknowledged as seq {seq} of epoch {epoch}"));
            }
            kept.push((stamp.seq, line));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use corewal::ShardId;

    use super::*;

    const SEED: u64 = 7;

    fn item(shard: u16, seq: u64, number: u64) -> Item {
        let stamp = Stamp { epoch: Epoch(1), seq: Seq(seq), shard: ShardId(shard) };
        let payload = Line { seed: SEED, cycle: 1, number }.text();
        Item { stamp, kind: Kind::PUT, payload }
    }

    /// Five lines on two shards; the first of each is acknowledged.
    fn cycle() -> Cycle {
        let acked = vec![vec![(Seq(1), Epoch(1))], vec![(Seq(1), Epoch(1))]];
        Cycle { number: 1, sent: 5, acked }
    }

    fn check(items: &[Item]) -> Result<(), String> {
        Ledger::new(SEED, 2).check(&cycle(), items, Epoch(0))
    }

    #[test]
    fn a_beginning_of_what_was_sent_is_right() {
        assert_eq!(check(&[item(0, 1, 0), item(1, 1, 1)]), Ok(()));
        assert_eq!(check(&[item(0, 1, 0), item(1, 1, 1), item(0, 2, 2), item(0, 3, 4)]), Ok(()));
    }

    #[test]
    fn everything_else_is_told() {
        let told = |items: &[Item], what: &str| {
            let error = check(items).expect_err(what);
            assert!(error.contains(what), "{error}");
        };
        told(&[item(0, 1, 0)], "seq 1 of shard 1, epoch 1, was acknowledged and is lost");
        told(&[item(0, 1, 0), item(1, 1, 1), item(0, 2, 4)], "is not line 2");
        told(&[item(0, 1, 0), item(1, 1, 1), item(1, 2, 3), item(1, 3, 5)], "never appended");
        told(&[item(1, 1, 1), item(0, 1, 0)], "comes after");
        told(&[item(1, 1, 1), item(0, 2, 0)], "was acknowledged as seq 1");
        told(&[item(0, 1, 0), item(1, 1, 1), item(2, 2, 0)], "never written");
    }

    #[test]
    fn what_was_recovered_once_stays() {
        let mut ledger = Ledger::new(SEED, 2);
        let all = [item(0, 1, 0), item(1, 1, 1), item(0, 2, 2)];
        assert_eq!(ledger.check(&cycle(), &all, Epoch(1)), Ok(()));
        let idle = Cycle { number: 2, ..Cycle::default() };
        assert_eq!(ledger.clone().check(&idle, &all, Epoch(1)), Ok(()));
        let error = ledger.clone().check(&idle, &all[..2], Epoch(1)).expect_err("one is gone");
        assert!(error.contains("recovered before"), "{error}");
        let error = ledger.check(&idle, &all, Epoch(0)).expect_err("it went back");
        assert!(error.contains("committed epoch 0"), "{error}");
    }

    #[test]
    fn what_a_reader_gave_is_the_beginning_of_every_shard() {
        let given = |items: &[Item], committed| Given {
            items: items.to_vec(),
            committed: Epoch(committed),
        };
        let later = given(&[item(0, 1, 0), item(1, 1, 1), item(0, 2, 2)], 2);
        assert_eq!(Given::default().is_part_of(&later), Ok(()));
        assert_eq!(later.is_part_of(&later), Ok(()));
        // The next entry of shard 1 was still on its way.
        assert_eq!(given(&[item(0, 1, 0), item(0, 2, 2)], 1).is_part_of(&later), Ok(()));
        let told = |early: &Given, what: &str| {
            let error = early.is_part_of(&later).expect_err(what);
            assert!(error.contains(what), "{error}");
        };
        told(&given(&[], 3), "epoch 3 is committed");
        told(&given(&[item(0, 2, 2)], 1), "in its place");
        told(&given(&[item(1, 1, 1), item(1, 2, 4)], 1), "gave nothing in its place");
    }
}

//! What the shards append: real lines, each with its number, to the shard of its origin, without an end.

use std::path::Path;

/// The lines of the data file, dealt to the shards.
#[derive(Debug)]
pub(crate) struct Lines {
    lines: Vec<String>,
    /// Of each shard, the indices of its lines, in order.
    shards: Vec<Vec<usize>>,
}

impl Lines {
    pub(crate) fn load(shards: u16) -> Self {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../corewal-stream/data/flights-20k.ndjson");
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut dealt = vec![Vec::new(); usize::from(shards)];
        for (index, line) in lines.iter().enumerate() {
            let (_, rest) = line.split_once(r#""origin":""#).unwrap();
            let (origin, _) = rest.split_once('"').unwrap();
            let key = origin.bytes().fold(7_usize, |key, byte| key * 31 + usize::from(byte));
            dealt[key % usize::from(shards)].push(index);
        }
        assert!(dealt.iter().all(|lines| lines.len() > 1000), "every shard has lines");
        Self { lines, shards: dealt }
    }

    /// The payload that the shard appends after `count` others: the line's number, counted over all shards
    /// and all passes through the file, and the line.
    pub(crate) fn payload(&self, shard: u16, count: u64) -> String {
        let mine = &self.shards[usize::from(shard)];
        let (pass, position) = (count / mine.len() as u64, count % mine.len() as u64);
        let index = mine[usize::try_from(position).unwrap()];
        format!("{}\t{}", pass * self.lines.len() as u64 + index as u64, self.lines[index])
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}

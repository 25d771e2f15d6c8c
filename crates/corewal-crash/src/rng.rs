//! A small seeded generator (splitmix64): the same numbers everywhere, for ever.

/// Numbers from a seed.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The numbers of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The numbers of a part of what `seed` stands for.
    #[must_use]
    pub fn of(seed: u64, part: u64) -> Self {
        let mut first = Self(seed);
        let mixed = first.next() ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93);
        Self(mixed)
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so it is no iterator")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    ///
    /// # Panics
    /// If `limit` is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A length or an index below `limit`.
    ///
    /// # Panics
    /// If `limit` is 0.
    pub fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).expect("below a usize")
    }

    /// A small number below `limit`.
    ///
    /// # Panics
    /// If `limit` is 0.
    pub fn small(&mut self, limit: u16) -> u16 {
        u16::try_from(self.below(u64::from(limit))).expect("below 65,536")
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

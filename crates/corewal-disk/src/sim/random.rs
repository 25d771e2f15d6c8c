//! Numbers from a seed.
//!
//! Nothing here has a state of its own: each number is a function of the seed and of what it is
//! drawn for. So threads that work on different files do not disturb each other's numbers.

/// The finalizer of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
/// generators", 2014).
pub(super) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number for a purpose that these three name.
pub(super) fn draw(seed: u64, stream: u64, index: u64) -> u64 {
    mix(mix(mix(seed) ^ stream) ^ index)
}

/// The number as one of `count`; 0 of none.
pub(super) fn below(number: u64, count: u64) -> u64 {
    // The high half of the product: unbiased enough, and no division.
    u64::try_from((u128::from(number) * u128::from(count)) >> 64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_spread_and_repeat() {
        let mut counts = [0; 8];
        for index in 0..8000 {
            assert_eq!(draw(1, 2, index), draw(1, 2, index));
            counts[usize::try_from(below(draw(1, 2, index), 8)).expect("below 8")] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        assert_eq!(below(u64::MAX, 0), 0);
    }
}

//! Medians, and how far to trust them.

/// A median and the interval that holds the true one with at least 95 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Median {
    /// The median of the sample.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Median {
    /// Of a sample of at least 6. The interval lies between two order statistics, by the binomial
    /// distribution; it supposes nothing about the sample's (Conover, Practical Nonparametric Statistics,
    /// 3.2).
    ///
    /// # Panics
    /// With fewer than 6 values: no interval of theirs holds the median with 95 %.
    #[must_use]
    pub fn of(sample: &[f64]) -> Self {
        let count = sample.len();
        assert!(count >= 6, "a sample of {count}");
        let mut sorted = sample.to_vec();
        sorted.sort_by(f64::total_cmp);
        let value = f64::midpoint(sorted[(count - 1) / 2], sorted[count / 2]);
        let rank = outer_rank(count);
        Self { value, low: sorted[rank], high: sorted[count - 1 - rank] }
    }
}

/// How many values lie outside at each end: the most such that both tails together have at most 5 %.
fn outer_rank(count: usize) -> usize {
    let half = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    // Probability that at most `rank` of the values lie below the true median.
    let (mut term, mut tail, mut rank) = (half, half, 0);
    loop {
        term *= (count - rank) as f64 / (rank + 1) as f64;
        tail += term;
        if 2.0 * tail > 0.05 {
            return rank;
        }
        rank += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::{Median, outer_rank};

    /// The ranks that the tables give, counted from 1.
    #[test]
    fn the_interval_is_the_tables() {
        for (count, rank) in [(6, 1), (9, 2), (12, 3), (15, 4), (20, 6), (25, 8), (30, 10)] {
            assert_eq!(outer_rank(count) + 1, rank, "{count}");
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let sample: Vec<f64> = [9, 1, 8, 2, 7, 3, 6, 4, 5].map(f64::from).to_vec();
        assert_eq!(Median::of(&sample), Median { value: 5.0, low: 2.0, high: 8.0 });
        assert_eq!(Median::of(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).value, 3.5);
    }
}

//! Waiting for what was released to come back: the sealing rule where one batch after the other is the fastest.
//!
//! A program with sixty appends outstanding gets all of them back when a batch completes, and appends sixty new ones.
//! If the first of these went to the disk alone, the others would wait for two flushes instead of one, for ever.

use std::time::Duration;

/// A batch is held for this part of the time that the disk was busy before, at most.
const PART: u32 = 4;

/// How long an open batch is held back although nothing is in flight.
#[derive(Debug, Default)]
pub(super) struct Refill {
    /// Entries that the batch will have when everything has come back; 0 when nothing is waited for.
    full: u64,
    /// Entries that it had at the last look.
    seen: Option<u64>,
    /// Until when it is waited for.
    until: Duration,
    /// Since when the disk was busy without a break.
    busy_since: Duration,
}

impl Refill {
    /// A batch goes to the idle disk.
    pub(super) fn disk_busy(&mut self, now: Duration) {
        self.busy_since = now;
    }

    /// The disk has become idle, and `released` entries durable. So many wait in the open batch.
    pub(super) fn begin(&mut self, released: u64, waiting: u64, now: Duration) {
        self.full = if released > 1 { released + waiting } else { 0 };
        self.seen = None;
        self.until = now + now.saturating_sub(self.busy_since) / PART;
    }

    /// Whether a batch of `count` entries, more at each look, is held back. Asked once a turn.
    pub(super) fn holds(&mut self, count: u64, now: impl FnOnce() -> Duration) -> bool {
        let grows = self.seen.replace(count).is_none_or(|seen| count > seen);
        let holds = count < self.full && grows && now() < self.until;
        if !holds {
            self.full = 0;
        }
        holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn a_batch_is_held_until_everything_is_back() {
        let mut refill = Refill::default();
        assert!(!refill.holds(1, || us(0)), "nothing was released");
        refill.disk_busy(us(20));
        refill.begin(60, 4, us(100));
        let held = (4..).take_while(|&count| refill.holds(count, || us(101))).count();
        assert_eq!(held, 60);
        assert!(!refill.holds(5, || us(101)), "it is waited for once");
    }

    #[test]
    fn nothing_is_waited_for_when_nothing_comes() {
        let mut refill = Refill::default();
        refill.disk_busy(us(20));
        refill.begin(60, 4, us(100));
        assert!(refill.holds(4, || us(101)), "the program has not had its turn");
        assert!(refill.holds(5, || us(101)));
        assert!(!refill.holds(5, || us(101)));
    }

    #[test]
    fn nor_for_long() {
        let mut refill = Refill::default();
        refill.disk_busy(us(20));
        refill.begin(60, 0, us(100));
        assert!(refill.holds(1, || us(119)));
        assert!(!refill.holds(2, || us(120)));
    }

    #[test]
    fn nor_for_a_lone_entry() {
        let mut refill = Refill::default();
        refill.begin(1, 0, us(100));
        assert!(!refill.holds(1, || us(100)));
    }
}

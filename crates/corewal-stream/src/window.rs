//! Tumbling windows of event time: one pane for each key and window, closed by the watermark.

use std::collections::{BTreeMap, BTreeSet};

use crate::time::Time;

/// The panes of an operator on one core.
///
/// The watermark closes windows in order; in a window, panes come by key. So what an operator emits for its
/// panes does not depend on the order in which the events of different cores arrived, as long as adding to a
/// pane does not.
#[derive(Debug)]
pub struct Windows<K, P> {
    len_ms: u64,
    panes: BTreeMap<(Time, K), P>,
    /// Panes that were changed or closed since the changes were last taken.
    touched: BTreeSet<(Time, K)>,
    watermark: Time,
    late: u64,
}

/// What became of a pane.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct PaneChange<K, P> {
    /// The window's first moment.
    pub window: Time,
    /// Whose pane.
    pub key: K,
    /// What it holds; none when it was closed.
    pub pane: Option<P>,
}

impl<K: Ord + Clone, P: Default + Clone> Windows<K, P> {
    /// Windows of this length in milliseconds.
    ///
    /// # Panics
    /// If the length is 0.
    #[must_use]
    pub fn new(len_ms: u64) -> Self {
        assert!(len_ms > 0, "a window has a length");
        let (panes, touched) = (BTreeMap::new(), BTreeSet::new());
        Self { len_ms, panes, touched, watermark: Time::START, late: 0 }
    }

    /// The start of the window that `time` falls into.
    #[must_use]
    pub fn window(&self, time: Time) -> Time {
        Time(time.0 - time.0 % self.len_ms)
    }

    /// Changes the pane of `key` in the window of `time`. An event of a window that is closed already is late:
    /// it is counted and left out.
    pub fn add(&mut self, time: Time, key: K, change: impl FnOnce(&mut P)) {
        let window = self.window(time);
        if self.end(window) <= self.watermark {
            self.late += 1;
            return;
        }
        let place = (window, key);
        change(self.panes.entry(place.clone()).or_default());
        self.touched.insert(place);
    }

    /// Closes the windows that end at or before the watermark, and gives their panes by window and key.
    pub fn close(&mut self, watermark: Time, mut emit: impl FnMut(Time, K, P)) {
        self.watermark = self.watermark.max(watermark);
        while let Some(entry) = self.panes.first_entry() {
            let window = entry.key().0;
            if window.0.saturating_add(self.len_ms) > self.watermark.0 {
                break;
            }
            let ((window, key), pane) = entry.remove_entry();
            self.touched.insert((window, key.clone()));
            emit(window, key, pane);
        }
    }

    fn end(&self, window: Time) -> Time {
        Time(window.0.saturating_add(self.len_ms))
    }

    /// What has changed since the last call: for each such pane, what it holds.
    pub fn changes(&mut self) -> impl Iterator<Item = PaneChange<K, P>> {
        let panes = &self.panes;
        std::mem::take(&mut self.touched).into_iter().map(|place| {
            let pane = panes.get(&place).cloned();
            let (window, key) = place;
            PaneChange { window, key, pane }
        })
    }

    /// Every open pane.
    pub fn open_panes(&self) -> impl Iterator<Item = PaneChange<K, P>> {
        self.panes.iter().map(|((window, key), pane)| PaneChange {
            window: *window,
            key: key.clone(),
            pane: Some(pane.clone()),
        })
    }

    /// Puts a recorded change back. It is no new change.
    pub fn apply(&mut self, change: PaneChange<K, P>) {
        let place = (change.window, change.key);
        match change.pane {
            Some(pane) => {
                self.panes.insert(place, pane);
            }
            None => {
                self.panes.remove(&place);
            }
        }
    }

    /// How many events came too late and were left out.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(windows: &mut Windows<u32, u64>, watermark: u64) -> Vec<(u64, u32, u64)> {
        let mut closed = Vec::new();
        windows.close(Time(watermark), |window, key, pane| closed.push((window.0, key, pane)));
        closed
    }

    #[test]
    fn a_window_closes_when_the_watermark_reaches_its_end() {
        let mut windows = Windows::new(10);
        for (time, key) in [(12, 2), (3, 1), (9, 1), (19, 1), (20, 1)] {
            windows.add(Time(time), key, |count| *count += 1);
        }
        assert_eq!(closed(&mut windows, 9), []);
        assert_eq!(closed(&mut windows, 10), [(0, 1, 2)]);
        assert_eq!(closed(&mut windows, 29), [(10, 1, 1), (10, 2, 1)]);
        assert_eq!(closed(&mut windows, u64::MAX), [(20, 1, 1)]);
    }

    #[test]
    fn an_event_of_a_closed_window_is_late() {
        let mut windows = Windows::new(10);
        windows.add(Time(5), 1, |count: &mut u64| *count += 1);
        assert_eq!(closed(&mut windows, 10), [(0, 1, 1)]);
        windows.add(Time(9), 1, |count| *count += 1);
        windows.add(Time(10), 1, |count| *count += 1);
        assert_eq!(windows.late(), 1);
        assert_eq!(closed(&mut windows, 20), [(10, 1, 1)]);
    }

    #[test]
    fn changes_rebuild_the_panes() {
        let mut windows = Windows::new(10);
        let mut copy = Windows::new(10);
        for round in 0..50_u64 {
            for key in 0..7 {
                windows.add(Time(round * 3 + u64::from(key)), key, |count: &mut u64| *count += 1);
            }
            closed(&mut windows, round * 3);
            let changes: Vec<_> = windows.changes().collect();
            assert!(!changes.is_empty());
            changes.into_iter().for_each(|change| copy.apply(change));
            assert!(copy.open_panes().eq(windows.open_panes()), "round {round}");
        }
        assert_eq!(windows.changes().count(), 0, "each change is given once");
        assert_eq!(copy.changes().count(), 0, "what is put back is no new change");
    }
}

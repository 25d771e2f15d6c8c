//! Event time: when something happened, not when it was read.

use std::fmt;

/// Milliseconds since the start of 1970, without leap seconds.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct Time(pub u64);

impl Time {
    /// Before every event.
    pub const START: Self = Self(0);
    /// After every event: the watermark of a source that has ended.
    pub const END: Self = Self(u64::MAX);

    /// This time, `ms` milliseconds earlier; not before [`START`](Self::START).
    #[must_use]
    pub const fn minus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

//! What a life of the demo tells its parent: a line for each word, so that the parent knows where to aim.

use std::fmt;

/// One line of the pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// The log is about to be recovered.
    Recovering,
    /// The job goes on from here.
    Recovered(Restart),
    /// A checkpoint of this epoch begins.
    Checkpoint(u64),
    /// It is durable.
    Checkpointed(u64),
    /// Where each core is.
    Gauges(Vec<Gauge>),
    /// The job has ended; so many events were late.
    Done(u64),
}

/// What a life goes on from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Restart {
    /// The committed epoch.
    pub(crate) committed: u64,
    /// The epoch of the checkpoint.
    pub(crate) checkpoint: u64,
    /// Pieces of state that were put back.
    pub(crate) changes: u64,
    /// Events that need not be read again.
    pub(crate) events: u64,
    /// How long it took, in microseconds.
    pub(crate) took_us: u64,
}

/// Where a core is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gauge {
    /// Events that this life has read on it.
    pub(crate) read: u64,
    /// The last epoch that it has closed.
    pub(crate) closed: u64,
    /// The last epoch whose output it has released: it was committed.
    pub(crate) released: u64,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recovering => f.write_str("recovering"),
            Self::Recovered(it) => write!(
                f,
                "recovered {} {} {} {} {}",
                it.committed, it.checkpoint, it.changes, it.events, it.took_us
            ),
            Self::Checkpoint(epoch) => write!(f, "checkpoint {epoch}"),
            Self::Checkpointed(epoch) => write!(f, "checkpointed {epoch}"),
            Self::Gauges(gauges) => {
                f.write_str("gauges")?;
                let mut gauges = gauges.iter();
                gauges.try_for_each(|it| write!(f, " {} {} {}", it.read, it.closed, it.released))
            }
            Self::Done(late) => write!(f, "done {late}"),
        }
    }
}

impl Word {
    /// The word of a line; none for a line that a kill has cut short.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let name = words.next()?;
        let numbers: Vec<u64> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
        Some(match (name, &numbers[..]) {
            ("recovering", []) => Self::Recovering,
            ("recovered", &[committed, checkpoint, changes, events, took_us]) => {
                Self::Recovered(Restart { committed, checkpoint, changes, events, took_us })
            }
            ("checkpoint", &[epoch]) => Self::Checkpoint(epoch),
            ("checkpointed", &[epoch]) => Self::Checkpointed(epoch),
            ("done", &[late]) => Self::Done(late),
            ("gauges", numbers) if numbers.len().is_multiple_of(3) => {
                let gauge = |it: &[u64]| Gauge { read: it[0], closed: it[1], released: it[2] };
                Self::Gauges(numbers.chunks_exact(3).map(gauge).collect())
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_survives_the_pipe() {
        let restart = Restart { committed: 1, checkpoint: 2, changes: 3, events: 4, took_us: 5 };
        let gauge = Gauge { read: 7, closed: 8, released: 9 };
        let words = [
            Word::Recovering,
            Word::Recovered(restart),
            Word::Checkpoint(6),
            Word::Checkpointed(6),
            Word::Gauges(vec![gauge, Gauge::default()]),
            Word::Done(0),
        ];
        for word in words {
            assert_eq!(Word::parse(&word.to_string()), Some(word));
        }
        for cut in ["", "recov", "gauges 1 2", "recovered 1 2", "done x"] {
            assert_eq!(Word::parse(cut), None, "{cut}");
        }
    }
}

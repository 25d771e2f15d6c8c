//! Names for what is in the kernel.

/// What one submission entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Writes `len` bytes.
    Write {
        /// What a complete write returns.
        len: u32,
    },
    /// fdatasync.
    Sync,
}

/// A submission entry and the operation that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) op: usize,
    pub(super) part: Part,
}

/// The only source of `user_data` on a ring, for writes and syncs alike; so no completion can be
/// taken for another's. There are as many tickets as the completion queue has entries: it cannot
/// overflow.
#[derive(Debug)]
pub(super) struct Tickets {
    tickets: Vec<Ticket>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Ticket {
    /// Counts the uses, from 1, so that a repeated completion does not name the next use.
    generation: u32,
    work: Option<Work>,
}

const GENERATION_SHIFT: u32 = 32;

/// The `user_data` of an entry that belongs to no operation: of generation 0, which no ticket has.
pub(super) const NO_TICKET: u64 = 0;

impl Tickets {
    pub(super) fn new(count: u32) -> Self {
        let tickets = (0..count).map(|_| Ticket { generation: 0, work: None }).collect();
        Self { tickets, free: (0..count).rev().collect() }
    }

    /// How many can be issued.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// How many are out.
    pub(super) fn issued(&self) -> usize {
        self.tickets.len() - self.free.len()
    }

    /// How many were ever issued.
    #[cfg(test)]
    pub(super) fn issued_ever(&self) -> u32 {
        self.tickets.iter().map(|ticket| ticket.generation).sum()
    }

    /// A `user_data` for `work`.
    ///
    /// # Panics
    /// If none is free.
    pub(super) fn issue(&mut self, work: Work) -> u64 {
        let index = self.free.pop().expect("the caller has seen that a ticket is free");
        let ticket = &mut self.tickets[index as usize];
        ticket.generation = ticket.generation.wrapping_add(1).max(1);
        ticket.work = Some(work);
        u64::from(ticket.generation) << GENERATION_SHIFT | u64::from(index)
    }

    /// What an issued ticket stands for; `None` if it is not out.
    pub(super) fn work(&self, user_data: u64) -> Option<Work> {
        let (index, generation) = split(user_data);
        self.tickets
            .get(index as usize)
            .filter(|ticket| ticket.generation == generation)
            .and_then(|ticket| ticket.work)
    }

    /// Takes a ticket back, once; `None` if it is not out.
    pub(super) fn redeem(&mut self, user_data: u64) -> Option<Work> {
        let work = self.work(user_data)?;
        let (index, _) = split(user_data);
        self.tickets[index as usize].work = None;
        self.free.push(index);
        Some(work)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of the number")]
fn split(user_data: u64) -> (u32, u32) {
    (user_data as u32, (user_data >> GENERATION_SHIFT) as u32)
}

#[cfg(test)]
mod tests {
    use super::{Part, Tickets, Work};

    const WORK: Work = Work { op: 3, part: Part::Write { len: 9 } };

    #[test]
    fn a_ticket_is_redeemed_once() {
        let mut tickets = Tickets::new(2);
        let first = tickets.issue(WORK);
        let second = tickets.issue(Work { op: 4, part: Part::Sync });
        assert_ne!(first, second);
        assert_eq!(tickets.free(), 0);
        assert_eq!(tickets.redeem(first), Some(WORK));
        assert_eq!(tickets.redeem(first), None);
        assert_eq!(tickets.redeem(second), Some(Work { op: 4, part: Part::Sync }));
        assert_eq!(tickets.issued(), 0);
    }

    /// A mistake seen in other logs: writes and syncs that draw from two counters are taken for
    /// each other.
    #[test]
    fn a_late_repetition_does_not_name_the_next_use() {
        let mut tickets = Tickets::new(1);
        let first = tickets.issue(WORK);
        tickets.redeem(first);
        let next = tickets.issue(Work { op: 3, part: Part::Sync });
        assert_ne!(first, next);
        assert_eq!(tickets.redeem(first), None);
        assert_eq!(tickets.redeem(next), Some(Work { op: 3, part: Part::Sync }));
    }

    #[test]
    fn numbers_never_issued_are_unknown() {
        let mut tickets = Tickets::new(4);
        for user_data in [0, 1, 3, 4, 1 << 32, u64::MAX] {
            assert_eq!(tickets.redeem(user_data), None, "{user_data}");
        }
    }
}

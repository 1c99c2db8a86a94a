//! Whether the target takes events, and what follows from what batches tell about it.

use crate::batch::Report;

/// Whether the target takes events.
///
/// After an outage it is tried with one batch at a time until one gets through. Batches that were under way when the
/// outage began tell nothing new, so each carries the number of the phase that it began in.
#[derive(Debug)]
pub(crate) struct Target {
    phase: u64,
    condition: Condition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// It is to be prepared. `delivered` is whether the failure was seen by a delivery, so that only a delivery can
    /// tell that it is over.
    Down { failures: u32, delivered: bool },
    /// It is prepared, but no delivery has got through since the outage.
    Probing { failures: u32 },
    /// It takes events.
    Up,
}

/// A change worth a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The target was in order, and is not.
    WentDown,
    /// The target was not in order, and is.
    CameUp,
}

impl Target {
    /// A target that nobody has tried.
    pub(crate) fn new() -> Self {
        Self { phase: 0, condition: Condition::Down { failures: 0, delivered: false } }
    }

    /// The number of the phase that a batch begins in.
    pub(crate) fn phase(&self) -> u64 {
        self.phase
    }

    /// How often the target has failed in a row, if it has to be prepared.
    pub(crate) fn down(&self) -> Option<u32> {
        match self.condition {
            Condition::Down { failures, .. } => Some(failures),
            Condition::Probing { .. } | Condition::Up => None,
        }
    }

    /// How often the target has failed in a row, if it is not known to be in order.
    pub(crate) fn failures(&self) -> Option<u32> {
        match self.condition {
            Condition::Down { failures, .. } | Condition::Probing { failures } => Some(failures),
            Condition::Up => None,
        }
    }

    /// How many batches may be under way.
    pub(crate) fn slots(&self, concurrency: usize) -> usize {
        match self.condition {
            Condition::Down { .. } => 0,
            Condition::Probing { .. } => 1,
            Condition::Up => concurrency,
        }
    }

    /// Takes note of an attempt to prepare the target.
    pub(crate) fn prepared(&mut self, succeeded: bool) -> Option<Change> {
        let Condition::Down { failures, delivered } = self.condition else { return None };
        self.condition = match (succeeded, delivered) {
            (false, _) => Condition::Down { failures: failures.saturating_add(1), delivered },
            (true, true) => Condition::Probing { failures },
            (true, false) => Condition::Up,
        };
        match (succeeded, failures) {
            (false, 0) => Some(Change::WentDown),
            (true, 1..) if !delivered => Some(Change::CameUp),
            _ => None,
        }
    }

    /// Takes note of what a batch of a phase tells.
    pub(crate) fn reported(&mut self, phase: u64, report: &Report) -> Option<Change> {
        if phase != self.phase {
            return None;
        }
        let failures = match self.condition {
            Condition::Down { .. } => return None,
            Condition::Probing { failures } => failures,
            Condition::Up => 0,
        };
        match report {
            Report::Up => {
                self.condition = Condition::Up;
                (failures > 0).then_some(Change::CameUp)
            }
            Report::Down(_) => {
                self.phase += 1;
                self.condition = Condition::Down { failures: failures.saturating_add(1), delivered: true };
                (failures == 0).then_some(Change::WentDown)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down() -> Report {
        Report::Down("down".into())
    }

    #[test]
    fn a_target_is_in_order_once_it_is_prepared_for_the_first_time() {
        let mut target = Target::new();
        assert_eq!((target.slots(4), target.down()), (0, Some(0)));
        assert_eq!(target.prepared(false), Some(Change::WentDown));
        assert_eq!(target.prepared(false), None);
        assert_eq!(target.down(), Some(2));
        assert_eq!(target.prepared(true), Some(Change::CameUp));
        assert_eq!((target.slots(4), target.down()), (4, None));
    }

    #[test]
    fn an_outage_is_over_when_a_batch_gets_through_and_not_before() {
        let mut target = Target::new();
        assert_eq!(target.prepared(true), None);
        let first = target.phase();
        assert_eq!(target.reported(first, &down()), Some(Change::WentDown));
        assert_eq!(target.reported(first, &down()), None, "a batch of before counts once");
        assert_eq!(target.down(), Some(1));
        assert_eq!(target.prepared(true), None);
        assert_eq!(target.reported(first, &Report::Up), None, "a batch of before proves nothing");
        assert_eq!(target.slots(4), 1);
        assert_eq!(target.reported(target.phase(), &down()), None);
        assert_eq!(target.down(), Some(2), "each failed trial makes the next wait longer");
        assert_eq!(target.prepared(true), None);
        assert_eq!(target.reported(target.phase(), &Report::Up), Some(Change::CameUp));
        assert_eq!(target.slots(4), 4);
    }
}

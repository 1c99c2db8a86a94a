//! Places that journal and stream have in common, and whether the stream still has them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use upcall_bus::ArchiveError;
use upcall_bus_nats::{NatsBus, StreamState};
use upcall_event::EventId;

/// The stream has acknowledged all events of the journal up to `journal`, one of the last of them at `stream`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub(crate) journal: u64,
    /// Zero where no event of the journal is known to be in the stream.
    pub(crate) stream: u64,
    pub(crate) id: EventId,
    /// Which stream of that name it was.
    pub(crate) created: Timestamp,
}

/// What the stream has acknowledged and may not have synced.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// In order, with the moment of the last acknowledgement that each covers.
    closed: VecDeque<(Checkpoint, Instant)>,
    /// Moves with each acknowledgement until it is closed.
    open: Option<(Checkpoint, Instant)>,
}

/// What the stream says of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Held,
    /// It has lost what it had acknowledged: how that shows.
    Lost(String),
}

impl Ledger {
    pub(crate) fn note(&mut self, checkpoint: Checkpoint, now: Instant) {
        self.open = Some((checkpoint, now));
    }

    /// Closes the checkpoint that moves: what comes now belongs to the next one.
    pub(crate) fn close(&mut self) {
        self.closed.extend(self.open.take());
    }

    pub(crate) fn newest(&self) -> Option<Checkpoint> {
        self.open.or(self.closed.back().copied()).map(|(checkpoint, _)| checkpoint)
    }

    /// The newest checkpoint that the stream has held for as long as this.
    pub(crate) fn due(&self, hold: Duration, now: Instant) -> Option<Checkpoint> {
        let held = self.closed.partition_point(|(_, acked)| now.saturating_duration_since(*acked) >= hold);
        held.checked_sub(1).map(|newest| self.closed[newest].0)
    }

    /// Forgets what has left the journal.
    pub(crate) fn release(&mut self, journal: u64) {
        while self.closed.front().is_some_and(|(checkpoint, _)| checkpoint.journal <= journal) {
            self.closed.pop_front();
        }
    }

    /// Forgets what is behind this event.
    pub(crate) fn rewind(&mut self, journal: u64) {
        self.close();
        while self.closed.back().is_some_and(|(checkpoint, _)| checkpoint.journal > journal) {
            self.closed.pop_back();
        }
    }
}

/// Asks the stream's leader whether it still holds a checkpoint.
pub(crate) async fn verify(bus: &NatsBus, checkpoint: &Checkpoint) -> Result<(Verdict, StreamState), ArchiveError> {
    let state = bus.stream_state().await?;
    let verdict = match judge(checkpoint, &state) {
        Some(verdict) => verdict,
        None => look_at(bus, checkpoint).await?,
    };
    Ok((verdict, state))
}

async fn look_at(bus: &NatsBus, checkpoint: &Checkpoint) -> Result<Verdict, ArchiveError> {
    match bus.id_at(checkpoint.stream).await? {
        Some(id) if id == checkpoint.id.to_string() => Ok(Verdict::Held),
        Some(id) => Ok(lost(format!(
            "at sequence {} the stream holds the event {id:?}, and had acknowledged {} there",
            checkpoint.stream, checkpoint.id
        ))),
        // It may have been removed by age this very moment.
        None => match judge(checkpoint, &bus.stream_state().await?) {
            Some(verdict) => Ok(verdict),
            None => Ok(lost(format!(
                "the stream holds nothing at sequence {}, which it had acknowledged",
                checkpoint.stream
            ))),
        },
    }
}

/// What the stream's state alone says of a checkpoint: `None` where the event has to be looked at.
fn judge(checkpoint: &Checkpoint, state: &StreamState) -> Option<Verdict> {
    if checkpoint.stream == 0 {
        return Some(Verdict::Held);
    }
    if state.created != checkpoint.created {
        return Some(lost(format!("the stream was made anew at {}", state.created)));
    }
    if state.last < checkpoint.stream {
        return Some(lost(format!(
            "the stream ends at sequence {}, and had acknowledged up to {}",
            state.last, checkpoint.stream
        )));
    }
    // Retention has removed it, which is not our business.
    (state.first > checkpoint.stream).then_some(Verdict::Held)
}

fn lost(why: String) -> Verdict {
    Verdict::Lost(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(journal: u64, stream: u64) -> Checkpoint {
        Checkpoint { journal, stream, id: EventId::from_bytes([7; 16]), created: Timestamp::UNIX_EPOCH }
    }

    fn state(first: u64, last: u64) -> StreamState {
        StreamState {
            created: Timestamp::UNIX_EPOCH,
            first,
            last,
            deleted: 0,
            duplicate_window: Duration::from_secs(600),
            now: Timestamp::UNIX_EPOCH,
            leader: None,
            takes_batches: false,
            subjects: Vec::new(),
        }
    }

    #[test]
    fn what_is_due_has_been_held_long_enough_and_no_less() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut ledger = Ledger::default();
        for n in 1..=5 {
            ledger.note(checkpoint(n * 10 - 5, n), start);
            ledger.note(checkpoint(n * 10, n), start + second * u32::try_from(n).unwrap());
            ledger.close();
        }
        ledger.note(checkpoint(55, 6), start);
        assert_eq!(ledger.newest(), Some(checkpoint(55, 6)));
        assert_eq!(ledger.due(second * 5, start + second * 5), None);
        assert_eq!(ledger.due(second * 5, start + second * 8), Some(checkpoint(30, 3)));
        ledger.release(30);
        assert_eq!(ledger.due(second * 5, start + second * 8), None);
        assert_eq!(ledger.due(second * 5, start + second * 100), Some(checkpoint(50, 5)), "an open one is not due");
    }

    #[test]
    fn a_stream_that_ends_early_or_is_another_has_lost_and_one_that_retains_less_has_not() {
        let at = checkpoint(9, 100);
        assert_eq!(judge(&at, &state(1, 100)), None, "the event tells");
        assert_eq!(judge(&at, &state(101, 100)), Some(Verdict::Held), "purged or expired");
        assert!(matches!(judge(&at, &state(1, 99)), Some(Verdict::Lost(_))));
        let anew = StreamState { created: Timestamp::from_second(1).unwrap(), ..state(1, 200) };
        assert!(matches!(judge(&at, &anew), Some(Verdict::Lost(_))));
        assert_eq!(judge(&checkpoint(9, 0), &anew), Some(Verdict::Held), "nothing was acknowledged");
    }
}

//! Noticing that the stream has lost what it had acknowledged, and going back.

use tracing::error;
use upcall_bus_nats::StreamState;
use upcall_telemetry::error_chain;

use crate::checkpoint::{Checkpoint, Verdict, verify};
use crate::worker::Worker;

impl Worker {
    /// Compares the newest acknowledgement with what the stream holds, and goes back if that is less.
    pub(crate) async fn compare(&mut self, state: StreamState) -> Result<(), String> {
        if let Some(newest) = self.ledger.newest() {
            let verdict = verify(&self.bus, &newest).await.map_err(|error| error_chain(&error))?.0;
            let holes = self.deleted.map_or(0, |(_, deleted)| state.deleted.saturating_sub(deleted));
            if let Verdict::Lost(why) = verdict {
                self.lost(&why);
            } else if holes > 0 && self.deleted.is_some_and(|(generation, _)| generation != self.generation()) {
                self.lost(&format!("{holes} events in the midst of the stream are not there any more"));
            } else if self.has_another_leader(&state) {
                self.doubt_leader().await?;
            } else {
                self.held = Some(newest);
            }
        }
        self.note_deleted(state.deleted);
        self.recognised = state.duplicate_window - state.duplicate_window / 4;
        self.stream_last = state.last;
        self.stream = Some(state);
        Ok(())
    }

    /// Whether the stream is led by another server than when it was looked at last.
    pub(crate) fn has_another_leader(&self, state: &StreamState) -> bool {
        self.stream.as_ref().is_some_and(|before| before.leader != state.leader)
    }

    /// Goes back to what the stream was last found to hold: a leader that has lost its end may have filled it since
    /// with other events, so that the newest acknowledgement says nothing about those before it.
    async fn doubt_leader(&mut self) -> Result<(), String> {
        self.doubt.forget();
        let floor = self.backlog.floor();
        let Some(held) = self.held.filter(|held| held.journal > floor) else {
            self.go_back(floor);
            return Ok(());
        };
        match verify(&self.bus, &held).await.map_err(|error| error_chain(&error))?.0 {
            Verdict::Held => self.go_back(held.journal),
            Verdict::Lost(why) => self.lost(&why),
        }
        Ok(())
    }

    /// Takes note that the stream still holds a checkpoint.
    pub(crate) fn still_holds(&mut self, checkpoint: Checkpoint, state: &StreamState) {
        self.held = Some(checkpoint);
        self.note_deleted(state.deleted);
    }

    /// Takes note of how many events are missing in the midst of the stream, as operators may remove some.
    fn note_deleted(&mut self, deleted: u64) {
        self.deleted = Some((self.generation(), deleted));
    }

    /// The server has come back with less than it had acknowledged: all that the journal holds is to be sent again.
    pub(crate) fn lost(&mut self, why: &str) {
        let floor = self.backlog.floor();
        error!(
            events = self.acked - floor,
            "NATS has lost events that it had acknowledged; they are sent again from the journal: {why}"
        );
        self.status.losses += 1;
        self.doubt.forget();
        self.go_back(floor);
    }

    /// Sends everything after this event again.
    fn go_back(&mut self, journal: u64) {
        if journal < self.acked {
            self.lost_up_to = self.lost_up_to.max(self.acked);
            (self.acked, self.newest, self.held) = (journal, None, None);
            self.ledger.rewind(journal);
        }
    }
}

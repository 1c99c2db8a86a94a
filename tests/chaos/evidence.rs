//! What arrived: in the stream, in the consumer's table, and at the recorder.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::facts::Upload;
use super::recorder::Recorded;
use super::{Fleet, Oracle, Recorder, Stored, dead_letters, stored};

const POLL: Duration = Duration::from_millis(500);

/// What arrived.
#[derive(Debug, Default)]
pub struct Evidence {
    /// The sequences in the stream, by upload.
    pub stream: BTreeMap<Upload, Vec<u64>>,
    /// What happened in the consumer's table, and when since the run began, by upload.
    pub effects: BTreeMap<Upload, Vec<(String, Duration)>>,
    /// What is not as it was sent, or was never sent.
    pub wrong: Vec<String>,
    /// How often the recorder was delivered what it was delivered more than once.
    pub recorded_again: usize,
    /// How many events the recorder has.
    pub recorded: usize,
    /// How often the consumer was delivered something again.
    pub redelivered: u64,
    /// How many dead letters there are. None was called for.
    pub dead: u64,
}

impl Evidence {
    /// Waits until everything that is owed has arrived everywhere, or patience ends, and gathers what there is.
    ///
    /// # Errors
    /// If stream or table can't be read.
    pub fn gather(
        fleet: &Fleet,
        oracle: &Oracle,
        recorder: Option<&Recorder>,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let end = Instant::now() + patience;
        loop {
            let evidence = Self::gather_now(fleet, oracle, recorder)?;
            let owed = oracle.obligations();
            let is_settled = owed.iter().all(|upload| evidence.has(*upload))
                && evidence.stream.keys().all(|upload| evidence.effects.contains_key(upload))
                && (recorder.is_none() || evidence.recorded >= evidence.stream.len());
            if is_settled || Instant::now() > end {
                return Ok(evidence);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Whether an upload is in the stream and in the table.
    pub fn has(&self, upload: Upload) -> bool {
        self.stream.contains_key(&upload) && self.effects.contains_key(&upload)
    }

    fn gather_now(fleet: &Fleet, oracle: &Oracle, recorder: Option<&Recorder>) -> anyhow::Result<Self> {
        let mut evidence = Self { dead: dead_letters(&fleet.urls())?, ..Self::default() };
        for Stored { sequence, event_id, data } in stored(&fleet.urls())? {
            match Upload::of(&event_id, &data) {
                Ok(upload) => evidence.stream.entry(upload).or_default().push(sequence),
                Err(wrong) => evidence.wrong.push(format!("stream, sequence {sequence}: {wrong}")),
            }
        }
        for (request_id, effects) in fleet.catalog.effects()? {
            let Some(upload) = Upload::with_request_id(&request_id) else { continue };
            let effects = effects.into_iter().map(|(what, at)| (what, oracle.since_begin(at))).collect();
            evidence.effects.insert(upload, effects);
        }
        for (event_id, row) in fleet.catalog.rows()? {
            if let Err(wrong) = Upload::of(&event_id, &row) {
                evidence.wrong.push(format!("table: {wrong}"));
            }
        }
        let Recorded { deliveries, wrong } = recorder.map(Recorder::recorded).unwrap_or_default();
        evidence.wrong.extend(wrong.into_iter().map(|wrong| format!("recorder: {wrong}")));
        evidence.recorded_again = deliveries.values().filter(|count| **count > 1).count();
        evidence.recorded = deliveries.len();
        evidence.redelivered = super::stream::redelivered(&fleet.urls())?;
        let seen = evidence.stream.keys().chain(evidence.effects.keys()).chain(deliveries.keys());
        let invented: Vec<_> = seen.filter(|upload| !oracle.has_issued(**upload)).copied().collect();
        evidence.wrong.extend(invented.into_iter().map(|upload| format!("{} was never issued", upload.request_id())));
        Ok(evidence)
    }
}

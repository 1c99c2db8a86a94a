//! Which configuration is in force, for whoever asks.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};
use upcall_telemetry::metrics::{Metrics, ReloadLabels};

/// Everything that can become of a configuration which is read while the process runs.
const OUTCOMES: [&str; 5] = ["applied", "unchanged", "invalid", "needs_restart", "failed"];

/// Which configuration is in force; a clone is the same.
#[derive(Clone, Default)]
pub(crate) struct InForce(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    file: PathBuf,
    since: Timestamp,
    reloads: u64,
    refused: Option<(Timestamp, Refusal)>,
}

/// Why a configuration is not taken up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// How it is counted.
    pub(super) outcome: &'static str,
    /// Everything that is wrong.
    pub(super) reasons: Vec<String>,
}

impl Refusal {
    pub(super) fn new(outcome: &'static str, reasons: Vec<String>) -> Self {
        Self { outcome, reasons }
    }

    pub(super) fn failed(reason: impl Into<String>) -> Self {
        Self::new("failed", vec![reason.into()])
    }
}

impl InForce {
    /// Takes note of the configuration that the process has started with.
    pub(crate) fn begin(&self, file: &Path, metrics: &Metrics) {
        for outcome in OUTCOMES {
            let _ = metrics.config_reloads.get_or_create_owned(&ReloadLabels { outcome });
        }
        *self.lock() = State { file: file.to_owned(), since: Timestamp::now(), ..State::default() };
        self.show(metrics);
    }

    pub(super) fn applied(&self, metrics: &Metrics) {
        {
            let mut state = self.lock();
            state.since = Timestamp::now();
            state.reloads += 1;
            state.refused = None;
        }
        self.count("applied", metrics);
    }

    pub(super) fn unchanged(&self, metrics: &Metrics) {
        self.lock().refused = None;
        self.count("unchanged", metrics);
    }

    pub(super) fn refused(&self, refusal: Refusal, metrics: &Metrics) {
        let outcome = refusal.outcome;
        self.lock().refused = Some((Timestamp::now(), refusal));
        self.count(outcome, metrics);
    }

    /// Whether the configuration as it is now was refused.
    pub(super) fn is_refused(&self) -> bool {
        self.lock().refused.is_some()
    }

    /// Whether it was not refused for this already.
    pub(super) fn is_news(&self, refusal: &Refusal) -> bool {
        self.lock().refused.as_ref().is_none_or(|(_, known)| known != refusal)
    }

    /// What the admin pages show of it.
    pub(crate) fn page(self) -> Arc<dyn Fn() -> Value + Send + Sync> {
        Arc::new(move || {
            let state = self.lock();
            let refused = state.refused.as_ref().map(|(time, Refusal { outcome, reasons })| {
                json!({ "time": time.to_string(), "outcome": outcome, "reasons": reasons })
            });
            json!({
                "file": state.file.display().to_string(),
                "in_force_since": state.since.to_string(),
                "reloads": state.reloads,
                "refused": refused,
            })
        })
    }

    fn count(&self, outcome: &'static str, metrics: &Metrics) {
        metrics.config_reloads.get_or_create_owned(&ReloadLabels { outcome }).inc();
        self.show(metrics);
    }

    fn show(&self, metrics: &Metrics) {
        let state = self.lock();
        metrics.config_refused.get().set(i64::from(state.refused.is_some()));
        metrics.config_since.get().set(state.since.as_second());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

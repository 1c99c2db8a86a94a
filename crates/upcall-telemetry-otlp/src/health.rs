//! Whether the collector takes what it is sent: said once when it stops, and once when it is back.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tracing::{info, warn};

use crate::options::Endpoint;
use crate::transport::Kind;

/// What fails, and why.
#[derive(Debug)]
pub(crate) struct Health {
    /// Its address.
    collector: String,
    failing: Mutex<BTreeMap<Kind, String>>,
}

impl Health {
    pub(crate) fn new(collector: &Endpoint) -> Self {
        Self { collector: collector.to_string(), failing: Mutex::default() }
    }

    /// Something was taken.
    pub(crate) fn taken(&self, kind: Kind) {
        let is_back = {
            let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
            failing.remove(&kind).is_some() && failing.is_empty()
        };
        if is_back {
            info!(collector = self.collector, "the collector takes telemetry again");
        }
    }

    /// Something was not taken, and waits.
    pub(crate) fn waits(&self, kind: Kind, reason: &str) {
        self.failed(kind, reason, "they wait, and what has no room is dropped and counted");
    }

    /// Something was not taken, and is dropped.
    pub(crate) fn dropped(&self, kind: Kind, reason: &str) {
        self.failed(kind, reason, "what it refuses is dropped and counted");
    }

    fn failed(&self, kind: Kind, reason: &str, what_then: &str) {
        let is_new = {
            let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
            let is_known = failing.contains_key(&kind) || failing.values().any(|known| known == reason);
            failing.insert(kind, reason.to_owned());
            !is_known
        };
        if is_new {
            let (what, collector) = (kind.name(), &self.collector);
            warn!(collector, reason, "the collector does not take {what}: {what_then}");
        }
    }
}

//! What the uploaders know: which callbacks were sent, and what came of each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::chaos::facts::Upload;

/// What came of one callback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An answer, with its status and, of an error, its code.
    Answered(u16, String),
    /// No connection, or one that broke.
    Broken(String),
    /// No answer for as long as OSS waits.
    Late,
}

/// One callback that was sent.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// To which gateway.
    pub gateway: usize,
    /// When, since the run began.
    pub at: Duration,
    /// How long it took.
    pub took: Duration,
    /// What came of it.
    pub outcome: Outcome,
}

impl Attempt {
    /// Whether it was answered 200.
    pub fn is_success(&self) -> bool {
        matches!(self.outcome, Outcome::Answered(200, _))
    }
}

/// Everything that was sent, and what came of it. Every 200 is an obligation.
pub struct Oracle {
    begin: Instant,
    begin_unix: Duration,
    issued: AtomicU64,
    attempts: Mutex<BTreeMap<Upload, Vec<Attempt>>>,
}

impl Oracle {
    /// An oracle of a run that begins now.
    pub fn new() -> Self {
        let begin_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { begin: Instant::now(), begin_unix, issued: AtomicU64::new(0), attempts: Mutex::default() }
    }

    /// Since the run began.
    pub fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Turns Unix time in seconds into time since the run began.
    pub fn since_begin(&self, unix: f64) -> Duration {
        Duration::from_secs_f64(unix.max(0.0)).saturating_sub(self.begin_unix)
    }

    /// The next upload.
    pub fn issue(&self) -> Upload {
        Upload(self.issued.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether this upload was ever issued.
    pub fn has_issued(&self, upload: Upload) -> bool {
        upload.0 < self.issued.load(Ordering::Relaxed)
    }

    /// How many were issued.
    pub fn issued(&self) -> u64 {
        self.issued.load(Ordering::Relaxed)
    }

    /// Takes note of what came of a callback.
    pub fn note(&self, upload: Upload, attempt: Attempt) {
        self.lock().entry(upload).or_default().push(attempt);
    }

    /// What was answered 200.
    pub fn obligations(&self) -> BTreeSet<Upload> {
        let is_obligation =
            |(upload, attempts): (&Upload, &Vec<Attempt>)| attempts.iter().any(Attempt::is_success).then_some(*upload);
        self.lock().iter().filter_map(is_obligation).collect()
    }

    /// Every callback that was sent.
    pub fn attempts(&self) -> BTreeMap<Upload, Vec<Attempt>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Upload, Vec<Attempt>>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Oracle {
    fn default() -> Self {
        Self::new()
    }
}

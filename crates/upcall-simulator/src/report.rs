//! What became of callbacks.

use std::time::Duration;

use upcall_callback::CallbackFailure;

/// Tells what became of one callback to one URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbackReport {
    /// The bucket of the upload.
    pub bucket: String,
    /// The key of the uploaded object.
    pub object: String,
    /// The upload's request id.
    pub request_id: String,
    /// The URL, as the uploader wrote it.
    pub url: String,
    /// What became of it.
    pub outcome: CallbackOutcome,
    /// How long it took.
    pub elapsed: Duration,
}

/// What became of a callback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallbackOutcome {
    /// The application server answered as it has to.
    Answered {
        /// The length of its answer.
        bytes: usize,
    },
    /// It did not.
    Failed(CallbackFailure),
    /// The callback was not sent, because a fault says so.
    Lost,
}

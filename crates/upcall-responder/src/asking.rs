//! How a service is asked, and what its reply comes to.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use upcall_event::Event;

use crate::service::{AskError, AskErrorKind, Reply, Service, Veto, check_answer};
use crate::template::AnswerTemplate;

/// A service and how it is asked.
#[derive(Clone)]
pub struct Asking {
    /// Who is asked.
    pub service: Arc<dyn Service>,
    /// How.
    pub options: AskingOptions,
}

/// How a service is asked.
#[derive(Debug, Clone)]
pub struct AskingOptions {
    /// Whether it is asked once the event is durable, or before, when it may veto.
    pub when: When,
    /// How long it may take, within what the callback has left.
    pub timeout: Duration,
    /// What is answered where the service has no say; without it the callback fails.
    pub fallback: Option<AnswerTemplate>,
    /// What the uploader gets to see of a veto.
    pub veto: VetoAnswer,
    /// How many questions may wait for the service at once; one more counts as failed, at once.
    pub concurrency: NonZeroUsize,
}

/// When a service is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum When {
    /// Before the event is published. The service may veto.
    Before,
    /// Once the event is durable.
    #[default]
    After,
}

/// What the uploader gets to see of a veto.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum VetoAnswer {
    /// The callback fails. OSS tells the uploader nothing but the status, and nobody can take it for success.
    #[default]
    Fail,
    /// The service's own JSON, as if the callback had succeeded: OSS relays nothing else. The client must look.
    Relay,
}

/// What becomes of a callback, by what a service said.
#[derive(Debug)]
pub enum Verdict {
    /// The service's answer, checked.
    Answer(Bytes),
    /// The service has no say; this is answered instead.
    Fallback {
        /// The answer.
        answer: Vec<u8>,
        /// Why the service has no say.
        cause: AskError,
    },
    /// No event. Only where the service was asked before.
    Vetoed(Veto),
    /// The service has no say, and there is nothing to answer instead.
    Failed(AskError),
}

impl Asking {
    /// Decides what a reply comes to.
    #[must_use]
    pub fn judge(&self, event: &Event, asked: Result<Reply, AskError>) -> Verdict {
        let cause = match (asked, self.options.when) {
            (Ok(Reply::Answer(answer)), _) => match check_answer(&answer) {
                Ok(()) => return Verdict::Answer(answer),
                Err(invalid) => invalid.into(),
            },
            (Ok(Reply::Veto(veto)), When::Before) => return Verdict::Vetoed(veto),
            (Ok(Reply::Veto(veto)), When::After) => AskError::new(AskErrorKind::VetoTooLate, veto.reason()),
            (Err(cause), _) => cause,
        };
        // A fallback that is too long for OSS would be no better than none.
        match self.options.fallback.as_ref().and_then(|fallback| fallback.fill(event).ok()) {
            Some(answer) => Verdict::Fallback { answer, cause },
            None => Verdict::Failed(cause),
        }
    }
}

impl Default for AskingOptions {
    fn default() -> Self {
        Self {
            when: When::default(),
            // A third of what a callback has, so that publishing and a retry of the uploader's have room.
            timeout: Duration::from_millis(1500),
            fallback: None,
            veto: VetoAnswer::default(),
            // At 20 ms each that is 12,800 answers a second; with a service that hangs, 256 connections are held.
            concurrency: const { NonZeroUsize::new(256).expect("it is not zero") },
        }
    }
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").field("options", &self.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

//! Says what the uploader receives for an event: a filled-in template, or what a service answers.
//!
//! A service is asked through the trait [`Service`], whatever it speaks. [`Asking::judge`] decides what its reply
//! comes to. Nothing here waits: who asks keeps the time.

mod asking;
mod service;
mod template;

use serde_json::Value;

pub use asking::{Asking, AskingOptions, Verdict, VetoAnswer, When};
pub use service::{AskError, AskErrorKind, InvalidReply, Reply, Service, Source, Veto, check_answer};
pub use template::{AnswerTemplate, AnswerTooLarge, InvalidAnswer};
pub use upcall_callback::ANSWER_BYTES_MAX;

/// Where a route's answers come from.
#[derive(Debug, Clone)]
pub enum Responder {
    /// From the configuration and the event.
    Template(AnswerTemplate),
    /// From a service that is asked about each event.
    Service(Asking),
}

impl Responder {
    /// Compiles a configured answer.
    ///
    /// # Errors
    /// With every string that is no template or names what no event has.
    pub fn new(answer: &Value) -> Result<Self, Vec<InvalidAnswer>> {
        AnswerTemplate::new(answer).map(Self::Template)
    }
}

impl Default for Responder {
    /// Answers `{"Status":"OK"}`, as Alibaba Cloud's sample servers do.
    fn default() -> Self {
        Self::Template(AnswerTemplate::default())
    }
}

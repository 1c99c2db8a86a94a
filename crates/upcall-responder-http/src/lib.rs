//! Asks an HTTP service for the answer to an upload.
//!
//! The event goes out as a structured CloudEvent by POST. Status 2xx is an answer, 4xx a veto with its reason, and
//! anything else a failure; what a veto or a failure comes to, [`upcall_responder`] decides.

mod options;
mod reason;
mod service;

pub use options::{Authorization, InvalidAuthorization, InvalidServiceUrl, Options, ServiceUrl};
pub use service::{BuildError, HttpService};

//! The sink that posts events to a webhook: one event a request, signed as
//! [Standard Webhooks](https://www.standardwebhooks.com) are.
//!
//! What the endpoint answers is judged in one place, without waiting for anything. An answer counts for the event that
//! it answers; where nothing was sent, the endpoint is out of order and no event has lost an attempt.

mod judge;
mod message;
mod options;
mod s3;
mod secret;
mod sink;

#[cfg(test)]
mod tests;

pub use message::Format;
pub use options::{InvalidStatus, Options, Status, wait_after};
pub use secret::{InvalidSecret, Secret};
pub use sink::WebhookSink;

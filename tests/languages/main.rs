//! What programs in other languages build on: the examples in `docs/consumers.md` and
//! `docs/sinks.md`, and the AsyncAPI document.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod asyncapi;
mod broker;
mod consumers;
mod example;
mod webhooks;

//! The gateway over real sockets, with real signatures.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod answers;
mod asking;
mod http;
mod limits;
mod proxies;
mod quarantine;
mod service;
mod support;

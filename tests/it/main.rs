//! How the crates hang together, and what several of them do together in one process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod links;
mod nats;
mod structure;

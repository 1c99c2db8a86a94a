//! The bus on real NATS servers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod archive;
mod auth;
mod conformance;
mod deaths;
mod differences;
mod examine;
mod harness;
mod leaderless;
mod letters;
mod lost_consumer;
mod permissions;
mod relay;
mod rollback;
mod service;
mod stuck;
mod waiting;

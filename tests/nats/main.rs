//! The bus on real NATS servers.

mod auth;
mod conformance;
mod examine;
mod harness;
mod permissions;
mod relay;
mod rollback;
mod service;

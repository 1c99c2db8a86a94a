//! The bus on real NATS servers.

mod conformance;
mod harness;
mod service;

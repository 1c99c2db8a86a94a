//! Traces, metrics and logs, received by a collector that decodes them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod collectors;
mod hostile;
mod lag;
#[allow(dead_code, reason = "shared with the tests of the executable, which use all of it")]
#[path = "../e2e/serve.rs"]
mod serve;
mod site;
mod tls;
mod traces;

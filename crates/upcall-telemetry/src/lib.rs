//! Logs, metrics and spans, and every name that operators see, in one place.

mod error_chain;
pub mod log;
pub mod metrics;
pub mod printable;
pub mod trace;

pub use error_chain::error_chain;

//! Logs, metrics and spans, and every name that operators see, in one place.

pub mod log;
pub mod metrics;
pub mod printable;
pub mod trace;

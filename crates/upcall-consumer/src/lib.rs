//! The runtime of consumers: it reads a named consumer off a bus, hands batches of events to a sink, and settles
//! each event by the sink's verdict: done, again later, or dead.
//!
//! It knows neither which bus it reads nor what the sink does. Writing a sink of one's own begins at [`Sink`].

mod backoff;
mod batch;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod consumer;
mod failing;
mod options;
mod path;
mod queue;
mod settle;
mod sink;
mod stats;
mod target;

#[cfg(test)]
mod tests;

pub use backoff::Backoff;
pub use consumer::Consumer;
pub use failing::Retrying;
pub use options::Options;
pub use sink::{Item, Sink, Verdict};
pub use stats::{Snapshot, State, Stats};
pub use upcall_bus::Source;

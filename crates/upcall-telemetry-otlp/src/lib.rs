//! Traces, metrics and logs to a collector, over OTLP. The one crate that knows OpenTelemetry.
//!
//! [`Options`] → [`Telemetry::start`]. Everything is sent by one thread of its own with a runtime of its own. Whoever makes
//! a span or a line puts it into a bounded queue and goes on; what has no room there is dropped, and counted. So a
//! collector that is slow, hangs or is gone changes nothing for anybody else.

mod body;
mod exports;
mod halves;
mod handle;
mod health;
mod line;
mod metrics;
mod options;
mod patience;
mod processor;
mod pump;
mod queue;
mod recorder;
mod remedy;
mod telemetry;
mod text;
mod transport;
mod trim;

pub use handle::{Flush, Handle, Renewal};
pub use options::{Endpoint, InvalidEndpoint, Options, Protocol, Signals};
pub use telemetry::{StartError, Telemetry};

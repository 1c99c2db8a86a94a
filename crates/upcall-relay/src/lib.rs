//! Between the journal and NATS JetStream: a [`Relay`] that empties the journal into the stream of uploads, and a
//! [`Spill`] that publishes to NATS, and to the journal while NATS does not take events.

mod options;
mod relay;
mod spill;
mod status;

pub use options::{Options, SpillOptions};
pub use relay::Relay;
pub use spill::Spill;
pub use status::{RelayHandle, RelayStatus};

//! The distributed bus: NATS JetStream.
//!
//! # What it promises
//! - **Published means acknowledged by the stream**, under the event's id: published again within the duplicate window
//!   it is a duplicate. A server acknowledges before it syncs; `upcall-relay` is for whom that is not enough.
//! - **Every consumer, at least once.** A consumer is a durable pull consumer of its name. While an event is with us,
//!   delivered or waiting, the server is told so; a process that dies is noticed after `ack_wait`.
//! - **Attempts are ours**, in a bucket: hand-backs, outages and crashes burn none (ADR 8). Dead letters are published
//!   before the event is settled, and do not rest on advisories.
//! - **What passes is waited for**, until the deadline of the publication: a connection, or a leader of the stream.
//! - **It heals by itself.** Servers may come, go and hang at any time; [`NatsBus::fault`] says what is wrong now.
//! - A message is told from another one in its place by the time at which the stream stored it: a stream that lost its
//!   end in a power failure gives the same sequences to other events.

mod archive;
mod attempts;
mod connecting;
mod connection;
mod dead;
mod difference;
pub mod examine;
mod floor;
mod intake;
mod keeper;
pub mod names;
mod off;
mod options;
mod outbox;
mod persist;
mod progress;
mod provision;
mod publish;
mod quarantine;
mod service;
mod session;
mod settle;
mod stored;
mod subscription;
mod thaw;
mod tls;

pub use connecting::ConnectError;
pub use connection::{Link, NatsBus};
pub use difference::{DUPLICATE_WINDOW_MIN, Difference, Severity, covers};
pub use options::{Auth, Options, StreamOptions};
pub use outbox::{Ack, IdScan, Outbox, Outgoing, StreamState};
pub use progress::Progress;
pub use service::NatsService;
pub use tls::{Identity, InvalidIdentity, Tls};

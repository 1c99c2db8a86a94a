//! The distributed bus: NATS JetStream.

mod archive;
mod attempts;
mod connecting;
mod connection;
mod dead;
pub mod examine;
mod keeper;
pub mod names;
mod options;
mod outbox;
mod provision;
mod publish;
mod service;
mod session;
mod settle;
mod subscription;

pub use connecting::ConnectError;
pub use connection::{Link, NatsBus};
pub use options::{Auth, Options, StreamOptions, Tls};
pub use outbox::{Ack, IdScan, Outbox, StreamState};
pub use provision::{DUPLICATE_WINDOW_MIN, Difference, Severity};
pub use service::NatsService;

//! The embedded bus: a durable log in SQLite.

mod checkpointer;
mod clock;
mod database;
mod error;
mod fetch;
mod journal;
mod lock;
mod options;
mod plan;
mod queue;
mod reader;
mod retention;
mod schema;
mod session;
mod statements;
mod status;
mod subscription;
#[cfg(test)]
mod tests;
mod writer;

pub use error::{OpenError, ReadError};
pub use journal::Journal;
pub use options::{Options, Retention};
pub use reader::{DeadLetter, Page, Reader, StoredEvent, Tail};
pub use status::{ConsumerState, Status};

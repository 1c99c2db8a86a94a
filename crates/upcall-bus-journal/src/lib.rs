//! The embedded bus: a durable log in SQLite.

mod clock;
mod error;
mod journal;
mod options;
mod reader;
mod schema;
mod status;

pub use error::{OpenError, ReadError};
pub use journal::Journal;
pub use options::{Options, Retention};
pub use reader::{DeadLetter, Page, Reader, StoredEvent, Tail};
pub use status::{ConsumerState, Status};

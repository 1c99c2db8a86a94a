//! The embedded bus: a durable log in an SQLite file, for one process that writes and any number that read.
//!
//! # Publishing
//! A publication is made JSON in its publisher's task and put into a bounded queue. One thread, the writer, takes all
//! that waits, stores it in one transaction with `synchronous = FULL`, and tells the publishers when `COMMIT` has
//! returned: they share an fsync. An event is recognised by its id: the newest ids are in memory, the others in a table
//! that gets them in sorted batches, with the events of later transactions.
//!
//! - `Ok` comes after the fsync, also for a duplicate: what a crash or a failed fsync may have left in the system's
//!   cache only is written to the disk when the files are opened, before anything is acknowledged.
//! - A transaction that fails refuses all its publications. Where SQLite does not say for sure that it is undone, the
//!   writer opens the files anew. It goes on by itself when there is room again; a small transaction of its own finds
//!   that out where no publisher tries.
//! - Files that somebody takes away while they are open are noticed before each transaction, and publishers refused until
//!   they are back.
//! - A full queue refuses at once. What has waited past its deadline, or was given up, is not stored.
//! - Sequences only grow, and none is used twice: the newest that retention has removed is kept.
//!
//! # Consuming
//! A consumer is a row with a *floor*: every event up to it is settled, waits in `retry`, or is not selected. What was
//! settled above it, out of order, are rows of `settled`; what waits for another attempt are rows of `retry`, above and
//! below the floor. So a consumer that settles in order costs an update of one row a transaction, and one event that
//! is tried again for days holds nothing up.
//!
//! - What is in flight is in memory only ([`Options::in_flight_max`] bounds it): a crash gives all of it back.
//! - A settlement goes through the writer, with whatever else it writes then, and is answered after `COMMIT`. Alone it
//!   does not wait for an fsync: a killed process loses none, a power cut the last ones, which are then delivered again.
//! - A dead letter is written in the transaction that settles its event.
//! - A subscription reads with a connection of its own, in batches, woken by commits. It never blocks the writer.
//! - A [`Backlog`], which a relay reads, is a consumer of which only the floor is used: its events are read as they are
//!   stored, and nothing is noted about any one of them.
//! - What an operator gives a consumer again ([`JournalArchive`]) are rows of `redelivery`, with payloads of their own:
//!   they neither need the event nor move the floor. They take turns with new events.
//! - Requests are done in their order: an ack that was sent before its subscription was dropped stands.
//!
//! # Keeping
//! Retention removes the oldest events in small transactions, and none that a consumer has not settled unless it is
//! told to: those stay, and it is said whose they are ([`Journal::overdue`]). Dead letters have a time of their own, and
//! no event goes for their room. What waits is due by a clock that never goes back. Rejected callbacks, which anybody can send, are kept in bounds of
//! their own, and wait for no disk. A thread of its own copies the write-ahead log into the database, so that publishers don't wait for it;
//! the writer copies the rest, after which the log starts again from its beginning. A failed copy fails no publication.
//!
//! The tables are documented in `docs/reference/journal.md`.

mod aging;
mod archive;
mod backlog;
mod backup;
mod checkpointer;
mod clock;
mod database;
mod error;
mod fetch;
mod forget;
mod giver;
mod index;
mod journal;
mod lock;
mod options;
mod overdue;
mod place;
mod plan;
mod quarantine;
mod queue;
mod reader;
mod redelivery;
mod retention;
mod schema;
mod session;
mod shared;
mod staged;
mod statements;
mod status;
mod subscription;
#[cfg(test)]
mod tests;
mod writer;

pub use archive::JournalArchive;
pub use backlog::{Backlog, RawEvent};
pub use backup::{BackupError, Contents, restore};
pub use error::{OpenError, ReadError};
pub use forget::forget;
pub use journal::Journal;
pub use options::{Options, QuarantineBounds, Retention};
pub use overdue::Overdue;
pub use reader::{DeadLetter, Page, Reader, StoredEvent, Tail};
pub use status::{ConsumerState, Status};

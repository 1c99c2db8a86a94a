//! The sink that keeps a table of uploads in a SQL database: one row per object, the latest upload's.
//!
//! An event's effect happens once: the ids of applied events are written in the transaction that applies them.
//! An older event that arrives late changes nothing. `docs/reference/sql-sink.md` documents the tables.

mod column;
mod error;
mod options;
mod reference;
mod row;
mod sink;
mod sqlite;
mod statement;
mod store;

#[cfg(test)]
mod tests;

pub use error::{OptionsError, StoreError, StoreErrorKind};
pub use options::{InvalidTableName, Options, TableName};
pub use reference::reference;
pub use sink::SqlSink;

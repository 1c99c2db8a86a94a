//! The sink that keeps a table of uploads in a SQL database: one row per object, the latest upload's.
//!
//! An event's effect happens once: the ids of applied events are written in the transaction that applies them.
//! An older event that arrives late changes nothing. `docs/reference/sql-sink.md` documents the tables.

mod applied;
mod column;
mod database;
mod dialect;
mod error;
mod mysql;
mod options;
mod pool;
mod postgres;
mod record;
mod reference;
mod row;
mod said;
mod schema;
mod sink;
mod sqlite;
mod statement;
mod store;
mod url;
mod user_statement;

#[cfg(test)]
mod tests;

pub use error::{OptionsError, StoreError, StoreErrorKind};
pub use options::{Effect, InvalidTableName, Options, TableName};
pub use reference::reference;
pub use sink::{SqlSink, check_url};
pub use user_statement::{InvalidStatement, UserStatement};

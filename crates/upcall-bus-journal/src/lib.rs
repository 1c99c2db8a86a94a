//! The embedded bus: a durable log in SQLite.

//! The SQL sink on real databases: the same tests on PostgreSQL, MariaDB and SQLite.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conformance;
mod events;
mod faults;
mod ids;
mod killed;
mod link;
mod random;
mod rights;
mod site;
mod statement;
mod table;
mod tables;
mod tls;

//! The SQL, with what differs between databases kept in one place.

use std::fmt::Write as _;

use crate::TableName;
use crate::column::{COLUMNS, Column, KEY, Kind, ORDER};

/// A kind of database, and how it says things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
}

impl Dialect {
    fn column_type(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::Sqlite, Kind::Text | Kind::Json | Kind::Time) => "TEXT",
            (Self::Sqlite, Kind::Integer) => "INTEGER",
            (Self::Sqlite, Kind::Bytes) => "BLOB",
        }
    }

    /// The placeholder of a statement's parameter, counted from 1.
    fn push_placeholder(self, sql: &mut String, _parameter: usize) {
        match self {
            Self::Sqlite => sql.push('?'),
        }
    }

    /// What makes a table that is nothing but its key.
    fn key_only_suffix(self) -> &'static str {
        match self {
            Self::Sqlite => " WITHOUT ROWID",
        }
    }
}

/// The columns of the table of applied events.
pub(crate) const APPLIED_COLUMNS: [&str; 2] = ["event_id", "applied_at"];

/// The sink's statements for one pair of tables.
#[derive(Debug)]
pub(crate) struct Statements {
    dialect: Dialect,
    table: TableName,
}

impl Statements {
    pub(crate) fn new(dialect: Dialect, table: TableName) -> Self {
        Self { dialect, table }
    }

    /// The name of the table of uploads.
    pub(crate) fn uploads(&self) -> &str {
        self.table.as_str()
    }

    /// The name of the table of applied events.
    pub(crate) fn applied(&self) -> String {
        format!("{}_applied", self.table)
    }

    /// Creates the table of uploads and its index.
    pub(crate) fn create_uploads(&self) -> [String; 2] {
        let table = &self.table;
        let mut create = format!("CREATE TABLE IF NOT EXISTS \"{table}\" (\n");
        for Column { name, kind, nullable, .. } in COLUMNS {
            let kind = self.dialect.column_type(*kind);
            let null = if *nullable { "" } else { " NOT NULL" };
            let _ = writeln!(create, "  {name} {kind}{null},");
        }
        let _ = write!(create, "  PRIMARY KEY ({})\n)", KEY.join(", "));
        let index = format!("CREATE INDEX IF NOT EXISTS \"{table}_uploaded_at\" ON \"{table}\" (uploaded_at)");
        [create, index]
    }

    /// Creates the table of applied events and its index.
    pub(crate) fn create_applied(&self) -> [String; 2] {
        let (applied, suffix) = (self.applied(), self.dialect.key_only_suffix());
        let (bytes, integer) = (self.dialect.column_type(Kind::Bytes), self.dialect.column_type(Kind::Integer));
        let create = format!(
            "CREATE TABLE IF NOT EXISTS \"{applied}\" (\n  event_id {bytes} NOT NULL PRIMARY KEY,\n  applied_at {integer} NOT NULL\n){suffix}"
        );
        let index = format!("CREATE INDEX IF NOT EXISTS \"{applied}_applied_at\" ON \"{applied}\" (applied_at)");
        [create, index]
    }

    /// Inserts or updates rows; a row that is there and later stays.
    pub(crate) fn upsert(&self, rows: usize) -> String {
        let names: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
        let mut sql = format!("INSERT INTO \"{}\" AS present ({}) VALUES ", self.table, names.join(", "));
        self.push_tuples(&mut sql, rows, COLUMNS.len());
        let updates: Vec<String> =
            names.iter().filter(|name| !KEY.contains(name)).map(|name| format!("{name} = excluded.{name}")).collect();
        let _ = write!(
            sql,
            " ON CONFLICT ({}) DO UPDATE SET {} WHERE (excluded.{}) > (present.{})",
            KEY.join(", "),
            updates.join(", "),
            ORDER.join(", excluded."),
            ORDER.join(", present.")
        );
        sql
    }

    /// Selects those of some ids whose events were applied.
    pub(crate) fn select_applied(&self, ids: usize) -> String {
        let mut sql = format!("SELECT event_id FROM \"{}\" WHERE event_id IN ", self.applied());
        self.push_tuples(&mut sql, 1, ids);
        sql
    }

    /// Records ids of applied events.
    pub(crate) fn insert_applied(&self, ids: usize) -> String {
        let mut sql = format!("INSERT INTO \"{}\" ({}) VALUES ", self.applied(), APPLIED_COLUMNS.join(", "));
        self.push_tuples(&mut sql, ids, APPLIED_COLUMNS.len());
        sql
    }

    /// Forgets ids of events applied before a moment, a bounded number at once.
    pub(crate) fn forget_applied(&self, limit: u32) -> String {
        let applied = self.applied();
        let mut sql = format!(
            "DELETE FROM \"{applied}\" WHERE event_id IN (SELECT event_id FROM \"{applied}\" WHERE applied_at < "
        );
        self.dialect.push_placeholder(&mut sql, 1);
        let _ = write!(sql, " LIMIT {limit})");
        sql
    }

    fn push_tuples(&self, sql: &mut String, tuples: usize, width: usize) {
        for tuple in 0..tuples {
            sql.push_str(if tuple == 0 { "(" } else { ", (" });
            for at in 0..width {
                if at > 0 {
                    sql.push_str(", ");
                }
                self.dialect.push_placeholder(sql, tuple * width + at + 1);
            }
            sql.push(')');
        }
    }
}

/// The most rows of one statement: SQLite takes 32,766 parameters (`SQLITE_MAX_VARIABLE_NUMBER` since 3.32).
pub(crate) const ROWS_MAX: usize = 1_000;
const _: () = assert!(ROWS_MAX * COLUMNS.len() <= 32_766, "a statement has more parameters than SQLite takes");

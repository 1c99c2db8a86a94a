//! How each kind of database says things.

use std::fmt::Write as _;

use crate::column::Kind;

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
    /// MySQL and MariaDB.
    MySql,
}

impl Dialect {
    /// Every kind, for the reference.
    pub(crate) const ALL: [Self; 3] = [Self::Sqlite, Self::Postgres, Self::MySql];

    /// The name, for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
            Self::MySql => "MySQL and MariaDB",
        }
    }

    /// The name in what is recorded, as OpenTelemetry's conventions have it.
    pub(crate) fn system(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgresql",
            Self::MySql => "mysql",
        }
    }

    /// The type of a column.
    pub(crate) fn column_type(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::Sqlite, Kind::Integer) => "INTEGER",
            (Self::Sqlite, _) => "TEXT",
            (Self::Postgres, Kind::Text | Kind::Bucket | Kind::Object) => "TEXT",
            // Ids are compared, and have to be so by their bytes.
            (Self::Postgres, Kind::Id) => "TEXT COLLATE \"C\"",
            (Self::Postgres, Kind::Json) => "JSONB",
            (Self::Postgres, Kind::Time) => "TIMESTAMPTZ",
            (Self::Postgres | Self::MySql, Kind::Integer) => "BIGINT",
            (Self::MySql, Kind::Text) => "TEXT",
            (Self::MySql, Kind::Bucket) => "VARCHAR(255)",
            (Self::MySql, Kind::Object) => "VARCHAR(1023)",
            (Self::MySql, Kind::Id) => "CHAR(32) CHARACTER SET ascii COLLATE ascii_bin",
            (Self::MySql, Kind::Json) => "JSON",
            (Self::MySql, Kind::Time) => "DATETIME(6)",
        }
    }

    /// The type of an event's id as bytes.
    pub(crate) fn id_type(self) -> &'static str {
        match self {
            Self::Sqlite => "BLOB",
            Self::Postgres => "BYTEA",
            Self::MySql => "BINARY(16)",
        }
    }

    /// The type of an integer of 64 bits.
    pub(crate) fn integer_type(self) -> &'static str {
        self.column_type(Kind::Integer)
    }

    /// What an added column has in rows that are there, where it must not be null.
    pub(crate) fn default_of(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (_, Kind::Integer) => "0",
            // MySQL takes a default of these types as an expression only.
            (Self::MySql, Kind::Json) => "('{}')",
            (Self::MySql, Kind::Text) => "('')",
            (_, Kind::Json) => "'{}'",
            (Self::Sqlite, Kind::Time) => "'1970-01-01T00:00:00.000000Z'",
            (_, Kind::Time) => "'1970-01-01 00:00:00'",
            (_, Kind::Text | Kind::Bucket | Kind::Object | Kind::Id) => "''",
        }
    }

    /// A name, quoted.
    pub(crate) fn quoted(self, name: &str) -> String {
        match self {
            Self::Sqlite | Self::Postgres => format!("\"{name}\""),
            Self::MySql => format!("`{name}`"),
        }
    }

    /// What follows a table that is nothing but its key.
    pub(crate) fn key_only_suffix(self) -> &'static str {
        match self {
            Self::Sqlite => " WITHOUT ROWID",
            Self::Postgres => "",
            Self::MySql => MYSQL_TABLE,
        }
    }

    /// What follows a table.
    pub(crate) fn table_suffix(self) -> &'static str {
        match self {
            Self::Sqlite | Self::Postgres => "",
            Self::MySql => MYSQL_TABLE,
        }
    }

    /// What of an indexed column goes into the index.
    pub(crate) fn indexed(self, column: &str) -> String {
        match (self, column) {
            // InnoDB takes 3,072 bytes of key, and a character may have four.
            (Self::MySql, "object") => "object(191)".to_owned(),
            _ => column.to_owned(),
        }
    }

    /// Writes lists of placeholders: `(?, ?), (?, ?)`.
    pub(crate) fn push_tuples(self, sql: &mut String, tuples: usize, width: usize) {
        for tuple in 0..tuples {
            sql.push_str(if tuple == 0 { "(" } else { ", (" });
            for at in 0..width {
                if at > 0 {
                    sql.push_str(", ");
                }
                self.push_placeholder(sql, tuple * width + at + 1);
            }
            sql.push(')');
        }
    }

    /// The placeholder of a parameter, counted from 1.
    pub(crate) fn push_placeholder(self, sql: &mut String, parameter: usize) {
        match self {
            Self::Sqlite | Self::MySql => sql.push('?'),
            Self::Postgres => {
                let _ = write!(sql, "${parameter}");
            }
        }
    }
}

/// Names of buckets and objects are compared by their bytes, and a transaction is all or nothing.
const MYSQL_TABLE: &str = " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin";

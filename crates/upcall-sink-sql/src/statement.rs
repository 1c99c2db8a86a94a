//! The statements that events need, in each kind of SQL.

use std::fmt::Write as _;

use crate::column::{COLUMNS, Column, KEY, Kind, ORDER};
use crate::dialect::Dialect;
use crate::schema::APPLIED_COLUMNS;
use crate::{Effect, TableName, UserStatement};

/// The statements for one effect.
#[derive(Debug, Clone)]
pub(crate) struct Statements {
    dialect: Dialect,
    effect: Effect,
    applied: String,
}

impl Statements {
    pub(crate) fn new(dialect: Dialect, effect: Effect) -> Self {
        Self { dialect, applied: dialect.quoted(&effect.applied()), effect }
    }

    /// The table of uploads, and the statement that inserts rows or updates them; a row that is there and later stays.
    /// For PostgreSQL any number of rows, otherwise as many as are said.
    pub(crate) fn upsert(&self, rows: usize) -> Option<(&TableName, String)> {
        let Effect::Table { table, .. } = &self.effect else { return None };
        let present = match self.dialect {
            Dialect::Sqlite | Dialect::Postgres => "present",
            Dialect::MySql => "",
        };
        let mut sql = self.insert(table, present, rows);
        match self.dialect {
            Dialect::Sqlite | Dialect::Postgres => {
                let updates: Vec<String> = names()
                    .filter(|name| !KEY.contains(name))
                    .map(|name| format!("{name} = excluded.{name}"))
                    .collect();
                let _ = write!(
                    sql,
                    " ON CONFLICT ({}) DO UPDATE SET {} WHERE (excluded.{}) > (present.{})",
                    KEY.join(", "),
                    updates.join(", "),
                    ORDER.join(", excluded."),
                    ORDER.join(", present.")
                );
            }
            Dialect::MySql => push_mysql_update(&mut sql),
        }
        Some((table, sql))
    }

    /// The history, and the statement that inserts rows there. A row that is there stays.
    pub(crate) fn keep(&self, rows: usize) -> Option<(&TableName, String)> {
        let Effect::Table { history: Some(history), .. } = &self.effect else { return None };
        let mut sql = self.insert(history, "", rows);
        sql.push_str(match self.dialect {
            Dialect::Sqlite | Dialect::Postgres => " ON CONFLICT (event_id) DO NOTHING",
            // `INSERT IGNORE` would let rows in that lack something.
            Dialect::MySql => " ON DUPLICATE KEY UPDATE event_id = VALUES(event_id)",
        });
        Some((history, sql))
    }

    /// The user's statement.
    pub(crate) fn users(&self) -> Option<&UserStatement> {
        match &self.effect {
            Effect::Statement { statement, .. } => Some(statement),
            Effect::Table { .. } => None,
        }
    }

    /// Selects those of some ids whose events were applied.
    pub(crate) fn select_applied(&self, ids: usize) -> String {
        let mut sql = format!("SELECT event_id FROM {} WHERE event_id ", self.applied);
        if self.dialect == Dialect::Postgres {
            sql.push_str("= ANY($1::bytea[])");
        } else {
            sql.push_str("IN ");
            self.dialect.push_tuples(&mut sql, 1, ids);
        }
        sql
    }

    /// Records ids of applied events; those that are there stay as they are.
    pub(crate) fn insert_applied(&self, ids: usize) -> String {
        let (applied, columns) = (&self.applied, APPLIED_COLUMNS.join(", "));
        match self.dialect {
            Dialect::Postgres => format!(
                "INSERT INTO {applied} ({columns}) SELECT id, $2 FROM UNNEST($1::bytea[]) AS id ON CONFLICT (event_id) DO NOTHING"
            ),
            Dialect::Sqlite | Dialect::MySql => {
                let ignore = if self.dialect == Dialect::MySql { "IGNORE " } else { "" };
                let mut sql = format!("INSERT {ignore}INTO {applied} ({columns}) VALUES ");
                self.dialect.push_tuples(&mut sql, ids, APPLIED_COLUMNS.len());
                sql.push_str(if self.dialect == Dialect::Sqlite { " ON CONFLICT DO NOTHING" } else { "" });
                sql
            }
        }
    }

    /// Forgets ids of events applied before a moment, a bounded number at once.
    pub(crate) fn forget_applied(&self, limit: u32) -> String {
        let applied = &self.applied;
        match self.dialect {
            Dialect::Sqlite => format!(
                "DELETE FROM {applied} WHERE event_id IN (SELECT event_id FROM {applied} WHERE applied_at < ? LIMIT {limit})"
            ),
            // In the order of ids, as they are recorded: two processes then wait for each other in one direction only.
            Dialect::Postgres => format!(
                "DELETE FROM {applied} WHERE event_id IN (SELECT event_id FROM {applied} WHERE applied_at < $1 ORDER BY event_id LIMIT {limit} FOR UPDATE SKIP LOCKED)"
            ),
            Dialect::MySql => format!("DELETE FROM {applied} WHERE applied_at < ? LIMIT {limit}"),
        }
    }

    /// Forgets the ids of events of which no row is in the table of uploads, so that they are applied when they come again.
    /// For people, and for keys of either layout.
    pub(crate) fn forget_absent(&self) -> Option<String> {
        let Effect::Table { table, .. } = &self.effect else { return None };
        let (applied, table) = (&self.applied, self.dialect.quoted(table.as_str()));
        Some(match self.dialect {
            Dialect::Sqlite => format!(
                "DELETE FROM {applied}\nWHERE substr(lower(hex(event_id)), 9) NOT IN (SELECT substr(event_id, 1, 24) FROM {table})\n  AND lower(hex(event_id)) NOT IN (SELECT event_id FROM {table})"
            ),
            Dialect::Postgres => format!(
                "DELETE FROM {applied} AS applied\nWHERE NOT EXISTS (SELECT FROM {table} AS kept WHERE left(kept.event_id, 24) = substr(encode(applied.event_id, 'hex'), 9))\n  AND NOT EXISTS (SELECT FROM {table} AS kept WHERE kept.event_id = encode(applied.event_id, 'hex'))"
            ),
            Dialect::MySql => format!(
                "DELETE FROM {applied}\nWHERE SUBSTR(LOWER(HEX(event_id)), 9) NOT IN (SELECT LEFT(event_id, 24) FROM {table})\n  AND LOWER(HEX(event_id)) NOT IN (SELECT event_id FROM {table})"
            ),
        })
    }

    fn insert(&self, table: &TableName, alias: &str, rows: usize) -> String {
        let alias = if alias.is_empty() { String::new() } else { format!(" AS {alias}") };
        let columns = names().collect::<Vec<_>>().join(", ");
        let mut sql = format!("INSERT INTO {}{alias} ({columns}) ", self.dialect.quoted(table.as_str()));
        if self.dialect == Dialect::Postgres {
            let values: Vec<String> = COLUMNS.iter().map(unnested_value).collect();
            let arrays: Vec<String> =
                (1..).zip(COLUMNS).map(|(number, column)| unnested_array(number, column)).collect();
            let _ = write!(sql, "SELECT {} FROM UNNEST({}) AS item({columns})", values.join(", "), arrays.join(", "));
        } else {
            sql.push_str("VALUES ");
            self.dialect.push_tuples(&mut sql, rows, COLUMNS.len());
        }
        sql
    }
}

/// One array for each column: a statement for any number of rows, prepared once.
fn unnested_array(number: usize, column: &Column) -> String {
    let kind = match column.kind {
        Kind::Integer => "int8",
        Kind::Time => "timestamptz",
        Kind::Text | Kind::Bucket | Kind::Object | Kind::Id | Kind::Json => "text",
    };
    format!("${number}::{kind}[]")
}

fn unnested_value(column: &Column) -> String {
    let cast = if column.kind == Kind::Json { "::jsonb" } else { "" };
    format!("item.{}{cast}", column.name)
}

/// MySQL assigns from left to right, and later assignments see earlier ones. So the columns that decide come last,
/// the least one first: when one of them has been assigned, what is left to compare decides as before.
fn push_mysql_update(sql: &mut String) {
    sql.push_str(" ON DUPLICATE KEY UPDATE ");
    let later = format!("(VALUES({})) > ({})", ORDER.join("), VALUES("), ORDER.join(", "));
    let others = names().filter(|name| !KEY.contains(name) && !ORDER.contains(name));
    for (at, name) in others.chain(ORDER.into_iter().rev()).enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        let _ = write!(sql, "{comma}{name} = IF({later}, VALUES({name}), {name})");
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    COLUMNS.iter().map(|column| column.name)
}

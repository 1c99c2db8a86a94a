//! A transaction in MySQL or MariaDB.

use std::collections::HashSet;

use async_trait::async_trait;
use sqlx::mysql::MySqlArguments;
use sqlx::{Arguments, AssertSqlSafe, Encode, Executor as _, MySql, Row as _, Transaction, Type};

use super::{BEGIN, fault};
use crate::applied::Key;
use crate::column::{COLUMNS, Value, datetime};
use crate::database::{End, Session};
use crate::row::{Row, pieces};
use crate::statement::Statements;

/// The most rows of one statement: MySQL takes 65,535 parameters.
const ROWS_MAX: usize = 1_000;
const _: () = assert!(ROWS_MAX * COLUMNS.len() <= 65_535, "a statement has more parameters than MySQL takes");
/// The most bytes of one statement's values, unless a single row has more.
const BYTES_MAX: usize = 8 << 20;

pub(super) struct MySqlSession {
    pub(super) transaction: Transaction<'static, MySql>,
    pub(super) statements: Statements,
    pub(super) packet_max: usize,
}

impl MySqlSession {
    async fn execute(&mut self, sql: String, values: MySqlArguments) -> Result<u64, sqlx::Error> {
        let result = sqlx::query_with(AssertSqlSafe(sql), values).execute(&mut *self.transaction).await?;
        Ok(result.rows_affected())
    }

    /// A row that the server would not take at once is refused here: the server would hang up on it.
    fn pieces<'a, 'r, 'e>(
        &self,
        rows: &'a [&'r Row<'e>],
    ) -> Result<impl Iterator<Item = &'a [&'r Row<'e>]> + use<'a, 'r, 'e>, sqlx::Error> {
        if let Some(row) = rows.iter().find(|row| row.size() > self.packet_max) {
            return Err(fault::too_large(row.size(), self.packet_max));
        }
        Ok(pieces(rows, ROWS_MAX, BYTES_MAX.min(self.packet_max)))
    }
}

#[async_trait]
impl Session for MySqlSession {
    async fn insert_applied(&mut self, keys: &[Key], now: i64) -> Result<u64, sqlx::Error> {
        let mut inserted = 0;
        for piece in keys.chunks(ROWS_MAX) {
            let mut values = MySqlArguments::default();
            for key in piece {
                add(&mut values, key.as_bytes())?;
                add(&mut values, now)?;
            }
            inserted += self.execute(self.statements.insert_applied(piece.len()), values).await?;
        }
        Ok(inserted)
    }

    async fn known(&mut self, keys: &[Key]) -> Result<HashSet<Key>, sqlx::Error> {
        let mut known = HashSet::new();
        for piece in keys.chunks(ROWS_MAX) {
            let mut values = MySqlArguments::default();
            for key in piece {
                add(&mut values, key.as_bytes())?;
            }
            let sql = AssertSqlSafe(self.statements.select_applied(piece.len()));
            for found in sqlx::query_with(sql, values).fetch_all(&mut *self.transaction).await? {
                known.extend(Key::read(found.try_get(0)?));
            }
        }
        Ok(known)
    }

    async fn begin_anew(&mut self) -> Result<(), sqlx::Error> {
        self.transaction.execute("ROLLBACK").await?;
        self.transaction.execute(BEGIN).await.map(drop)
    }

    async fn upsert(&mut self, rows: &[&Row<'_>]) -> Result<(), sqlx::Error> {
        for piece in self.pieces(rows)? {
            let Some((_, sql)) = self.statements.upsert(piece.len()) else { return Ok(()) };
            self.execute(sql, arguments(piece)?).await?;
        }
        Ok(())
    }

    async fn keep(&mut self, rows: &[&Row<'_>]) -> Result<(), sqlx::Error> {
        for piece in self.pieces(rows)? {
            let Some((_, sql)) = self.statements.keep(piece.len()) else { return Ok(()) };
            self.execute(sql, arguments(piece)?).await?;
        }
        Ok(())
    }

    async fn run(&mut self, row: &Row<'_>) -> Result<(), sqlx::Error> {
        if row.size() > self.packet_max {
            return Err(fault::too_large(row.size(), self.packet_max));
        }
        let Some(users) = self.statements.users() else { return Ok(()) };
        self.execute(users.sql(|_| "?".to_owned()), arguments(&[row])?).await.map(drop)
    }

    fn end(self: Box<Self>) -> Box<dyn End> {
        Box::new(self.transaction)
    }
}

fn arguments(rows: &[&Row<'_>]) -> Result<MySqlArguments, sqlx::Error> {
    let mut values = MySqlArguments::default();
    let size = rows.iter().map(|row| row.size()).sum();
    values.reserve(rows.iter().map(|row| row.values().len()).sum(), size);
    for value in rows.iter().flat_map(|row| row.values()) {
        match value {
            Value::Null => add(&mut values, None::<i64>)?,
            Value::Bool(flag) => add(&mut values, i64::from(*flag))?,
            Value::Integer(integer) => add(&mut values, *integer)?,
            // As text: MySQL makes of it what the column is.
            Value::Decimal(text) => add(&mut values, text.as_str())?,
            Value::Text(text) => add(&mut values, &**text)?,
            Value::Time(time) => add(&mut values, datetime(*time))?,
        }
    }
    Ok(values)
}

fn add<'v, V: Encode<'v, MySql> + Type<MySql>>(values: &mut MySqlArguments, value: V) -> Result<(), sqlx::Error> {
    values.add(value).map_err(sqlx::Error::Encode)
}

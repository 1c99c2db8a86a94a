//! What a database said, for people.

use std::error::Error;
use std::fmt;

use sqlx::postgres::PgDatabaseError;
use upcall_telemetry::error_chain;

/// The most characters that are shown of one thing that a database says.
const TEXT_MAX: usize = 500;
/// PostgreSQL's codes whose detail is the whole row: what is not null, and what a check forbids.
const ROW_IN_DETAIL: [&str; 2] = ["23502", "23514"];

/// What a database or its driver said: without what only their developers can use, and in bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    text: String,
    is_lack_of_connections: bool,
}

impl Said {
    pub(crate) fn new(error: &sqlx::Error) -> Self {
        let is_lack_of_connections = matches!(error, sqlx::Error::PoolTimedOut);
        let text = match error {
            sqlx::Error::PoolTimedOut => "no connection was to be had in time".to_owned(),
            sqlx::Error::Database(database) => match database.try_downcast_ref::<PgDatabaseError>() {
                Some(postgres) => of_postgres(postgres),
                None => short(&database.to_string()),
            },
            other => short(&error_chain(other)),
        };
        Self { text, is_lack_of_connections }
    }

    /// Whether the pool had no connection to give: those that it has may be waiting for answers that never come.
    pub(crate) fn is_lack_of_connections(&self) -> bool {
        self.is_lack_of_connections
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Said {}

fn of_postgres(error: &PgDatabaseError) -> String {
    let detail = error.detail().filter(|_| !ROW_IN_DETAIL.contains(&error.code()));
    let parts = [Some(error.message()), detail, error.hint()];
    parts.into_iter().flatten().map(short).collect::<Vec<_>>().join("; ")
}

/// One line of limited length.
fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_one_line_of_limited_length() {
        let said = Said::new(&sqlx::Error::Protocol(format!("a\n\tb {}", "é".repeat(9_000)))).to_string();
        assert!(said.contains("a b é") && said.ends_with('…') && said.chars().count() == TEXT_MAX + 1, "{said}");
    }

    #[test]
    fn a_pool_without_a_connection_says_so() {
        let said = Said::new(&sqlx::Error::PoolTimedOut);
        assert!(said.is_lack_of_connections() && said.to_string().contains("no connection"), "{said}");
    }
}

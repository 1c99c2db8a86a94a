//! Where the table is, and how the sink behaves.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// Where the table is, and how the sink behaves. [`Options::new`] has the defaults.
#[derive(Clone, PartialEq, Eq)]
pub struct Options {
    /// The database, such as `sqlite://catalog.db`. May hold a password; `Debug` does not show it.
    pub url: String,
    /// The table.
    pub table: TableName,
    /// The most connections that are open at once. SQLite has one writer, so that one is enough for it.
    pub pool_max: NonZeroU32,
    /// How long one transaction may take before the database counts as out of order. Keep it below the consumer's
    /// `deliver_timeout`, so that a slow database costs no event an attempt.
    pub statement_timeout: Duration,
    /// How long the ids of applied events are kept. Keep it above the time that the bus keeps events: one that comes
    /// again later is applied again.
    pub applied_kept: Duration,
}

impl Options {
    /// One connection, 10 seconds for a transaction, ids kept for 90 days: far longer than a bus keeps events.
    #[must_use]
    pub fn new(url: impl Into<String>, table: TableName) -> Self {
        Self {
            url: url.into(),
            table,
            pool_max: NonZeroU32::MIN,
            statement_timeout: Duration::from_secs(10),
            applied_kept: Duration::from_secs(90 * 24 * 60 * 60),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url: _, table, pool_max, statement_timeout, applied_kept } = self;
        f.debug_struct("Options")
            .field("table", table)
            .field("pool_max", pool_max)
            .field("statement_timeout", statement_timeout)
            .field("applied_kept", applied_kept)
            .finish_non_exhaustive()
    }
}

/// A table's name: a letter or `_`, then letters, digits and `_` of ASCII, 44 characters at most, so that the names
/// derived from it fit every database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableName(String);

/// The most characters of a table's name: PostgreSQL cuts names at 63, and the longest suffix is `_applied_applied_at`.
const NAME_MAX: usize = 44;

impl TableName {
    /// The name that documentation uses.
    pub(crate) fn example() -> Self {
        Self("uploads".to_owned())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text that can't name a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} can't name a table: use letters, digits and `_`, no digit first, at most {NAME_MAX} in all")]
pub struct InvalidTableName(String);

impl FromStr for TableName {
    type Err = InvalidTableName;

    fn from_str(text: &str) -> Result<Self, InvalidTableName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let begins_well = text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        // SQLite keeps names that begin with `sqlite_` to itself.
        let reserved = text.to_ascii_lowercase().starts_with("sqlite_");
        if begins_well && !reserved && text.len() <= NAME_MAX && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidTableName(text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_identifiers_name_tables() {
        for good in ["uploads", "_x", "A1_b", &"a".repeat(NAME_MAX)] {
            assert_eq!(good.parse::<TableName>().unwrap().as_str(), good);
        }
        for bad in ["", "1a", "a b", "a\"b", "a;b", "a.b", "ä", "sqlite_x", "SQLite_x", &"a".repeat(NAME_MAX + 1)] {
            assert!(bad.parse::<TableName>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let options = Options::new("postgres://me:secret@db/x", "t".parse().unwrap());
        assert!(!format!("{options:?}").contains("secret"));
    }
}

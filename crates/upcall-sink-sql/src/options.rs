//! Where the database is, what is done there, and how the sink behaves.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use crate::dialect::Dialect;
use crate::{UserStatement, url};

/// Where the database is, what is done there, and how the sink behaves. [`Options::new`] has the defaults.
#[derive(Clone, PartialEq, Eq)]
pub struct Options {
    /// The database: `sqlite://catalog.db`, `postgres://user:password@host/database`, `mysql://user:password@host/database`.
    /// May hold a password; `Debug` does not show it.
    pub url: String,
    /// What an event does there.
    pub effect: Effect,
    /// The consumer's name. The ids of what it has applied are its own from its first start on: a sink of another name
    /// does not touch them. Sinks of one name share them, as in several processes that read one consumer. Without a
    /// name nobody's are told apart.
    pub consumer: Option<String>,
    /// The most connections that are open at once. SQLite has one writer, so that one is enough for it.
    pub pool_max: NonZeroU32,
    /// How long it may take until there is a connection.
    pub connect_timeout: Duration,
    /// How long one transaction may take before the database counts as out of order. Keep it below the consumer's
    /// `deliver_timeout`, so that a slow database costs no event an attempt.
    pub statement_timeout: Duration,
    /// How long the ids of applied events are kept. Keep it above the time that the bus keeps events: one that comes
    /// again later is applied again.
    pub applied_kept: Duration,
}

/// What an event does to the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// It becomes the row of its object in a table that the sink makes.
    Table {
        /// The table.
        table: TableName,
        /// The table that gets a row for each event, if there is to be one.
        history: Option<TableName>,
        /// The table of the ids of applied events, which the sink makes; otherwise it is called as the table, with
        /// `_applied` behind it. No two consumers may share it.
        applied: Option<TableName>,
    },
    /// It is bound to a statement of the user's.
    Statement {
        /// The statement.
        statement: UserStatement,
        /// The table of the ids of applied events, which the sink makes. No two consumers may share it.
        applied: TableName,
    },
}

impl Options {
    /// Whether the ids of applied events would be in one table with another's, as far as the URLs tell which database they
    /// are in.
    #[must_use]
    pub fn shares_applied_with(&self, other: &Self) -> bool {
        let (one, another) = (self.effect.applied(), other.effect.applied());
        let is_one_name = match url::dialect(&self.url) {
            Ok(Dialect::Sqlite) => one.eq_ignore_ascii_case(&another),
            _ => one == another,
        };
        is_one_name && url::place(&self.url).is_some_and(|place| url::place(&other.url) == Some(place))
    }

    /// One connection for SQLite and 4 for others, 5 seconds to connect, 10 seconds for a transaction, ids kept for
    /// 90 days: far longer than a bus keeps events.
    #[must_use]
    pub fn new(url: impl Into<String>, effect: impl Into<Effect>) -> Self {
        const POOL_MAX: NonZeroU32 = NonZeroU32::new(4).expect("it is not zero");
        let url = url.into();
        Self {
            pool_max: if url.starts_with("sqlite:") { NonZeroU32::MIN } else { POOL_MAX },
            url,
            effect: effect.into(),
            consumer: None,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            applied_kept: Duration::from_secs(90 * 24 * 60 * 60),
        }
    }
}

impl From<TableName> for Effect {
    /// A table of uploads, without a history.
    fn from(table: TableName) -> Self {
        Self::Table { table, history: None, applied: None }
    }
}

impl Effect {
    /// The name of the table of the ids of applied events.
    #[must_use]
    pub fn applied(&self) -> String {
        match self {
            Self::Table { table, applied: None, .. } => table.with_suffix("_applied"),
            Self::Table { applied: Some(applied), .. } | Self::Statement { applied, .. } => applied.as_str().to_owned(),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url: _, effect, consumer, pool_max, connect_timeout, statement_timeout, applied_kept } = self;
        f.debug_struct("Options")
            .field("effect", effect)
            .field("consumer", consumer)
            .field("pool_max", pool_max)
            .field("connect_timeout", connect_timeout)
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

    /// The name of a table's history, unless another is given. For a name that leaves no room, it is cut.
    #[must_use]
    pub fn history_of(table: &Self) -> Self {
        const SUFFIX: &str = "_history";
        let kept = table.0.len().min(NAME_MAX - SUFFIX.len());
        Self(format!("{}{SUFFIX}", &table.0[..kept]))
    }

    /// The name of a table or an index that belongs to this one.
    #[must_use]
    pub fn with_suffix(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.0)
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
        let options = Options::new("postgres://me:secret@db/x", "t".parse::<TableName>().unwrap());
        assert!(!format!("{options:?}").contains("secret"));
    }
}

//! `[[consumer]] sql`: a table in a database, or a statement of the user's.

#[cfg(test)]
mod tests;
mod url;

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use toml::Value;
use upcall_sink_sql::{Effect, Options, TableName, UserStatement};

use super::Sink;
use crate::config::consumer::{Consumer, Given, parse};
use crate::config::reader::{Reader, Section, kind_of};
use crate::config::secret;
use crate::config::setting::{Count, Setting};

impl Setting for TableName {
    const KIND: &'static str = "a table's name";

    fn read(value: &Value) -> Result<Self, String> {
        parse(value, Self::KIND)
    }
}

impl Setting for UserStatement {
    const KIND: &'static str = "an SQL statement with `${…}`";

    fn read(value: &Value) -> Result<Self, String> {
        parse(value, Self::KIND)
    }
}

/// Whether there is a history, and under which name.
enum History {
    Off,
    On,
    Named(TableName),
}

impl Setting for History {
    const KIND: &'static str = "true, false or a table's name";

    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Boolean(false) => Ok(Self::Off),
            Value::Boolean(true) => Ok(Self::On),
            Value::String(_) => TableName::read(value).map(Self::Named),
            other => Err(format!("takes {}, not {}", Self::KIND, kind_of(other))),
        }
    }
}

/// Reads `sql`. `None` where mistakes leave no sink; they are on record.
pub(super) fn read(mut section: Section<'_>) -> Option<Options> {
    let url = secret::required(
        &mut section,
        "url",
        "The database: `sqlite://PATH` (relative to this file), `postgres://USER:PASSWORD@HOST/DATABASE`, or `mysql://…` and `mariadb://…`. May be `{ env = \"NAME\" }` or `{ file = \"PATH\" }`.",
    );
    let effect = read_effect(&mut section);
    let pool_max: Option<Count> = section.optional(
        "pool_max",
        "The most connections that are open at once; by default 4, for SQLite 1. More than the consumer's `concurrency` are seldom of use.",
    );
    let connect_timeout = section.or("connect_timeout", "5s", "How long it may take until there is a connection.");
    let statement_timeout = section.or(
        "statement_timeout",
        "10s",
        "How long one transaction may take before the database counts as out of order.",
    );
    let applied_kept = section.or(
        "applied_kept",
        "90d",
        "How long the ids of applied events are kept. Keep it above the time that the bus keeps events.",
    );
    let url = url::read(&section, &url?)?;
    let defaults = Options::new(url, effect?);
    let pool_max = pool_max.and_then(|count| NonZeroU32::new(count.get())).unwrap_or(defaults.pool_max);
    Some(Options { pool_max, connect_timeout, statement_timeout, applied_kept, ..defaults })
}

/// Reads what an event does: it becomes a row of a table, or is bound to a statement.
fn read_effect(section: &mut Section<'_>) -> Option<Effect> {
    let named_table = section.has("table");
    let named_statement = section.has("statement");
    let table = section.or("table", "uploads", "The table; it is created at first use. Not together with `statement`.");
    let history = section.or(
        "history",
        false,
        "Whether each event gets a row of its own in a further table, `true` for `TABLE_history`. Not together with `statement`.",
    );
    let statement: Option<UserStatement> = section.optional(
        "statement",
        "A statement of yours that is run for each event, such as `INSERT INTO avatars (user_id) VALUES (${vars.user})`. `${…}` are bound as parameters. Instead of `table`.",
    );
    let applied: Option<TableName> = section.optional(
        "applied",
        "The table of the ids of applied events; it is created at first use, and each consumer needs one of its own. By default `TABLE_applied`; with `statement` it has to be named.",
    );
    if !named_statement {
        let history = match history {
            History::Off => None,
            History::On => Some(TableName::history_of(&table)),
            History::Named(name) => Some(name),
        };
        if history.as_ref().is_some_and(|history| history.as_str().eq_ignore_ascii_case(table.as_str())) {
            section.mistake("history", "is the table itself; name another");
        }
        let effect = Effect::Table { table, history, applied };
        if let Effect::Table { table, history, .. } = &effect
            && let applied = effect.applied()
            && [Some(table), history.as_ref()]
                .into_iter()
                .flatten()
                .any(|other| other.as_str().eq_ignore_ascii_case(&applied))
        {
            section.mistake("applied", format!("is {applied}, which is a table of uploads; name another"));
        }
        return Some(effect);
    }
    if named_table {
        section.mistake("table", "does not go with `statement`, which says itself what is written: remove one of them");
    }
    if !matches!(history, History::Off) {
        section.mistake("history", "does not go with `statement`: give the history a consumer of its own");
    }
    if applied.is_none() {
        section.mistake(
            "applied",
            "is missing beside `statement`: name the table where this consumer, and no other, keeps the ids of applied events, such as `applied = \"avatars_applied\"`",
        );
    }
    Some(Effect::Statement { statement: statement?, applied: applied? })
}

/// Makes the sink the consumer's, and the consumer go with the sink where nothing else was given.
pub(super) fn fit(options: &mut Options, given: Given, consumer: &mut upcall_consumer::Options) {
    options.consumer = Some(consumer.spec.name.to_string());
    // Two transactions that run a statement of the user's may want rows of each other, such as an account's: a deadlock.
    if matches!(options.effect, Effect::Statement { .. }) && !given.concurrency {
        consumer.concurrency = NonZeroUsize::MIN;
    }
}

/// Reports what does not go with the consumer.
pub(super) fn check(
    options: &Options,
    section: &Section<'_>,
    deliver_timeout: Duration,
    events_kept: Option<Duration>,
) {
    if events_kept.is_some_and(|events_kept| options.applied_kept <= events_kept) {
        section.mistake(
            "sql.applied_kept",
            "is not above the time that the bus keeps events (`bus.journal.retention.age` and `dead_letter_age`, `bus.nats.streams.age` and `dead_age`): an event that comes again later would be applied again",
        );
    }
    if options.statement_timeout >= deliver_timeout {
        section.mistake(
            "sql.statement_timeout",
            "is not below the consumer's `deliver_timeout`: a slow database would cost events their attempts",
        );
    }
}

/// Reports consumers that would keep the ids of applied events in one table: what one of them has applied, the other
/// would leave out.
pub(crate) fn report_shared_ids(reader: &Reader, consumers: &[Option<Consumer>]) {
    let consumers: Vec<_> = (0..).zip(consumers).filter_map(|(at, consumer)| Some((at, consumer.as_ref()?))).collect();
    for (place, (at, consumer)) in consumers.iter().enumerate() {
        let Sink::Sql(options) = &consumer.sink else { continue };
        let shares = |other: &Consumer| matches!(&other.sink, Sink::Sql(other) if other.shares_applied_with(options));
        let Some((_, other)) = consumers[..place].iter().find(|(_, other)| shares(other)) else { continue };
        let (applied, name) = (options.effect.applied(), &consumer.options.spec.name);
        reader.mistake(
            format!("consumer[{at}].sql"),
            format!(
                "would keep the ids of what {name:?} has applied in the table `{applied}`, where {other:?} keeps its own: \
                 what one of them has applied, the other would leave out. Name another: `applied = \"{free}\"`",
                name = name.as_str(),
                other = other.options.spec.name.as_str(),
                free = free_name(name.as_str()),
            ),
        );
    }
}

/// A name for a consumer's table of ids that is likely to be free.
fn free_name(consumer: &str) -> String {
    let name = format!("{}_applied", consumer.replace('-', "_"));
    if name.parse::<TableName>().is_ok() { name } else { "another_applied".to_owned() }
}

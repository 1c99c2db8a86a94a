//! The sink: a batch becomes one transaction, and a row that the database refuses is found by halving.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use tracing::Span;
use upcall_consumer::{Item, Sink, Source, Verdict};
use upcall_telemetry::error_chain;
use upcall_telemetry::trace;

use crate::column::Unstorable;
use crate::database::Database;
use crate::dialect::Dialect;
use crate::mysql::MySqlDatabase;
use crate::postgres::PostgresDatabase;
use crate::row::Row;
use crate::sqlite::SqliteDatabase;
use crate::store::Store;
use crate::{Effect, Options, OptionsError, StoreErrorKind, TableName, url};

/// How often the ids of applied events are looked through for old ones. They are kept for days.
const FORGET_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Keeps a table with one row per object, the latest upload's; or runs a statement of the user's for each event.
///
/// Tables are created when they are first needed. Each batch is one transaction that also records the ids of its
/// events, so that the effect of an event happens once, however often it is delivered. It is durable before the
/// event counts as done. Batches may be delivered in any order and at once.
pub struct SqlSink {
    store: Store,
    effect: Effect,
    applied_kept: Duration,
    /// How long refused rows are looked for in one batch.
    halving_time: Duration,
    forget_next: Mutex<Instant>,
}

impl SqlSink {
    /// Makes a sink. The database is first touched when the consumer starts.
    ///
    /// # Errors
    /// When the URL names no database that the sink speaks to, asks for what there is not, or can't be read.
    pub fn new(options: Options) -> Result<Self, OptionsError> {
        let dialect = url::dialect(&options.url)?;
        url::check_parameters(dialect, &options.url)?;
        let database: Box<dyn Database> = match dialect {
            Dialect::Sqlite => Box::new(SqliteDatabase::new(options.clone())?),
            Dialect::Postgres => Box::new(PostgresDatabase::new(options.clone())?),
            Dialect::MySql => Box::new(MySqlDatabase::new(options.clone())?),
        };
        let store = Store::new(database, dialect, &options);
        let Options { effect, applied_kept, statement_timeout: halving_time, .. } = options;
        Ok(Self { store, effect, applied_kept, halving_time, forget_next: Mutex::new(Instant::now()) })
    }

    fn row<'e>(&self, item: &Item<'e>) -> Result<Row<'e>, Unstorable> {
        match &self.effect {
            Effect::Table { .. } => Row::new(item, self.store.keys()),
            Effect::Statement { statement, .. } => statement.row(item, self.store.keys()),
        }
    }

    /// What is recorded of each event's part in the transaction.
    fn spans(&self, batch: &[Item<'_>]) -> Vec<Span> {
        if batch.iter().all(|item| item.span.is_none_or(Span::is_disabled)) {
            return Vec::new();
        }
        let system = self.store.system();
        let (operation, table) = match &self.effect {
            Effect::Table { table, .. } => ("UPSERT", table.as_str()),
            Effect::Statement { .. } => ("EXECUTE", ""),
        };
        batch.iter().map(|item| trace::statement(item.span, system, operation, table)).collect()
    }

    /// Applies rows, and notes a verdict for each that is not done. Halves what the database refuses until the
    /// refused row is alone; stops at the first sign that it is the database, and when that takes too long: the batch's
    /// own time would run out, which costs every event in it an attempt.
    async fn apply(&self, rows: &[Row<'_>], places: &[usize], verdicts: &mut [Verdict]) {
        let everything: Range<usize> = 0..rows.len();
        let mut pending = vec![everything];
        let (end, mut refused) = (Instant::now() + self.halving_time, 0);
        while let Some(range) = pending.pop() {
            if refused > 0 && Instant::now() > end {
                let reason =
                    format!("the database refuses {refused} rows of a batch, which takes long; the others are next");
                return leave(pending.into_iter().chain([range]).flatten(), places, verdicts, &reason);
            }
            if range.is_empty() {
                continue;
            }
            let Err(error) = self.store.apply(&rows[range.clone()]).await else { continue };
            let reason = error_chain(&error);
            if error.kind != StoreErrorKind::Row {
                return leave(pending.into_iter().chain([range]).flatten(), places, verdicts, &reason);
            }
            if range.len() == 1 {
                refused += 1;
                verdicts[places[range.start]] = Verdict::Retry { after: None, reason };
            } else {
                let middle = range.start + range.len() / 2;
                // The earlier half is on top, so that events are applied in their order.
                pending.push(middle..range.end);
                pending.push(range.start..middle);
            }
        }
    }

    /// Forgets old ids now and then. A failure is no event's: the next time will do.
    async fn forget(&self) {
        if !self.forget_is_due() {
            return;
        }
        let kept = i64::try_from(self.applied_kept.as_secs()).unwrap_or(i64::MAX);
        match self.store.forget(Timestamp::now().as_second().saturating_sub(kept)).await {
            Ok(false) => {}
            Ok(true) => *self.forget_next.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now(),
            Err(error) => tracing::debug!(error = error_chain(&error), "old ids of applied events stay for now"),
        }
    }

    fn forget_is_due(&self) -> bool {
        let mut next = self.forget_next.lock().unwrap_or_else(PoisonError::into_inner);
        let due = *next <= Instant::now();
        if due {
            *next = Instant::now() + FORGET_INTERVAL;
        }
        due
    }
}

#[async_trait]
impl Sink for SqlSink {
    async fn prepare(&self) -> Result<(), Source> {
        Ok(self.store.prepare().await?)
    }

    async fn deliver(&self, batch: &[Item<'_>]) -> Vec<Verdict> {
        let mut verdicts = vec![Verdict::Done; batch.len()];
        let (mut rows, mut places) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for (place, item) in batch.iter().enumerate() {
            match self.row(item) {
                Ok(row) => {
                    rows.push(row);
                    places.push(place);
                }
                Err(unstorable) => verdicts[place] = Verdict::Dead { reason: unstorable.to_string() },
            }
        }
        let spans = self.spans(batch);
        self.apply(&rows, &places, &mut verdicts).await;
        for (span, verdict) in spans.iter().zip(&verdicts) {
            trace::ended(span, "upcall.outcome", verdict.name(), *verdict != Verdict::Done);
        }
        self.forget().await;
        verdicts
    }

    async fn close(&self) {
        self.store.close().await;
    }

    /// A table's upsert leaves what is later in place; a statement of the user's may not.
    fn ordered_by_object(&self) -> bool {
        matches!(self.effect, Effect::Statement { .. })
    }
}

/// Has rows come again, which costs them no attempt.
fn leave(rows: impl Iterator<Item = usize>, places: &[usize], verdicts: &mut [Verdict], reason: &str) {
    rows.for_each(|at| verdicts[places[at]] = Verdict::Unavailable { reason: reason.to_owned() });
}

/// Checks that the sink can read a URL, whether or not there is a database.
///
/// # Errors
/// As [`SqlSink::new`].
pub fn check_url(url: &str) -> Result<(), OptionsError> {
    SqlSink::new(Options::new(url, TableName::example())).map(drop)
}

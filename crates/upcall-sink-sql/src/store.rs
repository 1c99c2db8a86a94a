//! The tables in a database: made, checked, and written to, whatever kind of database it is.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{sleep, timeout};
use upcall_consumer::{Backoff, Source};

use crate::applied::{Fresh, Key, Keys};
use crate::database::{Database, Fault, Session, Unfit};
use crate::dialect::Dialect;
use crate::record::record;
use crate::row::{Row, latest_per_object, once_per_event};
use crate::said::Said;
use crate::schema::{Present, Schema, VERSION};
use crate::{Effect, Options, StoreError, StoreErrorKind};

/// How often a transaction is begun anew that others were in the way of. Then the database counts as out of order.
const CONFLICTS_MAX: u32 = 8;
/// How long to wait after such a conflict.
const CONFLICT_BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(10), max: Duration::from_millis(500), factor: 2.0, jitter: 1.0 };

/// How often tables are tried to be made that others may be making at the same moment.
const DEFINITIONS_MAX: u32 = 6;
/// How often it is looked whose ids are in a table that several may have begun with at the same moment.
const CLAIMS_MAX: u32 = 3;
/// How long it may take to learn why there was no connection.
const REASON_TIMEOUT: Duration = Duration::from_secs(1);
/// How long connections may take to close. One whose work was dropped midway may wait for an answer for good.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// The tables in a database.
pub(crate) struct Store {
    database: Box<dyn Database>,
    schema: Schema,
    is_table: bool,
    consumer: Option<String>,
    system: &'static str,
    statement_timeout: Duration,
    /// Learnt when the tables are looked at.
    keys: Mutex<Keys>,
}

impl Store {
    pub(crate) fn new(database: Box<dyn Database>, dialect: Dialect, options: &Options) -> Self {
        Self {
            database,
            schema: Schema::new(dialect, &options.effect),
            is_table: matches!(options.effect, Effect::Table { .. }),
            consumer: options.consumer.clone(),
            system: dialect.system(),
            statement_timeout: options.statement_timeout,
            keys: Mutex::new(Keys::Times),
        }
    }

    /// The kind of database, in what is recorded.
    pub(crate) fn system(&self) -> &'static str {
        self.system
    }

    /// How the keys of applied events are made.
    pub(crate) fn keys(&self) -> Keys {
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects, creates the tables that are missing, brings older ones up to date, and checks that everything goes.
    pub(crate) async fn prepare(&self) -> Result<(), StoreError> {
        self.in_time(self.try_prepare()).await
    }

    /// Applies rows in one transaction, all or nothing: those whose event was applied before are left out, and of
    /// several for one object the latest stays. Returns once they are durable.
    pub(crate) async fn apply(&self, rows: &[Row<'_>]) -> Result<(), StoreError> {
        let applied = async {
            let mut conflicts = 0;
            loop {
                let error = match self.try_apply(rows).await {
                    Ok(()) => return Ok(()),
                    Err(Failed::ToBegin(error)) => return Err(self.not_begun(&error)),
                    Err(Failed::ToWrite(error)) => error,
                };
                match self.database.fault(&error) {
                    Fault::Conflict if conflicts < CONFLICTS_MAX => {
                        conflicts += 1;
                        sleep(CONFLICT_BACKOFF.draw(conflicts)).await;
                    }
                    Fault::Schema => {
                        // Either the tables have been changed, or this row made a trigger fail.
                        self.check().await?;
                        return Err(StoreError { kind: StoreErrorKind::Row, source: said(&error) });
                    }
                    _ => return Err(self.error(&error)),
                }
            }
        };
        self.in_time(applied).await
    }

    /// Forgets some ids of events applied before this moment (Unix seconds). Tells whether there may be more.
    pub(crate) async fn forget(&self, before: i64) -> Result<bool, StoreError> {
        self.in_time(async { self.database.forget(before).await.map_err(|error| self.error(&error)) }).await
    }

    /// Closes the connections.
    pub(crate) async fn close(&self) {
        drop(timeout(CLOSE_TIMEOUT, self.database.close()).await);
    }

    async fn try_prepare(&self) -> Result<(), StoreError> {
        self.define().await?;
        self.check().await?;
        self.claim().await
    }

    /// Makes what is missing.
    async fn define(&self) -> Result<(), StoreError> {
        let mut tries = 0;
        loop {
            let plan = self.plan().await?;
            if plan.is_empty() {
                return Ok(());
            }
            let Err(error) = self.database.define(&plan).await else { return Ok(()) };
            tries += 1;
            match self.database.fault(&error) {
                // Another process may be making them at this moment, and what it has made is in the way.
                Fault::Row | Fault::Schema | Fault::Conflict if tries < DEFINITIONS_MAX => {
                    sleep(CONFLICT_BACKOFF.draw(tries)).await;
                }
                Fault::Row | Fault::Schema | Fault::Conflict => {
                    let kind = StoreErrorKind::Definition { database: self.database.name() };
                    return Err(StoreError { kind, source: said(&error) });
                }
                Fault::Denied => {
                    let (database, statements) = (self.database.name(), Schema::shown(&plan));
                    let kind = StoreErrorKind::DeniedDefinition { database, statements };
                    return Err(StoreError { kind, source: said(&error) });
                }
                Fault::NotADatabase | Fault::Timeout | Fault::Unavailable => return Err(self.error(&error)),
            }
        }
    }

    async fn plan(&self) -> Result<Vec<String>, StoreError> {
        let present = self.present().await?;
        for table in &self.schema.tables {
            if let Some(version) = present.version(&table.name).filter(|version| *version > VERSION) {
                let kind = StoreErrorKind::Newer { table: table.name.clone(), version, known: VERSION };
                return Err(StoreError { kind, source: None });
            }
        }
        Ok(self.schema.plan(&present))
    }

    async fn present(&self) -> Result<Present, StoreError> {
        self.database.present(&self.schema).await.map_err(|error| self.error(&error))
    }

    /// Has the table of applied ids be this consumer's. If it is another's, what that one has applied would count as
    /// applied here.
    async fn claim(&self) -> Result<(), StoreError> {
        let Some(consumer) = &self.consumer else { return Ok(()) };
        for _ in 0..CLAIMS_MAX {
            let present = self.present().await?;
            let note = present.note(self.schema.applied());
            let Some((noted, Some(owner))) = note.map(|(noted, note)| (noted, note.consumer.as_ref())) else {
                let (sql, values) = self.schema.claim(&present, consumer);
                self.database.execute(sql, values).await.map_err(|error| self.error(&error))?;
                continue;
            };
            if owner == consumer {
                return Ok(());
            }
            let (table, owner, consumer) = (noted.to_owned(), owner.clone(), consumer.clone());
            return Err(StoreError { kind: StoreErrorKind::OthersIds { table, owner, consumer }, source: None });
        }
        Err(StoreError { kind: StoreErrorKind::Definition { database: self.database.name() }, source: None })
    }

    /// Checks that the tables are as the statements need them.
    async fn check(&self) -> Result<(), StoreError> {
        let present = self.present().await?;
        for table in &self.schema.tables {
            let columns: Vec<String> = present.missing(table).into_iter().map(str::to_owned).collect();
            if !columns.is_empty() {
                let kind = StoreErrorKind::MissingColumns { table: table.name.clone(), columns };
                return Err(StoreError { kind, source: None });
            }
        }
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = self.schema.keys(&present);
        self.database.check().await.map_err(|unfit| match unfit {
            Unfit::Kind(kind, source) => StoreError { kind, source: source.as_ref().and_then(said) },
            Unfit::Error(error) => self.error(&error),
        })
    }

    async fn try_apply(&self, rows: &[Row<'_>]) -> Result<(), Failed> {
        // A transaction holds others up: what can be done before it is done before.
        let batch = Batch::new(once_per_event(rows), self.is_table);
        let mut keys: Vec<Key> = batch.rows.iter().map(|row| row.applied()).collect();
        // Everybody takes keys and objects in one order, so that nobody waits for who waits for them.
        keys.sort_unstable();
        let mut session = self.database.begin().await.map_err(Failed::ToBegin)?;
        match self.write(&mut *session, batch, &keys).await {
            Ok(()) => session.end().commit().await.map_err(Failed::ToWrite),
            Err(error) => {
                session.end().rollback().await;
                Err(Failed::ToWrite(error))
            }
        }
    }

    async fn write(&self, session: &mut dyn Session, batch: Batch<'_, '_>, keys: &[Key]) -> Result<(), sqlx::Error> {
        let Batch { rows, latest } = match record(session, keys, Timestamp::now().as_second()).await? {
            Fresh::All => batch,
            Fresh::Only(fresh) => {
                let rows = batch.rows.into_iter().filter(|row| fresh.contains(&row.applied())).collect();
                Batch::new(rows, self.is_table)
            }
        };
        if rows.is_empty() {
            return Ok(());
        }
        if self.is_table {
            session.keep(&rows).await?;
            return session.upsert(&latest).await;
        }
        for row in rows {
            session.run(row).await?;
        }
        Ok(())
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        let Ok(result) = timeout(self.statement_timeout, work).await else {
            self.database.reset().await;
            return Err(StoreError { kind: StoreErrorKind::Timeout { database: self.database.name() }, source: None });
        };
        match result {
            Err(error) if has_no_connection(&error) => {
                self.database.reset().await;
                Err(self.reason().await.unwrap_or(error))
            }
            result => result,
        }
    }

    /// No row is at fault before there is one, whatever the database says: it may be a standby.
    fn not_begun(&self, error: &sqlx::Error) -> StoreError {
        let StoreError { kind, source } = self.error(error);
        let kind = match kind {
            StoreErrorKind::Row => StoreErrorKind::Unavailable { database: self.database.name() },
            kind => kind,
        };
        StoreError { kind, source }
    }

    /// Why there was no connection, which the pool does not tell.
    async fn reason(&self) -> Option<StoreError> {
        let tried = timeout(REASON_TIMEOUT, self.database.try_connect()).await.ok()?;
        tried.err().map(|error| self.error(&error))
    }

    fn error(&self, error: &sqlx::Error) -> StoreError {
        let database = self.database.name();
        let kind = match self.database.fault(error) {
            Fault::Row => StoreErrorKind::Row,
            Fault::NotADatabase => StoreErrorKind::NotADatabase { database },
            Fault::Timeout => StoreErrorKind::Timeout { database },
            Fault::Denied => StoreErrorKind::Denied { database, tables: self.schema.names() },
            Fault::Conflict | Fault::Schema | Fault::Unavailable => StoreErrorKind::Unavailable { database },
        };
        StoreError { kind, source: said(error) }
    }
}

/// Where a transaction failed.
enum Failed {
    ToBegin(sqlx::Error),
    ToWrite(sqlx::Error),
}

fn said(error: &sqlx::Error) -> Option<Source> {
    Some(Box::new(Said::new(error)))
}

/// What one transaction writes.
struct Batch<'r, 'e> {
    rows: Vec<&'r Row<'e>>,
    /// For a table: of each object the latest, in the order of the objects.
    latest: Vec<&'r Row<'e>>,
}

impl<'r, 'e> Batch<'r, 'e> {
    fn new(rows: Vec<&'r Row<'e>>, is_table: bool) -> Self {
        let mut latest = if is_table { latest_per_object(&rows) } else { Vec::new() };
        latest.sort_unstable_by(|a, b| a.key().cmp(&b.key()));
        Self { rows, latest }
    }
}

/// Whether the pool had no connection to give.
fn has_no_connection(error: &StoreError) -> bool {
    error.source.as_deref().and_then(|source| source.downcast_ref()).is_some_and(Said::is_lack_of_connections)
}

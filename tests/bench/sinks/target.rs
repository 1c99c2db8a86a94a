//! Where events go: databases and a webhook's receiver, each a real server of its own.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, ensure};
use sqlx::{AnyConnection, AssertSqlSafe, Connection};
use upcall_tests::sql::{Engine, SqlOptions, SqlServer};

use crate::server::{Server, free_address};

/// How many events a statement writes: what a consumer takes at once by default.
pub(crate) const BATCH: usize = 500;
/// How many batches are under way at once: a consumer's default.
pub(crate) const CONCURRENCY: usize = 2;
/// How many requests are under way at once: a webhook's default.
pub(crate) const REQUESTS: usize = 16;
/// The round before the first one.
pub(crate) const WARM_UP: usize = 0;
/// What webhooks are signed with; no one verifies it here.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A kind of target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
    MariaDb,
    Webhook,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Sqlite, Self::Postgres, Self::MariaDb, Self::Webhook];

    fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::MariaDb => "mariadb",
            Self::Webhook => "webhook",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).with_context(|| format!("there is no target {text:?}"))
    }
}

/// A target that is running.
pub(crate) struct Target {
    kind: Kind,
    place: Place,
}

enum Place {
    /// SQLite's files: each table has a file of its own, as it has everywhere else.
    Folder(PathBuf),
    Database(SqlServer),
    Receiver(Server),
}

impl Target {
    /// Starts what is needed.
    pub(crate) fn start(kind: Kind, folder: &Path) -> anyhow::Result<Self> {
        let server = |engine| SqlServer::start_with(engine, &SqlOptions::durable(engine));
        let place = match kind {
            Kind::Sqlite => Place::Folder(folder.to_owned()),
            Kind::Postgres => Place::Database(server(Engine::Postgres)),
            Kind::MariaDb => Place::Database(server(Engine::MariaDb)),
            Kind::Webhook => {
                let address = free_address()?;
                let mut command = Command::new(std::env::current_exe()?);
                Place::Receiver(Server::start(command.args(["receive", &address.to_string()]), address)?)
            }
        };
        Ok(Self { kind, place })
    }

    /// What it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The consumer's sink, as configured; each round has a table of its own.
    pub(crate) fn sink(&self, round: usize) -> String {
        let table = table(round);
        match &self.place {
            Place::Receiver(server) => format!(
                "webhook = {{ url = \"http://{}/\", secrets = [\"{SECRET}\"], allow_networks = [\"127.0.0.0/8\"] }}",
                server.address
            ),
            _ => format!("sql = {{ url = \"{}\", table = \"{table}\" }}", self.url(&table)),
        }
    }

    /// Checks that everything has arrived, once.
    pub(crate) fn check(&self, round: usize, events: usize) -> anyhow::Result<()> {
        if let Place::Receiver(_) = self.place {
            return Ok(());
        }
        let table = table(round);
        let rows = with(&self.url(&table), async |connection| {
            sqlx::query_scalar::<_, i64>(AssertSqlSafe(format!("SELECT count(*) FROM {table}")))
                .fetch_one(connection)
                .await
        })?;
        ensure!(usize::try_from(rows)? == events, "{rows} rows of {events} events");
        Ok(())
    }

    /// The arguments by which this program does the same in the plainest way, but for how many events.
    pub(crate) fn plain(&self, round: usize) -> anyhow::Result<Vec<String>> {
        if let Place::Receiver(server) = &self.place {
            return Ok(vec!["post".to_owned(), format!("http://{}/", server.address)]);
        }
        let (model, plain) = (table(WARM_UP), plain_table(round));
        let create = match self.kind {
            Kind::Postgres => format!("CREATE TABLE {plain} (LIKE {model} INCLUDING ALL)"),
            Kind::MariaDb => format!("CREATE TABLE {plain} LIKE {model}"),
            Kind::Sqlite | Kind::Webhook => {
                let sql = format!("SELECT sql FROM sqlite_master WHERE tbl_name = '{model}' AND sql IS NOT NULL");
                let made: Vec<String> = with(&self.url(&model), async |connection| {
                    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(connection).await
                })?;
                made.iter().map(|sql| sql.replace(&model, &plain)).collect::<Vec<_>>().join(";\n")
            }
        };
        self.execute(&plain, create)?;
        Ok(vec!["write".to_owned(), self.url(&plain), plain])
    }

    /// Drops what a round has written, so that each finds the same.
    pub(crate) fn clear(&self, round: usize) -> anyhow::Result<()> {
        let (table, plain) = (table(round), plain_table(round));
        match &self.place {
            Place::Receiver(_) => Ok(()),
            Place::Folder(_) => [table, plain].iter().try_for_each(|table| Ok(std::fs::remove_file(self.file(table))?)),
            Place::Database(_) => {
                self.execute(&table, format!("DROP TABLE {table}, {table}_applied, {plain}"))?;
                self.execute(&table, "DELETE FROM upcall_tables".to_owned())
            }
        }
    }

    fn execute(&self, table: &str, sql: String) -> anyhow::Result<()> {
        with(&self.url(table), async |connection| sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop))
    }

    /// The URL of the database that a table is in.
    fn url(&self, table: &str) -> String {
        match &self.place {
            Place::Folder(_) | Place::Receiver(_) => format!("sqlite://{}?mode=rwc", self.file(table).display()),
            Place::Database(server) => server.admin_url(),
        }
    }

    fn file(&self, table: &str) -> PathBuf {
        let folder = if let Place::Folder(folder) = &self.place { folder.as_path() } else { Path::new("") };
        folder.join(format!("{table}.db"))
    }
}

fn table(round: usize) -> String {
    format!("uploads_{round}")
}

fn plain_table(round: usize) -> String {
    format!("plain_{round}")
}

/// Does something with a connection of its own.
fn with<T>(url: &str, ask: impl AsyncFnOnce(&mut AnyConnection) -> sqlx::Result<T>) -> anyhow::Result<T> {
    sqlx::any::install_default_drivers();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = AnyConnection::connect(url).await?;
        let asked = ask(&mut connection).await?;
        connection.close().await?;
        Ok(asked)
    })
}

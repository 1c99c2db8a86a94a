//! Where events go: databases and a webhook's receiver, each a real server of its own.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use sqlx::AnyConnection;
use sqlx::AssertSqlSafe;
use sqlx::{Connection, Executor};

use crate::consume::free_address;
use crate::server::Server;

/// How many events a statement writes: what a consumer takes at once by default.
pub(crate) const BATCH: usize = 500;
/// How many batches are under way at once: a consumer's default.
pub(crate) const CONCURRENCY: usize = 2;
/// How many requests are under way at once: a webhook's default.
pub(crate) const REQUESTS: usize = 16;

/// A kind of target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Webhook,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::Sqlite, Self::Webhook];

    fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
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
    Database { url: String },
    Receiver(Server),
}

impl Target {
    /// Starts what is needed.
    pub(crate) fn start(kind: Kind, folder: &Path) -> anyhow::Result<Self> {
        let place = match kind {
            Kind::Sqlite => Place::Database { url: format!("sqlite://{}", folder.join("catalog.db").display()) },
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
        match &self.place {
            Place::Database { url } => format!("sql = {{ url = \"{url}\", table = \"{}\" }}", table(round)),
            Place::Receiver(server) => format!(
                "webhook = {{ url = \"http://{}/\", secrets = [\"{SECRET}\"], allow_networks = [\"127.0.0.0/8\"] }}",
                server.address
            ),
        }
    }

    /// Checks that everything has arrived, once.
    pub(crate) fn check(&self, round: usize, events: usize) -> anyhow::Result<()> {
        let Place::Database { url } = &self.place else { return Ok(()) };
        let rows = with(url, async |connection| {
            let sql = format!("SELECT count(*) FROM {}", table(round));
            sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql)).fetch_one(connection).await
        })?;
        ensure!(usize::try_from(rows)? == events, "{rows} rows of {events} events");
        Ok(())
    }

    /// The arguments by which this program does the same in the plainest way, but for how many events.
    pub(crate) fn plain(&self, round: usize) -> anyhow::Result<Vec<String>> {
        match &self.place {
            Place::Database { url } => {
                let plain = format!("plain_{round}");
                let create = self.copy_of(&table(round), &plain)?;
                with(url, async |connection| connection.execute(AssertSqlSafe(create)).await.map(drop))?;
                Ok(vec!["write".to_owned(), url.clone(), plain])
            }
            Place::Receiver(server) => Ok(vec!["post".to_owned(), format!("http://{}/", server.address)]),
        }
    }

    /// The statement that makes a table like another, with its key and its indexes.
    fn copy_of(&self, table: &str, copy: &str) -> anyhow::Result<String> {
        match self.kind {
            Kind::Sqlite => {
                let Place::Database { url } = &self.place else { bail!("SQLite is a database") };
                let sql = format!("SELECT sql FROM sqlite_master WHERE tbl_name = '{table}' AND sql IS NOT NULL");
                let made: Vec<String> =
                    with(url, async |connection| sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(connection).await)?;
                Ok(made.iter().map(|sql| sql.replace(table, copy)).collect::<Vec<_>>().join(";\n"))
            }
            Kind::Webhook => bail!("a webhook has no tables"),
        }
    }
}

/// What webhooks are signed with; no one verifies it here.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn table(round: usize) -> String {
    format!("uploads_{round}")
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

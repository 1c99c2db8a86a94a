//! The suite that every sink passes: with a table of the sink's, whose every change is noted by a trigger, and by a
//! statement whose table has no key. An effect that happens twice is there twice.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AnyConnection, AssertSqlSafe, Connection};
use tokio::sync::Mutex;
use upcall_consumer::Sink;
use upcall_consumer::conformance::Target;
use upcall_event::{Event, EventId};
use upcall_sink_sql::{Effect, Options, SqlSink};
use upcall_tests::proxy::{Link, Proxy};
use upcall_tests::sql::{Engine, SqlServer};

use crate::site::{Kind, Site, uploads};

/// Runs the suite on a kind of database, in both of the sink's ways.
macro_rules! conformance_on {
    ($module:ident, $kind:expr) => {
        mod $module {
            use super::*;

            mod statement {
                use super::*;

                upcall_consumer::conformance_tests!(async || DatabaseTarget::new($kind, Way::Statement).await);
            }

            mod table {
                use super::*;

                upcall_consumer::conformance_tests!(async || DatabaseTarget::new($kind, Way::Table).await);
            }
        }
    };
}

conformance_on!(sqlite, Kind::Sqlite);
conformance_on!(postgres, Kind::Server(Engine::Postgres));
conformance_on!(mariadb, Kind::Server(Engine::MariaDb));

/// What the sink does with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Statement,
    Table,
}

impl Way {
    fn effect(self) -> Effect {
        match self {
            Self::Statement => {
                let statement = "INSERT INTO effects (event_id) VALUES (${event.id})".parse().unwrap();
                Effect::Statement { statement, applied: "effects_applied".parse().unwrap() }
            }
            Self::Table => uploads().into(),
        }
    }
}

struct DatabaseTarget {
    site: Mutex<Site>,
    way: Way,
    /// Where sinks find the database; behind the proxy, where there is one.
    url: String,
    proxy: Option<Proxy>,
    /// Holds the lock that makes the database slow, or a file unavailable.
    locker: Mutex<AnyConnection>,
}

impl DatabaseTarget {
    /// Where there is no such server, the suite runs on a file, so that its tests need not know.
    async fn new(kind: Kind, way: Way) -> Self {
        let kind = match kind {
            Kind::Server(engine) if engine.is_missing("the suite of sinks") => Kind::Sqlite,
            kind => kind,
        };
        let mut site = Site::new(kind).await;
        site.execute(site.says(
            "CREATE TABLE effects (place INTEGER PRIMARY KEY, event_id TEXT)",
            "CREATE TABLE effects (place SERIAL PRIMARY KEY, event_id TEXT)",
            "CREATE TABLE effects (place INTEGER PRIMARY KEY AUTO_INCREMENT, event_id VARCHAR(32))",
        ))
        .await;
        site.execute("CREATE TABLE refused (event_id VARCHAR(32))").await;
        site.execute(site.says(
            "CREATE TRIGGER refuse BEFORE INSERT ON effects WHEN new.event_id IN (SELECT event_id FROM refused) BEGIN SELECT raise(ABORT, 'refused'); END",
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.event_id IN (SELECT event_id FROM refused) THEN RAISE EXCEPTION 'refused'; END IF; RETURN new; END $$; CREATE TRIGGER refuse BEFORE INSERT ON effects FOR EACH ROW EXECUTE FUNCTION refuse()",
            "CREATE TRIGGER refuse BEFORE INSERT ON effects FOR EACH ROW BEGIN IF new.event_id IN (SELECT event_id FROM refused) THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused'; END IF; END",
        ))
        .await;
        if way == Way::Table {
            note_changes(&mut site).await;
        }
        let proxy = match kind {
            Kind::Sqlite => None,
            Kind::Server(engine) => Some(Proxy::start(SqlServer::shared(engine).address())),
        };
        let url = match &proxy {
            None => site.url.clone(),
            Some(proxy) => {
                let (start, rest) = site.url.split_once('@').unwrap();
                let (_, database) = rest.split_once('/').unwrap();
                format!("{start}@{}/{database}", proxy.address())
            }
        };
        let locker = AnyConnection::connect(&site.url).await.unwrap();
        Self { site: Mutex::new(site), way, url, proxy, locker: Mutex::new(locker) }
    }

    async fn lock(&self) {
        let lock = self.site.lock().await.says(
            "BEGIN IMMEDIATE",
            "BEGIN; LOCK TABLE effects IN SHARE ROW EXCLUSIVE MODE",
            "LOCK TABLES effects READ",
        );
        sqlx::raw_sql(AssertSqlSafe(lock.to_owned())).execute(&mut *self.locker.lock().await).await.unwrap();
    }
}

/// Has every change of the sink's table noted as an effect.
async fn note_changes(site: &mut Site) {
    drop(site.sink(Way::Table.effect()).await);
    site.execute(site.says(
        "CREATE TRIGGER note_insert AFTER INSERT ON uploads BEGIN INSERT INTO effects (event_id) VALUES (new.event_id); END; CREATE TRIGGER note_update AFTER UPDATE ON uploads WHEN new.event_id <> old.event_id BEGIN INSERT INTO effects (event_id) VALUES (new.event_id); END",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effects (event_id) VALUES (new.event_id); RETURN new; END $$; CREATE TRIGGER note AFTER INSERT OR UPDATE ON uploads FOR EACH ROW EXECUTE FUNCTION note()",
        "CREATE TRIGGER note_insert AFTER INSERT ON uploads FOR EACH ROW INSERT INTO effects (event_id) VALUES (new.event_id)",
    ))
    .await;
    if site.is_mariadb() {
        // It has an update even where the later row stays.
        site.execute("CREATE TRIGGER note_update AFTER UPDATE ON uploads FOR EACH ROW BEGIN IF new.event_id <> old.event_id THEN INSERT INTO effects (event_id) VALUES (new.event_id); END IF; END").await;
    }
}

#[async_trait]
impl Target for DatabaseTarget {
    async fn sink(&self) -> Arc<dyn Sink> {
        let options = Options {
            statement_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(1),
            ..Options::new(self.url.clone(), self.way.effect())
        };
        Arc::new(SqlSink::new(options).unwrap())
    }

    async fn effects(&self) -> Vec<EventId> {
        let effects = self.site.lock().await.texts("event_id", "effects", "place").await;
        effects.iter().map(|id| id.parse().unwrap()).collect()
    }

    async fn stop(&self) {
        match &self.proxy {
            Some(proxy) => proxy.set(Link::Cut),
            // A file is always there; but somebody may have locked it.
            None => self.lock().await,
        }
    }

    async fn slow_down(&self) {
        self.lock().await;
    }

    async fn refuse(&self, event: &Event) {
        let refuse = format!("INSERT INTO refused VALUES ('{}')", event.id);
        self.site.lock().await.execute(&refuse).await;
    }

    async fn heal(&self) {
        if let Some(proxy) = &self.proxy {
            proxy.set(Link::Whole);
        }
        let mut site = self.site.lock().await;
        let unlock = site.says("ROLLBACK", "ROLLBACK", "UNLOCK TABLES");
        // There may be no lock.
        let _ = sqlx::raw_sql(AssertSqlSafe(unlock.to_owned())).execute(&mut *self.locker.lock().await).await;
        site.execute("DELETE FROM refused").await;
    }
}

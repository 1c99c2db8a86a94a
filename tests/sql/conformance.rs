//! The suite that every sink passes, by a statement whose table has no key: an effect that happens twice is there twice.

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

use crate::site::{Kind, Site};

mod sqlite {
    use super::{DatabaseTarget, Kind};

    upcall_consumer::conformance_tests!(async || DatabaseTarget::new(Kind::Sqlite).await);
}

mod postgres {
    use super::{DatabaseTarget, Engine, Kind};

    upcall_consumer::conformance_tests!(async || DatabaseTarget::new(Kind::Server(Engine::Postgres)).await);
}

mod mariadb {
    use super::{DatabaseTarget, Engine, Kind};

    upcall_consumer::conformance_tests!(async || DatabaseTarget::new(Kind::Server(Engine::MariaDb)).await);
}

struct DatabaseTarget {
    site: Mutex<Site>,
    /// Where sinks find the database; behind the proxy, where there is one.
    url: String,
    proxy: Option<Proxy>,
    /// Holds the lock that makes the database slow, or a file unavailable.
    locker: Mutex<AnyConnection>,
}

impl DatabaseTarget {
    /// Where there is no such server, the suite runs on a file, so that its tests need not know.
    async fn new(kind: Kind) -> Self {
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
        Self { site: Mutex::new(site), url, proxy, locker: Mutex::new(locker) }
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

#[async_trait]
impl Target for DatabaseTarget {
    async fn sink(&self) -> Arc<dyn Sink> {
        let statement = "INSERT INTO effects (event_id) VALUES (${event.id})".parse().unwrap();
        let effect = Effect::Statement { statement, applied: "effects_applied".parse().unwrap() };
        let options = Options {
            statement_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(1),
            ..Options::new(self.url.clone(), effect)
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

//! A bus with an SQLite consumer, to be operated with the built executable.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use upcall_bus::{Deadline, Message, Publisher};
use upcall_bus_journal::Journal;
use upcall_bus_nats::NatsBus;
use upcall_event::{Event, EventId, SubjectTemplate};
use upcall_tests::executable::{self, PATIENCE};
use upcall_tests::http::{exchange, get, wait_until};
use upcall_tests::nats::NatsServer;
use upcall_tests::signer::Signer;

use crate::serve::Served;

/// How many events [`Site::publish_many`] publishes.
pub(super) const MANY: usize = 20_000;

/// A folder with a configuration, and a NATS server where it names one.
pub(super) struct Site {
    folder: TempDir,
    pub(super) file: PathBuf,
    pub(super) signer: Signer,
    pub(super) nats: Option<NatsServer>,
}

impl Site {
    pub(super) fn on_the_journal() -> Self {
        Self::new("[bus]\njournal = \"./journal\"\n", None)
    }

    pub(super) fn on_nats() -> Self {
        let server = NatsServer::start();
        Self::new(&format!("[bus.nats]\nurl = \"{}\"\n", server.url()), Some(server))
    }

    fn new(bus: &str, nats: Option<NatsServer>) -> Self {
        let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new());
        let file = folder.path().join("upcall.toml");
        let text = format!(
            "{bus}\n[gateway]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\n{keys}\n\
             [[route]]\nname = \"test\"\npath = \"/oss/test\"\n\n\
             [[consumer]]\nname = \"catalog\"\nattempts_max = 2\nbackoff = {{ first = \"10ms\", max = \"20ms\" }}\n\
             sql = {{ url = \"sqlite://catalog.db\", table = \"uploads\" }}\n",
            keys = signer.configuration(),
        );
        std::fs::write(&file, text).unwrap();
        Self { folder, file, signer, nats }
    }

    /// Serves until a first event, `good-0`, has reached the table.
    pub(super) fn serve(&self) -> Served {
        let served = Served::start(&self.file);
        wait_until("the gateway is ready", || get(served.admin, "/ready").unwrap().status == 200);
        self.upload(&served, "good-0");
        let table = "SELECT count(*) FROM sqlite_master WHERE name = 'uploads'";
        wait_until("there is a table", || self.folder.path().join("catalog.db").exists() && self.number(table) == 1);
        wait_until("the first row is there", || self.objects().contains("good-0"));
        self.sql(
            "CREATE TABLE effect (event_id);
             CREATE TRIGGER effect AFTER INSERT ON uploads BEGIN INSERT INTO effect VALUES (new.event_id); END;
             INSERT INTO effect SELECT event_id FROM uploads",
        );
        served
    }

    pub(super) fn upload(&self, served: &Served, object: &str) {
        let request = self.signer.upload("/oss/test", "examplebucket", object, &format!("5CF3E782-{object}"));
        let answer = exchange(served.callbacks, &request).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Runs `upcall` with the configuration to its end, which is bounded.
    pub(super) fn upcall(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.arg(PATIENCE.as_secs().to_string()).arg(executable::path()).args(arguments).arg("-c").arg(&self.file);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Waits for so many dead letters.
    pub(super) fn dead_letters(&self, count: usize) -> Vec<Value> {
        let mut letters = Vec::new();
        wait_until("so many dead letters", || {
            let list = text(&self.upcall(&["dead", "list", "--json"]));
            letters = list.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            letters.len() == count
        });
        letters
    }

    /// Has the table refuse objects whose names begin so.
    pub(super) fn refuse(&self, prefix: &str) {
        self.sql(&format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON uploads WHEN new.object LIKE '{prefix}%'
             BEGIN SELECT raise(ABORT, 'we want no such thing'); END"
        ));
    }

    /// Has the table forget everything, also what was applied.
    pub(super) fn forget(&self) {
        self.sql("BEGIN IMMEDIATE; DELETE FROM uploads; DELETE FROM uploads_applied; DELETE FROM effect; COMMIT");
    }

    pub(super) fn objects(&self) -> BTreeSet<String> {
        let catalog = self.catalog();
        let mut statement = catalog.prepare("SELECT object FROM uploads").unwrap();
        let objects = statement.query_map((), |row| row.get(0)).unwrap();
        objects.collect::<Result<_, _>>().unwrap()
    }

    /// How often a row was written.
    pub(super) fn effects(&self) -> usize {
        self.number("SELECT count(*) FROM effect")
    }

    pub(super) fn number(&self, query: &str) -> usize {
        self.catalog().query_row(query, (), |row| row.get(0)).unwrap()
    }

    pub(super) fn sql(&self, statements: &str) {
        self.catalog().execute_batch(statements).unwrap();
    }

    fn catalog(&self) -> rusqlite::Connection {
        let catalog = rusqlite::Connection::open(self.folder.path().join("catalog.db")).unwrap();
        catalog.busy_timeout(PATIENCE).unwrap();
        catalog
    }

    /// Puts many events on the bus, before anybody serves it.
    pub(super) fn publish_many(&self) {
        if let Some(nats) = &self.nats {
            text(&self.upcall(&["provision"]));
            let options = upcall_bus_nats::Options::new(nats.url());
            in_runtime(async {
                let bus = NatsBus::connect(options).await.unwrap();
                tokio::time::timeout(PATIENCE, bus.link().wait_for(|link| link.connected)).await.unwrap().unwrap();
                publish_all(Arc::new(bus.clone())).await;
                bus.close().await;
            });
        } else {
            let options = upcall_bus_journal::Options::new(self.folder.path().join("journal"));
            in_runtime(async {
                let journal = Journal::open(options).unwrap();
                publish_all(Arc::new(journal.clone())).await;
                journal.close().await;
            });
        }
    }
}

pub(super) fn in_runtime(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work);
}

async fn publish_all(publisher: Arc<dyn Publisher>) {
    const AT_ONCE: usize = 64;
    let mut publishers = tokio::task::JoinSet::new();
    for first in 0..AT_ONCE {
        let publisher = Arc::clone(&publisher);
        publishers.spawn(async move {
            for number in (first..MANY).step_by(AT_ONCE) {
                let event = event(&format!("many-{number}"));
                let subject = SubjectTemplate::default().fill(&event).unwrap();
                publisher.publish(Message { subject, event }, Deadline::after(PATIENCE)).await.unwrap();
            }
        });
    }
    while let Some(published) = publishers.join_next().await {
        published.unwrap();
    }
}

pub(super) fn event(object: &str) -> Event {
    let id = EventId::from_request("examplebucket", object, object);
    let json = serde_json::json!({
        "specversion": "1.0", "id": id.to_string(), "type": "upcall.upload.completed.v1", "source": "/oss/examplebucket",
        "subject": object, "time": Timestamp::now().to_string(), "datacontenttype": "application/json",
        "data": { "bucket": "examplebucket", "object": object, "size": 1, "operation": "PutObject", "route": "test",
                  "bucket_from": "body", "proof": [], "origin": "callback" },
    });
    Event::from_structured(json.to_string().as_bytes()).unwrap()
}

pub(super) fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

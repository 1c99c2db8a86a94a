//! A gateway and its consumers, in one process or two, with a collector.

use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;
use upcall_tests::collector::{Behaviour, Collected, Collector};
use upcall_tests::executable::Running;
use upcall_tests::http::{Answer, exchange, get, wait_until};
use upcall_tests::nats::NatsServer;
use upcall_tests::signer::Signer;

use opentelemetry_proto::tonic::trace::v1::Span;

use crate::serve::Served;

/// The path of the one route.
pub(crate) const PATH: &str = "/oss/test";

/// A gateway at work.
pub(crate) struct Site {
    // First: its books are checked when it is dropped, which needs what is below.
    pub(crate) gateway: Served,
    consumers: Option<Running>,
    nats: Option<NatsServer>,
    pub(crate) collector: Collector,
    pub(crate) signer: Signer,
    folder: TempDir,
}

impl Site {
    /// One process with the journal and a consumer. `telemetry` is added to `[telemetry.otlp]`.
    pub(crate) fn on_the_journal(protocol: &str, telemetry: &str) -> Self {
        Self::with_a_collector(Behaviour::Works, protocol, telemetry)
    }

    /// The same with a collector that behaves so.
    pub(crate) fn with_a_collector(behaviour: Behaviour, protocol: &str, telemetry: &str) -> Self {
        let (folder, signer, collector) = (tempfile::tempdir().unwrap(), Signer::new(), Collector::start(behaviour));
        let telemetry = format!("{}{telemetry}", collector.configuration(protocol));
        let text = format!("[bus]\njournal = \"./journal\"\n{}{CONSUMER}{telemetry}", gateway(&signer));
        let gateway = Served::start(&write(folder.path(), "upcall.toml", &text));
        let site = Self { folder, collector, signer, gateway, consumers: None, nats: None };
        site.wait_until_ready();
        site
    }

    /// A gateway on NATS, and its consumers in a process of their own. Everything is recorded.
    pub(crate) fn on_nats(ack: &str, protocol: &str) -> Self {
        Self::sampled_on_nats(ack, protocol, 1)
    }

    /// The same, with this share recorded.
    pub(crate) fn sampled_on_nats(ack: &str, protocol: &str, sample: u8) -> Self {
        let (folder, signer, collector) = parts();
        let server = NatsServer::start();
        let journal = if ack == "journal" { "journal = \"./journal\"\n" } else { "" };
        let nats = format!("nats = {{ url = \"{}\", ack = \"{ack}\" }}\n", server.url());
        let telemetry = |service: &str| {
            format!(
                "{}sample = {sample}\nservice = \"{service}\"\nheaders = {{ x-key = {{ env = \"PATH\" }} }}\n",
                collector.configuration(protocol)
            )
        };
        let text = format!("[bus]\n{journal}{nats}{}{}", gateway(&signer), telemetry("gateway"));
        let gateway = Served::start(&write(folder.path(), "gateway.toml", &text));
        let ports = "[gateway]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n";
        let nats = format!("nats = {{ url = \"{}\" }}\n", server.url());
        let text = format!("{ports}[bus]\n{nats}{CONSUMER}{}", telemetry("consumers"));
        let file = write(folder.path(), "consumers.toml", &text);
        let mut consumers = Running::start(&["serve", "-c", file.to_str().unwrap()]);
        let admin: SocketAddr = consumers.wait_for("line with its address", |line| {
            line.split("admin=").nth(1)?.split_whitespace().next()?.trim_matches('"').parse().ok()
        });
        wait_until("the consumers are ready", || get(admin, "/ready").unwrap().status == 200);
        let site = Self { folder, collector, signer, gateway, consumers: Some(consumers), nats: Some(server) };
        site.wait_until_ready();
        site
    }

    fn wait_until_ready(&self) {
        wait_until("the gateway is ready", || get(self.gateway.admin, "/ready").unwrap().status == 200);
    }

    /// Uploads, with headers such as `a: b\r\n`.
    pub(crate) fn upload(&self, object: &str, headers: &str) -> Answer {
        let request = self.signer.upload(PATH, "examplebucket", object, &format!("5CF3E782-{object}"));
        let request = String::from_utf8(request).unwrap().replacen("Host: ", &format!("{headers}Host: "), 1);
        let answer = exchange(self.gateway.callbacks, request.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    }

    /// Waits until an object's row is in the table.
    pub(crate) fn wait_for_row(&self, object: &str) {
        let file = self.folder.path().join("catalog.db");
        wait_until("the row is there", || {
            let catalog = rusqlite::Connection::open(&file).unwrap();
            let count = catalog.query_row("SELECT count(*) FROM uploads WHERE object = ?1", [object], |row| row.get(0));
            count.is_ok_and(|count: i64| count == 1)
        });
    }

    /// Waits for a span, and gives its whole trace.
    pub(crate) fn trace_of(&self, is_it: impl Fn(&Span) -> bool) -> Trace {
        let mut trace = None;
        wait_until("the span is with the collector", || {
            trace = self
                .collector
                .kept()
                .spans
                .iter()
                .find(|span| is_it(&span.item))
                .map(|span| span.item.trace_id.clone());
            trace.is_some()
        });
        let trace = trace.unwrap();
        // Those of a callback that is answered, and of an event that is done, come soon after.
        wait_until("its callback is with the collector", || {
            self.spans(&trace).iter().any(|span| span.item.name.starts_with("POST "))
        });
        Trace(self.spans(&trace))
    }

    /// The spans of a trace, so far.
    pub(crate) fn spans(&self, trace_id: &[u8]) -> Vec<Collected<Span>> {
        self.collector.kept().spans.iter().filter(|span| span.item.trace_id == trace_id).cloned().collect()
    }

    /// Ends every process in order.
    pub(crate) fn end(&mut self) {
        if let Some(consumers) = &mut self.consumers {
            assert!(consumers.terminate().success());
        }
        assert!(self.gateway.terminate().success());
    }

    /// What a bus holds of an object, by `upcall tail`.
    pub(crate) fn stored(&self, object: &str) -> serde_json::Value {
        let file = if self.nats.is_some() { "gateway.toml" } else { "upcall.toml" };
        let file = self.folder.path().join(file);
        let mut tail = std::process::Command::new(upcall_tests::executable::path());
        let output = tail.args(["tail", "--no-follow", "--json", "-c"]).arg(file).output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let events = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let event = |line: serde_json::Value| if line["event"].is_object() { line["event"].clone() } else { line };
        let mut events = events.map(event);
        events.find(|event| event["subject"] == object).unwrap_or_else(|| panic!("no {object}: {lines}"))
    }
}

/// The spans of one trace.
#[derive(Debug)]
pub(crate) struct Trace(pub(crate) Vec<Collected<Span>>);

impl Trace {
    /// The one span whose name begins so.
    #[track_caller]
    pub(crate) fn span(&self, name: &str) -> &Collected<Span> {
        let mut named = self.0.iter().filter(|span| span.item.name.starts_with(name));
        let span = named.next().unwrap_or_else(|| panic!("no {name} among {:?}", self.names()));
        assert!(named.next().is_none(), "more than one {name} among {:?}", self.names());
        span
    }

    /// Checks that each of these spans is the next one's parent.
    #[track_caller]
    pub(crate) fn check_chain(&self, names: &[&str]) {
        for pair in names.windows(2) {
            let [parent, child] = [0, 1].map(|at| &self.span(pair[at]).item);
            assert_eq!(child.parent_span_id, parent.span_id, "{} is below {}", pair[1], pair[0]);
            assert!(child.start_time_unix_nano >= parent.start_time_unix_nano, "{pair:?}");
        }
    }

    fn names(&self) -> Vec<&str> {
        self.0.iter().map(|span| span.item.name.as_str()).collect()
    }
}

/// A consumer that keeps a table.
const CONSUMER: &str = "[[consumer]]\nname = \"catalog\"\nstart = \"oldest\"\nsql = { url = \"sqlite://catalog.db\", table = \"uploads\" }\n";

fn gateway(signer: &Signer) -> String {
    format!(
        "[gateway]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n{}[[route]]\nname = \"test\"\npath = \"{PATH}\"\n",
        signer.configuration()
    )
}

fn parts() -> (TempDir, Signer, Collector) {
    (tempfile::tempdir().unwrap(), Signer::new(), Collector::start(Behaviour::Works))
}

fn write(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap();
    file
}

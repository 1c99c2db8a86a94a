//! A server, a journal, and a relay between them.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::jetstream::stream::Config;
use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use upcall_bus::conformance::message;
use upcall_bus::{ArchiveError, Deadline, Message, Publisher, Receipt};
use upcall_bus_journal::{Journal, Options as JournalOptions, Reader};
use upcall_bus_nats::{NatsBus, Options};
use upcall_event::EventId;
use upcall_relay::{Options as RelayOptions, Relay, RelayHandle, RelayStatus};
use upcall_tests::executable::PATIENCE;
use upcall_tests::nats::{NatsCluster, NatsOptions, NatsServer};

/// For how long the stream recognises an id: short, so that a test can outwait it.
pub(super) const WINDOW: Duration = Duration::from_secs(1);
/// The consumer of the journal that the relay is.
const NAME: &str = "relay";

pub(super) struct Setup {
    pub(super) sync_hold: Duration,
    pub(super) size_bytes: Option<u64>,
    pub(super) spilled: bool,
    pub(super) window: Duration,
    /// Lines of the server's configuration, inside `jetstream { … }`.
    pub(super) jetstream: &'static str,
}

impl Default for Setup {
    /// Nothing leaves the journal.
    fn default() -> Self {
        Self { sync_hold: Duration::from_secs(3_600), size_bytes: None, spilled: false, window: WINDOW, jetstream: "" }
    }
}

pub(super) struct Rig<S = NatsServer> {
    pub(super) server: S,
    pub(super) bus: NatsBus,
    pub(super) journal: Journal,
    setup: Setup,
    folder: TempDir,
    relay: Option<Running>,
}

struct Running {
    handle: RelayHandle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Rig {
    pub(super) async fn new(setup: Setup) -> Self {
        let jetstream = setup.jetstream.to_owned();
        let server = NatsServer::start_with(&NatsOptions { jetstream, ..NatsOptions::default() });
        let options = Options::new(server.url());
        Self::over(server, options, setup).await
    }
}

impl Rig<NatsCluster> {
    /// Three servers that hold every event.
    pub(super) async fn on_three(setup: Setup) -> Self {
        let server = NatsCluster::start(3);
        let mut options = Options { urls: server.urls(), ..Options::new("") };
        options.streams.replicas = 3;
        Self::over(server, options, setup).await
    }

    /// Has another server lead the stream, and waits until it does.
    pub(super) async fn change_leader(&self) {
        let leader = async || {
            let info = self.jetstream().get_stream("UPCALL").await.ok()?.cached_info().clone();
            info.cluster?.leader
        };
        let changed = async {
            let before = loop {
                if let Some(leader) = leader().await {
                    break leader;
                }
            };
            self.bus.client().request("$JS.API.STREAM.LEADER.STEPDOWN.UPCALL", "".into()).await.unwrap();
            while leader().await.is_none_or(|now| now == before) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        within("another leader", changed).await;
    }
}

impl<S> Rig<S> {
    async fn over(server: S, mut options: Options, setup: Setup) -> Self {
        options.streams.duplicate_window = setup.window;
        options.streams.size_bytes = setup.size_bytes;
        let bus = NatsBus::connect(options).await.unwrap();
        within("a connection", bus.link().wait_for(|link| link.connected)).await.unwrap();
        // A cluster that has just started may still be choosing its leaders.
        let made = async {
            while bus.provision(&[]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        within("the streams", made).await;
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(JournalOptions::new(folder.path())).unwrap();
        Self { server, bus, journal, setup, folder, relay: None }
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Stores events in the journal, in order.
    pub(super) async fn store(&self, numbers: Range<u64>) {
        let numbers: Vec<u64> = numbers.collect();
        for numbers in numbers.chunks(1_000) {
            let publish = numbers.iter().map(|n| self.journal.publish(message(*n), Deadline::after(PATIENCE)));
            for receipt in join_all(publish).await {
                assert_eq!(receipt.unwrap(), Receipt::Stored);
            }
        }
    }

    /// Stores events on another subject than theirs.
    pub(super) async fn store_on(&self, subject: &str, numbers: Range<u64>) {
        for number in numbers {
            let message = Message { subject: subject.parse().unwrap(), ..message(number) };
            assert_eq!(self.journal.publish(message, Deadline::after(PATIENCE)).await.unwrap(), Receipt::Stored);
        }
    }

    pub(super) async fn store_large(&self, number: u64, bytes: usize) {
        let mut message = message(number);
        message.event.data.vars.insert("large".to_owned(), "x".repeat(bytes));
        self.journal.publish(message, Deadline::after(PATIENCE)).await.unwrap();
    }

    /// Runs a relay.
    pub(super) async fn relay(&mut self) {
        assert!(self.relay.is_none());
        let open = async {
            loop {
                // The one before may still be giving its name back.
                if let Ok(backlog) = self.journal.backlog(&NAME.parse().unwrap()).await {
                    break backlog;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let backlog = within("the backlog", open).await;
        let mut options = RelayOptions::new(self.folder.path());
        options.sync_hold = self.setup.sync_hold;
        options.spilled = self.setup.spilled;
        options.ack_timeout = Duration::from_millis(500);
        let relay = Relay::new(backlog, self.bus.clone(), options);
        let (stop, stopped) = oneshot::channel();
        let handle = relay.handle();
        let task = tokio::spawn(relay.run(async {
            let _ = stopped.await;
        }));
        self.relay = Some(Running { handle, stop, task });
    }

    pub(super) async fn stop_relay(&mut self) {
        let Running { stop, task, .. } = self.relay.take().unwrap();
        stop.send(()).unwrap();
        within("the end of the relay", task).await.unwrap();
    }

    /// As when its process is killed; the journal is opened anew.
    pub(super) async fn kill_relay(&mut self) {
        let Running { task, .. } = self.relay.take().unwrap();
        task.abort();
        let _ = within("the end of the relay", task).await;
        self.journal.close().await;
        self.reopen().await;
    }

    /// As when the machine is lost with the relay at work, and another one begins with a backup of the journal.
    pub(super) async fn restore(&mut self, backup: &Path) {
        let Running { task, .. } = self.relay.take().unwrap();
        task.abort();
        let _ = within("the end of the relay", task).await;
        self.journal.close().await;
        self.folder = tempfile::tempdir().unwrap();
        Reader::open(backup).unwrap().back_up(&self.folder.path().join("restored")).unwrap();
        std::fs::rename(self.folder.path().join("restored/journal.db"), self.folder.path().join("journal.db")).unwrap();
        self.reopen().await;
    }

    async fn reopen(&mut self) {
        let open = async {
            loop {
                if let Ok(journal) = Journal::open(JournalOptions::new(self.folder.path())) {
                    break journal;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        self.journal = within("the journal", open).await;
    }

    pub(super) fn status(&self) -> RelayStatus {
        self.relay.as_ref().unwrap().handle.status()
    }

    pub(super) async fn wait(&self, what: &str, is_so: impl Fn(&RelayStatus) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(&self.status()) {
            assert!(Instant::now() < end, "{what}: never; {:?}", self.status());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) fn floor(&self) -> u64 {
        let status = self.journal.status().unwrap();
        status.consumers.iter().find(|consumer| consumer.name == NAME).unwrap().floor
    }

    /// The ids in the stream, in their order.
    pub(super) async fn stream(&self) -> Vec<EventId> {
        self.try_stream().await.unwrap()
    }

    /// The same, unless the server breaks off: a leader has just changed.
    async fn try_stream(&self) -> Result<Vec<EventId>, ArchiveError> {
        let mut scan = self.bus.scan_ids(0).await?;
        let mut ids = Vec::new();
        while let Some((_, id)) = scan.next().await? {
            ids.push(id.expect("an id of ours"));
        }
        scan.close().await;
        Ok(ids)
    }

    /// Waits until the stream holds so many events.
    pub(super) async fn wait_for_stream(&self, count: usize) {
        let held = async {
            while self.try_stream().await.unwrap_or_default().len() < count {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        within("events in the stream", held).await;
    }

    pub(super) async fn assert_each_once(&self, numbers: Range<u64>) {
        let (mut found, mut expected) = (self.stream().await, expected(numbers));
        assert_eq!(found.len(), expected.len(), "some are missing, or there twice");
        found.sort_unstable();
        expected.sort_unstable();
        assert!(found == expected, "others than expected");
    }

    pub(super) fn jetstream(&self) -> jetstream::Context {
        jetstream::new(self.bus.client().clone())
    }

    pub(super) async fn change_stream(&self, change: impl FnOnce(&mut Config)) {
        let mut config = self.jetstream().get_stream("UPCALL").await.unwrap().cached_info().config.clone();
        change(&mut config);
        self.jetstream().update_stream(config).await.unwrap();
    }

    pub(super) async fn wait_until_connected(&self) {
        within("a connection", self.bus.link().wait_for(|link| link.connected)).await.unwrap();
    }

    pub(super) async fn wait_until_disconnected(&self) {
        within("the connection's end", self.bus.link().wait_for(|link| !link.connected)).await.unwrap();
    }
}

pub(super) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not in time"))
}

/// The ids of these events.
pub(super) fn expected(numbers: Range<u64>) -> Vec<EventId> {
    numbers.map(|number| message(number).event.id).collect()
}

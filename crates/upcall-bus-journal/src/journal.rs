//! The handle.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::thread;

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::oneshot;
use tokio::time::timeout_at;
use upcall_bus::{
    Bus, ConsumerName, ConsumerSpec, Deadline, Message, PublishError, PublishErrorKind, Publisher, Receipt, Start,
    SubscribeError, SubscribeErrorKind, Subscription,
};
use upcall_event::SubjectFilter;
use upcall_telemetry::trace;

use crate::backlog::Backlog;
use crate::checkpointer::Checkpointer;
use crate::index::{Index, Key};
use crate::queue::{Publication, Request};
use crate::reader::{Reader, last_sequence};
use crate::schema::DATABASE;
use crate::session::Lease;
use crate::shared::Shared;
use crate::subscription::JournalSubscription;
use crate::writer::Writer;
use crate::{JournalArchive, OpenError, Options, Overdue, ReadError, Status, database, lock, staged};

/// What an event may take as JSON: far more than any callback, which the gateway limits, far less than the memory.
const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// The embedded bus. A clone is the same journal, which stays open until the last clone and the last subscription are
/// gone, or it is closed.
#[derive(Clone)]
pub struct Journal {
    handle: Arc<Handle>,
}

/// What keeps the writer at work.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl Journal {
    /// Opens the journal in a folder, making it if there is none. Reads and writes files: may block for a while.
    ///
    /// # Errors
    /// If another process has it open, or its files are foreign, newer or damaged.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let lock = lock::lock(&options.folder)?;
        staged::remove_stale(&options.folder);
        let db = database::open(&options.folder)?;
        let failed = |source| OpenError::database(options.folder.join(DATABASE), source);
        let last = last_sequence(&db).map_err(failed)?;
        let index = Index::load(&db).map_err(failed)?;
        let shared = Arc::new(Shared::new(options, last));
        let folder = shared.options.folder.clone();
        let checkpointer =
            Checkpointer::start(folder.clone()).map_err(|source| OpenError::Io { path: folder.clone(), source })?;
        let writer = Writer::new(Arc::clone(&shared), lock, checkpointer, index, last);
        thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(db))
            .map_err(|source| OpenError::Io { path: folder, source })?;
        Ok(Self { handle: Arc::new(Handle { shared }) })
    }

    /// Why the last attempt to write failed; `None` while the journal takes events. Cheap.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        if self.handle.shared.queue.is_closed() {
            return Some("the journal is closed".to_owned());
        }
        if let Some(elapsed) = self.handle.shared.stuck() {
            return Some(format!("the disk has not finished a write for {} s", elapsed.as_secs()));
        }
        self.handle.shared.fault().map(|cause| cause.to_string())
    }

    /// What stays beyond its retention, since a consumer has not settled it; `None` while nothing does. Cheap.
    #[must_use]
    pub fn overdue(&self) -> Option<Overdue> {
        self.handle.shared.overdue()
    }

    /// How many events this process has dropped, past their retention, before a consumer had settled them, by its name.
    /// Only with [`Retention::drop_unsettled`](crate::Retention::drop_unsettled). Cheap.
    #[must_use]
    pub fn dropped_unsettled(&self) -> BTreeMap<String, u64> {
        self.handle.shared.dropped()
    }

    /// Tells how the journal and its consumers are doing. Reads files: not for a thread that must not block.
    ///
    /// # Errors
    /// If the journal can't be read.
    pub fn status(&self) -> Result<Status, ReadError> {
        let folder = &self.handle.shared.options.folder;
        let reader = Reader::open(folder).map_err(|source| ReadError { source: source.into() })?;
        Ok(Status {
            fault: self.fault(),
            last_sequence: reader.last_sequence()?,
            size_bytes: reader.size_bytes(),
            consumers: reader.consumers()?,
        })
    }

    /// Opens a durable place in the journal behind which nothing is removed, such as a relay's to another bus. One of a
    /// new name is created before the oldest event; one that exists goes on where it was released up to. It is a
    /// consumer among others in [`Journal::status`], and its name is in use for as long as it is open.
    ///
    /// # Errors
    /// If the name is in use, or the journal is not available.
    pub async fn backlog(&self, name: &ConsumerName) -> Result<Backlog, SubscribeError> {
        let spec = ConsumerSpec { name: name.clone(), filter: SubjectFilter::default(), start: Start::Oldest };
        let (lease, reader) = self.lease(spec).await?;
        Ok(Backlog::new(Arc::clone(&self.handle), lease, reader))
    }

    /// The journal for its operators; subscriptions notice at once what it gives them. Reads files: may block for a
    /// while. It does not keep the journal open.
    ///
    /// # Errors
    /// If the files can't be opened.
    pub fn archive(&self) -> Result<JournalArchive, OpenError> {
        let shared = &self.handle.shared;
        JournalArchive::open_beside(&shared.options.folder, Some(shared.given.clone()))
    }

    /// Takes no more, makes durable what was taken, and gives the files free. Returns when that is done.
    ///
    /// # Cancel safety
    /// Dropping the future only stops the waiting.
    pub async fn close(&self) {
        let mut finished = self.handle.shared.finished.subscribe();
        self.handle.shared.queue.close();
        // The sender lives as long as we do.
        let _ = finished.wait_for(|finished| *finished).await;
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    /// The right to read a consumer, and a connection to do so.
    async fn lease(&self, spec: ConsumerSpec) -> Result<(Lease, Connection), SubscribeError> {
        let closed = || SubscribeError::from(SubscribeErrorKind::Closed);
        let (done, answer) = oneshot::channel();
        self.handle.shared.queue.request(Request::Subscribe { spec, done }).map_err(|_| closed())?;
        let lease = answer
            .await
            .map_err(|_| closed())?
            .map_err(|fault| SubscribeError { kind: fault.kind, source: fault.source() })?;
        let folder = self.handle.shared.options.folder.clone();
        let reader = tokio::task::spawn_blocking(move || Reader::open(&folder))
            .await
            .map_err(|_| closed())?
            .map_err(|error| SubscribeError { kind: SubscribeErrorKind::Unavailable, source: Some(error.into()) })?;
        Ok((lease, reader.into_connection()))
    }

    #[cfg(test)]
    pub(crate) async fn execute(&self, sql: &str) {
        let (done, executed) = oneshot::channel();
        assert!(self.handle.shared.queue.request(Request::Execute(sql.to_owned(), done)).is_ok());
        executed.await.unwrap();
    }
}

#[async_trait]
impl Publisher for Journal {
    async fn publish(&self, message: Message, deadline: Deadline) -> Result<Receipt, PublishError> {
        if deadline.has_passed() {
            return Err(PublishErrorKind::Timeout.into());
        }
        trace::published_on(trace::JOURNAL, message.event.trace.as_ref());
        // Made here, in the caller's task, so that the one writer has less to do.
        let payload = String::from_utf8(message.event.to_structured())
            .map_err(|source| PublishError { kind: PublishErrorKind::Rejected, source: Some(source.into()) })?;
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(PublishErrorKind::Rejected.into());
        }
        let (done, answer) = oneshot::channel();
        self.handle.shared.queue.publish(Publication {
            key: Key::new(&message.event),
            subject: message.subject.as_str().to_owned(),
            payload,
            deadline: deadline.instant(),
            done,
        })?;
        match timeout_at(deadline.instant().into(), answer).await {
            Ok(Ok(Ok(receipt))) => Ok(receipt),
            Ok(Ok(Err(fault))) => Err(PublishError { kind: fault.kind, source: fault.source() }),
            // The writer drops a publication whose time is up, and all of them when it ends.
            Ok(Err(_)) if !deadline.has_passed() => Err(PublishErrorKind::Unavailable.into()),
            Ok(Err(_)) | Err(_) => Err(PublishErrorKind::Timeout.into()),
        }
    }
}

#[async_trait]
impl Bus for Journal {
    async fn subscribe(&self, consumer: &ConsumerSpec) -> Result<Box<dyn Subscription>, SubscribeError> {
        let (lease, reader) = self.lease(consumer.clone()).await?;
        Ok(Box::new(JournalSubscription::new(Arc::clone(&self.handle), lease, reader)))
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("options", &self.handle.shared.options).finish_non_exhaustive()
    }
}

//! Events that the server refuses for good, kept in files until it takes them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{debug, info};
use upcall_bus::{Deadline, Message, Source};
use upcall_bus_journal::RawEvent;
use upcall_bus_nats::NatsBus;
use upcall_event::{Event, EventId};

use crate::private;
use crate::worker::blocking;

/// The folder, in the relay's.
pub(crate) const FOLDER: &str = "set-aside";
/// How long the server may take over one of them.
const OFFER_TIME: Duration = Duration::from_secs(5);
/// How many are offered at a time; the others have their turn later.
const OFFER_MAX: usize = 256;
/// The files' ending.
pub(crate) const EXTENSION: &str = "json";
/// What may be set aside at once. More is no matter of single events: then the relay stops, and the journal keeps them.
const EVENTS_MAX: u64 = 10_000;
const BYTES_MAX: u64 = 1 << 30;

/// Events that the server refuses for good: a file each, named by the event's id. They are offered to the server again
/// now and then, since its limits can be raised. A clone is the same.
#[derive(Debug, Clone)]
pub(crate) struct Aside {
    folder: PathBuf,
    held: Arc<Mutex<Held>>,
}

/// What is set aside.
#[derive(Debug, Default)]
struct Held {
    events: u64,
    bytes: u64,
    /// The last one that was offered.
    offered: Option<PathBuf>,
}

/// An event that was set aside, as its file tells.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SetAside {
    id: EventId,
    subject: String,
    /// Why the server refused it.
    reason: String,
    /// When the journal stored it, in milliseconds since 1970.
    stored_at_ms: i64,
    /// The event, a CloudEvent in structured mode, as text: somebody may have made it no JSON.
    event: String,
}

impl Aside {
    /// What is set aside in this folder. Reads it: may block for a while.
    pub(crate) fn open(folder: &Path) -> Self {
        let aside = Self::none(folder);
        let files = aside.list().unwrap_or_default();
        let bytes = files.iter().filter_map(|file| fs::metadata(file).ok()).map(|metadata| metadata.len()).sum();
        (aside.lock().events, aside.lock().bytes) = (files.len() as u64, bytes);
        aside
    }

    /// The same, where nothing is known to be set aside.
    pub(crate) fn none(folder: &Path) -> Self {
        Self { folder: folder.join(FOLDER), held: Arc::default() }
    }

    /// How many events are set aside. Cheap.
    pub(crate) fn events(&self) -> u64 {
        self.lock().events
    }

    /// Sets an event aside, durably. Done again it does nothing more.
    pub(crate) fn put(&self, event: RawEvent, reason: String) -> io::Result<()> {
        let file = self.file(event.id);
        let aside = SetAside {
            id: event.id,
            subject: event.subject,
            reason,
            stored_at_ms: event.stored_at_ms,
            event: event.payload,
        };
        let (is_new, text) = (!file.exists(), serde_json::to_vec_pretty(&aside)?);
        let bytes = text.len() as u64;
        if is_new {
            self.admit(bytes)?;
        }
        fs::create_dir_all(&self.folder)?;
        let temporary = file.with_extension("new");
        let mut written = private::create(&temporary)?;
        written.write_all(&text)?;
        written.sync_all()?;
        fs::rename(&temporary, &file)?;
        File::open(&self.folder)?.sync_all()?;
        self.folder.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())?;
        if is_new {
            let mut held = self.lock();
            held.events += 1;
            held.bytes += bytes;
        }
        Ok(())
    }

    /// Refuses what is more than may be set aside.
    fn admit(&self, bytes: u64) -> io::Result<()> {
        let held = self.lock();
        if held.events < EVENTS_MAX && held.bytes + bytes <= BYTES_MAX {
            return Ok(());
        }
        let (events, folder) = (held.events, self.folder.display());
        Err(io::Error::other(format!("{events} are set aside in {folder}, which is as many as may be; each says why")))
    }

    /// The files of the events that are set aside.
    fn list(&self) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let files = entries.map(|entry| Ok(entry?.path()));
        let mut files = files.collect::<io::Result<Vec<_>>>()?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == EXTENSION));
        files.sort();
        Ok(files)
    }

    /// Those whose turn it is to be offered, and how many there are in all. An operator may have removed some.
    fn next(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = self.list()?;
        let mut held = self.lock();
        held.events = files.len() as u64;
        if held.events == 0 {
            held.bytes = 0;
        }
        let after = held.offered.as_ref().map_or(0, |offered| files.partition_point(|file| file <= offered));
        let next = if after < files.len() { after } else { 0 };
        files.rotate_left(next);
        files.truncate(OFFER_MAX);
        held.offered = files.last().cloned();
        Ok(files)
    }

    fn forget(&self, file: &Path) -> io::Result<()> {
        let bytes = fs::metadata(file)?.len();
        fs::remove_file(file)?;
        let mut held = self.lock();
        held.events = held.events.saturating_sub(1);
        held.bytes = held.bytes.saturating_sub(bytes);
        Ok(())
    }

    fn file(&self, id: EventId) -> PathBuf {
        self.folder.join(id.to_string()).with_extension(EXTENSION)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Offers what is set aside to the server again.
pub(crate) async fn offer(aside: Aside, bus: NatsBus) {
    let waiting = aside.clone();
    for file in blocking(move || waiting.next()).await.unwrap_or_default() {
        let message = match read(&file).await {
            Ok(message) => message,
            Err(error) => {
                debug!(file = %file.display(), %error, "still set aside: it is no event any more");
                continue;
            }
        };
        let (event, request_id) = (message.event.id, message.event.data.request_id.as_deref());
        match offer_one(&message, &file, &aside, &bus).await {
            Ok(()) => info!(%event, request_id, "the server has taken an event that was set aside"),
            Err(error) if bus.is_connected() => debug!(%event, request_id, %error, "still set aside"),
            Err(_) => return,
        }
    }
}

/// Reads what was set aside.
async fn read(file: &Path) -> Result<Message, Source> {
    let path = file.to_owned();
    let event = blocking(move || Ok(serde_json::from_slice::<SetAside>(&fs::read(path)?)?)).await?;
    Ok(Message { subject: event.subject.parse()?, event: Event::from_structured(event.event.as_bytes())? })
}

async fn offer_one(message: &Message, file: &Path, aside: &Aside, bus: &NatsBus) -> Result<(), Source> {
    bus.publish_ref(message, Deadline::after(OFFER_TIME)).await?;
    let (path, aside) = (file.to_owned(), aside.clone());
    Ok(blocking(move || aside.forget(&path)).await?)
}

/// The request id of the upload that an event tells of, for a log line. Whatever cannot be read has none.
pub(crate) fn request_id(structured: &str) -> Option<String> {
    Event::from_structured(structured.as_bytes()).ok()?.data.request_id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u8) -> RawEvent {
        let (id, subject) = (EventId::from_bytes([number; 16]), "a.b".to_owned());
        RawEvent { sequence: number.into(), stored_at_ms: 0, subject, id, payload: "{}".to_owned() }
    }

    #[test]
    fn what_is_set_aside_is_counted_once_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let aside = Aside::open(folder.path());
        for _ in 0..2 {
            aside.put(event(1), "no".to_owned()).unwrap();
        }
        aside.put(event(2), "no".to_owned()).unwrap();
        let aside = Aside::open(folder.path());
        assert_eq!(aside.events(), 2, "after a restart, too");
        aside.lock().events = EVENTS_MAX;
        let error = aside.put(event(3), "no".to_owned()).unwrap_err().to_string();
        assert!(error.starts_with("10000 are set aside in ") && error.contains("set-aside"), "{error}");
        aside.put(event(2), "no".to_owned()).unwrap();
        (aside.lock().events, aside.lock().bytes) = (2, BYTES_MAX);
        assert!(aside.put(event(3), "no".to_owned()).is_err());
    }

    #[test]
    fn each_has_its_turn_to_be_offered() {
        let folder = tempfile::tempdir().unwrap();
        let aside = Aside::open(folder.path());
        fs::create_dir_all(&aside.folder).unwrap();
        for number in 0..OFFER_MAX + 10 {
            fs::write(aside.folder.join(format!("{number:04}.json")), "{}").unwrap();
        }
        let mut offered: Vec<_> = (0..2).flat_map(|_| aside.next().unwrap()).collect();
        assert_eq!((aside.events(), offered.len()), (OFFER_MAX as u64 + 10, 2 * OFFER_MAX));
        offered.sort();
        offered.dedup();
        assert_eq!(offered.len(), OFFER_MAX + 10);
    }
}

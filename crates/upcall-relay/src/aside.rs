//! Events that the server refuses for good, kept in files until it takes them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
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
const FOLDER: &str = "set-aside";
/// How long the server may take over one of them.
const OFFER_TIME: Duration = Duration::from_secs(5);
const EXTENSION: &str = "json";

/// Events that the server refuses for good: a file each, named by the event's id. They are offered to the server again
/// now and then, since its limits can be raised.
#[derive(Debug, Clone)]
pub(crate) struct Aside {
    folder: PathBuf,
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
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.join(FOLDER) }
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
        fs::create_dir_all(&self.folder)?;
        let temporary = file.with_extension("new");
        let mut written = private::create(&temporary)?;
        written.write_all(&serde_json::to_vec_pretty(&aside)?)?;
        written.sync_all()?;
        fs::rename(&temporary, &file)?;
        File::open(&self.folder)?.sync_all()?;
        self.folder.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
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

    fn file(&self, id: EventId) -> PathBuf {
        self.folder.join(id.to_string()).with_extension(EXTENSION)
    }
}

/// Offers what is set aside to the server again. Returns how many it still refuses.
pub(crate) async fn offer(aside: Aside, bus: NatsBus) -> u64 {
    let files = blocking(move || aside.list()).await.unwrap_or_default();
    let mut left = 0;
    for file in files {
        if let Err(error) = offer_one(&file, &bus).await {
            debug!(file = %file.display(), %error, "still set aside");
            left += 1;
        } else {
            info!(file = %file.display(), "the server has taken an event that was set aside");
        }
    }
    left
}

async fn offer_one(file: &Path, bus: &NatsBus) -> Result<(), Source> {
    let path = file.to_owned();
    let aside = blocking(move || Ok(serde_json::from_slice::<SetAside>(&fs::read(path)?)?)).await?;
    let message = Message { subject: aside.subject.parse()?, event: Event::from_structured(aside.event.as_bytes())? };
    bus.publish_ref(&message, Deadline::after(OFFER_TIME)).await?;
    let path = file.to_owned();
    Ok(blocking(move || fs::remove_file(path)).await?)
}

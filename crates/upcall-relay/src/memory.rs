//! What a relay has to know after a restart, in a file beside the journal.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;
use upcall_event::EventId;

use crate::checkpoint::Checkpoint;
use crate::private;

/// The file, in the relay's folder.
const FILE: &str = "relay.json";
const TEMPORARY: &str = "relay.json.new";

/// What a relay has to know after a restart. Without it nothing is lost and nothing doubled, but more has to be
/// looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// How far the stream has acknowledged.
    pub(crate) acked: Option<Checkpoint>,
    /// The event that the journal has there: another is another journal.
    pub(crate) event: Option<EventId>,
    /// No event of the journal after this one was ever sent.
    pub(crate) sent_up_to: u64,
    /// Copies of events after the acknowledged ones are behind this sequence of the stream, and not older than this
    /// (in milliseconds since 1970).
    pub(crate) after: Option<(u64, i64)>,
}

/// Where it is kept.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    folder: PathBuf,
}

impl Store {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Reads what was written last. A file that is not there or can't be read is none.
    pub(crate) fn load(&self) -> Option<Memory> {
        let file = self.folder.join(FILE);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(file = %file.display(), %error, "the relay can't read how far it was, and looks for its events");
                return None;
            }
        };
        serde_json::from_slice(&text)
            .inspect_err(|error| {
                warn!(file = %file.display(), %error, "the relay can't read how far it was, and looks for its events");
            })
            .ok()
    }

    /// Writes it down. Where it is not `durable`, a power cut may bring the one before back, never one before the last
    /// durable one. What can't be written is removed: an old word would be a wrong one.
    pub(crate) fn save(&self, memory: &Memory, durable: bool) -> io::Result<()> {
        self.write(memory, durable).or_else(|error| match fs::remove_file(self.folder.join(FILE)) {
            Ok(()) => self.sync(),
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(_) => Err(error),
        })
    }

    fn write(&self, memory: &Memory, durable: bool) -> io::Result<()> {
        let temporary = self.folder.join(TEMPORARY);
        let mut file = private::create(&temporary)?;
        file.write_all(&serde_json::to_vec(memory)?)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&temporary, self.folder.join(FILE))?;
        if durable { self.sync() } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}

//! Copies of a journal: as it is at one moment, while another process writes it, and back.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use upcall_event::Event;

use crate::reader::Reader;
use crate::schema::{self, DATABASE};
use crate::{OpenError, ReadError, lock};

/// What a copy is called until it is whole, so that nobody takes it for a journal.
pub(crate) const PART: &str = "journal.db.part";
/// How many of the database's faults are told, and of the events that are none.
const FAULTS_MAX: usize = 20;

/// What a journal holds, and what SQLite finds wrong with its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// How many events there are.
    pub events: u64,
    /// The sequences of the oldest and of the newest, if there is any.
    pub sequences: Option<(u64, u64)>,
    /// When the newest was stored, in milliseconds since 1970.
    pub newest_ms: Option<i64>,
    /// How many dead letters there are, of all consumers.
    pub dead_letters: u64,
    /// What the database takes, in bytes.
    pub size_bytes: u64,
    /// What is wrong with the file; empty where nothing is.
    pub faults: Vec<String>,
    /// How many of the events are none, or not the ones that they are filed as: no consumer gets them.
    pub unreadable: u64,
    /// The sequences of the first of those.
    pub first_unreadable: Vec<u64>,
}

/// Why a copy was not made. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is something where the copy was to go.
    #[error("{} is not empty; a copy goes into a new folder, or an empty one", folder.display())]
    Occupied {
        /// The folder.
        folder: PathBuf,
    },
    /// The disk has no room for it.
    #[error("there is no room for the copy in {}; it takes about as much as the journal", folder.display())]
    Full {
        /// The folder.
        folder: PathBuf,
    },
    /// A file or folder can't be written or read.
    #[error("{} can't be written", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The journal can't be read.
    #[error("the journal can't be copied")]
    Database {
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// What was copied can't be opened.
    #[error("what was copied is no journal that can be used")]
    Unusable {
        /// Why.
        source: OpenError,
    },
    /// What was copied is damaged.
    #[error("what was copied is damaged: {}", faults.join("; "))]
    Damaged {
        /// What SQLite finds wrong.
        faults: Vec<String>,
    },
}

impl Reader {
    /// Copies the journal as it is now into a folder that is new or empty, also while another process writes it: with all
    /// that was answered before, in one moment's state. The copy is a journal, read through once for faults, and durable.
    /// Nobody waits for it; the write-ahead log grows until it is made. Blocks for as long as that takes.
    ///
    /// # Errors
    /// If it can't be made, or is not sound. Nothing is left of it then.
    pub fn back_up(&self, into: &Path) -> Result<Contents, BackupError> {
        let draft = Draft::begin(into)?;
        let path = draft.part.to_str().ok_or_else(|| BackupError::Io {
            path: draft.part.clone(),
            source: io::Error::new(io::ErrorKind::InvalidFilename, "its name is no text"),
        })?;
        // Compact: what retention has freed is not copied.
        let written = self.connection().execute("VACUUM INTO ?1", [path]);
        written.map_err(|source| draft.database(source))?;
        draft.finish()
    }

    /// Reads the whole journal, and tells what it holds and what is wrong with its file. Blocks for as long as that takes.
    ///
    /// # Errors
    /// If the journal can't be read.
    pub fn examine(&self) -> Result<Contents, ReadError> {
        Ok(examine(self.connection(), self.size_bytes())?)
    }
}

/// Makes a journal in a folder that is new or empty of what somebody hands over: the database of a backup.
///
/// # Errors
/// If it can't be written, or is no sound journal. Nothing is left of it then.
pub fn restore(mut database: impl Read, into: &Path) -> Result<Contents, BackupError> {
    let draft = Draft::begin(into)?;
    let mut file = File::options().write(true).open(&draft.part).map_err(|source| draft.io(source))?;
    io::copy(&mut database, &mut file).map_err(|source| draft.io(source))?;
    draft.finish()
}

/// A copy that is being made. Where it is not finished nothing is left of it.
struct Draft {
    folder: PathBuf,
    part: PathBuf,
}

impl Draft {
    fn begin(folder: &Path) -> Result<Self, BackupError> {
        let error = |source| BackupError::Io { path: folder.to_owned(), source };
        if !is_free(folder).map_err(error)? {
            return Err(BackupError::Occupied { folder: folder.to_owned() });
        }
        lock::make(folder).map_err(error)?;
        let draft = Self { folder: folder.to_owned(), part: folder.join(PART) };
        draft.clear().map_err(|source| draft.io(source))?;
        let created = File::options().write(true).create_new(true).mode(lock::MODE).open(&draft.part);
        created.map_err(|source| draft.io(source))?;
        Ok(draft)
    }

    /// Makes it a journal once it is known to be sound.
    fn finish(self) -> Result<Contents, BackupError> {
        File::open(&self.part).and_then(|file| file.sync_all()).map_err(|source| self.io(source))?;
        let contents = self.examine()?;
        if !contents.faults.is_empty() {
            return Err(BackupError::Damaged { faults: contents.faults });
        }
        let whole = || {
            fs::rename(&self.part, self.folder.join(DATABASE))?;
            File::open(&self.folder)?.sync_all()
        };
        whole().map_err(|source| self.io(source))?;
        Ok(contents)
    }

    fn examine(&self) -> Result<Contents, BackupError> {
        let unusable = |source| BackupError::Unusable { source };
        let failed = |source| unusable(OpenError::database(self.part.clone(), source));
        let size_bytes = fs::metadata(&self.part).map_err(|source| self.io(source))?.len();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&self.part, flags).map_err(failed)?;
        if schema::check(&db, &self.part).map_err(unusable)? == 0 {
            return Err(unusable(OpenError::Missing { folder: self.folder.clone() }));
        }
        examine(&db, size_bytes).map_err(failed)
    }

    /// Removes what there is of it, with what SQLite has put beside it.
    fn clear(&self) -> io::Result<()> {
        for ending in ["", "-wal", "-shm", "-journal"] {
            match fs::remove_file(self.folder.join(format!("{PART}{ending}"))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn io(&self, source: io::Error) -> BackupError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                BackupError::Full { folder: self.folder.clone() }
            }
            _ => BackupError::Io { path: self.part.clone(), source },
        }
    }

    fn database(&self, source: rusqlite::Error) -> BackupError {
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => BackupError::Full { folder: self.folder.clone() },
            _ => BackupError::Database { source },
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What can't be removed is in nobody's way.
        let _ = self.clear();
    }
}

/// Whether nothing is in a folder but what a copy that was killed has left.
fn is_free(folder: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        entries => entries?,
    };
    for entry in entries {
        if !entry?.file_name().to_string_lossy().starts_with(PART) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn examine(db: &Connection, size_bytes: u64) -> rusqlite::Result<Contents> {
    let mut check = db.prepare(&format!("PRAGMA integrity_check({FAULTS_MAX})"))?;
    let faults: Vec<String> = check.query_map((), |row| row.get(0))?.collect::<Result<_, _>>()?;
    let (events, first, last): (u64, Option<u64>, Option<u64>) =
        db.query_row("SELECT count(*), min(sequence), max(sequence) FROM event", (), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    let (unreadable, first_unreadable) = unreadable(db)?;
    let newest = |last| db.query_row("SELECT stored_at FROM event WHERE sequence = ?1", [last], |row| row.get(0));
    Ok(Contents {
        events,
        sequences: first.zip(last),
        newest_ms: last.map(newest).transpose()?,
        dead_letters: db.query_row("SELECT count(*) FROM dead_letter", (), |row| row.get(0))?,
        size_bytes,
        faults: if faults == ["ok"] { Vec::new() } else { faults },
        unreadable,
        first_unreadable,
    })
}

/// Reads every event. SQLite knows what a page is, and not what an event is: bytes that were overwritten within one are
/// sound to it.
fn unreadable(db: &Connection) -> rusqlite::Result<(u64, Vec<u64>)> {
    let mut events = db.prepare("SELECT sequence, id, payload FROM event ORDER BY sequence")?;
    let mut rows = events.query(())?;
    let (mut unreadable, mut first) = (0, Vec::new());
    while let Some(row) = rows.next()? {
        let id = row.get_ref(1)?.as_bytes().unwrap_or_default();
        let event = Event::from_structured(row.get_ref(2)?.as_bytes().unwrap_or_default());
        if event.is_ok_and(|event| event.id.as_bytes() == id) {
            continue;
        }
        unreadable += 1;
        if first.len() < FAULTS_MAX {
            first.push(row.get(0)?);
        }
    }
    Ok((unreadable, first))
}

//! What can go wrong with a journal's files.

use std::path::PathBuf;

use rusqlite::ErrorCode;
use upcall_bus::{PublishErrorKind, Source};

/// Why a journal can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another handle of this one, has it open for writing.
    #[error("the journal in {} is open in another process; stop that one, or give this one a folder of its own", folder.display())]
    Locked {
        /// The journal's folder.
        folder: PathBuf,
    },
    /// There is no journal. Readers don't make one.
    #[error("there is no journal in {}", folder.display())]
    Missing {
        /// The folder.
        folder: PathBuf,
    },
    /// The file is an SQLite database, but not ours.
    #[error("{} is not a journal of Upcall; move it away, or choose another folder", file.display())]
    Foreign {
        /// The database.
        file: PathBuf,
    },
    /// The file's schema is newer than this program.
    #[error(
        "{} has schema {found}, and this version of Upcall knows up to {known}; run the version that wrote it, or a newer one",
        file.display()
    )]
    Newer {
        /// The database.
        file: PathBuf,
        /// Its `user_version`.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// The file is damaged.
    #[error(
        "{} is damaged; stop Upcall, keep a copy of the folder, salvage what is readable with `sqlite3 journal.db .recover`, and start with a restored or an empty folder",
        file.display()
    )]
    Corrupt {
        /// The database.
        file: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The folder or one of its files can't be made, opened or locked.
    #[error("{} can't be opened", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file was taken away while it was open.
    #[error("the journal's files are not where they were")]
    Lost {
        /// Which, and what to do.
        #[source]
        cause: Source,
    },
    /// SQLite can't open the database.
    #[error("{} can't be opened", file.display())]
    Database {
        /// The database.
        file: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

impl OpenError {
    pub(crate) fn database(file: PathBuf, source: rusqlite::Error) -> Self {
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt { file, source },
            _ => Self::Database { file, source },
        }
    }
}

/// A journal that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the journal can't be read")]
pub struct ReadError {
    /// What was underneath.
    #[source]
    pub source: Source,
}

impl From<rusqlite::Error> for ReadError {
    fn from(source: rusqlite::Error) -> Self {
        Self { source: source.into() }
    }
}

/// What a publisher is told of a transaction that failed.
pub(crate) fn publish_kind(error: &rusqlite::Error) -> PublishErrorKind {
    let Some(sqlite) = error.sqlite_error() else { return PublishErrorKind::Unavailable };
    match sqlite.code {
        ErrorCode::DiskFull => PublishErrorKind::Full,
        // The index of the write-ahead log is a file that grows, too.
        _ if sqlite.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE => PublishErrorKind::Full,
        _ => PublishErrorKind::Unavailable,
    }
}

/// A failure of a whole transaction, told to everybody who took part in it.
#[derive(Debug, Clone)]
pub(crate) struct Fault<K> {
    pub(crate) kind: K,
    cause: Option<Cause>,
}

/// What was underneath, shared.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Cause(std::sync::Arc<str>);

impl Cause {
    pub(crate) fn new(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            let message = error.to_string();
            // `rusqlite` repeats its source in its own message.
            if !text.contains(&message) {
                text = format!("{text}: {message}");
            }
            source = error.source();
        }
        Self(text.into())
    }
}

impl<K> Fault<K> {
    pub(crate) fn new(kind: K, cause: Cause) -> Self {
        Self { kind, cause: Some(cause) }
    }

    pub(crate) fn source(self) -> Option<Source> {
        self.cause.map(Into::into)
    }
}

impl<K> From<K> for Fault<K> {
    fn from(kind: K) -> Self {
        Self { kind, cause: None }
    }
}

//! One process writes a journal at a time.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::OpenError;
use crate::error::Cause;
use crate::schema::{DATABASE, LOCK, LOG};

/// What the journal's folder holds. Events have personal data, so that strangers may not read any of it.
const FILES: [&str; 4] = [DATABASE, LOG, "journal.db-shm", LOCK];
/// The permissions of new files: their owner's only.
pub(crate) const MODE: u32 = 0o600;
/// The permissions that strangers have.
const OTHERS: u32 = 0o007;

/// Keeps others from writing in a folder for as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    file: File,
    overtaken: Option<Cause>,
}

/// The lock was removed, and before it could be taken again, somebody else had it.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} was removed, and another process has locked the journal since; only that one writes it. End one of them, and \
     restart the other",
    path.display()
)]
struct Overtaken {
    path: PathBuf,
}

impl Lock {
    /// Says whether somebody else may be writing by now, since the file of the lock was removed. If nobody is, it is taken again.
    /// Asks the system once.
    pub(crate) fn lost(&mut self) -> Option<Cause> {
        if self.overtaken.is_none() && !self.is_in_its_place() {
            match take(&self.path) {
                Ok(file) => self.file = file,
                // What else keeps it from being taken may pass, and keeps others from it, too.
                Err(TryLockError::Error(_)) => {}
                // For good: what the other one has written is unknown here.
                Err(TryLockError::WouldBlock) => {
                    self.overtaken = Some(Cause::new(&Overtaken { path: self.path.clone() }));
                }
            }
        }
        self.overtaken.clone()
    }

    fn is_in_its_place(&self) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        match (fs::metadata(&self.path), self.file.metadata()) {
            (Ok(there), Ok(held)) => identity(there) == identity(held),
            (Err(error), _) => error.kind() != io::ErrorKind::NotFound,
            (_, Err(_)) => true,
        }
    }
}

fn take(path: &Path) -> Result<File, TryLockError> {
    let file = match File::options().create_new(true).write(true).mode(MODE).open(path) {
        Ok(file) => {
            give_to_owner(&file, path.parent().unwrap_or(path));
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => File::options().write(true).open(path),
        Err(error) => Err(error),
    };
    let file = file.map_err(TryLockError::Error)?;
    file.try_lock().map(|()| file)
}

/// Makes the folder if it is not there, and keeps others from writing in it for as long as the lock is held.
pub(crate) fn lock(folder: &Path) -> Result<Lock, OpenError> {
    let error = |path: &Path, source| OpenError::Io { path: path.to_owned(), source };
    make(folder).map_err(|source| error(folder, source))?;
    let path = folder.join(LOCK);
    let file = take(&path).map_err(|refused| match refused {
        TryLockError::WouldBlock => OpenError::Locked { folder: folder.to_owned() },
        TryLockError::Error(source) => error(&path, source),
    })?;
    let database = folder.join(DATABASE);
    // SQLite would let everybody read it; its other files get the permissions of this one. One that is there is not
    // opened here: closing it would drop the locks that SQLite holds on it for the whole process.
    match File::options().create_new(true).write(true).mode(MODE).open(&database) {
        Ok(created) => give_to_owner(&created, folder),
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => return Err(error(&database, source)),
        Err(_) => {}
    }
    for path in FILES.map(|name| folder.join(name)) {
        match close_to_others(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                warn!(path = %path.display(), cause = %source, "everybody can read this file of the journal");
            }
            _ => {}
        }
    }
    Ok(Lock { path, file, overtaken: None })
}

/// Gives a new file to whom the journal belongs: an operator who is root must not leave one that the service can't open.
/// SQLite does so with its own.
pub(crate) fn give_to_owner(file: &File, folder: &Path) {
    let owner = fs::metadata(folder.join(DATABASE)).or_else(|_| fs::metadata(folder));
    let (Ok(owner), Ok(own)) = (owner, file.metadata()) else { return };
    if (owner.uid(), owner.gid()) == (own.uid(), own.gid()) {
        return;
    }
    // Only root may. A service of another user than the folder's goes on with files of its own.
    let _ = fchown(file, Some(owner.uid()), Some(owner.gid()));
}

/// Takes strangers' permissions from a file of an earlier version. The group's stay: somebody may have given them.
fn close_to_others(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & OTHERS == 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS))
}

/// A new folder is durable only when the one above it is.
pub(crate) fn make(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    match fs::canonicalize(folder)?.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

//! One process writes a journal at a time.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use tracing::warn;

use crate::OpenError;
use crate::schema::{DATABASE, LOCK, LOG};

/// What the journal's folder holds. Events have personal data, so that strangers may not read any of it.
const FILES: [&str; 4] = [DATABASE, LOG, "journal.db-shm", LOCK];
/// The permissions of new files: their owner's only.
pub(crate) const MODE: u32 = 0o600;
/// The permissions that strangers have.
const OTHERS: u32 = 0o007;

/// Makes the folder if it is not there, and keeps others from writing in it for as long as the file is held.
pub(crate) fn lock(folder: &Path) -> Result<File, OpenError> {
    let error = |path: &Path, source| OpenError::Io { path: path.to_owned(), source };
    make(folder).map_err(|source| error(folder, source))?;
    let path = folder.join(LOCK);
    let create = || File::options().create_new(true).write(true).mode(MODE).open(&path);
    let file = match create() {
        Ok(file) => {
            give_to_owner(&file, folder);
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => File::options().write(true).open(&path),
        Err(error) => Err(error),
    };
    let file = file.map_err(|source| error(&path, source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { folder: folder.to_owned() }),
        Err(TryLockError::Error(source)) => return Err(error(&path, source)),
    }
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
    Ok(file)
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

//! One process writes a journal at a time.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use crate::OpenError;
use crate::schema::LOCK;

/// Makes the folder if it is not there, and keeps others from writing in it for as long as the file is held.
pub(crate) fn lock(folder: &Path) -> Result<File, OpenError> {
    let error = |path: &Path, source| OpenError::Io { path: path.to_owned(), source };
    make(folder).map_err(|source| error(folder, source))?;
    let path = folder.join(LOCK);
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(|source| error(&path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { folder: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(error(&path, source)),
    }
}

/// A new folder is durable only when the one above it is.
fn make(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    match fs::canonicalize(folder)?.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

//! A copy that is handed over without a name: it is made in the journal's folder, and nothing stays of it there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::backup::{BackupError, Contents};
use crate::lock;
use crate::reader::Reader;
use crate::schema::DATABASE;

/// What the folder of such a copy is called, with the process between the two.
const NAME: (&str, &str) = ("backup-", ".tmp");

impl Reader {
    /// Copies the journal as it is now, as [`Reader::back_up`] does, and returns the copy as a file that has no name any
    /// more: it is gone when it is closed. It is made in the journal's folder, which needs the room. What a process that
    /// was killed has left of one is removed before, and when the journal is opened. Blocks for as long as that takes.
    ///
    /// # Errors
    /// If it can't be made, or is not sound. Nothing is left of it then.
    pub fn back_up_unnamed(&self) -> Result<(Contents, File), BackupError> {
        remove_stale(self.folder());
        let staged = Staged::begin(self.folder())?;
        let contents = self.back_up(&staged.path)?;
        let file = staged.path.join(DATABASE);
        let copy = File::open(&file).map_err(|source| BackupError::Io { path: file, source })?;
        Ok((contents, copy))
    }
}

/// A folder that is held for as long as its process lives.
struct Staged {
    path: PathBuf,
    _held: File,
}

impl Staged {
    fn begin(folder: &Path) -> Result<Self, BackupError> {
        let path = folder.join(format!("{}{}{}", NAME.0, std::process::id(), NAME.1));
        let held = lock::make(&path).and_then(|()| File::open(&path)).and_then(|held| {
            lock::give_to_owner(&held, folder);
            held.try_lock()?;
            Ok(held)
        });
        match held {
            Ok(held) => Ok(Self { path, _held: held }),
            Err(source) => Err(BackupError::Io { path, source }),
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            warn!(path = %self.path.display(), cause = %error, "a copy of the journal can't be removed");
        }
    }
}

/// Removes what copies have left whose process is gone. Which ones these are no number of a process tells: another one may
/// have it by now, or it is one of another container.
pub(crate) fn remove_stale(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_a_copy = name.to_str().is_some_and(|name| name.starts_with(NAME.0) && name.ends_with(NAME.1));
        if is_a_copy && let Err(error) = remove_unless_held(&entry.path()) {
            warn!(path = %entry.path().display(), cause = %error, "what is left of a copy of the journal can't be removed");
        }
    }
}

fn remove_unless_held(path: &Path) -> io::Result<()> {
    let held = File::open(path)?;
    if held.try_lock().is_err() {
        return Ok(());
    }
    fs::remove_dir_all(path)
}

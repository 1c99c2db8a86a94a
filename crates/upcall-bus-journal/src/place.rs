//! Whether the files that are open are still the ones in the journal's folder.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::Cause;
use crate::schema::{DATABASE, LOG};

/// Where the open files are to be found. Files that somebody has removed or moved can be written to for as long as they
/// are open, and are gone at the next start: nothing that goes there is durable.
#[derive(Debug)]
pub(crate) struct Place {
    files: Vec<(PathBuf, Option<Identity>)>,
}

/// What a file is, whatever it is called.
type Identity = (u64, u64);

/// A file that is not there any more, or is another one.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} was removed, moved or replaced while it was open; put it back, or restart, which begins with what is there",
    file.display()
)]
struct Gone {
    file: PathBuf,
}

impl Place {
    /// Takes note of the files as they are, just after they were opened.
    pub(crate) fn of(folder: &Path) -> Self {
        let files = [DATABASE, LOG].map(|name| folder.join(name));
        Self { files: files.map(|file| (file.clone(), identity(&file))).into() }
    }

    /// Says which file is not where it was. Asks the system once for each.
    pub(crate) fn lost(&self) -> Option<Cause> {
        self.files.iter().find_map(lost)
    }

    /// The same of the database alone: who closes it last removes its log.
    pub(crate) fn lost_database(&self) -> Option<Cause> {
        self.files.first().and_then(lost)
    }
}

fn lost((file, known): &(PathBuf, Option<Identity>)) -> Option<Cause> {
    (known.is_some() && identity(file) != *known).then(|| Cause::new(&Gone { file: file.clone() }))
}

fn identity(file: &Path) -> Option<Identity> {
    fs::metadata(file).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

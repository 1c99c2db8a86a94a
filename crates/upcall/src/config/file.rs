//! Reading files, some of which may never answer: a pipe that nobody writes to, or a mount whose server is away.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is being read, for whoever waits for it. A process reads its configuration on one thread at a time.
static READING: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Says which file is being read, for as long as it lives.
struct Reading;

impl Reading {
    fn of(file: &Path) -> Self {
        *reading() = Some(file.to_owned());
        Self
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        *reading() = None;
    }
}

/// Reads a file whole.
pub(super) fn read(file: &Path) -> io::Result<Vec<u8>> {
    let _reading = Reading::of(file);
    std::fs::read(file)
}

/// Reads a file whole, as text.
pub(super) fn read_text(file: &Path) -> io::Result<String> {
    let _reading = Reading::of(file);
    std::fs::read_to_string(file)
}

/// Whether a file gives the same whenever it is read, until somebody changes it. A pipe gives what is in it once.
pub(crate) fn can_be_read_again(file: &Path) -> bool {
    let _reading = Reading::of(file);
    // One that is not there may come.
    std::fs::metadata(file).map_or(true, |metadata| metadata.is_file())
}

/// The file that is being read at this moment.
pub(crate) fn being_read() -> Option<PathBuf> {
    reading().clone()
}

fn reading() -> MutexGuard<'static, Option<PathBuf>> {
    READING.lock().unwrap_or_else(PoisonError::into_inner)
}

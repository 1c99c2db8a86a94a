//! Files that are nobody's but their owner's: events have personal data.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Makes a file anew that only its owner may read.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    // One that a crash has left may have other permissions.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

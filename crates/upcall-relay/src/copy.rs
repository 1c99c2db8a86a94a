//! What a backup takes of a relay's folder.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::aside::{EXTENSION, FOLDER};
use crate::private;

/// Copies the events that are set aside from a relay's folder to another one, durably, also while the relay runs. Returns
/// how many there were. How far the relay is (`relay.json`) is not copied: it would be an old word, and an event that was
/// sent since would be sent again. Without it the relay looks what the stream has.
///
/// Copy the journal first: an event is set aside before the journal lets go of it.
///
/// # Errors
/// If a file can't be read or written.
pub fn copy_set_aside(from: &Path, into: &Path) -> io::Result<u64> {
    let entries = match fs::read_dir(from.join(FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let (target, mut copied) = (into.join(FOLDER), 0);
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != EXTENSION) {
            continue;
        }
        let mut source = match File::open(&path) {
            // The stream has taken it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            source => source?,
        };
        fs::create_dir_all(&target)?;
        let mut file = private::create(&target.join(path.file_name().unwrap_or_default()))?;
        io::copy(&mut source, &mut file)?;
        file.sync_all()?;
        copied += 1;
    }
    if copied > 0 {
        File::open(&target)?.sync_all()?;
        File::open(into)?.sync_all()?;
    }
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_are_set_aside_are_copied_and_how_far_the_relay_is_is_not() {
        let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_eq!(copy_set_aside(from.path(), into.path()).unwrap(), 0);
        let aside = from.path().join(FOLDER);
        fs::create_dir(&aside).unwrap();
        for (name, text) in [("a.json", "a"), ("b.json", "b"), ("c.new", "half")] {
            fs::write(aside.join(name), text).unwrap();
        }
        fs::write(from.path().join("relay.json"), "{}").unwrap();
        assert_eq!(copy_set_aside(from.path(), into.path()).unwrap(), 2);
        let read = |name| fs::read_to_string(into.path().join(FOLDER).join(name)).ok();
        assert_eq!([read("a.json"), read("b.json"), read("c.new")], [Some("a".to_owned()), Some("b".to_owned()), None]);
        assert!(!into.path().join("relay.json").exists());
    }
}

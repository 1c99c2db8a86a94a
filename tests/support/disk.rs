//! A small disk that can be filled up, and what is on a disk.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of a few MiB in memory. It is unmounted when this is dropped.
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts a disk of so many MiB at a folder, which is made; `None` where that is not allowed.
    ///
    /// # Panics
    /// If the folder can't be made.
    pub fn mount(path: &Path, mib: u32) -> Option<Self> {
        std::fs::create_dir_all(path).expect("there is room for a folder");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(path).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then(|| Self { path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let Ok(mut ballast) = File::create(self.ballast()) else { return };
        // Until there is none.
        for piece in [vec![0; 1 << 20], vec![0; 1 << 10]] {
            while ballast.write_all(&piece).is_ok() {}
        }
    }

    /// Gives the room back.
    pub fn free(&self) {
        // It may not have been taken.
        let _ = std::fs::remove_file(self.ballast());
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The process that used it may need a moment to be gone; lazily is soon enough.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

/// Copies what is in a folder into another one, which is made.
///
/// # Panics
/// If a file can't be copied.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("there is room for a folder");
    for entry in std::fs::read_dir(from).expect("the folder is there") {
        let entry = entry.expect("the folder can be read");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("it is still there").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("there is room for a file");
        }
    }
}

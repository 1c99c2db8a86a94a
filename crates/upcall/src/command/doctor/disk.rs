//! The disk under a folder.

use std::io;
use std::path::Path;

use upcall_bus_nats::examine::{Finding, Kind};

use super::kinds;

/// The journal takes a few hundred bytes an event: this is a million of them.
const NEARLY_FULL_BYTES: u64 = 1 << 30;
const FULL_BYTES: u64 = 100 << 20;

/// The file system that a folder is on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Disk {
    /// What may still be written, in bytes.
    free: u64,
    /// What kind of file system it is, as the system numbers them; 0 where that is not told.
    magic: u64,
}

/// Source: the Linux kernel, `include/uapi/linux/magic.h`, `fs/smb/client/cifsfs.h`, `include/linux/nfs_fs.h`, and the
/// headers of Ceph and GFS2.
const MEMORY: &[(u64, &str)] = &[(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];
const NETWORK: &[(u64, &str)] = &[
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0102_1997, "9P"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
];
const CONTAINER: &[(u64, &str)] = &[(0x794c_7630, "overlayfs"), (0x6175_6673, "aufs")];

impl Disk {
    /// Looks at a folder's disk, or, where there is no such folder yet, at the one that it will be on.
    pub(super) fn of(folder: &Path) -> io::Result<Self> {
        let absolute = std::path::absolute(folder)?;
        let there = absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let space = rustix::fs::statvfs(there)?;
        Ok(Self { free: space.f_bavail.saturating_mul(space.f_frsize), magic: magic(there)? })
    }

    /// Says what is wrong with it for a journal that takes `used` bytes, and up to `max`.
    pub(super) fn judge(&self, folder: &Path, used: u64, max: u64) -> Vec<Finding> {
        let place = folder.display();
        let mut found = Vec::new();
        for (kinds, kind) in [
            (MEMORY, &kinds::DISK_IN_MEMORY),
            (NETWORK, &kinds::DISK_OF_NETWORK),
            (CONTAINER, &kinds::DISK_OF_CONTAINER),
        ] as [(&[(u64, &str)], &'static Kind); 3]
        {
            if let Some((_, name)) = kinds.iter().find(|(magic, _)| *magic == self.magic) {
                found.push(kind.found(format!("{place} is on {name}")));
            }
        }
        let size = |bytes| bytesize::ByteSize(bytes).display().iec();
        let free = size(self.free);
        if self.free < FULL_BYTES {
            found.push(kinds::DISK_FULL.found(format!("{place} has {free} free")));
        } else if self.free < NEARLY_FULL_BYTES {
            found.push(kinds::DISK_NEARLY_FULL.found(format!("{place} has {free} free")));
        }
        if max.saturating_sub(used) > self.free {
            let what = format!("the journal may grow to {}, it takes {}, and {free} are free", size(max), size(used));
            found.push(kinds::JOURNAL_OUTGROWS_DISK.found(what));
        }
        found
    }
}

#[cfg(target_os = "linux")]
#[allow(clippy::useless_conversion, reason = "the field is narrower on other machines")]
fn magic(path: &Path) -> io::Result<u64> {
    // The kernel's numbers have 32 bits; where the field is wider, some come with their sign.
    Ok(u64::from_ne_bytes(i64::from(rustix::fs::statfs(path)?.f_type).to_ne_bytes()) & 0xffff_ffff)
}

#[cfg(not(target_os = "linux"))]
fn magic(_: &Path) -> io::Result<u64> {
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(disk: Disk, used: u64, max: u64) -> Vec<&'static str> {
        disk.judge(Path::new("/journal"), used, max).iter().map(|finding| finding.kind.name).collect()
    }

    #[test]
    fn a_disk_is_judged_by_its_room_and_by_its_kind() {
        const GIB: u64 = 1 << 30;
        let ext4 = Disk { free: 20 * GIB, magic: 0xef53 };
        assert_eq!(names(ext4, 0, 10 * GIB), [""; 0]);
        assert_eq!(names(ext4, 5 * GIB, 25 * GIB), [""; 0], "what it takes already need not be free");
        assert_eq!(names(ext4, 0, 25 * GIB), ["journal-outgrows-disk"]);
        assert_eq!(names(Disk { free: GIB - 1, ..ext4 }, 0, GIB / 2), ["disk-nearly-full"]);
        assert_eq!(names(Disk { free: 1 << 20, ..ext4 }, GIB, GIB), ["disk-full"]);
        for (magic, expected) in
            [(0x6969, "disk-of-network"), (0xff53_4d42, "disk-of-network"), (0x794c_7630, "disk-of-container")]
        {
            assert_eq!(names(Disk { magic, ..ext4 }, 0, GIB), [expected]);
        }
    }
}

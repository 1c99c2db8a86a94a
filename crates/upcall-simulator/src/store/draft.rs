//! A file being written, and what is learnt about its bytes on the way.

use std::io;
use std::path::Path;

use crc::{CRC_64_XZ, Crc, Digest, Table};
use md5::{Digest as _, Md5};
use tempfile::{NamedTempFile, TempPath};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

/// OSS's checksum: CRC-64 of ECMA-182, reflected, which the catalogue lists under the name of xz.
static CRC64: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_XZ);

/// Content on its way to the disk. Dropped before it is placed, it leaves nothing behind.
pub(crate) struct Draft {
    file: File,
    path: TempPath,
    md5: Md5,
    crc64: Digest<'static, u64, Table<16>>,
    size: u64,
}

/// Content that is on the disk, not yet under its name.
pub(crate) struct Written {
    /// Where it is meanwhile.
    pub(crate) path: TempPath,
    /// Its length in bytes.
    pub(crate) size: u64,
    /// Its MD5.
    pub(crate) md5: [u8; 16],
    /// Its CRC-64.
    pub(crate) crc64: u64,
}

impl Draft {
    /// Starts a file in a folder, which has to be on the file system that the content is to stay on.
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        let (file, path) = NamedTempFile::new_in(folder)?.into_parts();
        Ok(Self { file: File::from_std(file), path, md5: Md5::new(), crc64: CRC64.digest(), size: 0 })
    }

    /// Appends bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.md5.update(bytes);
        self.crc64.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes).await
    }

    /// How many bytes there are so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Ends the file.
    ///
    /// It is not synced: the simulator's store outlives a crash of the process, not one of the machine.
    pub(crate) async fn finish(mut self) -> io::Result<Written> {
        self.file.flush().await?;
        Ok(Written { path: self.path, size: self.size, md5: self.md5.finalize().into(), crc64: self.crc64.finalize() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_checksums_are_those_of_oss() {
        let folder = tempfile::tempdir().unwrap();
        let mut draft = Draft::new(folder.path()).unwrap();
        draft.write(b"1234").await.unwrap();
        draft.write(b"56789").await.unwrap();
        let written = draft.finish().await.unwrap();
        assert_eq!(written.crc64, 0x995D_C9BB_DF19_39FA);
        assert_eq!(written.size, 9);
        assert_eq!(written.md5[..4], [0x25, 0xf9, 0xe7, 0x94]);
        assert_eq!(std::fs::read(&written.path).unwrap(), b"123456789");
    }

    #[tokio::test]
    async fn an_abandoned_draft_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut draft = Draft::new(folder.path()).unwrap();
        draft.write(b"half").await.unwrap();
        drop(draft);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

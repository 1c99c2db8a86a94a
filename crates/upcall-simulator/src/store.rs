//! Buckets and objects in a folder of files.
//!
//! ```text
//! buckets/BUCKET/objects/…       content, and beside each a sidecar that describes it
//! buckets/BUCKET/uploads/ID/…    multipart uploads that are not complete
//! drafts/                        what is being written
//! ```
//! An object exists when its sidecar does. Both change under a lock, so that a reader sees the one state or the other.

mod draft;
mod layout;
mod listing;
mod metadata;
mod uploads;

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tokio::fs::{self, File};
use tokio::sync::RwLock;

pub(crate) use draft::{Draft, Written};
pub(crate) use listing::{Listed, Page, Wanted};
pub(crate) use metadata::{Described, Metadata, hex_upper};
pub(crate) use uploads::{Assembled, CompleteError, NamedPart, Upload};

use crate::name::{BucketName, ObjectKey};

/// A folder that holds buckets.
pub(crate) struct Store {
    folder: PathBuf,
    /// Held for writing while an object's two files change.
    changing: RwLock<()>,
}

impl Store {
    /// Opens a folder, makes it where there is none, and clears away what a crash left half written.
    pub(crate) async fn open(folder: PathBuf) -> io::Result<Self> {
        let drafts = folder.join("drafts");
        if fs::try_exists(&drafts).await? {
            fs::remove_dir_all(&drafts).await?;
        }
        fs::create_dir_all(&drafts).await?;
        fs::create_dir_all(folder.join("buckets")).await?;
        Ok(Self { folder, changing: RwLock::new(()) })
    }

    /// Makes a bucket, if it is not there yet.
    pub(crate) async fn create_bucket(&self, bucket: &BucketName) -> io::Result<()> {
        fs::create_dir_all(self.objects(bucket)).await?;
        fs::create_dir_all(self.uploads(bucket)).await
    }

    /// Whether there is such a bucket.
    pub(crate) async fn has_bucket(&self, bucket: &BucketName) -> io::Result<bool> {
        fs::try_exists(self.objects(bucket)).await
    }

    /// When a bucket was made, as far as the file system knows.
    pub(crate) async fn bucket_created(&self, bucket: &BucketName) -> io::Result<Timestamp> {
        let metadata = fs::metadata(self.bucket(bucket)).await?;
        let created = metadata.created().or_else(|_| metadata.modified())?;
        Ok(Timestamp::try_from(created).unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// The names of all buckets, in order.
    pub(crate) async fn buckets(&self) -> io::Result<Vec<BucketName>> {
        let mut names = Vec::new();
        let mut entries = fs::read_dir(self.folder.join("buckets")).await?;
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name().to_str().map(BucketName::parse);
            names.extend(name.and_then(Result::ok));
        }
        names.sort();
        Ok(names)
    }

    /// Removes a bucket that holds no object. `false` if it holds some.
    pub(crate) async fn remove_bucket(&self, bucket: &BucketName) -> io::Result<bool> {
        let _changing = self.changing.write().await;
        let empty = fs::read_dir(self.objects(bucket)).await?.next_entry().await?.is_none();
        if empty {
            fs::remove_dir_all(self.bucket(bucket)).await?;
        }
        Ok(empty)
    }

    /// Starts writing content.
    pub(crate) fn draft(&self) -> io::Result<Draft> {
        Draft::new(&self.folder.join("drafts"))
    }

    /// Puts written content under its name, in place of what was there.
    ///
    /// # Cancel safety
    /// Dropping the future can leave the object absent, never half.
    pub(crate) async fn place(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        content: Written,
        metadata: &Metadata,
    ) -> io::Result<()> {
        let path = self.content(bucket, key);
        let sidecar = layout::sidecar_path(&path);
        let described = self.draft_of(&serde_json::to_vec(metadata)?).await?;
        let _changing = self.changing.write().await;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).await?;
        }
        // Without its sidecar the object does not exist: a crash in between leaves no wrong pair.
        remove_if_there(&sidecar).await?;
        content.path.persist(&path)?;
        described.path.persist(&sidecar)?;
        Ok(())
    }

    /// Opens an object for reading. It stays readable when it is replaced meanwhile.
    pub(crate) async fn open_object(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> io::Result<Option<(Metadata, File)>> {
        let path = self.content(bucket, key);
        let _unchanging = self.changing.read().await;
        let Some(metadata) = read_sidecar(&layout::sidecar_path(&path)).await? else { return Ok(None) };
        Ok(Some((metadata, File::open(&path).await?)))
    }

    /// Removes an object. Whether it was there makes no difference, as at OSS.
    pub(crate) async fn remove_object(&self, bucket: &BucketName, key: &ObjectKey) -> io::Result<()> {
        let path = self.content(bucket, key);
        let objects = self.objects(bucket);
        let _changing = self.changing.write().await;
        remove_if_there(&layout::sidecar_path(&path)).await?;
        remove_if_there(&path).await?;
        for folder in path.ancestors().skip(1).take_while(|folder| *folder != objects) {
            // The first that is not empty, or was never there, ends it.
            if fs::remove_dir(folder).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn draft_of(&self, bytes: &[u8]) -> io::Result<Written> {
        let mut draft = self.draft()?;
        draft.write(bytes).await?;
        draft.finish().await
    }

    fn bucket(&self, bucket: &BucketName) -> PathBuf {
        self.folder.join("buckets").join(bucket.as_str())
    }

    fn objects(&self, bucket: &BucketName) -> PathBuf {
        self.bucket(bucket).join("objects")
    }

    fn uploads(&self, bucket: &BucketName) -> PathBuf {
        self.bucket(bucket).join("uploads")
    }

    fn content(&self, bucket: &BucketName, key: &ObjectKey) -> PathBuf {
        self.objects(bucket).join(layout::content_path(key.as_str()))
    }
}

/// Reads what describes an object. `None` if there is none.
async fn read_sidecar(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::read(path).await {
        Ok(json) => Ok(Some(serde_json::from_slice(&json)?)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path).await {
        Err(error) if !is_absent(&error) => Err(error),
        _ => Ok(()),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests;

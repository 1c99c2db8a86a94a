//! Multipart uploads that are under way.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use tokio::fs::{self, File};
use tokio::io::AsyncReadExt;

use super::{Described, Draft, Metadata, Store, Written, hex_upper, is_absent};
use crate::name::{BucketName, ObjectKey};

/// How much is copied at a time when parts are put together.
const COPY_BYTES: usize = 256 * 1024;

/// A multipart upload that is not complete.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Upload {
    /// The key that the object is to have.
    pub(crate) key: String,
    /// When it was initiated.
    pub(crate) initiated: Timestamp,
    /// What the uploader said about the object.
    pub(crate) described: Described,
}

/// A part that was uploaded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Its number, from 1 to 10,000.
    pub(crate) number: u32,
    /// Length in bytes.
    pub(crate) size: u64,
    /// Upper-case MD5, without quotes.
    pub(crate) etag: String,
    /// CRC-64 of the part.
    pub(crate) crc64: u64,
    /// When it was uploaded.
    pub(crate) modified: Timestamp,
}

/// A part as the request that completes an upload names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedPart {
    /// Its number.
    pub(crate) number: u32,
    /// Its ETag, without quotes.
    pub(crate) etag: String,
}

/// Parts put together, not yet placed.
pub(crate) struct Assembled {
    /// The content.
    pub(crate) content: Written,
    /// What describes it.
    pub(crate) metadata: Metadata,
}

/// Why parts could not be put together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompleteError {
    /// A part that is named was not uploaded, or has another ETag.
    #[error("a part is missing or has another ETag")]
    InvalidPart,
    /// The numbers of the parts do not ascend.
    #[error("the parts are not in order")]
    InvalidPartOrder,
    /// The store failed.
    #[error("the store failed")]
    Io(#[from] io::Error),
}

impl Store {
    /// Begins a multipart upload under an id that nobody else uses.
    pub(crate) async fn initiate(&self, bucket: &BucketName, id: &str, upload: &Upload) -> io::Result<()> {
        let folder = self.uploads(bucket).join(id);
        fs::create_dir_all(&folder).await?;
        self.persist(&serde_json::to_vec(upload)?, folder.join("upload.json")).await
    }

    /// Finds a multipart upload. `None` if the id is unknown or the upload is for another key.
    pub(crate) async fn upload(&self, bucket: &BucketName, key: &ObjectKey, id: &str) -> io::Result<Option<Upload>> {
        let Some(folder) = self.upload_folder(bucket, id) else { return Ok(None) };
        let json = match fs::read(folder.join("upload.json")).await {
            Err(error) if is_absent(&error) => return Ok(None),
            json => json?,
        };
        let upload: Upload = serde_json::from_slice(&json)?;
        Ok(Some(upload).filter(|upload| upload.key == key.as_str()))
    }

    /// Keeps a part, in place of an earlier one with its number.
    pub(crate) async fn add_part(
        &self,
        bucket: &BucketName,
        id: &str,
        number: u32,
        content: Written,
    ) -> io::Result<Part> {
        let folder = self.upload_folder(bucket, id).ok_or(io::ErrorKind::NotFound)?;
        let part = Part {
            number,
            size: content.size,
            etag: hex_upper(&content.md5),
            crc64: content.crc64,
            modified: Timestamp::now(),
        };
        let described = self.draft_of(&serde_json::to_vec(&part)?).await?;
        let _changing = self.changing.write().await;
        content.path.persist(folder.join(format!("{number:05}.part")))?;
        described.path.persist(folder.join(format!("{number:05}.json")))?;
        Ok(part)
    }

    /// The parts uploaded so far, by number.
    pub(crate) async fn parts(&self, bucket: &BucketName, id: &str) -> io::Result<Vec<Part>> {
        let folder = self.upload_folder(bucket, id).ok_or(io::ErrorKind::NotFound)?;
        let _unchanging = self.changing.read().await;
        let mut parts = Vec::new();
        let mut entries = fs::read_dir(folder).await?;
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.ends_with(".json") && name != "upload.json") {
                parts.push(serde_json::from_slice(&fs::read(entry.path()).await?)?);
            }
        }
        parts.sort_by_key(|part: &Part| part.number);
        Ok(parts)
    }

    /// Puts the named parts together. The upload stays as it is until it is removed.
    pub(crate) async fn assemble(
        &self,
        bucket: &BucketName,
        id: &str,
        upload: &Upload,
        named: &[NamedPart],
    ) -> Result<Assembled, CompleteError> {
        if named.is_empty() || !named.is_sorted_by(|a, b| a.number < b.number) {
            return Err(CompleteError::InvalidPartOrder);
        }
        let folder = self.upload_folder(bucket, id).ok_or(CompleteError::InvalidPart)?;
        let parts = self.parts(bucket, id).await?;
        let mut draft = self.draft()?;
        let mut etags = Md5::new();
        for named in named {
            let part = parts.iter().find(|part| part.number == named.number);
            let part = part.filter(|part| part.etag.eq_ignore_ascii_case(&named.etag));
            let part = part.ok_or(CompleteError::InvalidPart)?;
            etags.update(part.etag.as_bytes());
            copy(File::open(folder.join(format!("{:05}.part", part.number))).await?, &mut draft).await?;
        }
        let content = draft.finish().await?;
        let etag = format!("{}-{}", hex_upper(&etags.finalize()), named.len());
        let metadata = Metadata::of_parts(&content, etag, upload.described.clone());
        Ok(Assembled { content, metadata })
    }

    /// Forgets a multipart upload and its parts.
    pub(crate) async fn remove_upload(&self, bucket: &BucketName, id: &str) -> io::Result<()> {
        let Some(folder) = self.upload_folder(bucket, id) else { return Ok(()) };
        let _changing = self.changing.write().await;
        match fs::remove_dir_all(folder).await {
            Err(error) if !is_absent(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// The folder of an upload. `None` for an id that is none of ours, such as one that leads out of the store.
    fn upload_folder(&self, bucket: &BucketName, id: &str) -> Option<PathBuf> {
        let sound = !id.is_empty() && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        sound.then(|| self.uploads(bucket).join(id))
    }

    async fn persist(&self, bytes: &[u8], path: PathBuf) -> io::Result<()> {
        self.draft_of(bytes).await?.path.persist(path)?;
        Ok(())
    }
}

async fn copy(mut part: File, draft: &mut Draft) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match part.read(&mut buffer).await? {
            0 => return Ok(()),
            read => draft.write(&buffer[..read]).await?,
        }
    }
}

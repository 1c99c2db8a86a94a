//! What is known about an object besides its content.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::draft::Written;

/// Describes an object; kept beside its content as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metadata {
    /// Length in bytes.
    pub(crate) size: u64,
    /// Upper-case hex, without quotes.
    pub(crate) etag: String,
    /// Base64, of objects that were uploaded in one piece.
    pub(crate) content_md5: Option<String>,
    /// CRC-64 of the whole object.
    pub(crate) crc64: u64,
    /// Whether it was uploaded in one piece.
    pub(crate) kind: Kind,
    /// When it was uploaded.
    pub(crate) modified: Timestamp,
    /// What the uploader said about it.
    #[serde(flatten)]
    pub(crate) described: Described,
}

/// What the uploader said about an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Described {
    /// Content-Type; `application/octet-stream` if none was given.
    pub(crate) content_type: String,
    /// Further headers to give back with the object, names in lower case: Cache-Control, `x-oss-meta-…` and the like.
    pub(crate) headers: BTreeMap<String, String>,
}

/// How an object came to be, in OSS's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// By PutObject or PostObject.
    Normal,
    /// By a multipart upload.
    Multipart,
}

impl Kind {
    /// The value of `x-oss-object-type`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Multipart => "Multipart",
        }
    }
}

impl Metadata {
    /// Describes content that came in one piece.
    pub(crate) fn whole(written: &Written, described: Described) -> Self {
        Self {
            size: written.size,
            etag: hex_upper(&written.md5),
            content_md5: Some(STANDARD.encode(written.md5)),
            crc64: written.crc64,
            kind: Kind::Normal,
            modified: Timestamp::now(),
            described,
        }
    }

    /// Describes content that was put together of parts.
    pub(crate) fn of_parts(written: &Written, etag: String, described: Described) -> Self {
        Self { etag, content_md5: None, kind: Kind::Multipart, ..Self::whole(written, described) }
    }
}

/// Bytes as upper-case hex.
pub(crate) fn hex_upper(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

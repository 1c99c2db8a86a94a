//! Taking bodies off the wire, within limits.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

use crate::error::OssError;
use crate::exchange::Exchange;
use crate::simulator::Shared;
use crate::store::Written;

/// The most bytes in one upload. Source: Alibaba Cloud OSS, PutObject.
pub(crate) const UPLOAD_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;

/// How long an uploader may send nothing.
pub(crate) const IDLE: Duration = Duration::from_secs(60);

/// How much of a refused upload is still taken, so that its sender gets to read the refusal.
const DRAIN_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Writes a request's body to a draft, and compares it with the request's Content-MD5.
pub(crate) async fn content(shared: &Shared, exchange: &Exchange, body: &mut Incoming) -> Result<Written, OssError> {
    if body.size_hint().lower() > UPLOAD_BYTES_MAX {
        return Err(OssError::entity_too_large());
    }
    let mut draft = shared.store.draft()?;
    while let Some(bytes) = next(body).await? {
        draft.write(&bytes).await?;
        if draft.size() > UPLOAD_BYTES_MAX {
            return Err(OssError::entity_too_large());
        }
    }
    let written = draft.finish().await?;
    match exchange.header(header::HeaderName::from_static("content-md5")) {
        Some(claimed) if claimed != STANDARD.encode(written.md5) => Err(OssError::invalid_digest()),
        _ => Ok(written),
    }
}

/// Takes a small document whole.
pub(crate) async fn document(body: &mut Incoming, bytes_max: usize) -> Result<Vec<u8>, OssError> {
    let mut document = Vec::new();
    while let Some(bytes) = next(body).await? {
        if document.len() + bytes.len() > bytes_max {
            return Err(OssError::entity_too_large());
        }
        document.extend_from_slice(&bytes);
    }
    Ok(document)
}

/// Takes what is left of a body that nobody wants, up to a limit.
pub(crate) async fn drain(body: &mut Incoming) {
    let all = async {
        let mut left = DRAIN_BYTES_MAX;
        while let Ok(Some(bytes)) = next(body).await {
            match left.checked_sub(bytes.len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // Whether it came to its end makes no difference.
    let _ = timeout(DRAIN_TIME, all).await;
}

async fn next(body: &mut Incoming) -> Result<Option<Bytes>, OssError> {
    loop {
        match timeout(IDLE, body.frame()).await {
            Err(_) => return Err(OssError::request_timeout()),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err(OssError::broken_body()),
            Ok(Some(Ok(frame))) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

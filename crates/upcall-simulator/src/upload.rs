//! The end of every upload: the object is placed, the callback is sent, the uploader is answered.

use std::sync::Arc;

use upcall_callback::UploadFacts;

use crate::callback::{self, Job, Relayed, Requested};
use crate::error::OssError;
use crate::exchange::{Answer, Exchange, json, set, xml};
use crate::image;
use crate::name::{BucketName, ObjectKey};
use crate::simulator::Shared;
use crate::store::{Metadata, Written};

/// The operations that can have a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    PutObject,
    PostObject,
    CompleteMultipartUpload,
}

impl Operation {
    /// The value of `${operation}`.
    fn as_str(self) -> &'static str {
        match self {
            Self::PutObject => "PutObject",
            Self::PostObject => "PostObject",
            Self::CompleteMultipartUpload => "CompleteMultipartUpload",
        }
    }
}

/// An upload whose content has arrived and is acceptable.
pub(crate) struct Upload {
    pub(crate) bucket: BucketName,
    pub(crate) key: ObjectKey,
    pub(crate) operation: Operation,
    pub(crate) content: Written,
    pub(crate) metadata: Metadata,
    pub(crate) callback: Option<Requested>,
    /// The id of the multipart upload whose parts the content was put together of.
    pub(crate) parts: Option<String>,
}

impl Upload {
    /// Places the object and calls back. `plain` is the answer where no callback was asked for.
    pub(crate) async fn conclude(
        self,
        shared: &Arc<Shared>,
        exchange: &Exchange,
        plain: Answer,
    ) -> Result<Answer, OssError> {
        let image = match &self.callback {
            Some(callback) if callback.names_image() => image::probe(&self.content.path, &self.metadata).await?,
            _ => image::Probed::NoImage,
        };
        shared.store.place(&self.bucket, &self.key, self.content, &self.metadata).await?;
        // Before the callback: whoever completes the upload again is told that it is gone, as at OSS.
        if let Some(id) = self.parts {
            shared.store.remove_upload(&self.bucket, &id).await?;
        }
        let metadata = self.metadata;
        let mut answer = match self.callback {
            None => plain,
            Some(requested) => {
                let mut facts = UploadFacts {
                    bucket: self.bucket.to_string(),
                    object: self.key.to_string(),
                    etag: metadata.etag.clone(),
                    size: metadata.size,
                    mime_type: metadata.described.content_type.clone(),
                    crc64: Some(metadata.crc64),
                    content_md5: metadata.content_md5.clone(),
                    client_ip: exchange.client.to_string(),
                    request_id: exchange.id.to_string(),
                    operation: self.operation.as_str().to_owned(),
                    ..UploadFacts::default()
                };
                if let image::Probed::Image(image) = &image {
                    facts.image_width = Some(image.width);
                    facts.image_height = Some(image.height);
                    facts.image_format = Some(image.format.to_owned());
                }
                let unreadable = image == image::Probed::Unreadable;
                let job = Job { requested, facts, unreadable_image: unreadable };
                relay(shared, exchange, callback::perform(shared, job).await)
            }
        };
        set(&mut answer, "etag", format!("\"{}\"", metadata.etag));
        set(&mut answer, "x-oss-hash-crc64ecma", metadata.crc64.to_string());
        if let Some(md5) = &metadata.content_md5 {
            set(&mut answer, "content-md5", md5);
        }
        Ok(answer)
    }
}

fn relay(shared: &Shared, exchange: &Exchange, relayed: Relayed) -> Answer {
    match relayed {
        Relayed::Answer(body) => json(http::StatusCode::OK, body),
        Relayed::Failure(failure) => {
            let ec = failure.ec().unwrap_or_default();
            let code = upcall_callback::CallbackFailure::CODE;
            let document = shared.error_xml(exchange, code, &failure.message(), ec);
            let mut answer = xml(http::StatusCode::NON_AUTHORITATIVE_INFORMATION, document);
            if !ec.is_empty() {
                set(&mut answer, "x-oss-ec", ec);
            }
            answer
        }
    }
}

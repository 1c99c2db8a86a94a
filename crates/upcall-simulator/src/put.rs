//! PutObject.

use http::StatusCode;
use hyper::body::Incoming;

use crate::callback;
use crate::error::OssError;
use crate::exchange::{Answer, Exchange, empty};
use crate::name::{BucketName, ObjectKey};
use crate::simulator::Shared;
use crate::store::Metadata;
use crate::upload::{Operation, Upload};
use crate::{bucket, described, receive};

/// Stores a request's body as an object, then calls back if the request asks for it.
pub(crate) async fn put_object(
    shared: &std::sync::Arc<Shared>,
    exchange: &Exchange,
    bucket: &BucketName,
    key: &ObjectKey,
    body: &mut Incoming,
) -> Result<Answer, OssError> {
    // Refused before anything is stored.
    let callback = callback::of_request(exchange)?;
    bucket::demand_for_upload(shared, bucket).await?;
    let content = receive::content(shared, exchange, body).await?;
    let metadata = Metadata::whole(&content, described::by_headers(&exchange.head.headers));
    let (bucket, key) = (bucket.clone(), key.clone());
    let upload = Upload { bucket, key, operation: Operation::PutObject, content, metadata, callback, parts: None };
    upload.conclude(shared, exchange, empty(StatusCode::OK)).await
}

//! Reading and removing objects.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::stream::try_unfold;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::bucket::demand;
use crate::error::OssError;
use crate::exchange::{Answer, Body, Exchange, empty, set, xml};
use crate::name::{BucketName, ObjectKey};
use crate::range::{Range, Slice};
use crate::receive;
use crate::simulator::Shared;
use crate::store::Metadata;
use crate::xml::Xml;

/// How much of a file is read at a time.
const READ_BYTES: usize = 64 * 1024;

/// The most bytes in the list of DeleteMultipleObjects. Source: Alibaba Cloud OSS, DeleteMultipleObjects.
const LIST_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The query parameters of GetObject that put a header in place of the object's own.
const OVERRIDES: &[(&str, &str)] = &[
    ("response-content-type", "content-type"),
    ("response-content-language", "content-language"),
    ("response-expires", "expires"),
    ("response-cache-control", "cache-control"),
    ("response-content-disposition", "content-disposition"),
    ("response-content-encoding", "content-encoding"),
];

/// GetObject, HeadObject and GetObjectMeta.
pub(crate) async fn read(
    shared: &Shared,
    exchange: &Exchange,
    bucket: &BucketName,
    key: &ObjectKey,
) -> Result<Answer, OssError> {
    demand(shared, bucket).await?;
    let (metadata, file) = shared.store.open_object(bucket, key).await?.ok_or_else(OssError::no_such_key)?;
    if exchange.header(header::IF_NONE_MATCH).is_some_and(|etag| etag.trim_matches('"') == metadata.etag) {
        let mut answer = empty(StatusCode::NOT_MODIFIED);
        set(&mut answer, "etag", format!("\"{}\"", metadata.etag));
        return Ok(answer);
    }
    let standard = exchange.header("x-oss-range-behavior") == Some("standard");
    let slice = match exchange.header(header::RANGE).map(|range| Range::parse(range, metadata.size)) {
        None => Slice::whole(metadata.size),
        Some(Range::Satisfiable(slice)) => slice,
        Some(Range::Unsatisfiable) if standard => return Err(OssError::invalid_range()),
        // Unless told otherwise, OSS answers a wrong range with the whole object.
        Some(Range::Unsatisfiable | Range::Malformed) => Slice::whole(metadata.size),
    };
    let mut answer = match exchange.head.method {
        Method::HEAD => empty(StatusCode::OK),
        _ => http::Response::new(stream(file, slice).await?),
    };
    describe(&mut answer, &metadata);
    set(&mut answer, "content-length", slice.length.to_string());
    if slice.length < metadata.size {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        set(&mut answer, "content-range", slice.content_range(metadata.size));
    }
    for (parameter, name) in OVERRIDES {
        if let Some(value) = exchange.query(parameter) {
            set(&mut answer, name, value);
        }
    }
    Ok(answer)
}

/// DeleteObject.
pub(crate) async fn remove(shared: &Shared, bucket: &BucketName, key: &ObjectKey) -> Result<Answer, OssError> {
    demand(shared, bucket).await?;
    shared.store.remove_object(bucket, key).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// DeleteMultipleObjects.
pub(crate) async fn remove_many(shared: &Shared, bucket: &BucketName, body: &mut Incoming) -> Result<Answer, OssError> {
    demand(shared, bucket).await?;
    let list = receive::document(body, LIST_BYTES_MAX).await?;
    let (keys, quiet) = read_list(&list).ok_or_else(OssError::malformed_xml)?;
    let mut document = Xml::new();
    for key in &keys {
        shared.store.remove_object(bucket, &ObjectKey::parse(key)?).await?;
    }
    document.element("DeleteResult", |xml| {
        for key in keys.iter().filter(|_| !quiet) {
            xml.element("Deleted", |xml| {
                xml.text("Key", key);
            });
        }
    });
    Ok(xml(StatusCode::OK, document.finish()))
}

/// A time as HTTP's headers have it.
pub(crate) fn http_date(time: Timestamp) -> String {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&time).unwrap_or_default()
}

fn describe(answer: &mut Answer, metadata: &Metadata) {
    for (name, value) in &metadata.described.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            answer.headers_mut().insert(name, value);
        }
    }
    set(answer, "content-type", &metadata.described.content_type);
    set(answer, "etag", format!("\"{}\"", metadata.etag));
    set(answer, "last-modified", http_date(metadata.modified));
    set(answer, "accept-ranges", "bytes");
    set(answer, "x-oss-object-type", metadata.kind.as_str());
    set(answer, "x-oss-storage-class", "Standard");
    set(answer, "x-oss-hash-crc64ecma", metadata.crc64.to_string());
    if let Some(md5) = &metadata.content_md5 {
        set(answer, "content-md5", md5);
    }
}

/// Sends a stretch of a file without holding it in memory.
async fn stream(mut file: File, slice: Slice) -> Result<Body, OssError> {
    file.seek(io::SeekFrom::Start(slice.start)).await?;
    let frames = try_unfold((file.take(slice.length), READ_BYTES), |(mut file, at_once)| async move {
        let mut buffer = BytesMut::with_capacity(at_once);
        let read = file.read_buf(&mut buffer).await?;
        let frame = (read > 0).then(|| Frame::data(Bytes::from(buffer)));
        Ok::<_, io::Error>(frame.map(|frame| (frame, (file, at_once))))
    });
    Ok(StreamBody::new(frames).boxed_unsync())
}

fn read_list(list: &[u8]) -> Option<(Vec<String>, bool)> {
    let document = roxmltree::Document::parse(str::from_utf8(list).ok()?).ok()?;
    let texts = |name: &'static str| document.descendants().filter(move |node| node.has_tag_name(name));
    let keys = texts("Key").map(|node| node.text().unwrap_or_default().to_owned()).collect();
    let quiet = texts("Quiet").any(|node| node.text() == Some("true"));
    Some((keys, quiet))
}

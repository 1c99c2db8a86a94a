//! Multipart uploads.

use std::sync::Arc;

use http::StatusCode;
use hyper::body::Incoming;
use jiff::Timestamp;

use crate::error::OssError;
use crate::exchange::{Answer, Exchange, empty, set, xml};
use crate::name::{BucketName, ObjectKey};
use crate::simulator::Shared;
use crate::store::{self, Assembled, CompleteError, NamedPart};
use crate::upload::{Operation, Upload};
use crate::xml::Xml;
use crate::{bucket, callback, described, receive};

/// The highest part number. Source: Alibaba Cloud OSS, UploadPart.
const PARTS_MAX: u32 = 10_000;

/// How many parts a page of ListParts has at most. Source: Alibaba Cloud OSS, ListParts.
const PAGE_MAX: u32 = 1000;

/// The most bytes in a list of parts: 10,000 of them with room to spare.
const LIST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// InitiateMultipartUpload.
pub(crate) async fn initiate(
    shared: &Shared,
    exchange: &Exchange,
    bucket: &BucketName,
    key: &ObjectKey,
) -> Result<Answer, OssError> {
    bucket::demand_for_upload(shared, bucket).await?;
    let id = shared.ids.upload();
    let described = described::by_headers(&exchange.head.headers);
    let upload = store::Upload { key: key.to_string(), initiated: Timestamp::now(), described };
    shared.store.initiate(bucket, &id, &upload).await?;
    let mut document = Xml::new();
    document.element("InitiateMultipartUploadResult", |xml| {
        xml.text("Bucket", bucket).text("Key", key).text("UploadId", &id);
    });
    Ok(xml(StatusCode::OK, document.finish()))
}

/// UploadPart.
pub(crate) async fn upload_part(
    shared: &Shared,
    exchange: &Exchange,
    bucket: &BucketName,
    key: &ObjectKey,
    id: &str,
    body: &mut Incoming,
) -> Result<Answer, OssError> {
    find(shared, bucket, key, id).await?;
    if !exchange.asks_for(&["partNumber"]) {
        return Err(OssError::invalid_argument("The partNumber is missing."));
    }
    let number = exchange.number("partNumber", 1, PARTS_MAX)?;
    let content = receive::content(shared, exchange, body).await?;
    let part = shared.store.add_part(bucket, id, number, content).await?;
    let mut answer = empty(StatusCode::OK);
    set(&mut answer, "etag", format!("\"{}\"", part.etag));
    set(&mut answer, "x-oss-hash-crc64ecma", part.crc64.to_string());
    Ok(answer)
}

/// ListParts.
pub(crate) async fn list_parts(
    shared: &Shared,
    exchange: &Exchange,
    bucket: &BucketName,
    key: &ObjectKey,
    id: &str,
) -> Result<Answer, OssError> {
    find(shared, bucket, key, id).await?;
    let parts_max = exchange.number("max-parts", PAGE_MAX, PAGE_MAX)?;
    let marker: u32 = exchange.query("part-number-marker").and_then(|marker| marker.parse().ok()).unwrap_or(0);
    let mut parts = shared.store.parts(bucket, id).await?;
    parts.retain(|part| part.number > marker);
    let truncated = parts.len() > parts_max as usize;
    parts.truncate(parts_max as usize);
    let mut document = Xml::new();
    document.element("ListPartsResult", |xml| {
        xml.text("Bucket", bucket).text("Key", key).text("UploadId", id);
        xml.text("StorageClass", "Standard").text("PartNumberMarker", marker);
        xml.text("NextPartNumberMarker", parts.last().map_or(0, |part| part.number));
        xml.text("MaxParts", parts_max).text("IsTruncated", truncated);
        for part in &parts {
            xml.element("Part", |xml| {
                xml.text("PartNumber", part.number).text("LastModified", bucket::iso(part.modified));
                xml.text("ETag", format!("\"{}\"", part.etag)).text("HashCrc64ecma", part.crc64);
                xml.text("Size", part.size);
            });
        }
    });
    Ok(xml(StatusCode::OK, document.finish()))
}

/// CompleteMultipartUpload. Its parts are put together, then it ends like every upload.
pub(crate) async fn complete(
    shared: &Arc<Shared>,
    exchange: &Exchange,
    bucket: &BucketName,
    key: &ObjectKey,
    id: &str,
    body: &mut Incoming,
) -> Result<Answer, OssError> {
    let callback = callback::of_request(exchange)?;
    let found = find(shared, bucket, key, id).await?;
    let list = receive::document(body, LIST_BYTES_MAX).await?;
    let named = if exchange.header("x-oss-complete-all") == Some("yes") {
        let parts = shared.store.parts(bucket, id).await?;
        parts.into_iter().map(|part| NamedPart { number: part.number, etag: part.etag }).collect()
    } else {
        read_list(&list).ok_or_else(OssError::malformed_xml)?
    };
    let assembled = shared.store.assemble(bucket, id, &found, &named).await;
    let Assembled { content, metadata } = assembled.map_err(|error| match error {
        CompleteError::InvalidPart => OssError::invalid_part(),
        CompleteError::InvalidPartOrder => OssError::invalid_part_order(),
        CompleteError::Io(error) => OssError::internal(&error),
    })?;
    let etag = metadata.etag.clone();
    let mut document = Xml::new();
    document.element("CompleteMultipartUploadResult", |xml| {
        xml.text("Location", format!("http://{}{}", exchange.host, exchange.head.uri.path()));
        xml.text("Bucket", bucket).text("Key", key).text("ETag", format!("\"{etag}\""));
    });
    let plain = xml(StatusCode::OK, document.finish());
    let (bucket, key, operation) = (bucket.clone(), key.clone(), Operation::CompleteMultipartUpload);
    let parts = Some(id.to_owned());
    Upload { bucket, key, operation, content, metadata, callback, parts }.conclude(shared, exchange, plain).await
}

/// AbortMultipartUpload.
pub(crate) async fn abort(shared: &Shared, bucket: &BucketName, key: &ObjectKey, id: &str) -> Result<Answer, OssError> {
    find(shared, bucket, key, id).await?;
    shared.store.remove_upload(bucket, id).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn find(shared: &Shared, bucket: &BucketName, key: &ObjectKey, id: &str) -> Result<store::Upload, OssError> {
    bucket::demand(shared, bucket).await?;
    shared.store.upload(bucket, key, id).await?.ok_or_else(OssError::no_such_upload)
}

fn read_list(list: &[u8]) -> Option<Vec<NamedPart>> {
    let document = roxmltree::Document::parse(str::from_utf8(list).ok()?).ok()?;
    let parts = document.root_element().children().filter(|node| node.has_tag_name("Part"));
    let text = |part: roxmltree::Node<'_, '_>, name: &str| {
        Some(part.children().find(|node| node.has_tag_name(name))?.text()?.trim().to_owned())
    };
    parts
        .map(|part| {
            let number = text(part, "PartNumber")?.parse().ok()?;
            Some(NamedPart { number, etag: text(part, "ETag")?.trim_matches('"').to_owned() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_parts_is_read_with_and_without_quotes() {
        let list = "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"AB\"</ETag></Part>\
                    <Part><ETag>CD</ETag><PartNumber> 2 </PartNumber></Part></CompleteMultipartUpload>";
        let part = |number, etag: &str| NamedPart { number, etag: etag.to_owned() };
        assert_eq!(read_list(list.as_bytes()), Some(vec![part(1, "AB"), part(2, "CD")]));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for list in ["", "<a", "<a><Part><PartNumber>x</PartNumber><ETag>A</ETag></Part></a>", "<a><Part/></a>"] {
            assert_eq!(read_list(list.as_bytes()), None, "{list}");
        }
    }
}

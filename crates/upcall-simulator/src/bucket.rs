//! Operations on buckets, as far as SDKs need them.

use http::StatusCode;
use jiff::Timestamp;

use crate::error::OssError;
use crate::exchange::{Answer, Exchange, empty, set, xml};
use crate::name::BucketName;
use crate::simulator::Shared;
use crate::xml::Xml;

/// The region that the simulator claims to be.
const LOCATION: &str = "oss-simulator";

/// PutBucket. Making a bucket that is there already succeeds, as for its owner at OSS.
pub(crate) async fn create(shared: &Shared, bucket: &BucketName) -> Result<Answer, OssError> {
    shared.store.create_bucket(bucket).await?;
    let mut answer = empty(StatusCode::OK);
    set(&mut answer, "location", format!("/{bucket}"));
    Ok(answer)
}

/// DeleteBucket.
pub(crate) async fn remove(shared: &Shared, bucket: &BucketName) -> Result<Answer, OssError> {
    demand(shared, bucket).await?;
    if shared.store.remove_bucket(bucket).await? {
        Ok(empty(StatusCode::NO_CONTENT))
    } else {
        Err(OssError::bucket_not_empty())
    }
}

/// HeadBucket.
pub(crate) async fn head(shared: &Shared, bucket: &BucketName) -> Result<Answer, OssError> {
    demand(shared, bucket).await?;
    Ok(empty(StatusCode::OK))
}

/// GetBucketLocation.
pub(crate) async fn location(shared: &Shared, bucket: &BucketName) -> Result<Answer, OssError> {
    demand(shared, bucket).await?;
    let mut document = Xml::new();
    document.text("LocationConstraint", LOCATION);
    Ok(xml(StatusCode::OK, document.finish()))
}

/// GetBucketInfo.
pub(crate) async fn info(shared: &Shared, exchange: &Exchange, bucket: &BucketName) -> Result<Answer, OssError> {
    demand(shared, bucket).await?;
    let created = iso(shared.store.bucket_created(bucket).await?);
    let mut document = Xml::new();
    document.element("BucketInfo", |xml| {
        xml.element("Bucket", |xml| {
            describe(xml, bucket, &created, &exchange.host);
            owner(xml, &shared.options.owner);
            xml.element("AccessControlList", |xml| {
                xml.text("Grant", "private");
            });
            xml.text("DataRedundancyType", "LRS").text("Versioning", "").text("Comment", "");
        });
    });
    Ok(xml(StatusCode::OK, document.finish()))
}

/// GetBucketAcl, which SDKs use to find out whether a bucket is there.
pub(crate) async fn acl(shared: &Shared, bucket: &BucketName) -> Result<Answer, OssError> {
    demand(shared, bucket).await?;
    let mut document = Xml::new();
    document.element("AccessControlPolicy", |xml| {
        owner(xml, &shared.options.owner);
        xml.element("AccessControlList", |xml| {
            xml.text("Grant", "private");
        });
    });
    Ok(xml(StatusCode::OK, document.finish()))
}

/// ListBuckets, always in one page.
pub(crate) async fn list(shared: &Shared, exchange: &Exchange) -> Result<Answer, OssError> {
    let prefix = exchange.query("prefix").unwrap_or_default();
    let mut buckets = Vec::new();
    for bucket in shared.store.buckets().await? {
        if bucket.as_str().starts_with(prefix) {
            let created = iso(shared.store.bucket_created(&bucket).await?);
            buckets.push((bucket, created));
        }
    }
    let mut document = Xml::new();
    document.element("ListAllMyBucketsResult", |xml| {
        xml.text("Prefix", prefix).text("IsTruncated", false);
        owner(xml, &shared.options.owner);
        xml.element("Buckets", |xml| {
            for (bucket, created) in &buckets {
                xml.element("Bucket", |xml| describe(xml, bucket, created, &exchange.host));
            }
        });
    });
    Ok(xml(StatusCode::OK, document.finish()))
}

/// Sees to it that a bucket is there to be read.
pub(crate) async fn demand(shared: &Shared, bucket: &BucketName) -> Result<(), OssError> {
    if shared.store.has_bucket(bucket).await? { Ok(()) } else { Err(OssError::no_such_bucket()) }
}

/// Sees to it that a bucket is there to be uploaded to; makes it if the options say so.
pub(crate) async fn demand_for_upload(shared: &Shared, bucket: &BucketName) -> Result<(), OssError> {
    if shared.options.creates_buckets {
        return Ok(shared.store.create_bucket(bucket).await?);
    }
    demand(shared, bucket).await
}

/// A time as OSS's XML has it: always without milliseconds, which its Python SDK relies on.
pub(crate) fn iso(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}

/// Writes who owns something.
pub(crate) fn owner(xml: &mut Xml, owner: &str) {
    xml.element("Owner", |xml| {
        xml.text("ID", owner).text("DisplayName", owner);
    });
}

fn describe(xml: &mut Xml, bucket: &BucketName, created: &str, host: &str) {
    xml.text("Name", bucket).text("Location", LOCATION).text("CreationDate", created);
    xml.text("ExtranetEndpoint", host).text("IntranetEndpoint", host);
    xml.text("StorageClass", "Standard").text("Region", LOCATION);
}

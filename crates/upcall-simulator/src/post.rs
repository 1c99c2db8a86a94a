//! PostObject: an upload by form, as browsers do it.

use std::sync::Arc;

use http::StatusCode;
use hyper::body::Incoming;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::OssError;
use crate::exchange::{Answer, Exchange, empty, set, xml};
use crate::form::{self, Fields};
use crate::name::{BucketName, ObjectKey};
use crate::policy::{self, Claims};
use crate::receive::UPLOAD_BYTES_MAX;
use crate::simulator::Shared;
use crate::store::Metadata;
use crate::upload::{Operation, Upload};
use crate::xml::Xml;
use crate::{bucket, callback, described};

/// Stores the file of a form as an object, then calls back if the form asks for it.
pub(crate) async fn post_object(
    shared: &Arc<Shared>,
    exchange: &Exchange,
    bucket: &BucketName,
    body: &mut Incoming,
) -> Result<Answer, OssError> {
    let mut form = form::start(exchange, body)?;
    let (fields, file) = form::fields(&mut form).await?;
    let key = fields.value("key").ok_or_else(|| OssError::malformed_form("The form has no key."))?;
    let key = ObjectKey::parse(&key.replace("${filename}", file.name()))?;
    let of_file = file.content_type();
    let content_type = ["x-oss-content-type", "content-type"].iter().find_map(|name| fields.value(name));
    let content_type = content_type.or(of_file.as_deref()).unwrap_or(described::CONTENT_TYPE).to_owned();

    let lengths = match &shared.options.credentials {
        None => 0..=UPLOAD_BYTES_MAX,
        Some(credentials) => {
            let claims = Claims { bucket: bucket.as_str(), key: key.as_str(), content_type: &content_type };
            policy::check(&fields, &claims, credentials, jiff::Timestamp::now())?
        }
    };
    let callback = callback::of_form(fields.value("callback"), fields.iter())?;
    bucket::demand_for_upload(shared, bucket).await?;
    let content = file.receive(shared, (*lengths.end()).min(UPLOAD_BYTES_MAX)).await?;
    if content.size < *lengths.start() {
        return Err(OssError::entity_too_small());
    }
    let mut described = described::by_pairs(fields.iter());
    described.content_type = content_type;
    let metadata = Metadata::whole(&content, described);
    let plain = plain(&fields, exchange, bucket, &key, &metadata.etag);
    let (bucket, operation) = (bucket.clone(), Operation::PostObject);
    let upload = Upload { bucket, key, operation, content, metadata, callback, parts: None };
    upload.conclude(shared, exchange, plain).await
}

/// The answer of a form without a callback, as the form asks for it.
fn plain(fields: &Fields, exchange: &Exchange, bucket: &BucketName, key: &ObjectKey, etag: &str) -> Answer {
    if let Some(url) = fields.value("success_action_redirect").filter(|url| !url.is_empty()) {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mark = if url.contains('?') { '&' } else { '?' };
        let (key, etag) = (encode(key.as_str()), encode(&format!("\"{etag}\"")));
        let mut answer = empty(StatusCode::SEE_OTHER);
        set(&mut answer, "location", format!("{url}{mark}bucket={bucket}&key={key}&etag={etag}"));
        return answer;
    }
    match fields.value("success_action_status") {
        Some("200") => empty(StatusCode::OK),
        Some("201") => {
            let mut document = Xml::new();
            document.element("PostResponse", |xml| {
                xml.text("Bucket", bucket).text("ETag", etag).text("Key", key);
                xml.text("Location", format!("http://{}/{key}", exchange.host));
            });
            xml(StatusCode::CREATED, document.finish())
        }
        _ => empty(StatusCode::NO_CONTENT),
    }
}

//! ListObjectsV2, and the older ListObjects that SDKs still use.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::bucket::{demand, iso, owner};
use crate::error::OssError;
use crate::exchange::{Answer, Exchange, xml};
use crate::name::BucketName;
use crate::simulator::Shared;
use crate::store::{Listed, Page, Wanted};
use crate::xml::Xml;

/// The most entries on a page. Source: Alibaba Cloud OSS, ListObjectsV2.
const ENTRIES_MAX: u32 = 1000;
/// How many entries a page has unless the client says otherwise.
const ENTRIES: u32 = 100;

/// What `encoding-type=url` leaves as it is.
const URL_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// Lists a bucket in the version that is asked for.
pub(crate) async fn list_objects(
    shared: &Shared,
    exchange: &Exchange,
    bucket: &BucketName,
) -> Result<Answer, OssError> {
    demand(shared, bucket).await?;
    let second = exchange.query("list-type") == Some("2");
    let entries_max = exchange.number("max-keys", ENTRIES, ENTRIES_MAX)?;
    let text = |name: &str| exchange.query(name).unwrap_or_default().to_owned();
    let after = match exchange.query("continuation-token") {
        Some(token) if second => read_token(token)?,
        _ if second => text("start-after"),
        _ => text("marker"),
    };
    let wanted =
        Wanted { prefix: text("prefix"), delimiter: text("delimiter"), after, entries_max: entries_max as usize };
    let page = shared.store.list(bucket, &wanted).await?;

    let encoded = exchange.query("encoding-type") == Some("url");
    let spell = |text: &str| if encoded { utf8_percent_encode(text, URL_ENCODED).to_string() } else { text.to_owned() };
    let mut document = Xml::new();
    document.element("ListBucketResult", |xml| {
        xml.text("Name", bucket).text("Prefix", spell(&wanted.prefix));
        xml.text("MaxKeys", wanted.entries_max).text("Delimiter", spell(&wanted.delimiter));
        if encoded {
            xml.text("EncodingType", "url");
        }
        xml.text("IsTruncated", page.next_after.is_some());
        if second {
            xml.text("StartAfter", spell(&text("start-after"))).text("KeyCount", page.entries.len());
            if let Some(token) = exchange.query("continuation-token") {
                xml.text("ContinuationToken", token);
            }
            if let Some(after) = &page.next_after {
                xml.text("NextContinuationToken", URL_SAFE_NO_PAD.encode(after));
            }
        } else {
            xml.text("Marker", spell(&wanted.after));
            if let Some(after) = &page.next_after {
                xml.text("NextMarker", spell(after));
            }
        }
        let shows_owner = !second || exchange.query("fetch-owner") == Some("true");
        entries(xml, &page, spell, shows_owner.then_some(shared.options.owner.as_str()));
    });
    Ok(xml(StatusCode::OK, document.finish()))
}

fn entries(xml: &mut Xml, page: &Page, spell: impl Fn(&str) -> String, shown_owner: Option<&str>) {
    for entry in &page.entries {
        match entry {
            Listed::Object(key, metadata) => xml.element("Contents", |xml| {
                xml.text("Key", spell(key)).text("LastModified", iso(metadata.modified));
                xml.text("ETag", format!("\"{}\"", metadata.etag)).text("Type", metadata.kind.as_str());
                xml.text("Size", metadata.size).text("StorageClass", "Standard");
                if let Some(name) = shown_owner {
                    owner(xml, name);
                }
            }),
            Listed::CommonPrefix(prefix) => xml.element("CommonPrefixes", |xml| {
                xml.text("Prefix", spell(prefix));
            }),
        };
    }
}

/// A continuation token is the last entry of the page before, in Base64.
fn read_token(token: &str) -> Result<String, OssError> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| OssError::invalid_argument("The continuation token is not one of this server's."))
}

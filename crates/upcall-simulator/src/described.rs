//! What an uploader says about an object, besides its content.

use std::collections::BTreeMap;

use http::HeaderMap;

use crate::store::Described;

/// The type of an object about which nothing was said.
pub(crate) const CONTENT_TYPE: &str = "application/octet-stream";

/// The headers that are given back with an object, besides `x-oss-meta-…`.
const KEPT: &[&str] = &["cache-control", "content-disposition", "content-encoding", "content-language", "expires"];

/// Reads what a request's headers say about the object.
pub(crate) fn by_headers(headers: &HeaderMap) -> Described {
    let text = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    by_pairs(text)
}

/// Reads what names and values say about the object, whichever case the names are in.
pub(crate) fn by_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Described {
    let mut described = Described { content_type: CONTENT_TYPE.to_owned(), headers: BTreeMap::new() };
    for (name, value) in pairs {
        let name = name.to_ascii_lowercase();
        if name == "content-type" && !value.is_empty() {
            value.clone_into(&mut described.content_type);
        } else if KEPT.contains(&name.as_str()) || name.starts_with("x-oss-meta-") {
            described.headers.insert(name, value.to_owned());
        }
    }
    described
}

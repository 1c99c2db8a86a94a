//! What a request is about: which bucket, which object, or the simulator itself.

use http::{HeaderMap, Uri, header};
use percent_encoding::percent_decode_str;

use crate::error::OssError;
use crate::name::{BucketName, ObjectKey};

/// The path below which the simulator's own resources are. No bucket can be called so: `_` is not allowed there.
pub(crate) const OWN_PATH: &str = "/_simulator/";

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// All buckets.
    Service,
    /// A bucket.
    Bucket(BucketName),
    /// An object.
    Object(BucketName, ObjectKey),
    /// A resource of the simulator's own, by its name below [`OWN_PATH`].
    Own(String),
}

impl Address {
    /// Reads a request's address, in virtual-host style or in path style.
    pub(crate) fn read(uri: &Uri, headers: &HeaderMap, endpoints: &[String]) -> Result<Self, OssError> {
        let path = percent_decode_str(uri.path()).decode_utf8().map_err(|_| OssError::invalid_object_name())?;
        let path = path.strip_prefix('/').ok_or_else(|| OssError::invalid_argument("The request has no path."))?;
        if let Some(bucket) = bucket_of_host(&host(uri, headers), endpoints) {
            return Self::within(BucketName::parse(bucket)?, path);
        }
        if let Some(own) = uri.path().strip_prefix(OWN_PATH) {
            return Ok(Self::Own(own.to_owned()));
        }
        match path.split_once('/') {
            None if path.is_empty() => Ok(Self::Service),
            None => Ok(Self::Bucket(BucketName::parse(path)?)),
            Some((bucket, key)) => Self::within(BucketName::parse(bucket)?, key),
        }
    }

    fn within(bucket: BucketName, key: &str) -> Result<Self, OssError> {
        if key.is_empty() { Ok(Self::Bucket(bucket)) } else { Ok(Self::Object(bucket, ObjectKey::parse(key)?)) }
    }
}

/// The host that a request names, in lower case and with its port.
pub(crate) fn authority(uri: &Uri, headers: &HeaderMap) -> String {
    let header = || headers.get(header::HOST).and_then(|host| host.to_str().ok());
    // A client that takes the simulator for its proxy names the host in the target.
    uri.authority().map(http::uri::Authority::as_str).or_else(header).unwrap_or_default().to_ascii_lowercase()
}

fn host(uri: &Uri, headers: &HeaderMap) -> String {
    let authority = authority(uri, headers);
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host.to_owned(),
        _ => authority,
    }
}

/// The bucket that a host names. `None` if the host is an endpoint, or none that is known: then it is path style.
fn bucket_of_host<'a>(host: &'a str, endpoints: &[String]) -> Option<&'a str> {
    for endpoint in endpoints {
        if let Some(bucket) = host.strip_suffix(endpoint.as_str()).and_then(|rest| rest.strip_suffix('.')) {
            return Some(bucket);
        }
    }
    // At OSS itself the endpoint is `REGION.aliyuncs.com`.
    let (bucket, region) = host.strip_suffix(".aliyuncs.com")?.split_once('.')?;
    (!region.is_empty()).then_some(bucket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(host: &str, target: &str) -> Result<Address, OssError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        Address::read(&target.parse().unwrap(), &headers, &["localhost".to_owned()])
    }

    fn object(bucket: &str, key: &str) -> Result<Address, OssError> {
        Ok(Address::Object(BucketName::parse(bucket).unwrap(), ObjectKey::parse(key).unwrap()))
    }

    #[test]
    fn both_styles_name_the_same_object() {
        for (host, target) in [
            ("examplebucket.localhost:8000", "/dir/a%20b.txt?x=1"),
            ("ExampleBucket.Localhost", "/dir/a%20b.txt"),
            ("examplebucket.oss-cn-hangzhou.aliyuncs.com", "/dir/a%20b.txt"),
            ("oss-cn-hangzhou.aliyuncs.com", "/examplebucket/dir/a%20b.txt"),
            ("localhost:8000", "/examplebucket/dir/a%20b.txt"),
            ("127.0.0.1:8000", "/examplebucket/dir/a%20b.txt"),
            ("[::1]:8000", "/examplebucket/dir/a%20b.txt"),
            ("simulator", "/examplebucket/dir/a%20b.txt"),
            ("localhost", "http://examplebucket.localhost/dir/a%20b.txt"),
        ] {
            assert_eq!(read(host, target), object("examplebucket", "dir/a b.txt"), "{host} {target}");
        }
    }

    #[test]
    fn the_simulators_own_path_hides_no_object() {
        assert_eq!(read("localhost", "/_simulator/faults"), Ok(Address::Own("faults".to_owned())));
        assert_eq!(read("abc.localhost", "/_simulator/faults"), object("abc", "_simulator/faults"));
        assert_eq!(read("localhost", "/abc/_simulator/faults"), object("abc", "_simulator/faults"));
    }

    #[test]
    fn buckets_and_the_service_have_addresses() {
        assert_eq!(read("localhost", "/"), Ok(Address::Service));
        for (host, target) in [("localhost", "/abc"), ("localhost", "/abc/"), ("abc.localhost", "/")] {
            assert_eq!(read(host, target), Ok(Address::Bucket(BucketName::parse("abc").unwrap())));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        assert_eq!(read("localhost", "/..%2F..%2Fetc/x"), Err(OssError::invalid_bucket_name()));
        assert_eq!(read("abc.localhost", "//x"), Err(OssError::invalid_object_name()));
        assert_eq!(read("abc.localhost", "/%FF"), Err(OssError::invalid_object_name()));
    }
}

//! Names of buckets and objects, checked once.

use std::fmt;

use crate::error::OssError;

/// The most bytes in an object's key. Source: Alibaba Cloud OSS, Object naming conventions.
const KEY_BYTES_MAX: usize = 1023;

/// The name of a bucket: 3 to 63 lower-case letters, digits and hyphens. It is safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BucketName(String);

impl BucketName {
    /// Checks a bucket's name.
    pub(crate) fn parse(name: &str) -> Result<Self, OssError> {
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = name.as_bytes();
        let sound = (3..=63).contains(&bytes.len())
            && bytes.iter().all(|byte| alphanumeric(*byte) || *byte == b'-')
            && bytes.first().copied().is_some_and(alphanumeric)
            && bytes.last().copied().is_some_and(alphanumeric);
        if sound { Ok(Self(name.to_owned())) } else { Err(OssError::invalid_bucket_name()) }
    }

    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key of an object: 1 to 1,023 bytes of UTF-8 that start with neither `/` nor `\`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ObjectKey(String);

impl ObjectKey {
    /// Checks an object's key.
    pub(crate) fn parse(key: &str) -> Result<Self, OssError> {
        let sound = !key.is_empty() && key.len() <= KEY_BYTES_MAX && !key.starts_with(['/', '\\']);
        if sound { Ok(Self(key.to_owned())) } else { Err(OssError::invalid_object_name()) }
    }

    /// The key as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_name_is_a_safe_file_name() {
        for good in ["abc", "examplebucket", "a-b", "0-9", &"a".repeat(63)] {
            assert!(BucketName::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["", "ab", "..", "a/b", "Abc", "-ab", "ab-", "a_b", "_simulator", "a.b", &"a".repeat(64), "bücket"]
        {
            assert!(BucketName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_key_starts_with_no_slash_and_has_a_length() {
        for good in ["a", "a/../b", "..", "a//b", "dir/", &"a".repeat(1023)] {
            assert!(ObjectKey::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["", "/a", "\\a", &"a".repeat(1024)] {
            assert!(ObjectKey::parse(bad).is_err(), "{bad:?}");
        }
    }
}

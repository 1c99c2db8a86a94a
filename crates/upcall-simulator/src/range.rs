//! The `Range` header.

/// A stretch of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slice {
    /// The first byte.
    pub(crate) start: u64,
    /// How many bytes.
    pub(crate) length: u64,
}

impl Slice {
    /// All of an object.
    pub(crate) fn whole(size: u64) -> Self {
        Self { start: 0, length: size }
    }

    /// The value of `Content-Range`.
    pub(crate) fn content_range(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.start, (self.start + self.length).saturating_sub(1))
    }
}

/// What a `Range` header asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Range {
    /// A stretch that the object has.
    Satisfiable(Slice),
    /// A stretch beyond the object's end.
    Unsatisfiable,
    /// Not one range of bytes.
    Malformed,
}

impl Range {
    /// Reads `bytes=FIRST-LAST`, `bytes=FIRST-` or `bytes=-LENGTH` for an object of a size.
    pub(crate) fn parse(header: &str, size: u64) -> Self {
        let Some((first, last)) = header.trim().strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
            return Self::Malformed;
        };
        let end = size.saturating_sub(1);
        let (start, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(start), Ok(last)) if start <= last => (start, last.min(end)),
            (Ok(start), Err(_)) if last.is_empty() => (start, end),
            (Err(_), Ok(0)) if first.is_empty() => return Self::Unsatisfiable,
            (Err(_), Ok(length)) if first.is_empty() => (size.saturating_sub(length), end),
            _ => return Self::Malformed,
        };
        if start >= size {
            return Self::Unsatisfiable;
        }
        Self::Satisfiable(Slice { start, length: end - start + 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_object() {
        for (header, expected) in [
            ("bytes=0-0", Some((0, 1))),
            ("bytes=2-4", Some((2, 3))),
            ("bytes=2-", Some((2, 8))),
            ("bytes=-3", Some((7, 3))),
            ("bytes=-30", Some((0, 10))),
            ("bytes=8-99", Some((8, 2))),
            ("bytes=10-", None),
            ("bytes=-0", None),
        ] {
            let expected =
                expected.map_or(Range::Unsatisfiable, |(start, length)| Range::Satisfiable(Slice { start, length }));
            assert_eq!(Range::parse(header, 10), expected, "{header}");
        }
    }

    #[test]
    fn what_is_no_range_is_malformed() {
        for header in ["", "bytes", "bytes=", "bytes=-", "bytes=4-2", "bytes=a-b", "bytes=1-2,4-5", "lines=1-2"] {
            assert_eq!(Range::parse(header, 10), Range::Malformed, "{header}");
        }
    }

    #[test]
    fn an_empty_object_has_no_range() {
        assert_eq!(Range::parse("bytes=0-", 0), Range::Unsatisfiable);
        assert_eq!(Range::parse("bytes=-5", 0), Range::Unsatisfiable);
    }
}

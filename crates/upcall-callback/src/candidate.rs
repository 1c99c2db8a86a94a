//! The few strings that OSS may have signed for one request.

use crate::Target;

/// How a string to sign was put together. The documented way comes first; the others are what official sample
/// servers and real clients do instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Candidate {
    /// As documented: decoded path, `?` and raw query if the target has a `?`, line feed, body.
    Documented,
    /// A bare trailing `?` that came was not signed, or one that was signed did not come.
    BareQuestionMark,
    /// A `+` in the path was signed as a space, as the Java, PHP and Ruby samples read it.
    PlusAsSpace,
    /// Both of the above.
    PlusAsSpaceBareQuestionMark,
}

impl Candidate {
    /// The name, for traces.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Documented => "documented",
            Self::BareQuestionMark => "bare_question_mark",
            Self::PlusAsSpace => "plus_as_space",
            Self::PlusAsSpaceBareQuestionMark => "plus_as_space_bare_question_mark",
        }
    }
}

/// A string to sign, up to the body, in the pieces that it is hashed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StringToSign<'t> {
    path: &'t str,
    query: Option<&'t str>,
    body: &'t [u8],
}

impl<'t> StringToSign<'t> {
    /// The documented string.
    pub(crate) fn documented(target: &'t Target<'_>, body: &'t [u8]) -> Self {
        Self { path: target.path(), query: target.query(), body }
    }

    /// The pieces, which are hashed without being joined.
    pub(crate) fn pieces(&self) -> [&'t [u8]; 5] {
        let (mark, query) = match self.query {
            Some(query) => ("?", query),
            None => ("", ""),
        };
        [self.path.as_bytes(), mark.as_bytes(), query.as_bytes(), b"\n", self.body]
    }
}

/// Finds the first candidate that `accepts` takes, most likely first. Each differs from those before it.
pub(crate) fn find(
    target: &Target<'_>,
    body: &[u8],
    mut accepts: impl FnMut(StringToSign<'_>) -> bool,
) -> Option<Candidate> {
    let mut attempt = |path, query, candidate| accepts(StringToSign { path, query, body }).then_some(candidate);
    let toggled = match target.query() {
        None => Some(Some("")),
        Some("") => Some(None),
        Some(_) => None,
    };
    let spaced = target.path_with_spaces();
    attempt(target.path(), target.query(), Candidate::Documented)
        .or_else(|| attempt(target.path(), toggled?, Candidate::BareQuestionMark))
        .or_else(|| attempt(spaced.as_deref()?, target.query(), Candidate::PlusAsSpace))
        .or_else(|| attempt(spaced.as_deref()?, toggled?, Candidate::PlusAsSpaceBareQuestionMark))
}

/// The string to sign of a candidate, joined.
pub(crate) fn join(candidate: Candidate, target: &Target<'_>, body: &[u8]) -> Vec<u8> {
    let spaced = target.path_with_spaces();
    let path = match candidate {
        Candidate::Documented | Candidate::BareQuestionMark => target.path(),
        Candidate::PlusAsSpace | Candidate::PlusAsSpaceBareQuestionMark => spaced.as_deref().unwrap_or(target.path()),
    };
    let query = match (candidate, target.query()) {
        (Candidate::BareQuestionMark | Candidate::PlusAsSpaceBareQuestionMark, None) => Some(""),
        (Candidate::BareQuestionMark | Candidate::PlusAsSpaceBareQuestionMark, Some("")) => None,
        (_, query) => query,
    };
    StringToSign { path, query, body }.pieces().concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(target: &str, expected: &[(&str, Candidate)]) {
        let target = Target::parse(target).unwrap();
        let mut tried = Vec::new();
        find(&target, b"B", |string| {
            tried.push(String::from_utf8(string.pieces().concat()).unwrap());
            false
        });
        let texts: Vec<&str> = expected.iter().map(|(text, _)| *text).collect();
        assert_eq!(tried, texts);
        for (text, candidate) in expected {
            assert_eq!(join(*candidate, &target, b"B"), text.as_bytes());
            assert_eq!(find(&target, b"B", |string| string.pieces().concat() == text.as_bytes()), Some(*candidate));
        }
    }

    #[test]
    fn the_documented_string_comes_first_and_no_string_twice() {
        use Candidate::{BareQuestionMark, Documented, PlusAsSpace, PlusAsSpaceBareQuestionMark};
        check("/a%20b?x=%20", &[("/a b?x=%20\nB", Documented)]);
        check("/a", &[("/a\nB", Documented), ("/a?\nB", BareQuestionMark)]);
        check("/a?", &[("/a?\nB", Documented), ("/a\nB", BareQuestionMark)]);
        check("/a+%2B?x=1+2", &[("/a++?x=1+2\nB", Documented), ("/a +?x=1+2\nB", PlusAsSpace)]);
        check(
            "/a+",
            &[
                ("/a+\nB", Documented),
                ("/a+?\nB", BareQuestionMark),
                ("/a \nB", PlusAsSpace),
                ("/a ?\nB", PlusAsSpaceBareQuestionMark),
            ],
        );
    }
}

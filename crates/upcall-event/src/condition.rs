//! A condition on an event's fields: which events somebody wants, beyond their subjects.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Event, Field, Glob, Known};

/// A condition on an event's fields. All of it has to hold; what is not said holds always.
///
/// A field that an event does not have (null) is never what is asked for: a condition on `size` leaves out the events
/// whose size nobody reported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// The object's key is like one of these.
    pub object: Option<Vec<Glob>>,
    /// The bucket is one of these.
    pub bucket: Option<BTreeSet<String>>,
    /// The media type is like one of these, whatever the case of its letters. What follows a `;` is left out.
    pub mime_type: Option<Vec<Glob>>,
    /// The operation is one of these.
    pub operation: Option<BTreeSet<String>>,
    /// The route that took the callback is one of these.
    pub route: Option<BTreeSet<String>>,
    /// Each of these variables has one of its values.
    pub vars: BTreeMap<String, BTreeSet<String>>,
    /// The object has at least so many bytes.
    pub size_min: Option<u64>,
    /// The object has at most so many bytes.
    pub size_max: Option<u64>,
}

/// Why no event can ever be as a condition says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// One of nothing is asked for.
    #[error("lists nothing, so that no event would ever match: name a value, or leave it out")]
    Empty {
        /// The key: `object`, `vars.user`.
        key: String,
    },
    /// An object's key never begins so.
    #[error("has {pattern:?}, which no object's key is like: none begins with a slash. Leave the first one out")]
    Slash {
        /// The pattern.
        pattern: String,
    },
    /// No media type is so, as it is compared.
    #[error(
        "has {pattern:?}, which no media type is like: it is compared in lower case and without what follows a `;`, and has a slash. Write {instead:?}"
    )]
    MediaType {
        /// The pattern.
        pattern: String,
        /// What was meant, most likely.
        instead: String,
    },
    /// The pattern has a notation of other patterns.
    #[error(
        "has {pattern:?}: `{{…}}` and `[…]` are no wildcards here. List several patterns; for a name that has such a character, write `?` in its place"
    )]
    Notation {
        /// The key: `object`, `mime_type`.
        key: &'static str,
        /// The pattern.
        pattern: String,
    },
    /// The least is more than the most.
    #[error("has a `min` above its `max`, so that no event would ever match")]
    Size,
}

impl Condition {
    /// Whether it holds for every event.
    #[must_use]
    pub fn is_always(&self) -> bool {
        *self == Self::default()
    }

    /// Whether an event is as it says.
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        let upload = &event.data;
        let sized = |size: Option<u64>| size.is_some_and(|size| self.holds_for_size(size));
        is_like(self.object.as_deref(), Some(&upload.object))
            && is_one_of(self.bucket.as_ref(), Some(&upload.bucket))
            && is_like(self.mime_type.as_deref(), upload.mime_type.as_deref().map(bare_type).as_deref())
            && is_one_of(self.operation.as_ref(), upload.operation.as_deref())
            && is_one_of(self.route.as_ref(), Some(&upload.route))
            && self.vars.iter().all(|(name, values)| upload.vars.get(name).is_some_and(|value| values.contains(value)))
            && ((self.size_min.is_none() && self.size_max.is_none()) || sized(upload.size))
    }

    /// Why it can never hold: every reason that lies in itself.
    #[must_use]
    pub fn impossible(&self) -> Vec<Impossible> {
        let sets = [("bucket", &self.bucket), ("operation", &self.operation), ("route", &self.route)];
        let globs = [("object", &self.object), ("mime_type", &self.mime_type)];
        let empty_sets = sets.into_iter().filter(|(_, set)| set.as_ref().is_some_and(BTreeSet::is_empty));
        let empty_globs = globs.into_iter().filter(|(_, globs)| globs.as_ref().is_some_and(Vec::is_empty));
        let empty_vars = self.vars.iter().filter(|(_, set)| set.is_empty()).map(|(name, _)| format!("vars.{name}"));
        let keys = empty_globs.map(|(key, _)| key).chain(empty_sets.map(|(key, _)| key)).map(str::to_owned);
        let mut reasons: Vec<Impossible> = keys.chain(empty_vars).map(|key| Impossible::Empty { key }).collect();
        reasons.extend(self.object.iter().flatten().filter_map(impossible_object));
        reasons.extend(self.mime_type.iter().flatten().filter_map(impossible_media_type));
        if matches!((self.size_min, self.size_max), (Some(min), Some(max)) if min > max) {
            reasons.push(Impossible::Size);
        }
        reasons
    }

    /// The only values that a field of a matching event can have; `None` where the condition leaves that open.
    #[must_use]
    pub fn values(&self, field: &Field) -> Option<&BTreeSet<String>> {
        match field {
            Field::Known(Known::Bucket) => self.bucket.as_ref(),
            Field::Known(Known::Operation) => self.operation.as_ref(),
            Field::Known(Known::Route) => self.route.as_ref(),
            Field::Var(name) => self.vars.get(name),
            Field::Known(_) | Field::Extra(_) => None,
        }
    }

    fn holds_for_size(&self, size: u64) -> bool {
        self.size_min.is_none_or(|min| size >= min) && self.size_max.is_none_or(|max| size <= max)
    }
}

fn impossible_object(glob: &Glob) -> Option<Impossible> {
    let pattern = glob.as_str().to_owned();
    if glob.as_str().starts_with('/') {
        return Some(Impossible::Slash { pattern });
    }
    has_notation(glob.as_str()).then_some(Impossible::Notation { key: "object", pattern })
}

fn impossible_media_type(glob: &Glob) -> Option<Impossible> {
    let pattern = glob.as_str().to_owned();
    if has_notation(&pattern) {
        return Some(Impossible::Notation { key: "mime_type", pattern });
    }
    let may_have_slash = |pattern: &str| pattern.contains('/') || pattern.contains("**");
    let mut instead = bare_type(&pattern);
    if !may_have_slash(&instead) {
        instead = match instead.trim_end_matches('*') {
            "" => "**".to_owned(),
            kind => format!("{kind}/*"),
        };
    }
    (instead != pattern).then_some(Impossible::MediaType { pattern, instead })
}

/// Whether a pattern has an alternation or a class, as shells know them.
fn has_notation(pattern: &str) -> bool {
    [('{', '}'), ('[', ']')]
        .iter()
        .any(|(open, close)| pattern.split_once(*open).is_some_and(|(_, rest)| rest.contains(*close)))
}

fn is_one_of(wanted: Option<&BTreeSet<String>>, value: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| value.is_some_and(|value| wanted.contains(value)))
}

fn is_like(wanted: Option<&[Glob]>, value: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| value.is_some_and(|value| wanted.iter().any(|glob| glob.matches(value))))
}

/// A media type without its parameters, in lower case.
fn bare_type(mime_type: &str) -> String {
    mime_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::example;

    fn set(values: &[&str]) -> Option<BTreeSet<String>> {
        Some(values.iter().map(|value| (*value).to_owned()).collect())
    }

    fn globs(patterns: &[&str]) -> Option<Vec<Glob>> {
        Some(patterns.iter().map(|pattern| pattern.parse().unwrap()).collect())
    }

    #[test]
    fn every_part_of_a_condition_decides() {
        let any = Condition::default;
        let vars = |name: &str, values: &[&str]| [(name.to_owned(), set(values).unwrap())].into();
        for (holds, condition) in [
            (true, any()),
            (true, Condition { object: globs(&["x", "exampledir/*"]), ..any() }),
            (false, Condition { object: globs(&["*"]), ..any() }),
            (true, Condition { bucket: set(&["a", "examplebucket"]), ..any() }),
            (false, Condition { bucket: set(&["a"]), ..any() }),
            (true, Condition { mime_type: globs(&["text/*"]), ..any() }),
            (false, Condition { mime_type: globs(&["image/*"]), ..any() }),
            (true, Condition { operation: set(&["PutObject"]), ..any() }),
            (false, Condition { operation: set(&["PostObject"]), ..any() }),
            (true, Condition { route: set(&["avatars"]), ..any() }),
            (false, Condition { route: set(&["other"]), ..any() }),
            (true, Condition { vars: vars("user", &["41", "42"]), ..any() }),
            (false, Condition { vars: vars("user", &["41"]), ..any() }),
            (false, Condition { vars: vars("nobody", &["42"]), ..any() }),
            (true, Condition { size_min: Some(1024), size_max: Some(1024), ..any() }),
            (false, Condition { size_min: Some(1025), ..any() }),
            (false, Condition { size_max: Some(1023), ..any() }),
            (false, Condition { bucket: set(&["examplebucket"]), size_max: Some(1), ..any() }),
        ] {
            assert_eq!(condition.matches(&example()), holds, "{condition:?}");
            assert_eq!(condition.impossible(), [], "{condition:?}");
        }
    }

    #[test]
    fn a_field_that_is_missing_is_never_what_was_asked_for() {
        let mut event = example();
        (event.data.size, event.data.mime_type, event.data.operation) = (None, None, None);
        assert!(Condition::default().matches(&event));
        assert!(!Condition { size_min: Some(0), ..Condition::default() }.matches(&event));
        assert!(!Condition { mime_type: globs(&["**"]), ..Condition::default() }.matches(&event));
        assert!(!Condition { operation: set(&[""]), ..Condition::default() }.matches(&event));
    }

    #[test]
    fn a_media_type_is_told_by_its_name_alone() {
        let mut event = example();
        event.data.mime_type = Some("Text/HTML; charset=utf-8".into());
        assert!(Condition { mime_type: globs(&["text/html"]), ..Condition::default() }.matches(&event));
    }

    #[test]
    fn a_pattern_that_nothing_is_like_is_told_with_what_was_meant() {
        let said = |condition: Condition| {
            condition.impossible().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        for (pattern, expected) in [
            ("/images/**", "none begins with a slash"),
            ("images/*.{jpg,png}", "List several patterns"),
            ("images/[0-9]*", "List several patterns"),
            ("images/**", ""),
            ("a[b", ""),
        ] {
            let said = said(Condition { object: globs(&[pattern]), ..Condition::default() });
            assert!(said.contains(expected) && (said.is_empty() == expected.is_empty()), "{pattern}: {said}");
        }
        for (pattern, expected) in [
            ("text/plain; charset=utf-8", "Write \"text/plain\""),
            ("Image/PNG", "Write \"image/png\""),
            ("image", "Write \"image/*\""),
            ("image*", "Write \"image/*\""),
            ("*", "Write \"**\""),
            ("image/{png,gif}", "List several patterns"),
            ("image/*", ""),
            ("image**", ""),
            ("**", ""),
        ] {
            let said = said(Condition { mime_type: globs(&[pattern]), ..Condition::default() });
            assert!(said.contains(expected) && (said.is_empty() == expected.is_empty()), "{pattern}: {said}");
        }
    }

    #[test]
    fn a_condition_that_can_never_hold_says_why() {
        let vars = [("user".to_owned(), BTreeSet::new())].into();
        let (size_min, size_max) = (Some(2), Some(1));
        let condition =
            Condition { bucket: set(&[]), object: Some(vec![]), vars, size_min, size_max, ..Condition::default() };
        let empty = |key: &str| Impossible::Empty { key: key.to_owned() };
        assert_eq!(condition.impossible(), [empty("object"), empty("bucket"), empty("vars.user"), Impossible::Size]);
    }
}

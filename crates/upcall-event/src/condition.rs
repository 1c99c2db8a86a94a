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
    fn a_condition_that_can_never_hold_says_why() {
        let vars = [("user".to_owned(), BTreeSet::new())].into();
        let (size_min, size_max) = (Some(2), Some(1));
        let condition =
            Condition { bucket: set(&[]), object: Some(vec![]), vars, size_min, size_max, ..Condition::default() };
        let empty = |key: &str| Impossible::Empty { key: key.to_owned() };
        assert_eq!(condition.impossible(), [empty("object"), empty("bucket"), empty("vars.user"), Impossible::Size]);
    }
}

//! `[[consumer]] where`: what the events that a consumer wants are like.

use std::collections::{BTreeMap, BTreeSet};

use toml::Value;
use upcall_event::{Condition, Field, Glob, Impossible, Known};

use super::consumer::Consumer;
use super::reader::{Reader, Section, kind_of};
use super::route::Route;
use super::setting::{Bytes, Setting};

/// A value, or several of which one is wanted.
struct OneOf(BTreeSet<String>);

impl Setting for OneOf {
    const KIND: &'static str = "a string or an array of strings";

    fn read(value: &Value) -> Result<Self, String> {
        let text = |value: &Value| {
            value.as_str().map(str::to_owned).ok_or_else(|| format!("takes {}, not {}", Self::KIND, kind_of(value)))
        };
        match value {
            Value::Array(values) => values.iter().map(text).collect::<Result<_, _>>().map(Self),
            value => Ok(Self([text(value)?].into())),
        }
    }
}

/// A pattern, or several of which one is to fit.
struct LikeOne(Vec<Glob>);

impl Setting for LikeOne {
    const KIND: &'static str = "a pattern or an array of patterns";

    fn read(value: &Value) -> Result<Self, String> {
        let OneOf(texts) = OneOf::read(value).map_err(|error| error.replace(OneOf::KIND, Self::KIND))?;
        let globs = texts.iter().map(|text| text.parse().map_err(|error| format!("has {text:?}: {error}")));
        globs.collect::<Result<_, _>>().map(Self)
    }
}

/// Values of variables, by their names.
struct Vars(BTreeMap<String, BTreeSet<String>>);

impl Setting for Vars {
    const KIND: &'static str = "a table of strings or arrays of strings";

    fn read(value: &Value) -> Result<Self, String> {
        let table = value.as_table().ok_or_else(|| format!("takes {}, not {}", Self::KIND, kind_of(value)))?;
        let member = |(name, value): (&String, &Value)| {
            let OneOf(values) = OneOf::read(value).map_err(|error| format!("takes {}; {name} {error}", Self::KIND))?;
            Ok((name.clone(), values))
        };
        table.iter().map(member).collect::<Result<_, String>>().map(Self)
    }
}

/// Reads `where`.
pub(super) fn read(mut section: Section<'_>) -> Condition {
    let object: Option<LikeOne> = section.optional(
        "object",
        "Patterns for the object's key, such as `\"images/**/*.jpg\"`: `*` is any text without a slash, `**` any text, `**/` \
         nothing or any folders, `?` one character that is no slash.",
    );
    let bucket: Option<OneOf> = section.optional("bucket", "The bucket, or several.");
    let mime_type: Option<LikeOne> = section.optional(
        "mime_type",
        "Patterns for the media type, such as `\"image/*\"`, in lower case; its parameters are left out.",
    );
    let operation: Option<OneOf> = section.optional("operation", "The operation, such as `\"PutObject\"`, or several.");
    let route: Option<OneOf> = section.optional("route", "The name of the route that took the callback, or several.");
    let vars: Option<Vars> = section.optional(
        "vars",
        "The uploader's variables: `{ user = \"42\", kind = [\"a\", \"b\"] }`. Each has to be there.",
    );
    let mut condition = Condition {
        object: object.map(|LikeOne(globs)| globs),
        bucket: bucket.map(|OneOf(values)| values),
        mime_type: mime_type.map(|LikeOne(globs)| globs),
        operation: operation.map(|OneOf(values)| values),
        route: route.map(|OneOf(values)| values),
        vars: vars.map(|Vars(vars)| vars).unwrap_or_default(),
        ..Condition::default()
    };
    if let Some(mut size) = section.optional_section("size", "How large the object is; both ends belong to it.") {
        let min: Option<Bytes> = size.optional("min", "The least.");
        let max: Option<Bytes> = size.optional("max", "The most.");
        (condition.size_min, condition.size_max) = (min.map(|Bytes(bytes)| bytes), max.map(|Bytes(bytes)| bytes));
    }
    for reason in condition.impossible() {
        let key = match &reason {
            Impossible::Empty { key } => key.as_str(),
            Impossible::Notation { key, .. } => key,
            Impossible::Slash { .. } => "object",
            Impossible::MediaType { .. } => "mime_type",
            Impossible::Size => "size",
        };
        section.mistake(key, reason.to_string());
    }
    for operation in condition.operation.iter().flatten() {
        if let Some(instead) = operation_meant(operation) {
            section.mistake("operation", no_operation(operation, instead));
        }
    }
    condition
}

/// Reports conditions that no route's event can meet.
pub(super) fn report_unproduced(reader: &Reader, routes: &[Option<Route>], consumers: &[Option<Consumer>]) {
    // What a route with mistakes would produce is not known.
    let Some(routes) = routes.iter().map(Option::as_ref).collect::<Option<Vec<&Route>>>() else { return };
    // A process that only consumes has its events from elsewhere.
    if routes.is_empty() {
        return;
    }
    for (at, consumer) in consumers.iter().enumerate() {
        let Some(consumer) = consumer else { continue };
        if report_filter(reader, at, consumer, &routes) {
            continue;
        }
        let condition = &consumer.options.condition;
        // The reasons that lie in the condition itself are on record.
        if condition.is_always() || !condition.impossible().is_empty() {
            continue;
        }
        if routes.iter().all(|route| !may_produce(route, consumer)) {
            let names: Vec<&str> = routes.iter().map(|route| route.policy.name()).collect();
            reader.mistake(
                format!("consumer[{at}].where"),
                format!(
                    "can never match: no route ({}) makes an event with such a route, bucket and operation on a subject \
                     that `filter` selects",
                    names.join(", ")
                ),
            );
        }
    }
}

/// Reports a filter that selects nothing of what the routes publish; says whether it did.
fn report_filter(reader: &Reader, at: usize, consumer: &Consumer, routes: &[&Route]) -> bool {
    let (filter, place) = (&consumer.options.spec.filter, format!("consumer[{at}].filter"));
    let operation = Field::Known(Known::Operation);
    let mut named = routes.iter().flat_map(|route| route.policy.subject().named(filter, &operation));
    if let Some((named, instead)) = named.find_map(|named| operation_meant(&named).map(|instead| (named, instead))) {
        reader.mistake(place, no_operation(&named, instead));
        return true;
    }
    let selects = |route: &&Route| {
        let buckets: BTreeSet<String> = route.policy.buckets().iter().cloned().collect();
        let name = BTreeSet::from([route.policy.name().to_owned()]);
        route.policy.subject().may_match(filter, |field| match field {
            Field::Known(Known::Bucket) => Some(&buckets).filter(|buckets| !buckets.is_empty()),
            Field::Known(Known::Route) => Some(&name),
            _ => None,
        })
    };
    if routes.iter().any(selects) {
        return false;
    }
    let published: BTreeSet<String> = routes.iter().map(|route| published(route)).collect();
    let published: Vec<String> = published.into_iter().collect();
    reader.mistake(
        place,
        format!(
            "can never match: {:?} selects nothing of what the routes publish, which is {}. `*` stands for one token, and a \
             final `>` for all that follow",
            filter.as_str(),
            published.join("; ")
        ),
    );
    true
}

/// What a route publishes on, in words.
fn published(route: &Route) -> String {
    let buckets = route.policy.buckets();
    if buckets.is_empty() {
        return format!("`{}`", route.policy.subject());
    }
    format!("`{}` of {}", route.policy.subject(), buckets.join(", "))
}

/// Whether a route may make an event that a consumer wants.
fn may_produce(route: &Route, consumer: &Consumer) -> bool {
    let (policy, options) = (&route.policy, &consumer.options);
    let condition = &options.condition;
    let is_open = |wanted: Option<&BTreeSet<String>>, made: &BTreeSet<String>| {
        made.is_empty() || wanted.is_none_or(|wanted| !wanted.is_disjoint(made))
    };
    let name = BTreeSet::from([policy.name().to_owned()]);
    let buckets: BTreeSet<String> = policy.buckets().iter().cloned().collect();
    if !is_open(condition.route.as_ref(), &name) || !is_open(condition.bucket.as_ref(), &buckets) {
        return false;
    }
    let wanted_buckets: Option<BTreeSet<String>> = match &condition.bucket {
        Some(wanted) if buckets.is_empty() => Some(wanted.clone()),
        Some(wanted) => Some(wanted.intersection(&buckets).cloned().collect()),
        None => Some(buckets).filter(|buckets| !buckets.is_empty()),
    };
    policy.subject().may_match(&options.spec.filter, |field| match field {
        Field::Known(Known::Bucket) => wanted_buckets.as_ref(),
        Field::Known(Known::Route) => Some(&name),
        other => condition.values(other),
    })
}

fn no_operation(written: &str, instead: &str) -> String {
    format!("has {written:?}, which is no operation of OSS; did you mean {instead:?}?")
}

/// The operations whose completion OSS tells of: by callback, and by event notification.
const OPERATIONS: [&str; 5] = ["PutObject", "PostObject", "CompleteMultipartUpload", "AppendObject", "CopyObject"];

/// The operation that somebody meant who wrote something very like it. What is like none may be a value that a
/// callbackBody gives the field by itself.
fn operation_meant(written: &str) -> Option<&'static str> {
    if OPERATIONS.contains(&written) {
        return None;
    }
    let written = written.to_ascii_lowercase();
    let edits = |known: &str| strsim::damerau_levenshtein(&known.to_ascii_lowercase(), &written);
    let nearest = OPERATIONS.into_iter().min_by_key(|known| edits(known))?;
    (edits(nearest) <= 2).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::operation_meant;

    #[test]
    fn an_operation_that_is_spelt_wrong_is_recognised_and_one_of_the_users_own_is_let_be() {
        for (operation, meant) in [
            ("PutObjekt", Some("PutObject")),
            ("putobject", Some("PutObject")),
            ("CompleteMultiPartUpload", Some("CompleteMultipartUpload")),
            ("PutObject", None),
            ("avatar-upload", None),
        ] {
            assert_eq!(operation_meant(operation), meant, "{operation}");
        }
    }
}

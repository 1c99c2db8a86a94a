//! What is not as it should be about a stream or a consumer, and how it is mended.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::consumer::{self, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, StorageType};

/// For how long at least the server has to recognise ids: longer than a callback is repeated by OSS, which tries up to
/// five URLs for five seconds each, and than a gateway repeats a publication without looking first. Two minutes.
pub const DUPLICATE_WINDOW_MIN: Duration = Duration::from_secs(120);

/// What is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What it is about, such as `stream UPCALL`.
    pub what: String,
    /// What is wrong with it.
    pub problem: String,
    /// How bad that is.
    pub severity: Severity,
}

/// How bad a difference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It is other than configured, and does no harm to events.
    Differs,
    /// Events could be lost by a restart, or when the stream is full, or can't be read again, or a consumer could miss
    /// some. Some choose that.
    Risky,
    /// It is not there.
    Missing,
    /// Events are refused, or not known to be stored, or doubled.
    Harmful,
}

impl Difference {
    pub(crate) fn missing(what: String) -> Self {
        let problem = "is not there; `upcall provision` makes it".to_owned();
        Self { what, problem, severity: Severity::Missing }
    }

    pub(crate) fn missing_of_others(stream: &str) -> Self {
        let problem =
            "is not there; whoever publishes makes it: start that, or run `upcall provision` with its configuration";
        Self { what: format!("stream {stream}"), problem: problem.to_owned(), severity: Severity::Missing }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.what, self.problem)
    }
}

/// Tells what of a stream is not as it should be.
pub(crate) fn compare(wanted: &Config, info: &Info, differences: &mut Vec<Difference>) {
    let found = &info.config;
    let mut differs = |severity, problem: String| {
        differences.push(Difference { what: format!("stream {}", wanted.name), problem, severity });
    };
    for subject in &wanted.subjects {
        if !found.subjects.iter().any(|captured| covers(captured, subject)) {
            differs(Severity::Harmful, format!("does not capture the subject {subject}"));
        }
    }
    if found.sealed {
        differs(Severity::Harmful, "is sealed: it takes no events any more, and can't be opened again".to_owned());
    }
    if found.no_ack {
        differs(Severity::Harmful, "acknowledges nothing: no_ack is set".to_owned());
    }
    if found.storage == StorageType::Memory {
        differs(Severity::Risky, "keeps events in memory only: a restart loses them".to_owned());
    }
    if wanted.discard == DiscardPolicy::New && found.discard == DiscardPolicy::Old && has_limit(found) {
        differs(Severity::Risky, "drops its oldest events when it is full, instead of refusing new ones".to_owned());
    }
    if found.max_messages_per_subject > 0 && found.max_messages_per_subject != wanted.max_messages_per_subject {
        let max = found.max_messages_per_subject;
        differs(Severity::Harmful, format!("keeps {max} events of each subject, and drops or refuses the others"));
    }
    if found.subject_transform.is_some() {
        differs(
            Severity::Harmful,
            "changes the subjects of events, so that consumers miss them: subject_transform is set".to_owned(),
        );
    }
    if found.retention != wanted.retention {
        differs(Severity::Risky, format!("has retention {:?}, not {:?}", found.retention, wanted.retention));
    }
    if wanted.allow_direct && !found.allow_direct {
        differs(
            Severity::Risky,
            "can't be read directly, as `upcall tail` and `upcall replay` do: allow_direct is off".to_owned(),
        );
    }
    let window = found.duplicate_window;
    if window < wanted.duplicate_window.min(DUPLICATE_WINDOW_MIN) {
        differs(
            Severity::Harmful,
            format!("recognises an id for {window:?} only, at least {DUPLICATE_WINDOW_MIN:?} are needed"),
        );
    } else if window != wanted.duplicate_window {
        differs(Severity::Differs, format!("recognises an id for {window:?}, not {:?}", wanted.duplicate_window));
    }
    let (has, wants) = (found.num_replicas, wanted.num_replicas);
    if has != wants {
        let severity = if has < wants { Severity::Risky } else { Severity::Differs };
        differs(severity, format!("has {has} {}, not {wants}", if has == 1 { "replica" } else { "replicas" }));
    }
    if found.max_age != wanted.max_age {
        differs(Severity::Differs, format!("keeps events for {:?}, not {:?}", found.max_age, wanted.max_age));
    }
    if found.max_bytes != wanted.max_bytes {
        differs(Severity::Differs, format!("holds up to {} bytes, not {}", found.max_bytes, wanted.max_bytes));
    }
}

/// Tells what of a consumer is not as it should be.
pub(crate) fn compare_consumer(stream: &str, wanted: &pull::Config, info: &consumer::Info) -> Vec<Difference> {
    let (found, mut differences) = (&info.config, Vec::new());
    let mut differs = |is_so: bool, severity, problem: String| {
        if is_so {
            let what = format!("consumer {} of stream {stream}", info.name);
            differences.push(Difference { what, problem, severity });
        }
    };
    let risky = Severity::Risky;
    differs(
        found.ack_policy != wanted.ack_policy,
        risky,
        format!("has events settled before they are done: its ack policy is {:?}", found.ack_policy),
    );
    differs(found.headers_only, risky, "gets events without their data: headers_only is set".to_owned());
    let selected = selection(&found.filter_subject, &found.filter_subjects);
    let to_select = selection(&wanted.filter_subject, &wanted.filter_subjects);
    differs(selected != to_select, risky, format!("selects {}, not {}", selected.join(", "), to_select.join(", ")));
    differs(
        found.max_deliver > 0 && wanted.max_deliver <= 0,
        risky,
        format!("gives an event up after {} deliveries, without a dead letter (max_deliver)", found.max_deliver),
    );
    differs(
        found.inactive_threshold != wanted.inactive_threshold,
        risky,
        format!("is deleted when nobody reads it for {:?}", found.inactive_threshold),
    );
    differs(
        found.backoff != wanted.backoff,
        risky,
        "delivers events again after a time of its own, however long their sink takes: backoff is set".to_owned(),
    );
    let (wait, max) = (found.ack_wait, found.max_ack_pending);
    differs(
        wait != wanted.ack_wait,
        Severity::Differs,
        format!("has an ack_wait of {wait:?}, not {:?}", wanted.ack_wait),
    );
    differs(
        max != wanted.max_ack_pending,
        Severity::Differs,
        format!("lets {max} events be unsettled, not {}", wanted.max_ack_pending),
    );
    differences
}

/// What filters select, in either of the two ways to write them.
pub(crate) fn selection<'f>(one: &'f str, several: &'f [String]) -> Vec<&'f str> {
    let filters = std::iter::once(one).chain(several.iter().map(String::as_str));
    let mut filters: Vec<&str> = filters.filter(|filter| !filter.is_empty()).collect();
    if filters.is_empty() {
        filters.push(">");
    }
    filters.sort_unstable();
    filters
}

/// What is there, with what we care for made as wanted. Where it began can't be changed, and is not to be.
pub(crate) fn mended_consumer(wanted: &pull::Config, found: pull::Config) -> pull::Config {
    let wanted = wanted.clone();
    pull::Config {
        ack_policy: wanted.ack_policy,
        headers_only: wanted.headers_only,
        filter_subject: wanted.filter_subject,
        filter_subjects: wanted.filter_subjects,
        max_deliver: wanted.max_deliver,
        inactive_threshold: wanted.inactive_threshold,
        backoff: wanted.backoff,
        ack_wait: wanted.ack_wait,
        max_ack_pending: wanted.max_ack_pending,
        ..found
    }
}

pub(crate) fn has_limit(config: &Config) -> bool {
    config.max_bytes > 0 || config.max_messages > 0 || config.max_messages_per_subject > 0
}

/// What is there, with what is harmful made as wanted. What can't be changed in place the server refuses, in words.
pub(crate) fn mended(wanted: &Config, found: Config) -> Config {
    let mut subjects = found.subjects.clone();
    let lacking = |subject: &&String| !found.subjects.iter().any(|captured| covers(captured, subject));
    subjects.extend(wanted.subjects.iter().filter(lacking).cloned());
    Config {
        subjects,
        no_ack: false,
        sealed: found.sealed,
        storage: wanted.storage,
        discard: wanted.discard,
        retention: wanted.retention,
        allow_direct: found.allow_direct || wanted.allow_direct,
        max_messages_per_subject: wanted.max_messages_per_subject,
        subject_transform: wanted.subject_transform.clone(),
        duplicate_window: found.duplicate_window.max(wanted.duplicate_window),
        num_replicas: found.num_replicas.max(wanted.num_replicas),
        ..found
    }
}

/// Whether a filter selects every subject that another one does.
#[must_use]
pub fn covers(outer: &str, inner: &str) -> bool {
    let (mut outer, mut inner) = (outer.split('.'), inner.split('.'));
    loop {
        match (outer.next(), inner.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(outer), Some(inner)) if outer == inner => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{covers, selection};

    #[test]
    fn a_filter_is_the_same_in_either_way_to_write_it() {
        let several = |filters: &[&str]| filters.iter().map(|filter| (*filter).to_owned()).collect::<Vec<_>>();
        assert_eq!(selection("a.>", &[]), selection("", &several(&["a.>"])));
        assert_eq!(selection("", &[]), selection(">", &[]));
        assert_eq!(selection("", &several(&["b", "a"])), ["a", "b"]);
    }

    #[test]
    fn a_filter_covers_what_it_selects_whole() {
        for (outer, inner) in [("a.>", "a.b.>"), (">", "a"), ("a.*.c", "a.b.c"), ("a.*", "a.*"), ("a.b", "a.b")] {
            assert!(covers(outer, inner), "{outer} {inner}");
        }
        for (outer, inner) in [("a.*", "a.>"), ("a.b", "a.*"), ("a.>", "a"), ("a.b", "a.b.c"), ("a.b.c", "a.b")] {
            assert!(!covers(outer, inner), "{outer} {inner}");
        }
    }
}

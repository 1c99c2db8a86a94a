//! The streams, what they capture, and what lies in them.

use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, StorageType};
use futures_util::{StreamExt, TryStreamExt};
use upcall_bus::ArchiveError;

use super::server::fill;
use super::{Finding, Questions, kinds};
use crate::difference::{Severity, compare, covers, has_limit};
use crate::{DUPLICATE_WINDOW_MIN, NatsBus};

/// How many streams of an account are compared with our subjects.
const STREAMS_MAX: usize = 10_000;

impl NatsBus {
    /// Returns the stream of uploads, if it is there.
    pub(super) async fn examine_streams(
        &self,
        questions: &Questions,
        found: &mut Vec<Finding>,
    ) -> Result<Option<Info>, ArchiveError> {
        let (names, mut uploads) = (self.names(), None);
        for wanted in self.wanted() {
            let Some(info) = self.stream_info(&wanted.name).await? else {
                found.push(kinds::STREAM_MISSING.found(format!("stream {} is not there", wanted.name)));
                continue;
            };
            // What the bucket counts can be counted again.
            if wanted.name != names.bucket() {
                examine_stream(&wanted, &info, found);
            }
            self.examine_replicas(&info, found);
            if wanted.name == names.uploads() {
                uploads = Some(info);
            } else if wanted.name == names.dead() && info.state.messages > 0 {
                let what = format!("{} wait in stream {}", count(info.state.messages, "dead letter"), wanted.name);
                found.push(kinds::DEAD_LETTERS.found(what));
            } else if wanted.name == names.quarantine() && info.state.messages > 0 {
                let what = format!("{} in stream {}", count(info.state.messages, "rejected callback"), wanted.name);
                found.push(kinds::QUARANTINE.found(what));
            }
        }
        if let Some(info) = &uploads {
            self.examine_subjects(info, found).await?;
            self.examine_clock(questions, found).await?;
        }
        Ok(uploads)
    }

    fn examine_replicas(&self, info: &Info, found: &mut Vec<Finding>) {
        let name = &info.config.name;
        if info.config.num_replicas == 1 && self.client().server_info().cluster.is_some() {
            found.push(kinds::STREAM_ONE_REPLICA.found(format!("stream {name} is on one server of the cluster only")));
        }
        for peer in info.cluster.iter().flat_map(|cluster| &cluster.replicas) {
            if peer.offline || !peer.current {
                let state = if peer.offline { "offline" } else { "behind" };
                let what = format!("the replica of stream {name} on {} is {state}", peer.name);
                found.push(kinds::STREAM_REPLICA_LOST.found(what));
            }
        }
    }

    async fn examine_subjects(&self, uploads: &Info, found: &mut Vec<Finding>) -> Result<(), ArchiveError> {
        let streams: Vec<Info> =
            self.shared.context.streams().take(STREAMS_MAX).try_collect().await.map_err(ArchiveError::new)?;
        for subject in &self.shared.options.subjects {
            if !uploads.config.subjects.iter().any(|captured| covers(captured, subject)) {
                let name = &uploads.config.name;
                found.push(kinds::SUBJECT_UNCAPTURED.found(format!("stream {name} does not capture {subject}")));
            }
            for other in streams.iter().filter(|other| other.config.name != uploads.config.name) {
                for captured in other.config.subjects.iter().filter(|captured| overlap(captured, subject)) {
                    let what = format!("stream {} captures {captured}, which is in {subject}", other.config.name);
                    found.push(kinds::SUBJECT_ELSEWHERE.found(what));
                }
            }
        }
        Ok(())
    }
}

/// Says what a stream's configuration does to events, and how full it is.
fn examine_stream(wanted: &Config, info: &Info, found: &mut Vec<Finding>) {
    let Info { config, state, .. } = info;
    let name = &config.name;
    let mut report = |is_so: bool, kind: &'static super::Kind, what: String| {
        if is_so {
            found.push(kind.found(format!("stream {name} {what}")));
        }
    };
    let mirrored = config.mirror.as_ref().map(|source| source.name.as_str()).unwrap_or_default();
    let keeps_old = wanted.discard == DiscardPolicy::New;
    report(config.storage == StorageType::Memory, &kinds::STREAM_IN_MEMORY, "is kept in memory".to_owned());
    report(config.sealed, &kinds::STREAM_SEALED, "is sealed".to_owned());
    report(config.no_ack, &kinds::STREAM_NO_ACK, "acknowledges nothing (`no_ack`)".to_owned());
    report(config.mirror.is_some(), &kinds::STREAM_MIRROR, format!("is a mirror of {mirrored}"));
    report(
        keeps_old && config.discard == DiscardPolicy::Old && has_limit(config),
        &kinds::STREAM_DISCARDS_OLD,
        "drops its oldest events when it is full".to_owned(),
    );
    report(
        config.max_messages_per_subject > 0,
        &kinds::STREAM_SUBJECT_LIMIT,
        format!("keeps {} events of each subject only", config.max_messages_per_subject),
    );
    report(config.subject_transform.is_some(), &kinds::STREAM_TRANSFORMS, "has a `subject_transform`".to_owned());
    report(
        config.retention != wanted.retention,
        &kinds::STREAM_RETENTION,
        format!("has the retention policy {:?}, not {:?}", config.retention, wanted.retention),
    );
    report(
        config.duplicate_window < wanted.duplicate_window.min(DUPLICATE_WINDOW_MIN),
        &kinds::STREAM_SHORT_WINDOW,
        format!("recognises an id for {:?} only", config.duplicate_window),
    );
    let size_max = usize::try_from(config.max_message_size).ok().filter(|max| *max > 0);
    report(
        size_max.is_some_and(|max| max < super::server::PAYLOAD_BYTES_MIN),
        &kinds::PAYLOAD_SMALL,
        format!("takes messages of up to {} bytes", config.max_message_size),
    );
    let mut differences = Vec::new();
    compare(wanted, info, &mut differences);
    for difference in differences.into_iter().filter(|difference| difference.severity == Severity::Differs) {
        report(true, &kinds::STREAM_DIFFERS, difference.problem);
    }
    // One that drops its oldest is meant to be full.
    if keeps_old {
        let limits = [("bytes", state.bytes, config.max_bytes), ("messages", state.messages, config.max_messages)];
        for (unit, used, max) in limits {
            fill(&format!("stream {name}, in {unit},"), used, u64::try_from(max).unwrap_or(0), found);
        }
    }
}

/// Whether there is a subject that both filters select.
fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (Some(">"), Some(_)) | (Some(_), Some(">")) | (None, None) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}

pub(super) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::overlap;

    #[test]
    fn filters_overlap_that_have_a_subject_in_common() {
        for (one, other) in [("a.>", "a.b"), ("a.*", "a.b"), ("*.b", "a.*"), ("a.b.>", "a.>"), (">", "a"), ("a", "a")] {
            assert!(overlap(one, other) && overlap(other, one), "{one} {other}");
        }
        for (one, other) in [("a.>", "a"), ("a.*", "a.b.c"), ("a.b", "a.c"), ("a.b.>", "a.c.>")] {
            assert!(!overlap(one, other) && !overlap(other, one), "{one} {other}");
        }
    }
}

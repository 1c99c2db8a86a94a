//! The consumers: who reads, how far they are, and what the server would do to their events.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{AckPolicy, Info, pull};
use async_nats::jetstream::stream::{self, Stream};
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::sleep;
use upcall_bus::ArchiveError;

use super::{Finding, Questions, kinds};
use crate::NatsBus;
use crate::difference::selection;
use crate::provision::is_unknown;
use crate::session::Lane;

/// How many consumers of a stream are looked at.
const CONSUMERS_MAX: usize = 10_000;
/// How long a consumer that nobody asks for events is given to show that somebody does: between two requests of a
/// reader there is a moment without one.
const SECOND_LOOK: Duration = Duration::from_millis(500);

impl NatsBus {
    pub(super) async fn examine_consumers(
        &self,
        questions: &Questions,
        uploads: Option<&stream::Info>,
        found: &mut Vec<Finding>,
    ) -> Result<(), ArchiveError> {
        for (at, name) in [Lane::Uploads, Lane::Again].map(|lane| self.stream_of(lane)).iter().enumerate() {
            let stream = match self.shared.context.get_stream(name).await {
                Ok(stream) => stream,
                Err(error) if is_unknown(&error) => continue,
                Err(error) => return Err(ArchiveError::new(error)),
            };
            let consumers: Vec<Info> =
                stream.consumers().take(CONSUMERS_MAX).try_collect().await.map_err(ArchiveError::new)?;
            for spec in questions.consumers.iter().filter(|_| at == 0) {
                if !consumers.iter().any(|consumer| consumer.name == spec.name.as_str()) {
                    let what = format!("stream {name} has no consumer {}", spec.name);
                    found.push(kinds::CONSUMER_MISSING.found(what));
                }
            }
            // Others are somebody's who looks on, and go with them.
            for consumer in consumers.iter().filter(|consumer| consumer.config.durable_name.is_some()) {
                settings(consumer, found);
                if let Some(spec) = questions.consumers.iter().find(|spec| spec.name.as_str() == consumer.name) {
                    let [uploads, again] = self.consumers_of(spec);
                    of_ours(if at == 0 { &uploads.1 } else { &again.1 }, consumer, found);
                }
                progress(consumer, found);
                self.unread(&stream, consumer, found).await?;
                if let Some(uploads) = uploads.filter(|_| at == 0) {
                    age(questions, &self.shared.context, consumer, uploads, found).await?;
                }
            }
        }
        Ok(())
    }

    /// Says so if nobody asks for the events that wait.
    async fn unread(&self, stream: &Stream, consumer: &Info, found: &mut Vec<Finding>) -> Result<(), ArchiveError> {
        let is_left = |info: &Info| info.num_waiting == 0 && info.num_pending > 0 && info.num_ack_pending == 0;
        if !is_left(consumer) || consumer.paused || consumer.push_bound {
            return Ok(());
        }
        sleep(SECOND_LOOK).await;
        // It may be gone meanwhile.
        let Ok(again) = stream.consumer_info(&consumer.name).await else { return Ok(()) };
        if is_left(&again) && again.delivered == consumer.delivered {
            let waiting = super::streams::count(again.num_pending, "event");
            let what = format!("nobody reads {}, and {waiting} wait for it", place(consumer));
            found.push(kinds::CONSUMER_UNREAD.found(what));
        }
        Ok(())
    }
}

/// Says what the server would do to the consumer's events.
fn settings(consumer: &Info, found: &mut Vec<Finding>) {
    let config = &consumer.config;
    let mut report = |is_so: bool, kind: &'static super::Kind, what: String| {
        if is_so {
            found.push(kind.found(format!("{} {what}", place(consumer))));
        }
    };
    report(
        config.max_deliver > 0,
        &kinds::CONSUMER_GIVES_UP,
        format!("gives an event up after {} deliveries (`max_deliver`)", config.max_deliver),
    );
    report(
        config.ack_policy != AckPolicy::Explicit,
        &kinds::CONSUMER_NO_ACK,
        format!("has the ack policy {:?}, not Explicit", config.ack_policy),
    );
    report(
        !config.inactive_threshold.is_zero(),
        &kinds::CONSUMER_EXPIRES,
        format!("is deleted when nobody reads it for {:?}", config.inactive_threshold),
    );
    let left = consumer.pause_remaining.unwrap_or_default();
    report(consumer.paused, &kinds::CONSUMER_PAUSED, format!("is paused for another {} s", left.as_secs()));
}

/// Says what one that is configured can't do its work with. Somebody else's may be so by choice.
fn of_ours(wanted: &pull::Config, consumer: &Info, found: &mut Vec<Finding>) {
    let config = &consumer.config;
    if config.headers_only {
        found.push(kinds::CONSUMER_HEADERS_ONLY.found(format!("{} has `headers_only` set", place(consumer))));
    }
    let selected = selection(&config.filter_subject, &config.filter_subjects).join(", ");
    let to_select = selection(&wanted.filter_subject, &wanted.filter_subjects).join(", ");
    if selected != to_select {
        let what = format!("{} selects {selected}, not {to_select}", place(consumer));
        found.push(kinds::CONSUMER_FILTER.found(what));
    }
}

fn progress(consumer: &Info, found: &mut Vec<Finding>) {
    let held = u64::try_from(consumer.num_ack_pending).unwrap_or(u64::MAX);
    let max = u64::try_from(consumer.config.max_ack_pending).unwrap_or(0);
    if max > 0 && held >= max {
        found.push(
            kinds::CONSUMER_FULL.found(format!("{} holds {held} unsettled events, as many as it may", place(consumer))),
        );
    }
    if consumer.num_redelivered > 0 {
        let what = format!("{} unsettled events of {} were delivered again", consumer.num_redelivered, place(consumer));
        found.push(kinds::CONSUMER_REDELIVERED.found(what));
    }
}

/// Compares the oldest unsettled event's age with what is patience, and with what the stream keeps.
async fn age(
    questions: &Questions,
    context: &Context,
    consumer: &Info,
    uploads: &stream::Info,
    found: &mut Vec<Finding>,
) -> Result<(), ArchiveError> {
    if consumer.num_pending == 0 && consumer.num_ack_pending == 0 {
        return Ok(());
    }
    let filter = match (consumer.config.filter_subject.as_str(), consumer.config.filter_subjects.as_slice()) {
        ("", []) => ">",
        ("", [first, ..]) => first,
        (filter, _) => filter,
    };
    // Of the leader: not every stream lets others be asked.
    let wanted = json!({ "seq": consumer.ack_floor.stream_sequence + 1, "next_by_subj": filter });
    let subject = format!("STREAM.MSG.GET.{}", consumer.stream_name);
    let answer: Value = context.request(subject, &wanted).await.map_err(ArchiveError::new)?;
    // Without one, the last of them has just been settled, or has gone.
    let stored = answer["message"]["time"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    let Some(stored) = stored else { return Ok(()) };
    let age = Duration::try_from(Timestamp::now().duration_since(stored)).unwrap_or_default();
    let kept = uploads.config.max_age;
    let seconds = age.as_secs();
    if !kept.is_zero() && age > kept / 2 {
        let what = format!("the oldest event of {} is {seconds} s old, and stays for {kept:?}", place(consumer));
        found.push(kinds::CONSUMER_TOO_LATE.found(what));
    } else if age > questions.behind {
        let what = format!("the oldest unsettled event of {} is {seconds} s old", place(consumer));
        found.push(kinds::CONSUMER_BEHIND.found(what));
    }
    Ok(())
}

fn place(consumer: &Info) -> String {
    format!("consumer {} of stream {}", consumer.name, consumer.stream_name)
}

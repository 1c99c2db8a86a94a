//! How far consumers are, as the server knows it.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::consumer::Info;
use async_nats::jetstream::response::Response;
use futures_util::future::{join, try_join_all};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;
use upcall_bus::{ArchiveError, ConsumerName, ConsumerSpec};

use crate::NatsBus;
use crate::connection::text;
use crate::difference::selection;
use crate::names::{DEAD_PREFIX, dead_subject, header};
use crate::session::Lane;
use crate::stored::{Which, stored_if_there};

/// How far a consumer is, all of its processes together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Its name.
    pub consumer: ConsumerName,
    /// Events that it has not settled, whether they were delivered to it or not. What it gets again counts.
    pub unsettled: u64,
    /// When the oldest of them was stored; `None` where there is none.
    pub oldest: Option<Timestamp>,
    /// Its dead letters; `None` where the server does not say at once.
    pub dead_letters: Option<u64>,
}

/// How long the server may take to count dead letters. To a user who may not ask it says nothing, and how far consumers are
/// must not wait for that.
const COUNT_TIME: Duration = Duration::from_millis(250);

/// What is wanted of a stream's state.
#[derive(Deserialize)]
struct Counted {
    state: CountedState,
}

#[derive(Deserialize)]
struct CountedState {
    /// Messages by subject; not there where there are none.
    #[serde(default)]
    subjects: HashMap<String, u64>,
}

impl NatsBus {
    /// Asks how far these consumers are. Those that are not there are left out.
    ///
    /// # Errors
    /// If the server can't be asked.
    pub async fn progress(&self, consumers: &[ConsumerSpec]) -> Result<Vec<Progress>, ArchiveError> {
        let far = try_join_all(consumers.iter().map(|consumer| self.progress_of(&consumer.name)));
        let (found, dead) = join(far, timeout(COUNT_TIME, self.dead_letters())).await;
        let dead = dead.ok().flatten();
        let counted = |progress: Progress| {
            let count = |dead: &HashMap<_, _>| dead.get(&dead_subject(&progress.consumer)).copied().unwrap_or(0);
            Progress { dead_letters: dead.as_ref().map(count), ..progress }
        };
        Ok(found?.into_iter().flatten().map(counted).collect())
    }

    /// How many dead letters there are on each subject.
    async fn dead_letters(&self) -> Option<HashMap<String, u64>> {
        let question = json!({ "subjects_filter": format!("{DEAD_PREFIX}.>") });
        let asked = self.shared.context.request(format!("STREAM.INFO.{}", self.names().dead()), &question);
        match asked.await.ok()? {
            Response::Ok(Counted { state }) => Some(state.subjects),
            Response::Err { .. } => None,
        }
    }

    async fn progress_of(&self, name: &ConsumerName) -> Result<Option<Progress>, ArchiveError> {
        let (mut unsettled, mut oldest, mut is_there) = (0, None, false);
        for lane in [Lane::Uploads, Lane::Again] {
            let stream = self.stream_of(lane);
            let Some(found) = self.consumer(&stream, name.as_str()).await? else { continue };
            is_there = true;
            let info = found.cached_info();
            let in_lane = info.num_pending + u64::try_from(info.num_ack_pending).unwrap_or(u64::MAX);
            if in_lane > 0 {
                unsettled += in_lane;
                let stored = self.oldest_in(&stream, info).await?;
                oldest = oldest.into_iter().chain(stored).min();
            }
        }
        Ok(is_there.then(|| Progress { consumer: name.clone(), unsettled, oldest, dead_letters: None }))
    }

    /// When the oldest event was stored that a consumer has not settled; `None` if the last one has just been.
    async fn oldest_in(&self, stream: &str, consumer: &Info) -> Result<Option<Timestamp>, ArchiveError> {
        let stream = self.reach(stream).await.map_err(ArchiveError::new)?;
        let next = consumer.ack_floor.stream_sequence + 1;
        let mut oldest = None;
        for filter in selection(&consumer.config.filter_subject, &consumer.config.filter_subjects) {
            let found = stored_if_there(&stream, Which::Selected(next, filter)).await.map_err(ArchiveError::new)?;
            let stored = found.and_then(|message| {
                // What comes again was stored before.
                let first = text(&message.headers, header::STORED_AT).and_then(|time| time.parse().ok());
                first.or_else(|| Timestamp::from_nanosecond(message.time.unix_timestamp_nanos()).ok())
            });
            oldest = oldest.into_iter().chain(stored).min();
        }
        Ok(oldest)
    }
}

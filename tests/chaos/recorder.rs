//! A consumer of our own on NATS, which writes down what it is delivered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::pull;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

use super::facts::Upload;
use super::stream::{connect, event_id, names};

const NAME: &str = "recorder";
const ACK_WAIT: Duration = Duration::from_secs(3);
/// When there was nothing for so long, the request is made anew: a server may have died over it.
const SILENCE: Duration = Duration::from_secs(5);
const OPEN_AGAIN: Duration = Duration::from_millis(300);

/// What was delivered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorded {
    /// How often, by upload.
    pub(crate) deliveries: BTreeMap<Upload, u32>,
    /// What was not as it was sent.
    pub(crate) wrong: Vec<String>,
}

/// A durable consumer that records. It ends when this is dropped.
pub struct Recorder {
    recorded: Arc<Mutex<Recorded>>,
    _runtime: Runtime,
}

impl Recorder {
    /// Begins to record, through all that happens to the servers.
    ///
    /// # Errors
    /// If a thread can't be started.
    pub fn start(urls: Vec<String>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let recorded = Arc::new(Mutex::default());
        let into = Arc::clone(&recorded);
        runtime.spawn(async move {
            let Ok(context) = connect(&urls).await else { return };
            loop {
                // Whatever it was, there is no more to do than to try again; what is missing shows in the end.
                let _ = record(&context, &into).await;
                sleep(OPEN_AGAIN).await;
            }
        });
        Ok(Self { recorded, _runtime: runtime })
    }

    pub(crate) fn recorded(&self) -> Recorded {
        lock(&self.recorded).clone()
    }
}

async fn record(context: &Context, into: &Mutex<Recorded>) -> anyhow::Result<()> {
    let config = pull::Config { durable_name: Some(NAME.to_owned()), ack_wait: ACK_WAIT, ..pull::Config::default() };
    let stream = context.get_stream(names().uploads()).await?;
    let mut messages = stream.get_or_create_consumer(NAME, config).await?.messages().await?;
    loop {
        let message = timeout(SILENCE, messages.next()).await.context("silence")?.context("the end")??;
        let data: Value = serde_json::from_slice(&message.payload).unwrap_or(Value::Null);
        {
            let mut recorded = lock(into);
            match Upload::of(&event_id(&message), &data) {
                Ok(upload) => *recorded.deliveries.entry(upload).or_default() += 1,
                Err(wrong) => recorded.wrong.push(wrong),
            }
        }
        message.ack().await.map_err(|error| anyhow::anyhow!("{error}"))?;
    }
}

fn lock(recorded: &Mutex<Recorded>) -> MutexGuard<'_, Recorded> {
    recorded.lock().unwrap_or_else(PoisonError::into_inner)
}

//! What the streams hold, read by a client of our own.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::{self, Context};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use upcall_bus_nats::names::Names;

use crate::executable::PATIENCE;

const OPEN_AGAIN: Duration = Duration::from_millis(200);
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// One event that the stream holds.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its place.
    pub sequence: u64,
    /// Its id, as `ce-id` says.
    pub event_id: String,
    /// Its data.
    pub data: Value,
}

/// The stream of uploads of every run here.
pub(crate) fn names() -> Names {
    Names::new("UPCALL")
}

pub(crate) async fn connect(urls: &[String]) -> anyhow::Result<Context> {
    let options = async_nats::ConnectOptions::new()
        .retry_on_initial_connect()
        .request_timeout(Some(REQUEST_TIME))
        .reconnect_delay_callback(|_| OPEN_AGAIN);
    let context = jetstream::new(options.connect(urls).await?);
    Ok(context)
}

/// Reads the whole stream of uploads.
///
/// # Errors
/// If it can't be read in time.
pub fn stored(urls: &[String]) -> anyhow::Result<Vec<Stored>> {
    insist(urls, |context| async move { read_all(&context, names().uploads()).await })
}

/// Counts the dead letters.
///
/// # Errors
/// If they can't be counted in time.
pub fn dead_letters(urls: &[String]) -> anyhow::Result<u64> {
    insist(urls, |context| async move { Ok(context.get_stream(names().dead()).await?.info().await?.state.messages) })
}

/// Asks again until there is an answer: servers that have just started choose their leaders first.
pub(crate) fn insist<T, F>(urls: &[String], ask: impl Fn(Context) -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let context = connect(urls).await?;
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            match timeout(PATIENCE, ask(context.clone())).await.context("it takes too long").flatten() {
                Ok(answer) => return Ok(answer),
                Err(error) if tokio::time::Instant::now() > end => return Err(error),
                Err(_) => sleep(OPEN_AGAIN).await,
            }
        }
    })
}

async fn read_all(context: &Context, stream: &str) -> anyhow::Result<Vec<Stored>> {
    let mut stream = context.get_stream(stream).await?;
    let messages = stream.info().await?.state.messages;
    let config = pull::Config {
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::None,
        inactive_threshold: PATIENCE,
        num_replicas: 1,
        memory_storage: true,
        ..pull::Config::default()
    };
    let mut incoming = stream.create_consumer(config).await?.messages().await?;
    let mut read = Vec::new();
    while (read.len() as u64) < messages {
        let message = timeout(REQUEST_TIME, incoming.next()).await.context("the stream gives no more")?;
        let message = message.context("the stream has ended")??;
        let info = message.info().map_err(|error| anyhow::anyhow!("{error}"))?;
        read.push(Stored {
            sequence: info.stream_sequence,
            event_id: event_id(&message),
            data: serde_json::from_slice(&message.payload).unwrap_or(Value::Null),
        });
    }
    Ok(read)
}

pub(crate) fn event_id(message: &jetstream::Message) -> String {
    let id = message.headers.as_ref().and_then(|headers| headers.get("ce-id"));
    id.map(|id| id.as_str().to_owned()).unwrap_or_default()
}

/// How many deliveries the consumer `catalog` was given beyond one of each event.
pub(crate) fn redelivered(urls: &[String]) -> anyhow::Result<u64> {
    insist(urls, |context| async move {
        let stream = context.get_stream(names().uploads()).await?;
        let info = stream.consumer_info("catalog").await?;
        Ok(info.delivered.consumer_sequence.saturating_sub(info.delivered.stream_sequence))
    })
}

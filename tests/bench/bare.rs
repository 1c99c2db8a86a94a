//! The servers that the gateway is compared with: as little as can be written with axum.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::HeaderMap;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::Config;
use async_nats::jetstream::{self, Context};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::routing::post;
use upcall_bus::{Deadline, Message, Publisher};
use upcall_bus_journal::{Journal, Options};
use upcall_event::{Event, EventId, UploadCompleted};

use crate::corpus::PATH;

const ANSWER: &str = r#"{"Status":"OK"}"#;
const BODY_BYTES_MAX: usize = 1 << 20;
const BUDGET: Duration = Duration::from_millis(4500);

/// (a) Answers a constant, without reading anything.
pub(crate) fn constant(address: SocketAddr) -> anyhow::Result<()> {
    serve(address, async || {
        Ok(Router::new().route(
            PATH,
            post(async |body: Body| {
                // The body is read, as every server must that keeps its connections.
                let _ = to_bytes(body, BODY_BYTES_MAX).await;
                ANSWER
            }),
        ))
    })
}

/// (b) Stores an event of the gateway's size in the same journal, with an id made of the body's request id, and verifies nothing.
pub(crate) fn journal(address: SocketAddr, folder: &Path) -> anyhow::Result<()> {
    serve(address, async || {
        let journal = Journal::open(Options::new(folder)).context("the journal opens")?;
        let state = Arc::new(Bare { journal, message: example()? });
        Ok(Router::new().route(PATH, post(store)).with_state(state))
    })
}

struct Bare {
    journal: Journal,
    message: Message,
}

async fn store(State(bare): State<Arc<Bare>>, request: Request) -> Result<&'static str, StatusCode> {
    let body = to_bytes(request.into_body(), BODY_BYTES_MAX).await.map_err(|_| StatusCode::BAD_REQUEST)?;
    let request_id = body.last_chunk::<24>().and_then(|id| str::from_utf8(id).ok()).ok_or(StatusCode::BAD_REQUEST)?;
    let mut message = bare.message.clone();
    message.event.id = EventId::from_request("examplebucket", &message.event.data.object, request_id);
    message.event.data.request_id = Some(request_id.to_owned());
    let published = bare.journal.publish(message, Deadline::after(BUDGET)).await;
    published.map(|_| ANSWER).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

/// (d) Publishes the body to a stream of its own, with an id made as in (b), and verifies nothing.
pub(crate) fn nats(address: SocketAddr, url: &str) -> anyhow::Result<()> {
    serve(address, async || Ok(Router::new().route(PATH, post(publish)).with_state(stream(url).await?)))
}

/// The same with an event of the gateway's size and with its headers, in the body's place.
pub(crate) fn event(address: SocketAddr, url: &str) -> anyhow::Result<()> {
    serve(address, async || {
        let state = Arc::new((stream(url).await?, example()?.event));
        Ok(Router::new().route(PATH, post(publish_event)).with_state(state))
    })
}

async fn stream(url: &str) -> anyhow::Result<Context> {
    let context = jetstream::new(async_nats::connect(url).await?);
    let config = Config { name: "BARE".to_owned(), subjects: vec!["bare.>".to_owned()], ..Config::default() };
    context.create_stream(config).await?;
    Ok(context)
}

async fn publish(State(context): State<Context>, request: Request) -> Result<&'static str, StatusCode> {
    let (body, id) = read(request).await?;
    send(&context, PublishMessage::build().payload(body).message_id(id.to_string())).await
}

async fn publish_event(
    State(state): State<Arc<(Context, Event)>>,
    request: Request,
) -> Result<&'static str, StatusCode> {
    let (context, event) = &*state;
    let id = read(request).await?.1;
    let event = Event { id, ..event.clone() }.to_binary();
    let mut headers = HeaderMap::new();
    event.headers.into_iter().for_each(|(name, value)| headers.insert(name, value));
    send(context, PublishMessage::build().headers(headers).payload(event.data.into()).message_id(id.to_string())).await
}

async fn read(request: Request) -> Result<(Bytes, EventId), StatusCode> {
    let body = to_bytes(request.into_body(), BODY_BYTES_MAX).await.map_err(|_| StatusCode::BAD_REQUEST)?;
    let request_id = body.last_chunk::<24>().and_then(|id| str::from_utf8(id).ok()).ok_or(StatusCode::BAD_REQUEST)?;
    let id = EventId::from_request("examplebucket", "object", request_id);
    Ok((body, id))
}

async fn send(context: &Context, message: PublishMessage) -> Result<&'static str, StatusCode> {
    let unavailable = |_| StatusCode::SERVICE_UNAVAILABLE;
    context.send_publish("bare.uploads", message).await.map_err(unavailable)?.await.map_err(unavailable)?;
    Ok(ANSWER)
}

/// An event as the gateway makes it of the corpus's bodies.
fn example() -> anyhow::Result<Message> {
    let data: UploadCompleted = serde_json::from_value(serde_json::json!({
        "bucket": "examplebucket", "object": "exampledir/photos/00000000.jpg", "etag": "D8E8FCA2DC0F896FD7CB4CB0031BA249",
        "size": 1_048_576, "mime_type": "image/jpeg", "crc64": "17834398232350201234",
        "image": {"width": 200, "height": 278, "format": "jpg"}, "operation": "PutObject",
        "request_id": "5CF3E7820000000000000000", "client_ip": "203.0.113.7", "vars": {"user": "42"}, "route": "bench",
        "bucket_from": "body", "proof": ["signature"], "origin": "callback",
    }))?;
    let event =
        Event { id: EventId::from_bytes([0; 16]), time: "2026-01-01T00:00:00.123456789Z".parse()?, data, trace: None };
    Ok(Message { subject: "upcall.uploads.examplebucket.PutObject".parse()?, event })
}

fn serve(address: SocketAddr, router: impl AsyncFnOnce() -> anyhow::Result<Router>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        Ok(axum::serve(
            axum::serve::ListenerExt::tap_io(listener, |stream| {
                // As the gateway does: an answer must not wait for an acknowledgement.
                let _ = stream.set_nodelay(true);
            }),
            router().await?,
        )
        .await?)
    })
}

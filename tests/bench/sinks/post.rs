//! The least that could call a webhook: a loop of POST requests, which knows nothing of repetitions, failures or
//! signatures; and a receiver.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::ensure;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::routing;
use tokio::task::JoinSet;

use crate::events::event;
use crate::own::Started;
use crate::target::REQUESTS;

/// Posts events, so many at once, each as a CloudEvent that nobody has signed.
pub(crate) fn run(url: &str, events: usize) -> anyhow::Result<()> {
    let bodies: Vec<Vec<u8>> =
        (0..events).map(|number| Ok(event(number)?.to_structured())).collect::<anyhow::Result<_>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let started = runtime.block_on(async {
        // Nothing is encrypted here; the client wants to know all the same by what it would be.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build()?;
        let (bodies, next) = (Arc::new(bodies), Arc::new(AtomicUsize::new(0)));
        let started = Started::now()?;
        let mut running = JoinSet::new();
        for _ in 0..REQUESTS {
            let (bodies, next, client, url) = (Arc::clone(&bodies), Arc::clone(&next), client.clone(), url.to_owned());
            running.spawn(async move {
                loop {
                    let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) else { return anyhow::Ok(()) };
                    let request = client.post(&url).header("content-type", "application/cloudevents+json");
                    let answer = request.body(body.clone()).send().await?;
                    ensure!(answer.status().is_success(), "the receiver answered {}", answer.status());
                    answer.bytes().await?;
                }
            });
        }
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        anyhow::Ok(started)
    })?;
    started.print(events)
}

/// Takes whatever is posted.
pub(crate) fn receive(address: SocketAddr) -> anyhow::Result<()> {
    const BODY_BYTES_MAX: usize = 1 << 20;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let router = Router::new().route(
            "/",
            routing::post(async |body: Body| {
                let _ = to_bytes(body, BODY_BYTES_MAX).await;
            }),
        );
        Ok(axum::serve(tokio::net::TcpListener::bind(address).await?, router).await?)
    })
}

//! A running Upcall: bus, consumers and gateway, started and stopped in their order.

use std::pin::Pin;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};
use upcall_bus::SubscribeError;
use upcall_consumer::Consumer;
use upcall_gateway::{FunctionOptions, Gateway, Observer, Options};
use upcall_telemetry::metrics::Metrics;
use upcall_verifier::{HttpsFetcher, KeyFetcher, Keys, Verifier};

use crate::answer;
use crate::bus::Bus;
use crate::config::Config;
use crate::gauges;
use crate::ready;
use crate::sink;

/// Everything that a configuration names, built and bound, not yet running.
pub(crate) struct Node {
    bus: Bus,
    consumers: Vec<(String, Consumer)>,
    gateway: Gateway,
}

impl Node {
    /// Opens the bus, binds the addresses, and puts the consumers together.
    pub(crate) async fn build(config: Config, observer: Option<Observer>) -> anyhow::Result<Self> {
        allow_connections(config.gateway.limits.connections_max);
        let metrics = Metrics::new();
        let specs = config.consumers.iter().map(|consumer| consumer.options.spec.clone()).collect();
        let bus = Bus::open(config.bus, specs, &metrics).await?;

        let fetcher: Option<Arc<dyn KeyFetcher>> = match config.keys.fetch && !config.routes.is_empty() {
            true => Some(Arc::new(HttpsFetcher::new().context("keys could not be fetched over https")?)),
            false => None,
        };
        // Whether the keys can be used was checked with the configuration.
        let keys = Keys::new(config.keys.trusted, fetcher, &metrics).map_err(|mistakes| {
            anyhow::anyhow!("{}", mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        })?;

        // Whoever only consumes listens for no callbacks.
        let listen = Some(config.gateway.listen).filter(|_| !config.routes.is_empty());
        let (mut consumers, mut consumer_checks) = (Vec::new(), Vec::new());
        for consumer in config.consumers {
            let name = consumer.options.spec.name.to_string();
            let sink = sink::build(consumer.sink).with_context(|| format!("consumer {name}"))?;
            let consumer = Consumer::new(bus.consumed(), sink, consumer.options);
            gauges::of_consumer(&metrics, &name, consumer.stats());
            consumer_checks.push(ready::of_consumer(&name, consumer.stats(), listen.is_none()));
            consumers.push((name, consumer));
        }

        let mut options = Options::new(listen, Verifier::new(keys, bus.publisher()), metrics);
        options.admin = Some(config.gateway.admin);
        let bind = |route| answer::bind(route, bus.nats());
        options.routes = config.routes.into_iter().map(bind).collect::<anyhow::Result<_>>()?;
        options.original_target = config.gateway.original_target;
        options.limits = config.gateway.limits;
        options.shutdown = config.gateway.shutdown;
        options.observer = observer;
        options.function = config.function.map(|function| {
            let nats = bus.nats().cloned();
            let prepare = move || {
                let nats = nats.clone();
                let ready = async move {
                    if let Some(nats) = nats {
                        nats.first_look().await;
                    }
                };
                Box::pin(ready) as Pin<Box<dyn Future<Output = ()> + Send>>
            };
            FunctionOptions {
                invoked_by: function.invoked_by,
                notification_wait: function.notification_wait,
                prepare: Arc::new(prepare),
            }
        });
        options.quarantine = bus.quarantine();
        options.ready_checks.extend(bus.ready_checks().into_iter().chain(consumer_checks));
        let gateway = Gateway::bind(options).await.context("the gateway can't start")?;
        Ok(Self { bus, consumers, gateway })
    }

    /// The gateway, for its addresses.
    pub(crate) fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Runs until `shutdown` turns true, then stops in order: no new callbacks, callbacks under way, consumers, bus.
    pub(crate) async fn run(self, mut shutdown: watch::Receiver<bool>) -> anyhow::Result<()> {
        let Self { bus, consumers, gateway } = self;
        let (stop_consumers, stopped) = watch::channel(false);
        let mut running = JoinSet::new();
        for (name, consumer) in consumers {
            let (settled, stopped) = (bus.settled(), stopped.clone());
            running.spawn(async move {
                tokio::select! {
                    () = settled => {}
                    () = turned_true(stopped.clone()) => {}
                }
                (name, consumer.run(turned_true(stopped)).await)
            });
        }
        let mut failure = None;
        {
            let mut gateway = std::pin::pin!(gateway.run(async move { drop(shutdown.wait_for(|stop| *stop).await) }));
            loop {
                tokio::select! {
                    ended = &mut gateway => {
                        if let Err(unfinished) = ended {
                            warn!("{unfinished}");
                        }
                        break;
                    }
                    Some(ended) = running.join_next() => failure = failure.or(report(ended)),
                }
            }
        }
        // The receivers are gone where every consumer has ended already.
        let _ = stop_consumers.send(true);
        while let Some(ended) = running.join_next().await {
            failure = failure.or(report(ended));
        }
        bus.close().await;
        info!("stopped");
        failure.map_or(Ok(()), Err)
    }
}

/// Descriptors that are needed beside one for each connection: files, listeners, databases.
const DESCRIPTORS_BESIDE: u64 = 128;

/// Lets the process open as many descriptors as its connections need. Many systems start with 1,024.
fn allow_connections(connections_max: usize) {
    let needed = connections_max as u64 + DESCRIPTORS_BESIDE;
    match rlimit::increase_nofile_limit(needed) {
        Ok(limit) if limit < needed => warn!(
            limit,
            needed,
            "fewer descriptors than connections are allowed; lower [gateway.limits] connections, or raise `ulimit -n`"
        ),
        Ok(_) => {}
        Err(error) => warn!(%error, "the limit of open descriptors could not be raised"),
    }
}

async fn turned_true(mut flag: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = flag.wait_for(|flag| *flag).await;
}

/// Logs a consumer that ended for another reason than being told to. The gateway goes on: events are kept.
fn report(ended: Result<(String, Result<(), SubscribeError>), tokio::task::JoinError>) -> Option<anyhow::Error> {
    let failure = match ended {
        Ok((_, Ok(()))) => return None,
        Ok((name, Err(error))) => anyhow::Error::new(error).context(format!("consumer {name} has stopped")),
        Err(error) => anyhow::Error::new(error).context("a consumer has stopped"),
    };
    error!("{failure:#}");
    Some(failure)
}

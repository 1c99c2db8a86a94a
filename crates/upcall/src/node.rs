//! A running Upcall: bus, consumers and gateway, started and stopped in their order.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::watch;
use tracing::{info, warn};
use upcall_consumer::Consumer;
use upcall_gateway::{Gateway, Observer, Options, RouteOptions, SiteOptions};
use upcall_telemetry::log;
use upcall_telemetry::metrics::Metrics;
use upcall_telemetry_otlp::Handle;
use upcall_verifier::{HttpsFetcher, KeyFetcher, Keys, Verifier};

use crate::answer;
use crate::bus::Bus;
use crate::config::{self, Config, Route};
use crate::fleet::{Fleet, Members, Prepared};
use crate::function;
use crate::gauges;
use crate::ready;
use crate::reload::{InForce, Reloader};
use crate::sink;

/// Everything that a configuration names, built and bound, not yet running.
pub(crate) struct Node {
    bus: Bus,
    parts: Parts,
    keys: Keys,
    consumers: Vec<Prepared>,
    fleet: Arc<Fleet>,
    gateway: Gateway,
    telemetry: Option<Handle>,
}

/// What a node is built for, beside its configuration.
#[derive(Default)]
pub(crate) struct Purpose {
    /// Is told of every callback.
    pub(crate) observer: Option<Observer>,
    /// Changes what is logged.
    pub(crate) log: Option<log::Control>,
    /// What is in force, where the configuration may change.
    pub(crate) in_force: Option<InForce>,
    /// What an instance on Function Compute flushes, and another configuration renews.
    pub(crate) telemetry: Option<Handle>,
}

impl Node {
    /// Opens the bus, binds the addresses, and puts the consumers together.
    pub(crate) async fn build(config: Config, purpose: Purpose) -> anyhow::Result<Self> {
        allow_connections(config.gateway.limits.connections_max);
        let metrics = Metrics::new();
        let members = Members::of(config.consumers.iter().map(|consumer| consumer.options.spec.clone()));
        let bus = Bus::open(config.bus, &members, &metrics).await?;
        let parts = Parts { bus: bus.consumed(), publisher: bus.publisher(), nats: bus.nats().cloned(), metrics };
        let keys = parts.keys(config.keys, !config.routes.is_empty(), None)?;

        // Whoever only consumes listens for no callbacks.
        let listen = Some(config.gateway.listen).filter(|_| !config.routes.is_empty());
        let consumers = parts.consumers(config.consumers)?;
        let fleet = Fleet::new(members.clone(), bus.settled(), parts.metrics.clone());
        gauges::of_consumers(&parts.metrics, members.clone());

        let verifier = Verifier::new(keys.clone(), bus.publisher());
        let mut options = Options::new(listen, verifier, parts.metrics.clone());
        options.admin = Some(config.gateway.admin);
        options.health = config.gateway.health;
        options.routes = parts.routes(config.routes)?;
        options.original_target = config.gateway.original_target;
        options.tracing_peers = config.telemetry.map(|telemetry| telemetry.parents_from).unwrap_or_default();
        options.limits = config.gateway.limits;
        options.shutdown = config.gateway.shutdown;
        options.observer = purpose.observer;
        let telemetry = purpose.telemetry;
        options.function =
            config.function.map(|function| function::options(&function, bus.nats().cloned(), telemetry.clone()));
        options.log = purpose.log;
        options.configuration = purpose.in_force.map(InForce::page);
        options.quarantine = bus.quarantine();
        options.ready_checks.extend(bus.ready_checks());
        options.ready_checks.push(ready::of_consumers(members, listen.is_none()));
        let gateway = Gateway::bind(options).await.context("the gateway can't start")?;
        Ok(Self { bus, parts, keys, consumers, fleet: Arc::new(fleet), gateway, telemetry })
    }

    /// The gateway, for its addresses.
    pub(crate) fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// What takes up another configuration, from this file, while the node runs.
    pub(crate) fn reloader(&self, file: &Path, before: Before, in_force: InForce, log: log::Control) -> Reloader {
        in_force.begin(file, &self.parts.metrics);
        Reloader {
            file: file.to_owned(),
            is_read_once: !config::can_be_read_again(file),
            before,
            parts: self.parts.clone(),
            keys: self.keys.clone(),
            site: self.gateway.site(),
            fleet: Arc::clone(&self.fleet),
            in_force,
            log,
            telemetry: self.telemetry.clone(),
        }
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.parts.metrics
    }

    /// Runs until `shutdown` turns true, then stops in order: no new callbacks, callbacks under way, consumers, bus.
    pub(crate) async fn run(self, mut shutdown: watch::Receiver<bool>) -> anyhow::Result<()> {
        let Self { bus, consumers, fleet, gateway, .. } = self;
        fleet.exchange([], consumers).await;
        let ended = gateway.run(async move { drop(shutdown.wait_for(|stop| *stop).await) }).await;
        if let Err(unfinished) = ended {
            warn!("{unfinished}");
        }
        let failure = fleet.end().await;
        bus.close().await;
        info!("stopped");
        failure.map_or(Ok(()), Err)
    }
}

/// What is compared with another configuration.
pub(crate) struct Before {
    pub(crate) sources: config::Sources,
    pub(crate) reload: config::Reload,
    /// The subjects that the stream captures for the routes.
    pub(crate) subjects: Vec<String>,
    pub(crate) takes_callbacks: bool,
}

impl Before {
    /// Takes note of a configuration that is about to be in force.
    pub(crate) fn of(config: &Config) -> Self {
        let subjects = config.bus.nats.as_ref().map(|nats| nats.options.subjects.clone()).unwrap_or_default();
        let takes_callbacks = !config.routes.is_empty();
        // What a function's code holds does not change, and an instance that is frozen looks at nothing.
        let reload = config::Reload { watch: config.reload.watch && config.function.is_none() };
        Self { sources: config.sources.clone(), reload, subjects, takes_callbacks }
    }
}

/// What routes and consumers are put together from.
#[derive(Clone)]
pub(crate) struct Parts {
    bus: Arc<dyn upcall_bus::Bus>,
    publisher: Arc<dyn upcall_bus::Publisher>,
    pub(crate) nats: Option<upcall_bus_nats::NatsBus>,
    pub(crate) metrics: Metrics,
}

impl Parts {
    /// What callbacks are verified with; with what was fetched `before`.
    pub(crate) fn keys(
        &self,
        config: config::Keys,
        takes_callbacks: bool,
        before: Option<&Keys>,
    ) -> anyhow::Result<Keys> {
        let fetcher: Option<Arc<dyn KeyFetcher>> = match config.fetch && takes_callbacks {
            true => Some(Arc::new(HttpsFetcher::new().context("keys could not be fetched over https")?)),
            false => None,
        };
        let keys = match before {
            Some(before) => before.renewed(config.trusted, fetcher, &self.metrics),
            None => Keys::new(config.trusted, fetcher, &self.metrics),
        };
        // Whether the keys can be used was checked with the configuration.
        keys.map_err(|mistakes| {
            anyhow::anyhow!("{}", mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        })
    }

    /// What answers on each route.
    pub(crate) fn routes(&self, routes: Vec<Route>) -> anyhow::Result<Vec<RouteOptions>> {
        routes.into_iter().map(|route| answer::bind(route, self.nats.as_ref())).collect()
    }

    /// What a gateway judges callbacks by.
    pub(crate) fn site(&self, config: config::Gateway, routes: Vec<Route>, keys: Keys) -> anyhow::Result<SiteOptions> {
        let verifier = Verifier::new(keys, Arc::clone(&self.publisher));
        Ok(SiteOptions { routes: self.routes(routes)?, original_target: config.original_target, verifier })
    }

    /// Consumers with their sinks, none of which is connected to yet.
    pub(crate) fn consumers(&self, consumers: Vec<config::Consumer>) -> anyhow::Result<Vec<Prepared>> {
        let prepare = |config: config::Consumer| {
            let spec = config.options.spec.clone();
            let sink = sink::build(config.sink).with_context(|| format!("consumer {}", spec.name))?;
            let consumer = Consumer::new(Arc::clone(&self.bus), sink, config.options);
            Ok(Prepared { spec, consumer })
        };
        consumers.into_iter().map(prepare).collect()
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

//! The consumers at work: started, and exchanged one by one while the process runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info};
use upcall_bus::ConsumerSpec;
use upcall_consumer::{Consumer, Stats};
use upcall_telemetry::metrics::Metrics;

use crate::bus::Settled;
use crate::gauges;

/// Which consumers there are now, for whoever watches them; a clone is the same.
#[derive(Clone, Default)]
pub(crate) struct Members(Arc<Mutex<ByName>>);

/// What each consumer reads, and how it is, once it is at work.
type ByName = BTreeMap<String, (ConsumerSpec, Option<Stats>)>;

impl Members {
    /// Those that a configuration names. They show once they are at work.
    pub(crate) fn of(specs: impl IntoIterator<Item = ConsumerSpec>) -> Self {
        let named = specs.into_iter().map(|spec| (spec.name.to_string(), (spec, None)));
        Self(Arc::new(Mutex::new(named.collect())))
    }

    /// How each of them is.
    pub(crate) fn stats(&self) -> Vec<(String, Stats)> {
        let stats = |(name, (_, stats)): (&String, &(_, Option<Stats>))| Some((name.clone(), stats.clone()?));
        self.lock().iter().filter_map(stats).collect()
    }

    /// What each of them reads.
    pub(crate) fn specs(&self) -> Vec<ConsumerSpec> {
        self.lock().values().map(|(spec, _)| spec.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, ByName> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A consumer that is ready to run.
pub(crate) struct Prepared {
    pub(crate) spec: ConsumerSpec,
    pub(crate) consumer: Consumer,
}

/// The consumers at work.
pub(crate) struct Fleet {
    members: Members,
    settled: Settled,
    metrics: Metrics,
    running: tokio::sync::Mutex<Option<BTreeMap<String, Running>>>,
    failure: Arc<Mutex<Option<anyhow::Error>>>,
}

struct Running {
    stop: watch::Sender<bool>,
    ended: JoinHandle<()>,
}

impl Fleet {
    /// A fleet without anybody in it. Each consumer waits for the bus to have settled.
    pub(crate) fn new(members: Members, settled: Settled, metrics: Metrics) -> Self {
        let running = tokio::sync::Mutex::new(Some(BTreeMap::new()));
        Self { members, settled, metrics, running, failure: Arc::default() }
    }

    /// Has consumers end in order, whose names these are, and others begin. Nothing happens once the fleet has ended.
    pub(crate) async fn exchange(&self, gone: impl IntoIterator<Item = String>, added: Vec<Prepared>) {
        let mut running = self.running.lock().await;
        let Some(running) = &mut *running else { return };
        let leaving: Vec<_> = gone.into_iter().filter_map(|name| Some((running.remove(&name)?, name))).collect();
        // All at once: each may take its time to drain.
        leaving.iter().for_each(|(consumer, _)| consumer.stop());
        for (consumer, name) in leaving {
            let _ = consumer.ended.await;
            self.members.lock().remove(&name);
            gauges::forget_consumer(&self.metrics, &name);
            info!(consumer = name, "the consumer has ended");
        }
        for Prepared { spec, consumer } in added {
            let name = spec.name.to_string();
            self.members.lock().insert(name.clone(), (spec, Some(consumer.stats())));
            running.insert(name.clone(), self.start(name, consumer));
        }
    }

    /// Has every consumer end in order. Returns why one has ended before, if one has.
    pub(crate) async fn end(&self) -> Option<anyhow::Error> {
        let running = self.running.lock().await.take().unwrap_or_default();
        running.values().for_each(Running::stop);
        for (_, consumer) in running {
            let _ = consumer.ended.await;
        }
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What each of the consumers reads.
    pub(crate) fn specs(&self) -> Vec<ConsumerSpec> {
        self.members.specs()
    }

    fn start(&self, name: String, consumer: Consumer) -> Running {
        let (stop, stopped) = watch::channel(false);
        let (settled, failure) = (self.settled.clone(), Arc::clone(&self.failure));
        let ended = tokio::spawn(async move {
            // A task of its own, so that one that falls over is told, too.
            let at_work = tokio::spawn(async move {
                tokio::select! {
                    () = settled.wait() => {}
                    () = turned_true(stopped.clone()) => {}
                }
                consumer.run(turned_true(stopped)).await
            });
            let ended = match at_work.await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => anyhow::Error::new(error),
                Err(panic) => anyhow::Error::new(panic),
            };
            // The gateway goes on: events are kept.
            let ended = ended.context(format!("consumer {name} has stopped"));
            error!("{ended:#}");
            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(ended);
        });
        Running { stop, ended }
    }
}

impl Running {
    fn stop(&self) {
        // The receiver is gone where it has ended already.
        let _ = self.stop.send(true);
    }
}

async fn turned_true(mut flag: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = flag.wait_for(|flag| *flag).await;
}

//! Taking up another configuration while the process runs: read and checked whole, refused whole, applied whole.

mod files;
mod in_force;
mod watcher;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};
use upcall_gateway::{CheckedSite, SiteHandle};
use upcall_telemetry::error_chain;
use upcall_telemetry::log;
use upcall_telemetry_otlp::{Handle, Renewal};
use upcall_verifier::Keys;

use crate::config::{self, Changes, Config};
use crate::fleet::{Fleet, Prepared};
use crate::node::{Before, Parts};
use crate::signals::Hangups;
use files::Files;
pub(crate) use in_force::InForce;
use in_force::Refusal;
use watcher::Watcher;

/// Where the files are named that a collector is spoken to with.
const OF_COLLECTOR: &str = "telemetry.otlp.";
/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Takes up another configuration while the process runs.
pub(crate) struct Reloader {
    pub(crate) file: PathBuf,
    /// Whether the file can't be read a second time, such as a pipe.
    pub(crate) is_read_once: bool,
    pub(crate) before: Before,
    pub(crate) parts: Parts,
    pub(crate) keys: Keys,
    pub(crate) site: SiteHandle,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) in_force: InForce,
    pub(crate) log: log::Control,
    pub(crate) telemetry: Option<Handle>,
}

/// A configuration whose parts are built, so that nothing can fail any more.
struct Built {
    before: Before,
    keys: Keys,
    site: CheckedSite,
    consumers: Vec<Prepared>,
    changed: BTreeSet<String>,
    filter: String,
    nats: Option<(upcall_bus_nats::Auth, upcall_bus_nats::Tls)>,
    telemetry: Option<Renewal>,
    summary: String,
}

/// What became of another configuration, but for a refusal.
enum Taken {
    Applied,
    Unchanged,
}

impl Reloader {
    /// Reads the file again at each SIGHUP, and once it or a file that it names has changed, until `shutdown`.
    pub(crate) async fn run(mut self, mut hangups: Hangups, mut shutdown: watch::Receiver<bool>) {
        let mut watcher = Watcher::default();
        let mut files = Files::default();
        if self.is_read_once {
            info!("the configuration is no regular file: it was read once, and no change of it will be taken up");
        }
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_asked = tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => return,
                () = hangups.next() => true,
                _ = ticks.tick(), if self.before.reload.watch && !self.is_read_once => false,
            };
            if is_asked && self.is_read_once {
                warn!("SIGHUP: the configuration is no regular file, and can't be read again");
                continue;
            }
            if is_asked {
                info!("SIGHUP: reading the configuration again");
            } else {
                let look = watcher.has_settled_anew(&mut files, &self.before.sources, self.in_force.is_refused());
                match look.await {
                    Ok(true) => {}
                    Ok(false) => continue,
                    Err(refusal) => {
                        self.refuse(refusal, false);
                        continue;
                    }
                }
            }
            self.reload(&mut files, is_asked).await;
            watcher.seen();
        }
    }

    /// Reads the file and takes it up, or refuses it as a whole. What was refused before is not said again, unless
    /// somebody asks.
    async fn reload(&mut self, files: &mut Files, is_asked: bool) {
        match self.take_up(files).await {
            Ok(Taken::Applied) => {}
            Ok(Taken::Unchanged) => {
                if is_asked || self.in_force.is_refused() {
                    self.in_force.unchanged(&self.parts.metrics);
                    info!("the configuration is the one that is in force");
                }
            }
            Err(refusal) => self.refuse(refusal, is_asked),
        }
    }

    fn refuse(&self, refusal: Refusal, is_asked: bool) {
        if !is_asked && !self.in_force.is_news(&refusal) {
            return;
        }
        error!(
            outcome = refusal.outcome,
            "the configuration is refused, and the one before stays in force: {}",
            refusal.reasons.join("; ")
        );
        self.in_force.refused(refusal, &self.parts.metrics);
    }

    async fn take_up(&mut self, files: &mut Files) -> Result<Taken, Refusal> {
        let file = self.file.clone();
        let config = files.read(move || Config::load(&file)).await?;
        let config = config.map_err(|error| match error {
            config::ConfigError::Mistaken { mistakes, .. } => {
                Refusal::new("invalid", mistakes.iter().map(ToString::to_string).collect())
            }
            error => Refusal::new("invalid", vec![error_chain(&error)]),
        })?;
        let changes = self.before.sources.changes(&config.sources);
        if changes == Changes::default() {
            return Ok(Taken::Unchanged);
        }
        self.refuse_restarts(&config, &changes)?;
        let built = self.build(config, &changes)?;
        self.apply(built).await;
        Ok(Taken::Applied)
    }

    /// Refuses what can't be changed while the process runs, and names all of it.
    fn refuse_restarts(&self, config: &Config, changes: &Changes) -> Result<(), Refusal> {
        let fixed = changes.keys.iter().filter(|key| !is_live(key)).cloned();
        let fixed_content = changes.contents.iter().filter(|key| !is_live_content(key)).cloned();
        let mut reasons: Vec<String> =
            fixed.chain(fixed_content).map(|key| format!("{key}: has changed, which needs a restart")).collect();
        let before = Before::of(config);
        if before.subjects != self.before.subjects {
            reasons.push(format!(
                "route: the stream is to capture {}, not {} as before, which needs a restart",
                before.subjects.join(", "),
                self.before.subjects.join(", ")
            ));
        }
        if before.takes_callbacks != self.before.takes_callbacks {
            reasons.push("route: whether there are routes decides who listens, which needs a restart".to_owned());
        }
        if let (Some(nats), Some(options)) = (&self.parts.nats, config.bus.nats.as_ref().map(|nats| &nats.options))
            && reasons.is_empty()
            && !nats.can_renew_login(&options.auth)
        {
            reasons.push("bus.nats: another way to log in needs a restart".to_owned());
        }
        if reasons.is_empty() { Ok(()) } else { Err(Refusal::new("needs_restart", reasons)) }
    }

    /// Builds what has changed. Whatever fails, nothing has been applied.
    fn build(&self, config: Config, changes: &Changes) -> Result<Built, Refusal> {
        let failed = |error: anyhow::Error| Refusal::new("failed", vec![error_chain(error.as_ref())]);
        let (before, summary) = (Before::of(&config), config.summary());
        let Config { gateway, keys, bus, routes, consumers, log, telemetry, .. } = config;
        let is_renewed = changes.contents.iter().any(|key| key.starts_with(OF_COLLECTOR));
        let renewal = telemetry.filter(|_| is_renewed).map(|telemetry| Renewal::new(&telemetry.options)).transpose();
        let renewal = renewal.map_err(|error| failed(error.into()))?;
        let keys = self.parts.keys(keys, !routes.is_empty(), Some(&self.keys)).map_err(failed)?;
        let is_changed = |consumer: &config::Consumer| changes.consumers.contains(consumer.options.spec.name.as_str());
        let consumers = self.parts.consumers(consumers.into_iter().filter(is_changed).collect()).map_err(failed)?;
        // Last, since a route begins to be counted when it is checked.
        let site = self.parts.site(gateway, routes, keys.clone()).map_err(failed)?;
        let site = self
            .site
            .check(site)
            .map_err(|mistakes| Refusal::new("invalid", mistakes.iter().map(ToString::to_string).collect()))?;
        Ok(Built {
            before,
            keys,
            site,
            consumers,
            changed: changes.consumers.clone(),
            filter: log.filter,
            nats: bus.nats.map(|nats| (nats.options.auth, nats.options.tls)),
            telemetry: renewal,
            summary,
        })
    }

    /// Uses what was built. Callbacks under way are finished with what they began with, and consumers that end finish
    /// their batches.
    async fn apply(&mut self, built: Built) {
        let Built { before, keys, site, consumers, changed, filter, nats, telemetry, summary } = built;
        self.site.exchange(site);
        self.keys = keys;
        if let (Some(bus), Some((auth, tls))) = (&self.parts.nats, nats) {
            // Whether it can be renewed was asked before.
            let _ = bus.renew_login(&auth);
            bus.renew_certificates(&tls);
        }
        if let (Some(handle), Some(renewal)) = (&self.telemetry, telemetry) {
            handle.renew(renewal);
        }
        if let Err(invalid) = self.log.configure(&filter) {
            // It was checked with the configuration.
            warn!("what is logged stays as it is: {invalid}");
        }
        self.before = before;
        self.fleet.exchange(changed.iter().cloned(), consumers).await;
        if let Some(nats) = &self.parts.nats {
            nats.keep_consumers(self.fleet.specs());
        }
        self.in_force.applied(&self.parts.metrics);
        let names = changed.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        info!(consumers_exchanged = changed.len(), consumers = names, "another configuration is in force: {summary}");
    }
}

/// Whether a key outside of routes and consumers can change while the process runs.
fn is_live(key: &str) -> bool {
    const LIVE: [&str; 7] = [
        "keys",
        "gateway.forwarded_target",
        "log.filter",
        "reload",
        "bus.nats.user",
        "bus.nats.password",
        "bus.nats.token",
    ];
    LIVE.iter().any(|live| key.strip_prefix(live).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '['])))
}

/// The same for a key whose file has other content.
fn is_live_content(key: &str) -> bool {
    is_live(key) || ["bus.nats.tls.", OF_COLLECTOR].iter().any(|live| key.starts_with(live))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bound_opened_or_sized_at_the_start_needs_a_restart() {
        for key in [
            "gateway.listen",
            "gateway.limits.callbacks",
            "bus.journal",
            "bus.nats.url",
            "bus.nats.tls.ca",
            "log.format",
        ] {
            assert!(!is_live(key), "{key}");
        }
        for key in
            ["keys.trusted", "keys.fetch", "log.filter", "bus.nats.password.file", "gateway.forwarded_target.from"]
        {
            assert!(is_live(key), "{key}");
        }
        assert!(is_live_content("bus.nats.tls.key") && is_live_content("keys.trusted[0].file"));
        assert!(is_live_content("telemetry.otlp.ca") && !is_live("telemetry.otlp.ca"));
        assert!(!is_live_content("bus.nats.credentials") && !is_live_content("bus.nats.nkey.file"));
    }
}

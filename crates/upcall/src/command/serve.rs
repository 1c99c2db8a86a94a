//! `upcall serve`: takes callbacks and feeds consumers, as a configuration says.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use tracing::{debug, info};
use upcall_telemetry::log::{Layers, Written};
use upcall_telemetry_otlp::Telemetry;

use crate::config::Config;
use crate::node::{Before, Node, Purpose};
use crate::reload::InForce;
use crate::{runtime, signals, whereabouts};

/// Take callbacks and feed consumers, as a configuration file says
///
/// Nothing is bound or opened before the whole file is valid; `upcall check` tells beforehand. SIGTERM or Ctrl-C shuts
/// down in order: callbacks under way are answered, consumers finish their batches, the journal closes. A second
/// signal ends at once; nothing that was answered is lost by it.
///
/// SIGHUP has the file read again, and so has a change of it or of a file that it names: routes, keys, secrets,
/// certificates and consumers change while callbacks are taken. What has a mistake, or would need a restart, is refused
/// as a whole, and the log says why.
///
/// Every key can also come from the environment: UPCALL_GATEWAY__LISTEN=0.0.0.0:80 is `listen` in `[gateway]`.
///
/// Example: upcall serve -c upcall.toml
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = Config::load(&arguments.config)?;
    let (telemetry, layers) = match &config.telemetry {
        Some(telemetry) => {
            let (telemetry, layers) =
                Telemetry::start(telemetry.options.clone()).context("telemetry can't be exported")?;
            (Some(telemetry), layers)
        }
        None => (None, Layers::default()),
    };
    // A line that waits for its thread when the instance is frozen may never be written.
    let written = if config.function.is_some() { Written::AtOnce } else { Written::Aside };
    let layers = Layers { written, ..layers };
    let logging = upcall_telemetry::log::start(config.log.format, &config.log.filter, layers)?;
    let log = logging.control();
    let ended = runtime::block_on(async {
        let (shutdown, hangups) = (signals::shutdown()?, signals::hangups()?);
        let (summary, before, in_force) = (config.summary(), Before::of(&config), InForce::default());
        let purpose = Purpose {
            log: Some(log.clone()),
            in_force: Some(in_force.clone()),
            telemetry: telemetry.as_ref().map(Telemetry::handle),
            observer: None,
        };
        let node = Node::build(config, purpose).await?;
        if let Some(telemetry) = &telemetry {
            telemetry.export(node.metrics());
        }
        let gateway = node.gateway();
        if let Some(admin) = gateway.admin_addr()
            && let Err(error) = whereabouts::tell(&arguments.config, admin)
        {
            debug!(%error, "`upcall health` has to go by the configuration file: nobody can be asked where this process is");
        }
        let [callbacks, admin, health] = [gateway.local_addr(), gateway.admin_addr(), gateway.health_addr()]
            .map(|address| address.map(tracing::field::display));
        info!(callbacks, admin, health, "serving {summary}");
        let reloader = node.reloader(&arguments.config, before, in_force, log);
        tokio::spawn(reloader.run(hangups, shutdown.clone()));
        node.run(shutdown).await
    });
    // What there is to tell of the end goes first.
    drop(telemetry);
    ended?;
    Ok(ExitCode::SUCCESS)
}

//! `upcall dev`: OSS, gateway, journal and an SQLite consumer in one process, ready for a first upload.

mod guide;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use upcall_simulator::{Handle, Options, Simulator};
use upcall_telemetry::error_chain;
use upcall_telemetry::log::{Format, Layers};

use crate::config::Config;
use crate::node::{Node, Purpose};
use crate::{runtime, signals};

/// Try everything on this machine: a simulated OSS, the gateway, the journal and an SQLite consumer
///
/// Prints an upload to paste. OSS is simulated: the upload is real, the callback is signed with a key of its own, and
/// from there on everything is what `upcall serve` does. Each callback is shown as one line as it passes. Everything
/// is kept in one folder: delete it to start afresh. Ctrl-C ends it.
///
/// To go on from here, print the configuration and change it:
///   upcall dev --print-config > upcall.toml
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// The folder for the journal, the table of uploads, and the objects of the simulated OSS
    #[arg(long, value_name = "FOLDER", default_value = "./upcall-data")]
    data: PathBuf,
    /// Where the simulated OSS listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    oss: SocketAddr,
    /// Where the gateway takes callbacks
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where the gateway serves health and metrics
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    admin: SocketAddr,
    /// Print the configuration that `upcall serve` would need to do the same, and end
    #[arg(long)]
    print_config: bool,
}

/// The bucket that is there from the start.
const BUCKET: &str = "examplebucket";
/// What is logged. Refused callbacks have their lines already.
const LOG_FILTER: &str = "warn,upcall_gateway=error";

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let _logging = upcall_telemetry::log::start(Format::Human, LOG_FILTER, Layers::default())?;
    runtime::block_on(async {
        std::fs::create_dir_all(&arguments.data)
            .with_context(|| format!("{} can't be made", arguments.data.display()))?;
        let data = arguments.data.canonicalize()?;
        if arguments.print_config {
            // Only for its key, so on any free port: another one may be running.
            let listen = SocketAddr::from(([127, 0, 0, 1], 0));
            let key_url = Some(format!("http://{}/_simulator/callback_pub_key.pem", arguments.oss));
            let options = Options { listen, key_url, ..simulator_options(arguments, &data) };
            print!("{}", configuration(arguments, &data, &Simulator::bind(options).await?.handle()));
            return Ok(());
        }
        let simulator = Simulator::bind(simulator_options(arguments, &data))
            .await
            .context("the simulated OSS can't start")
            .map_err(|error| advised(error, arguments))?;
        let handle = simulator.handle();
        let text = configuration(arguments, &data, &handle);
        let config = Config::parse(&data.join("upcall.toml"), &text, std::iter::empty())?;
        let shutdown = signals::shutdown()?;
        let built = Node::build(config, Purpose { observer: Some(watch::observer()), ..Purpose::default() }).await;
        let node = built.map_err(|error| advised(error, arguments))?;
        let callbacks = node.gateway().local_addr().context("the gateway listens nowhere")?;
        let addresses = (callbacks, node.gateway().admin_addr());
        println!("{}", guide::text(&handle, addresses, &arguments.data));
        let mut simulator_shutdown = shutdown.clone();
        let simulator =
            tokio::spawn(simulator.run(async move { drop(simulator_shutdown.wait_for(|stop| *stop).await) }));
        node.run(shutdown).await?;
        Ok(simulator.await?)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Adds what this command's options can do about a fault.
fn advised(error: anyhow::Error, arguments: &Arguments) -> anyhow::Error {
    let is_taken = |source: &io::Error| source.kind() == io::ErrorKind::AddrInUse;
    let advice = error.chain().find_map(|cause| {
        if let Some(upcall_simulator::BindError::Listen { source, .. }) = cause.downcast_ref() {
            return is_taken(source).then_some(
                "choose another with --oss; beside another `upcall dev`, others with --listen, --admin and --data, too",
            );
        }
        if let Some(upcall_gateway::BindError::Listen { address, source }) = cause.downcast_ref() {
            let of_admin = *address == arguments.admin && *address != arguments.listen;
            let advice = if of_admin { "choose another with --admin" } else { "choose another with --listen" };
            return is_taken(source).then_some(advice);
        }
        let is_open = matches!(cause.downcast_ref(), Some(upcall_bus_journal::OpenError::Locked { .. }));
        is_open.then_some("choose another folder with --data")
    });
    match advice {
        Some(advice) => anyhow::anyhow!("{}; {advice}", error_chain(error.as_ref())),
        None => error,
    }
}

fn simulator_options(arguments: &Arguments, data: &Path) -> Options {
    Options { listen: arguments.oss, buckets: vec![BUCKET.to_owned()], ..Options::new(data.join("oss")) }
}

/// The configuration of the gateway, as a file would have it.
fn configuration(arguments: &Arguments, data: &Path, oss: &Handle) -> String {
    format!(
        r#"# What `upcall dev` runs, for `upcall serve -c`. It uses the same data: end `upcall dev` before.

[gateway]
listen = "{listen}"
admin  = "{admin}"

[bus]
journal = "{data}"

# The key of the simulated OSS. Alibaba Cloud's own key is built in: leave this out in production.
[[keys.trusted]]
url = "{key_url}"
pem = '''
{key}'''

[[route]]
name     = "dev"
path     = "{path}"
response = {{ Status = "OK", bucket = "${{bucket}}", object = "${{object}}", size = "${{size}}", id = "${{event.id}}" }}

[[consumer]]
name   = "catalog"
filter = "upcall.uploads.>"
sql    = {{ url = "sqlite://{data}/catalog.db", table = "uploads" }}
"#,
        data = data.display(),
        listen = arguments.listen,
        admin = arguments.admin,
        key_url = oss.key_url(),
        key = oss.public_key_pem(),
        path = guide::CALLBACK_PATH,
    )
}

//! The configuration: one TOML file, the environment over it, defaults under it.
//!
//! It is read straight into the options of the parts that it configures. Every mistake is reported at once; nothing
//! is bound, opened or written before there is none.

mod bus;
mod certificates;
mod condition;
mod consumer;
mod document;
mod file;
mod function;
mod gateway;
mod keys;
mod lines;
mod log;
mod nats;
mod otel;
mod outline;
mod overlay;
mod reader;
mod reload;
mod response;
mod route;
mod secret;
mod setting;
mod sink;
mod sources;
mod telemetry;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Table;
use upcall_gateway::{InvalidRoutes, check_routes};
use upcall_responder::Responder;

pub(crate) use bus::{Bus, JOURNAL_FOLDER};
pub(crate) use consumer::Consumer;
use document::{Document, Wanted};
pub(crate) use file::{being_read, can_be_read_again};
pub(crate) use function::Function;
pub(crate) use gateway::Gateway;
pub(crate) use keys::Keys;
pub(crate) use log::Log;
pub(crate) use nats::{Ack, Nats};
pub(crate) use outline::{Outline, admin_of, sink_of};
use reader::{Mistake, Reader, Section};
pub(crate) use reload::Reload;
pub(crate) use response::AnswerBy;
pub(crate) use route::Route;
pub(crate) use sink::Sink;
pub(crate) use sources::{Changes, Sources};
pub(crate) use telemetry::Telemetry;

use crate::words::plural;

/// A valid configuration.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) gateway: Gateway,
    pub(crate) keys: Keys,
    pub(crate) bus: Bus,
    pub(crate) routes: Vec<Route>,
    pub(crate) consumers: Vec<Consumer>,
    pub(crate) log: Log,
    pub(crate) function: Option<Function>,
    pub(crate) reload: Reload,
    pub(crate) sources: Sources,
    pub(crate) telemetry: Option<Telemetry>,
}

/// A configuration that can't be used.
#[derive(Debug)]
pub(crate) enum ConfigError {
    /// There is no such file.
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// The file can't be read.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file has mistakes.
    Mistaken {
        /// The file.
        file: PathBuf,
        /// Every mistake.
        mistakes: Vec<Mistake>,
    },
}

impl Config {
    /// Reads a file, with the environment over it.
    ///
    /// # Errors
    /// With every mistake.
    pub(crate) fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::of(Document::load(file, Wanted::All)?)
    }

    /// Reads a file's text. Relative paths in it start at the file's folder.
    ///
    /// # Errors
    /// With every mistake.
    pub(crate) fn parse(
        file: &Path,
        text: &str,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        Self::of(Document::parse(file, text, variables, Wanted::All)?)
    }

    fn of(document: Document) -> Result<Self, ConfigError> {
        let (config, sources) = document.read(read)?;
        Ok(Self { sources, ..config })
    }

    /// What is no mistake, since another machine may run it, and would be one here.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let remark = |consumer: &Consumer| match &consumer.sink {
            Sink::Command(options) => {
                let unfit = options.unfit()?;
                Some(format!("consumer {:?}: on this machine its command can't be run: {unfit}", consumer.name()))
            }
            Sink::Sql(_) | Sink::Webhook(_) | Sink::Notify(_) => None,
        };
        self.consumers.iter().filter_map(remark).collect()
    }

    /// Says in one line what the configuration sets up.
    pub(crate) fn summary(&self) -> String {
        format!("{}, {}", plural(self.routes.len(), "route"), plural(self.consumers.len(), "consumer"))
    }
}

/// Reads the whole document. `None` only where there are mistakes.
fn read(reader: &Reader, document: Table) -> Option<Config> {
    let mut root = reader.root(document);
    let listens = root.peek_table("gateway").is_some_and(|gateway| gateway.contains_key("listen"));
    let mut gateway = gateway::read(root.section("gateway", "Where callbacks arrive, and what is allowed to arrive."));
    let keys = keys::read(
        root.section("keys", "The public keys that callbacks are verified with, beside OSS's own, which is built in."),
    );
    let mut bus = bus::read(root.section("bus", "Where events are made durable."));
    let log = log::read(root.section("log", "What is logged, and how it looks."));
    let function = root.optional_section(
        "function_compute",
        "Makes the process an instance on Function Compute: see [Function Compute](../operations/function-compute.md).",
    );
    let function = function.map(function::read);
    if let Some(function) = &function {
        if listens {
            reader.mistake("gateway.listen", "is Function Compute's to say, in FC_SERVER_PORT: leave it out");
        }
        gateway.listen = function.listen;
    }
    let reload = reload::read(root.section("reload", "How a changed configuration is taken up while Upcall runs; SIGHUP always has it read again. See [operations](../operations/running.md#changing-the-configuration)."));
    let telemetry = telemetry::read(
        root.section("telemetry", "Who gets to know what Upcall does, beside the admin port and the log."),
    );
    let sections = root.sections("route", "A callback path with its policy. Without one no callbacks are taken, and nothing listens for them: see [running Upcall on NATS](../nats.md#consumers-in-processes-of-their-own).");
    if sections.is_empty() {
        report_idleness(&root, bus.nats.is_some());
    }
    report_repetitions(reader, "route", &sections);
    let routes: Vec<_> = sections.into_iter().map(|section| route::read(section, gateway.limits.budget)).collect();
    let sections = root.sections("consumer", "A durable reader of events, and what it does with them.");
    report_repetitions(reader, "consumer", &sections);
    let consumers: Vec<_> = sections.into_iter().map(|section| consumer::read(section, bus.events_kept())).collect();
    sink::report_shared_ids(reader, &consumers);
    report_routes(reader, &routes);
    function::report(reader, function.as_ref(), &bus, &routes, &consumers);
    // On NATS there may be other gateways, whose routes are not in this file.
    if bus.nats.is_none() {
        condition::report_unproduced(reader, &routes, &consumers);
    }
    report_requests(reader, &routes, bus.nats.is_some());
    report_concurrency(reader, &routes, gateway.limits.connections_max);
    if let Some(nats) = &mut bus.nats {
        nats.options.freezes = function.is_some();
        nats.capture(routes.iter().flatten().map(|route| route.policy.subject()));
    }
    Some(Config {
        gateway,
        keys: keys?,
        bus,
        routes: routes.into_iter().collect::<Option<_>>()?,
        consumers: consumers.into_iter().collect::<Option<_>>()?,
        log,
        function,
        reload,
        sources: Sources::default(),
        telemetry,
    })
}

/// Reports a configuration without a route that has nothing to do. Where there is NATS, others publish what is consumed.
fn report_idleness(root: &Section<'_>, has_nats: bool) {
    let consumes = root.has("consumer");
    let problem = match (consumes, has_nats) {
        (true, true) => return,
        (true, false) => {
            "is missing: without a route no callback is taken, and nobody else can publish in a journal. Add `[[route]]` \
             with `name` and `path`, or `[bus.nats]`, where others publish"
        }
        (false, _) => {
            "is missing: without a route no callback is taken, and without a `[[consumer]]` nothing else is done. Add \
             `[[route]]` with `name` and `path`"
        }
    };
    root.mistake("route", problem);
}

/// Reports routes that can't be told apart.
fn report_routes(reader: &Reader, routes: &[Option<Route>]) {
    let place =
        |name: &str| routes.iter().position(|route| route.as_ref().is_some_and(|route| route.policy.name() == name));
    let bound = routes.iter().flatten().map(|route| route.clone().bound(Responder::default())).collect();
    for mistake in check_routes(bound).err().unwrap_or_default() {
        let (name, key) = match &mistake {
            // Reported already, each in its own way.
            InvalidRoutes::None
            | InvalidRoutes::Name { .. }
            | InvalidRoutes::Path { .. }
            | InvalidRoutes::Query { .. } => continue,
            InvalidRoutes::Collision { second, .. } => (second, "path"),
            InvalidRoutes::Notifications { second, .. } => (second, "notifications"),
        };
        reader.mistake(format!("route[{}].{key}", place(name).unwrap_or_default()), mistake.to_string());
    }
}

/// Reports routes that ask over NATS where there is none.
fn report_requests(reader: &Reader, routes: &[Option<Route>], has_nats: bool) {
    for (at, route) in routes.iter().enumerate() {
        let is_request = route.as_ref().is_some_and(|route| matches!(route.answer, AnswerBy::Request { .. }));
        if is_request && !has_nats {
            reader
                .mistake(format!("route[{at}].response.request"), "needs `[bus.nats]`, the servers that it is sent to");
        }
    }
}

/// Reports services that could hold every connection by hanging, and so take down routes that ask nobody.
fn report_concurrency(reader: &Reader, routes: &[Option<Route>], connections_max: usize) {
    let asked = routes.iter().flatten().filter_map(|route| route.answer.options());
    let questions: usize = asked.map(|options| options.concurrency.get()).sum();
    if questions >= connections_max {
        reader.mistake(
            "gateway.limits.connections",
            format!(
                "leaves no connection to other routes while services hang: the `concurrency` of the routes that ask a \
                 service adds up to {questions}. Choose more, or lower those"
            ),
        );
    }
}

/// Reports names that more than one entry of an array has, whatever else is wrong with the entries.
fn report_repetitions(reader: &Reader, array: &str, sections: &[Section<'_>]) {
    let mut seen = BTreeMap::new();
    for (at, section) in sections.iter().enumerate() {
        let Some(name) = section.peek("name") else { continue };
        match seen.get(&name) {
            Some(first) => {
                reader.mistake(
                    format!("{array}[{at}].name"),
                    format!("{name:?} is taken by another {array}, {array}[{first}]"),
                );
            }
            None => drop(seen.insert(name, at)),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { file } => write!(f, "there is no file {}", file.display()),
            Self::Unreadable { file, .. } => write!(f, "{} can't be read", file.display()),
            Self::Mistaken { file, mistakes } => {
                write!(f, "{}: {}", file.display(), plural(mistakes.len(), "mistake"))?;
                mistakes.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
            }
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Missing { .. } | Self::Mistaken { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;

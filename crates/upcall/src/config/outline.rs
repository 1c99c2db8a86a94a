//! What an operator's command needs to know of a configuration. Whatever else is wrong with the file, such as a secret
//! that is in the server's environment and not in the operator's, is no reason not to look at what is kept.

use std::net::SocketAddr;
use std::path::Path;

use upcall_bus::ConsumerSpec;
use upcall_verifier::Route as Policy;

use super::document::{Document, Wanted};
use super::reader::Section;
use super::{Bus, ConfigError, bus, consumer, gateway, keys, route, sink};

/// A configuration without the sinks and services that it names.
#[derive(Debug, Clone)]
pub(crate) struct Outline {
    pub(crate) admin: SocketAddr,
    pub(crate) fetches_keys: bool,
    pub(crate) bus: Bus,
    pub(crate) routes: Vec<Policy>,
    pub(crate) consumers: Vec<ConsumerSpec>,
}

impl Outline {
    /// Reads a file for what is in an outline.
    ///
    /// # Errors
    /// With every mistake in that.
    pub(crate) fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::of(Document::load(file, Wanted::Only(&["gateway", "keys", "bus", "route", "consumer"]))?)
    }

    fn of(mut document: Document) -> Result<Self, ConfigError> {
        document.narrow("gateway", |key| key == "admin");
        document.narrow("keys", |key| key == "fetch");
        document.narrow("route", |key| key != "response");
        document.narrow("consumer", |key| consumer::SPEC_KEYS.contains(&key));
        let (outline, _) = document.read(|reader, table| {
            let mut root = reader.root(table);
            let gateway = gateway::read(root.section("gateway", ""));
            let keys = keys::read(root.section("keys", ""));
            let mut bus = bus::read(root.section("bus", ""));
            // Each is read, so that every mistake is told.
            let policy = |section| Some(route::read(section, gateway.limits.budget)?.policy);
            let routes: Vec<Option<Policy>> = root.sections("route", "").into_iter().map(policy).collect();
            let spec = |mut section: Section<'_>| consumer::read_spec(&mut section);
            let consumers: Vec<Option<ConsumerSpec>> = root.sections("consumer", "").into_iter().map(spec).collect();
            let routes = routes.into_iter().collect::<Option<Vec<_>>>()?;
            let consumers = consumers.into_iter().collect::<Option<_>>()?;
            if let Some(nats) = &mut bus.nats {
                nats.capture(routes.iter().map(Policy::subject));
            }
            Some(Self { admin: gateway.admin, fetches_keys: keys?.fetch, bus, routes, consumers })
        })?;
        Ok(outline)
    }
}

impl Bus {
    /// Reads `[bus]` of a file.
    ///
    /// # Errors
    /// With every mistake in that.
    pub(crate) fn load(file: &Path) -> Result<Self, ConfigError> {
        let document = Document::load(file, Wanted::Only(&["bus"]))?;
        Ok(document.read(|reader, table| Some(bus::read(reader.root(table).section("bus", ""))))?.0)
    }
}

/// Reads `gateway.admin` of a file.
///
/// # Errors
/// If it is a mistake.
pub(crate) fn admin_of(file: &Path) -> Result<SocketAddr, ConfigError> {
    let mut document = Document::load(file, Wanted::Only(&["gateway"]))?;
    document.narrow("gateway", |key| key == "admin");
    Ok(document.read(|reader, table| Some(gateway::read(reader.root(table).section("gateway", "")).admin))?.0)
}

/// What the sink of a file's consumer is called, such as `sql`. `None` where the file has no such consumer.
///
/// # Errors
/// If the file can't be read.
pub(crate) fn sink_of(file: &Path, consumer: &str) -> Result<Option<&'static str>, ConfigError> {
    let document = Document::load(file, Wanted::Only(&["consumer"]))?;
    let find = |table: &toml::Table| {
        let mut consumers = table.get("consumer")?.as_array()?.iter().filter_map(toml::Value::as_table);
        let found = consumers.find(|table| table.get("name").is_some_and(|name| name.as_str() == Some(consumer)))?;
        sink::NAMES.into_iter().find(|sink| found.contains_key(*sink))
    };
    Ok(document.read(|_, table| Some(find(&table)))?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a secret that nobody has set, and mistakes of every kind outside of what an operator needs.
    const TEXT: &str = r#"
        [gateway]
        admin = "127.0.0.1:9191"
        listen = "nowhere"
        [telemetry]
        nonsense = true
        [bus]
        journal = "./data"
        [[route]]
        name = "a"
        path = "/a"
        response = { http = { url = { env = "UPCALL_TEST_UNSET" } } }
        [[consumer]]
        name = "people"
        filter = "upcall.uploads.b.>"
        batch_max = "many"
        notify = { slack = { url = { env = "UPCALL_TEST_UNSET" } } }
    "#;

    fn document(text: &str, wanted: &'static [&'static str]) -> Document {
        let variables = [("UPCALL_ROUTE__7__PATH".to_owned(), "/x".to_owned())];
        let variables = variables.into_iter().filter(|_| !wanted.contains(&"route"));
        Document::parse(Path::new("/etc/upcall/upcall.toml"), text, variables, Wanted::Only(wanted)).unwrap()
    }

    #[test]
    fn what_is_kept_can_be_looked_at_whatever_else_the_file_says() {
        let read =
            document(TEXT, &["bus"]).read(|reader, table| Some(bus::read(reader.root(table).section("bus", ""))));
        let folder = read.unwrap().0.journal.unwrap().folder;
        assert_eq!(folder, Path::new("/etc/upcall/./data"));
        let outline = Outline::of(document(TEXT, &["gateway", "keys", "bus", "route", "consumer"])).unwrap();
        assert_eq!(outline.admin.port(), 9191);
        assert_eq!(outline.routes[0].name(), "a");
        assert_eq!(outline.consumers[0].name.as_str(), "people");
        assert_eq!(outline.consumers[0].filter.as_str(), "upcall.uploads.b.>");
    }

    #[test]
    fn a_mistake_in_what_is_needed_is_told_with_its_place() {
        let text = TEXT.replace("upcall.uploads.b.>", "..");
        let error = Outline::of(document(&text, &["gateway", "keys", "bus", "route", "consumer"])).unwrap_err();
        assert!(error.to_string().contains("line 15, consumer \"people\": consumer[0].filter: "), "{error}");
    }
}

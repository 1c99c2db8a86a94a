//! `[telemetry.otlp]`: which collector gets traces, metrics and logs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use toml::Value;
use upcall_gateway::Network;
use upcall_telemetry_otlp::{Endpoint, Options, Protocol, Signals};

use super::certificates::authorities;
use super::gateway::networks;
use super::reader::{Section, kind_of};
use super::secret;
use super::setting::{Setting, word};

/// What is exported, and whose traces are gone on with.
#[derive(Debug, Clone)]
pub(crate) struct Telemetry {
    pub(crate) options: Options,
    /// Whose `traceparent` is believed.
    pub(crate) parents_from: Vec<Network>,
}

/// The shortest time between two requests with metrics.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

impl Setting for Endpoint {
    const KIND: &'static str = "a URL such as \"http://collector:4317\", without a password and a query";

    fn read(value: &Value) -> Result<Self, String> {
        // Not the URL itself, which may hold a secret.
        let text = value.as_str().ok_or_else(|| format!("takes {}, not {}", Self::KIND, kind_of(value)))?;
        text.parse().map_err(|_| format!("takes {}", Self::KIND))
    }
}

impl Setting for Protocol {
    const KIND: &'static str = "\"grpc\" or \"http\"";

    fn read(value: &Value) -> Result<Self, String> {
        word(value, &[("grpc", Self::Grpc), ("http", Self::Http)])
    }
}

impl Setting for Signals {
    const KIND: &'static str = "an array of \"traces\", \"metrics\" and \"logs\"";

    fn read(value: &Value) -> Result<Self, String> {
        let mut signals = Self { traces: false, metrics: false, logs: false };
        for name in Vec::<String>::read(value).map_err(|_| format!("takes {}", Self::KIND))? {
            match name.as_str() {
                "traces" => signals.traces = true,
                "metrics" => signals.metrics = true,
                "logs" => signals.logs = true,
                _ => return Err(format!("takes {}, not {name:?}", Self::KIND)),
            }
        }
        Ok(signals)
    }
}

/// A share of something.
struct Share(f64);

impl Setting for Share {
    const KIND: &'static str = "a number from 0 to 1";

    fn read(value: &Value) -> Result<Self, String> {
        let number = match value {
            Value::Float(number) => *number,
            Value::Integer(0) => 0.0,
            Value::Integer(1) => 1.0,
            _ => return Err(format!("takes {}, not {value}", Self::KIND)),
        };
        Some(number)
            .filter(|number| (0.0..=1.0).contains(number))
            .map(Self)
            .ok_or(format!("takes {}, not {number}", Self::KIND))
    }
}

/// Reads `[telemetry]`. `None` where nothing is exported, or mistakes leave nothing; they are on record.
pub(super) fn read(mut section: Section<'_>) -> Option<Telemetry> {
    let otlp = section.optional_section(
        "otlp",
        "A collector that gets traces, metrics and logs over OTLP: see \
         [traces, metrics and logs](../operations/telemetry.md). Without it nothing is exported.",
    )?;
    read_otlp(otlp)
}

fn read_otlp(mut section: Section<'_>) -> Option<Telemetry> {
    let endpoint: Option<Endpoint> = section
        .required("endpoint", "The collector, without `/v1/traces`: usually port 4317 for gRPC, and 4318 for HTTP.");
    let protocol = section.or("protocol", "grpc", "How it is spoken to: gRPC, or protobuf over HTTP.");
    let headers = read_headers(&mut section);
    let timeout = section.or("timeout", "10s", "How long a request to it may take.");
    let ca: Option<PathBuf> = section
        .optional("ca", "A PEM file of the authorities that its certificate may come from, beside the machine's.");
    let all = ["traces", "metrics", "logs"].map(Value::from).to_vec();
    let signals = section.or("signals", all, "What it gets.");
    let Share(sample) = section.or(
        "sample",
        0.01,
        "The share of traces that is recorded, of those that begin here: 1 for all. A trace that is not recorded costs next to nothing.",
    );
    let metrics_interval = section.or("metrics_interval", "60s", "How often it gets metrics.");
    if metrics_interval < INTERVAL_MIN {
        section.mistake("metrics_interval", "is shorter than \"1s\"");
    }
    let service: Option<String> =
        section.optional("service", "The name of this service, `service.name`. By default `upcall`.");
    let mut resource: BTreeMap<String, String> = section.or(
        "resource",
        toml::Table::new(),
        "What else is said of this process, such as `{ \"deployment.environment.name\" = \"production\" }`.",
    );
    let parents_from = read_networks(&mut section);
    resource.extend(service.map(|service| ("service.name".to_owned(), service)));
    let authorities = ca.and_then(|file| authorities(&section, "ca", &file)).unwrap_or_default();
    let resource = resource.into_iter().collect();
    let options = Options {
        protocol,
        headers,
        timeout,
        authorities,
        signals,
        sample,
        metrics_interval,
        resource,
        ..Options::new(endpoint?)
    };
    Some(Telemetry { options, parents_from })
}

fn read_headers(section: &mut Section<'_>) -> HeaderMap {
    let given = secret::table(
        section,
        "headers",
        "Headers of each request, such as a key: `{ authorization = { env = \"OTLP_KEY\" } }`.",
    );
    let mut headers = HeaderMap::new();
    for (place, name, value) in given {
        match (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            (Err(_), _) => section.mistake(&place, "is no header's name"),
            (_, Err(_)) => section.mistake(&place, "has a value that no header can have"),
        }
    }
    headers
}

fn read_networks(section: &mut Section<'_>) -> Vec<Network> {
    let from: Vec<String> = section.or(
        "parents_from",
        Value::Array(Vec::new()),
        "The addresses of the proxies whose `traceparent` is believed, such as `[\"10.0.0.0/8\"]`: their traces are gone on \
         with, and recorded if they are. Of anybody else the header is ignored.",
    );
    networks(section, "parents_from", from)
}

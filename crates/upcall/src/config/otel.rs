//! OpenTelemetry's own variables, for what the file leaves out: `OTEL_EXPORTER_OTLP_ENDPOINT` is `endpoint` in
//! `[telemetry.otlp]`. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` are read by whoever exports.

use std::collections::HashMap;

use toml::{Table, Value};

use super::overlay::Origin;

const TABLE: [&str; 2] = ["telemetry", "otlp"];

/// Sets what the variables say and the document does not, and tells which variable set which key. Where neither names a
/// collector, nothing is set.
pub(crate) fn lay_under(document: &mut Table, variables: &[(String, String)]) -> Vec<Origin> {
    // An empty one is, as the specification says, none.
    let set = variables.iter().filter(|(_, value)| !value.is_empty());
    let set: HashMap<&str, &str> = set.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let has_table = document.get(TABLE[0]).and_then(|table| table.get(TABLE[1])).is_some();
    if !has_table && !set.contains_key("OTEL_EXPORTER_OTLP_ENDPOINT") {
        return Vec::new();
    }
    let mut table = document;
    for key in TABLE {
        match table.entry(key).or_insert_with(|| Table::new().into()) {
            Value::Table(below) => table = below,
            // A mistake, which is told when it is read.
            _ => return Vec::new(),
        }
    }
    let mut origins = Vec::new();
    for (variable, key, read) in VARIABLES {
        if let Some(text) = set.get(variable)
            && !table.contains_key(*key)
            && let Some(value) = read(text, &set)
        {
            table.insert((*key).to_owned(), value);
            origins.push(Origin { path: format!("{}.{}.{key}", TABLE[0], TABLE[1]), variable: (*variable).to_owned() });
        }
    }
    if !table.contains_key("signals") {
        let is_wanted = |name: &&str| {
            let variable = format!("OTEL_{}_EXPORTER", name.to_ascii_uppercase());
            set.get(variable.as_str()).is_none_or(|exporter| *exporter != "none")
        };
        let wanted: Vec<_> = ["traces", "metrics", "logs"].into_iter().filter(is_wanted).map(Value::from).collect();
        table.insert("signals".to_owned(), wanted.into());
    }
    origins
}

type Read = fn(&str, &HashMap<&str, &str>) -> Option<Value>;

const VARIABLES: &[(&str, &str, Read)] = &[
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "endpoint", |text, _| Some(text.into())),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "protocol", |text, _| {
        Some(if text == "http/protobuf" { "http" } else { text }.into())
    }),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "timeout", |text, _| Some(format!("{}ms", text.trim()).into())),
    ("OTEL_EXPORTER_OTLP_HEADERS", "headers", |text, _| Some(Value::Table(pairs(text)))),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca", |text, _| Some(text.into())),
    ("OTEL_TRACES_SAMPLER", "sample", |text, set| match text.trim_start_matches("parentbased_") {
        "always_on" => Some(1.0.into()),
        "always_off" => Some(0.0.into()),
        "traceidratio" => {
            let share = set.get("OTEL_TRACES_SAMPLER_ARG").copied().unwrap_or("1");
            Some(share.parse::<f64>().map_or_else(|_| share.into(), Value::from))
        }
        // A mistake, which is told when it is read.
        other => Some(other.into()),
    }),
];

/// `key=value,key=value`, percent-encoded.
fn pairs(text: &str) -> Table {
    let decoded = |text: &str| percent_encoding::percent_decode_str(text.trim()).decode_utf8_lossy().into_owned();
    let pair = |pair: &str| pair.split_once('=').map(|(key, value)| (decoded(key), Value::String(decoded(value))));
    text.split(',').filter_map(pair).collect()
}

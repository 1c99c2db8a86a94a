//! `values.schema.json` of the Helm chart: the chart's own keys, and the whole configuration, from the code that reads it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Default, Entry, every_entry, write_anew};

/// The chart's own keys. They refer to `#/definitions/configuration`, which is made here.
const CHART: &str = include_str!("../../../../../deploy/helm/values.schema.in.json");

/// Writes the schema anew where it differs, and fails: the repaired file belongs in the commit.
#[test]
fn the_values_of_the_chart_are_checked_by_what_reads_the_configuration() {
    let mut root = Node::default();
    every_entry().iter().for_each(|entry| root.insert(entry));
    let mut schema: Value = serde_json::from_str(CHART).unwrap();
    schema["$comment"] = "Made from deploy/helm/values.schema.in.json and the code by a test; change those.".into();
    schema["definitions"]["configuration"] = root.table();
    schema["definitions"]["elsewhere"] = elsewhere();
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    write_anew("deploy/helm/upcall/values.schema.json", &text);
}

/// A key, with everything that was said about it whenever it was read.
#[derive(Default)]
struct Node {
    doc: &'static str,
    kinds: Vec<&'static str>,
    default: Option<String>,
    is_required: bool,
    is_table: bool,
    is_array: bool,
    members: BTreeMap<String, Node>,
}

impl Node {
    fn insert(&mut self, entry: &Entry) {
        let mut node = self;
        for key in entry.path.split('.') {
            // `route[0]` is one of `[[route]]`.
            let name = key.split_once('[').map_or(key, |(name, _)| name);
            node = node.members.entry(name.to_owned()).or_default();
        }
        if node.doc.is_empty() {
            node.doc = entry.doc;
        }
        match &entry.default {
            Default::Section if entry.kind == "array of tables" => node.is_array = true,
            Default::Section => node.is_table = true,
            other => {
                if !node.kinds.contains(&entry.kind) {
                    node.kinds.push(entry.kind);
                }
                node.is_required |= *other == Default::Required;
                if let Default::Value(text) = other {
                    node.default = Some(text.clone());
                }
            }
        }
    }

    fn schema(&self) -> Value {
        let mut ways: Vec<Value> = self.kinds.iter().map(|kind| of_kind(kind)).collect();
        if self.is_table {
            ways.push(self.table());
        }
        if self.is_array {
            ways.push(json!({ "type": "array", "items": self.table() }));
        }
        let mut schema = match <[Value; 1]>::try_from(ways) {
            Ok([Value::Object(only)]) => only,
            Ok([only]) => panic!("{only} is no schema"),
            // Any JSON at all: what it may be beside that makes no difference.
            Err(ways) if ways.contains(&json!({})) => Map::new(),
            Err(ways) => Map::from_iter([("anyOf".to_owned(), ways.into())]),
        };
        schema.insert("description".to_owned(), self.doc.into());
        if let Some(text) = &self.default {
            let mut default: toml::Table = format!("value = {text}").parse().unwrap();
            schema.insert("default".to_owned(), serde_json::to_value(default.remove("value").unwrap()).unwrap());
        }
        schema.into()
    }

    fn table(&self) -> Value {
        let properties: Map<_, _> = self.members.iter().map(|(name, node)| (name.clone(), node.schema())).collect();
        let required: Vec<_> =
            self.members.iter().filter(|(_, node)| node.is_required).map(|(name, _)| name.as_str()).collect();
        let mut table = json!({ "type": "object", "properties": properties, "additionalProperties": false });
        if !required.is_empty() {
            table["required"] = required.into();
        }
        table
    }
}

/// Where a secret may be instead of in its place.
fn elsewhere() -> Value {
    let way = |name: &str| json!({ "type": "object", "properties": { name: { "type": "string" } }, "required": [name], "additionalProperties": false });
    json!({ "anyOf": [way("env"), way("file")] })
}

/// The schema of what a key takes. It lets nothing be wrong that a schema can tell; `upcall check` knows the rest.
fn of_kind(kind: &str) -> Value {
    let text = || json!({ "type": "string" });
    let list = |items: Value| json!({ "type": "array", "items": items });
    let table = |members: Value| json!({ "type": "object", "additionalProperties": members });
    let either = |one: Value, other: Value| json!({ "anyOf": [one, other] });
    let secret = || either(text(), json!({ "$ref": "#/definitions/elsewhere" }));
    let duration = || json!({ "type": "string", "pattern": "^[0-9]+ ?[A-Za-zµ]+( ?[0-9]+ ?[A-Za-zµ]+)*$" });
    match kind {
        "true or false" => json!({ "type": "boolean" }),
        "a positive integer" => json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX }),
        "a number from 0 to 1" => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        "a path" => json!({ "type": "string", "minLength": 1 }),
        "any value that JSON has" => json!({}),
        "a table of strings" => table(text()),
        "a table of strings or arrays of strings" => table(either(text(), list(text()))),
        "a string, `{ env = \"NAME\" }` or `{ file = \"PATH\" }`" => secret(),
        "an array of strings, or of tables as for other secrets" => either(secret(), list(secret())),
        "a table of strings, or of tables as for other secrets" => table(secret()),
        "true, false or a table's name" => json!({ "type": ["boolean", "string"] }),
        "an array of statuses from 400 to 499" => list(json!({ "type": "integer", "minimum": 400, "maximum": 499 })),
        _ if kind.starts_with('"') => json!({ "enum": quoted(kind) }),
        _ if kind.starts_with("an array of proofs: ") => list(json!({ "enum": quoted(kind) })),
        _ if kind.starts_with("a duration ") => duration(),
        _ if kind.starts_with("an array of durations ") => list(duration()),
        _ if kind.starts_with("a size ") => json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?[A-Za-z]+$" }),
        _ if kind.starts_with("an address with a port") => json!({ "type": "string", "pattern": ":[0-9]+$" }),
        _ if kind.starts_with("a number in a time") => json!({ "type": "string", "pattern": "^[0-9]+ ?/" }),
        _ if kind.contains("or an array of") => either(text(), list(text())),
        _ if kind.starts_with("an array of ") => list(text()),
        // What is a string with a meaning.
        _ if ["a string", "a name", "a table's name", "a subject", "a URL", "a mail address", "an SQL statement"]
            .iter()
            .any(|word| kind.starts_with(word)) =>
        {
            text()
        }
        _ => panic!("{kind:?} has no schema yet: say here what it is, for the values of the Helm chart"),
    }
}

/// The words in quotes.
fn quoted(kind: &str) -> Vec<&str> {
    kind.split('"').skip(1).step_by(2).collect()
}

//! The layers of the workspace: arrows point down, and a crate does not know what it must not know.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The floors of `docs/ARCHITECTURE.md`, lowest first.
const FLOORS: &[&[&str]] = &[
    &["upcall-event", "upcall-callback", "upcall-function-compute"],
    &["upcall-telemetry", "upcall-bus", "upcall-responder", "upcall-egress"],
    &[
        "upcall-verifier",
        "upcall-responder-http",
        "upcall-bus-journal",
        "upcall-bus-nats",
        "upcall-consumer",
        "upcall-telemetry-otlp",
    ],
    &[
        "upcall-sink-sql",
        "upcall-sink-webhook",
        "upcall-sink-notify",
        "upcall-sink-command",
        "upcall-gateway",
        "upcall-simulator",
        "upcall-relay",
    ],
    &["upcall"],
];

/// What a crate must not reach, by whatever way.
const UNKNOWN_TO: &[(&str, &[&str])] = &[
    ("upcall-event", RUNTIMES),
    ("upcall-callback", RUNTIMES),
    ("upcall-callback", &["upcall-event"]),
    ("upcall-function-compute", RUNTIMES),
    ("upcall-function-compute", &["upcall-event", "upcall-callback"]),
    ("upcall-bus", STORES),
    ("upcall-responder", &["http", "hyper", "tokio"]),
    ("upcall-verifier", &["axum", "rusqlite", "async-nats", "sqlx-core"]),
    ("upcall-responder-http", &["axum", "upcall-bus", "async-nats", "rusqlite", "sqlx-core"]),
    ("upcall-bus-journal", &["async-nats", "hyper"]),
    ("upcall-bus-nats", &["rusqlite", "sqlx-core", "hyper"]),
    ("upcall-consumer", STORES),
    ("upcall-egress", &["axum", "upcall-event", "upcall-bus", "async-nats", "rusqlite", "sqlx-core"]),
    ("upcall-sink-sql", &["rusqlite", "async-nats", "hyper"]),
    ("upcall-sink-webhook", STORES),
    ("upcall-sink-notify", STORES),
    ("upcall-sink-command", &["hyper", "rusqlite", "sqlx-core", "async-nats"]),
    ("upcall-gateway", STORES),
    ("upcall-simulator", &["upcall-gateway", "upcall-event"]),
];

const RUNTIMES: &[&str] = &["tokio", "mio", "hyper", "socket2", "reqwest", "rusqlite", "sqlx-core", "async-nats"];
const STORES: &[&str] = &["rusqlite", "sqlx-core", "async-nats"];

/// Crates that take bytes and time and give values; they touch neither files, network nor clock.
const PURE: &[&str] = &["upcall-event", "upcall-callback", "upcall-function-compute", "upcall-responder"];
const IMPURE_PATHS: &[&str] = &[
    "std::fs",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "std::env",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant",
    "Timestamp::now",
];

#[test]
fn every_crate_has_a_floor_and_arrows_point_down() {
    let floor_of: BTreeMap<&str, usize> =
        FLOORS.iter().enumerate().flat_map(|(floor, names)| names.iter().map(move |name| (*name, floor))).collect();
    let graph = Graph::read();
    let ours: BTreeSet<&str> = graph.names().filter(|name| is_ours(name)).collect();
    assert_eq!(ours, floor_of.keys().copied().collect::<BTreeSet<_>>(), "the floors name each crate once");
    for from in ours {
        for to in graph.direct(from).filter(|name| is_ours(name)) {
            assert!(floor_of[to] < floor_of[from], "{from} must not depend on {to}: it is not on a lower floor");
        }
    }
}

#[test]
fn no_crate_knows_what_it_must_not_know() {
    let graph = Graph::read();
    for (from, unknown) in UNKNOWN_TO {
        let reached = graph.reachable(from);
        for name in *unknown {
            assert!(
                !reached.contains(name),
                "{from} must not know {name}; `cargo tree -p {from} -i {name}` tells why it does"
            );
        }
    }
}

#[test]
fn pure_crates_touch_neither_files_nor_network_nor_clock() {
    for name in PURE {
        for file in rust_files(&workspace().join("crates").join(name).join("src")) {
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for path in IMPURE_PATHS.iter().filter(|_| !file.ends_with("tests.rs")) {
                let used = code.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(path));
                assert!(!used, "{} is pure and must not use {path}", file.display());
            }
        }
    }
}

#[test]
fn every_crate_stands_in_a_folder_of_its_name_and_takes_the_common_lints() {
    for name in FLOORS.iter().copied().flatten() {
        let manifest = std::fs::read_to_string(workspace().join("crates").join(name).join("Cargo.toml")).unwrap();
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        assert!(manifest.contains("[lints]\nworkspace = true"), "{name} does not take the workspace's lints");
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with("upcall") && name != "upcall-tests"
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Who depends on whom in what is shipped: development and build dependencies are left out.
struct Graph(BTreeMap<String, BTreeSet<String>>);

impl Graph {
    fn read() -> Self {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--locked", "--filter-platform=x86_64-unknown-linux-gnu"])
            .current_dir(workspace())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name_of: BTreeMap<String, String> =
            items(&metadata["packages"]).iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
        let mut graph = BTreeMap::<String, BTreeSet<String>>::new();
        for node in items(&metadata["resolve"]["nodes"]) {
            let edges = graph.entry(name_of[&text(&node["id"])].clone()).or_default();
            for dependency in items(&node["deps"]) {
                if items(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null()) {
                    edges.insert(name_of[&text(&dependency["pkg"])].clone());
                }
            }
        }
        Self(graph)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    fn direct(&self, from: &str) -> impl Iterator<Item = &str> {
        self.0[from].iter().map(String::as_str)
    }

    fn reachable(&self, from: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut waiting: Vec<&str> = self.direct(from).collect();
        while let Some(name) = waiting.pop() {
            if reached.insert(name) {
                waiting.extend(self.direct(name));
            }
        }
        reached
    }
}

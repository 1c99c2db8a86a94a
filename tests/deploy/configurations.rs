//! What a pod's volume holds is a configuration that its program takes.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use toml::Table;
use upcall_tests::executable;
use upcall_tests::skip;

use crate::privileges::list;
use crate::rendered::{Rendered, everything};

/// What secrets of these keys hold. The other ones are a password.
const SECRETS: &[(&str, &str)] = &[
    ("url", "postgres://upcall:hunter2@db.example.com/uploads"),
    ("auth.conf", "authorization { users: [{ user: upcall, password: hunter2 }] }"),
];

#[test]
fn every_configuration_passes_upcall_check() {
    let Some(everything) = everything() else { return };
    let mut checked = 0;
    for (place, _, volume) in everything.iter().flat_map(upcalls) {
        let output =
            Command::new(executable::path()).arg("check").arg("-c").arg(volume.path().join("upcall.toml")).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{place}: {}", String::from_utf8_lossy(&output.stderr));
        checked += 1;
    }
    assert_eq!(checked, 9, "each shape, as an overlay, an example and a release");
}

#[test]
fn probes_ask_where_the_configuration_says() {
    let Some(everything) = everything() else { return };
    for (place, template, volume) in everything.iter().flat_map(upcalls) {
        let container = &template["spec"]["containers"][0];
        assert_eq!(container["args"], serde_json::json!(["serve", "-c", "/etc/upcall/upcall.toml"]), "{place}");
        let gateway = configuration(volume.path());
        let port_of = |key: &str, default: &str| {
            let address = gateway["gateway"].get(key).and_then(toml::Value::as_str).unwrap_or(default);
            assert!(address.starts_with("0.0.0.0:"), "{place}: {key} = {address:?} can't be reached");
            address.rsplit(':').next().unwrap().parse::<u64>().unwrap()
        };
        let port = |name: &str| {
            let found = list(&container["ports"]).iter().find(|port| port["name"] == name);
            found.map(|port| port["containerPort"].as_u64().unwrap())
        };
        assert_eq!(port("admin"), Some(port_of("admin", "")), "{place}");
        assert_eq!(port("health"), Some(port_of("health", "")), "{place}");
        assert_eq!(port("http"), gateway.contains_key("route").then(|| port_of("listen", "")), "{place}");
        for (probe, path) in [("startupProbe", "/live"), ("livenessProbe", "/live"), ("readinessProbe", "/ready")] {
            assert_eq!(container[probe]["httpGet"], serde_json::json!({ "path": path, "port": "health" }), "{place}");
        }
    }
}

/// A policy shows as a timeout, at night.
#[test]
fn a_pod_may_connect_to_what_its_configuration_names() {
    let Some(everything) = everything() else { return };
    for rendered in everything {
        for (place, template, volume) in upcalls(rendered) {
            let labels = template["metadata"]["labels"].as_object().unwrap();
            let selects = |policy: &&Value| {
                let wanted = policy["spec"]["podSelector"]["matchLabels"].as_object().unwrap();
                wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
            };
            let policy = rendered.all("NetworkPolicy").find(selects).unwrap();
            let ports = list(&policy["spec"]["egress"]).iter().flat_map(|rule| list(&rule["ports"]));
            let open: Vec<_> = ports.filter_map(|port| port["port"].as_u64()).collect();
            let text = std::fs::read_to_string(volume.path().join("upcall.toml")).unwrap();
            let of_nats = text.split("://").skip(1).filter_map(|rest| rest.split(['"', '/']).next()?.split_once(':'));
            let named: Vec<u64> = of_nats.map(|(_, port)| port.parse().unwrap()).collect();
            assert!(named.iter().all(|port| open.contains(port)), "{place}: of {named:?} only {open:?} are open");
            assert!(open.contains(&443), "{place}: {open:?}");
        }
    }
}

/// A gateway that is alone takes a changed configuration up as it runs. Of several, one after the other is replaced.
#[test]
fn a_changed_configuration_replaces_no_pod_that_is_alone() {
    let Some(everything) = everything() else { return };
    for rendered in everything {
        for (workload, template) in rendered.workloads().filter(|(_, template)| container(template) == "upcall") {
            let name = workload["metadata"]["name"].as_str().unwrap();
            let volume = list(&template["spec"]["volumes"]).iter().find(|volume| volume["name"] == "configuration");
            let sources = list(&volume.unwrap()["projected"]["sources"]);
            let map = sources.iter().find_map(|source| source["configMap"]["name"].as_str()).unwrap();
            let is_replaced = map != name || template["metadata"]["annotations"]["checksum/configuration"].is_string();
            assert_eq!(is_replaced, workload["kind"] == "Deployment", "{}: {name}", rendered.name);
        }
    }
}

/// Otherwise a rolling update takes old pods away before the balancer has the new ones.
#[test]
fn behind_an_alb_a_new_pod_is_ready_once_the_balancer_has_it() {
    let Some(everything) = everything() else { return };
    let gate = serde_json::json!([{ "conditionType": "target-health.alb.k8s.alibabacloud" }]);
    let mut gated = 0;
    for rendered in everything {
        let has_alb = rendered.all("Ingress").any(|ingress| ingress["spec"]["ingressClassName"] == "alb");
        for (workload, template) in rendered.workloads() {
            let component = &template["metadata"]["labels"]["app.kubernetes.io/component"];
            let waits = has_alb && workload["kind"] == "Deployment" && component == "gateway";
            let gates = &template["spec"]["readinessGates"];
            assert_eq!(*gates, if waits { gate.clone() } else { Value::Null }, "{}", rendered.name);
            gated += u32::from(waits);
        }
    }
    assert_eq!(gated, 2, "the example and the chart");
}

/// Killed before its shutdown has ended, a process loses nothing, but what it had not handed back waits for `ack_wait`.
#[test]
fn a_pod_has_the_time_that_its_shutdown_takes() {
    // Consumers that hang are aborted and closed (6 s); relay and journal get 10 s each.
    const BESIDE: Duration = Duration::from_secs(26);
    let Some(everything) = everything() else { return };
    for (place, template, volume) in everything.iter().flat_map(upcalls) {
        let configuration = configuration(volume.path());
        let shutdown = configuration["gateway"].get("shutdown");
        let time = |key: &str, default: &str| {
            let text = shutdown.and_then(|shutdown| shutdown.get(key)?.as_str()).unwrap_or(default);
            Duration::from_secs(text.trim_end_matches('s').parse().unwrap())
        };
        // As long as readiness takes to be noticed, and then the ingress.
        let takes_callbacks = configuration.contains_key("route");
        assert!(!takes_callbacks || time("grace", "0s") >= Duration::from_secs(10), "{place}");
        let drain = Duration::from_secs(10);
        let needed = time("grace", "0s") + time("drain", "5s") + drain + BESIDE;
        let given = template["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(given >= needed.as_secs(), "{place}: {given} s are given, {needed:?} needed");
    }
}

#[test]
fn the_scaler_asks_for_each_consumer_that_there_is() {
    let Some(everything) = everything() else { return };
    let mut scaled = 0;
    for rendered in everything {
        for scaler in rendered.all("ScaledObject") {
            scaled += 1;
            let triggers = list(&scaler["spec"]["triggers"]);
            let asked: Vec<_> = triggers.iter().map(|one| one["metadata"]["consumer"].as_str().unwrap()).collect();
            let (_, _, volume) = upcalls(rendered).into_iter().find(|(place, ..)| place.contains("consumers")).unwrap();
            let configuration = configuration(volume.path());
            let consumers = configuration["consumer"].as_array().unwrap();
            let names: Vec<_> = consumers.iter().map(|consumer| consumer["name"].as_str().unwrap()).collect();
            assert_eq!(asked, names, "{}", rendered.name);
            assert!(triggers.iter().all(|one| one["metadata"]["stream"] == "UPCALL"), "{}", rendered.name);
        }
    }
    assert_eq!(scaled, 3);
}

#[test]
fn a_nats_server_takes_its_configuration() {
    let Some(everything) = everything() else { return };
    let server = std::env::var("UPCALL_TEST_NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned());
    if !Command::new(&server).arg("--version").output().is_ok_and(|output| output.status.success()) {
        return skip("the configuration of NATS: there is no nats-server (tests/run installs it)");
    }
    let mut checked = 0;
    for rendered in everything {
        for (workload, template) in rendered.workloads().filter(|(_, template)| container(template) == "nats") {
            let volume = volume(rendered, template);
            let mut command = Command::new(&server);
            command.arg("-t").arg("-c").arg(volume.path().join("nats.conf")).env("POD_NAME", "nats-0");
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {}: {said}", rendered.name, workload["metadata"]["name"]);
            checked += 1;
        }
    }
    assert_eq!(checked, 3);
}

/// The pods of Upcall itself: where, their template, and what their volume holds.
fn upcalls(rendered: &Rendered) -> Vec<(String, &Value, TempDir)> {
    let pods = rendered.workloads().filter(|(_, template)| container(template) == "upcall");
    let named = pods.map(|(workload, template)| {
        (format!("{}: {}", rendered.name, workload["metadata"]["name"]), template, volume(rendered, template))
    });
    named.collect()
}

fn container(template: &Value) -> &str {
    template["spec"]["containers"][0]["name"].as_str().unwrap()
}

fn configuration(volume: &Path) -> Table {
    std::fs::read_to_string(volume.join("upcall.toml")).unwrap().parse().unwrap()
}

/// The volume `configuration`, as Kubernetes would put it together. What is not mapped there is not there.
fn volume(rendered: &Rendered, template: &Value) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let volume = list(&template["spec"]["volumes"]).iter().find(|volume| volume["name"] == "configuration").unwrap();
    for source in list(&volume["projected"]["sources"]) {
        let name = &source["configMap"]["name"];
        let map = rendered.all("ConfigMap").find(|map| map["metadata"]["name"] == *name);
        for (file, text) in map.into_iter().flat_map(|map| map["data"].as_object().unwrap()) {
            write(file, text.as_str().unwrap());
        }
        for item in list(&source["secret"]["items"]) {
            let key = item["key"].as_str().unwrap();
            let text = SECRETS.iter().find(|(name, _)| *name == key).map_or("hunter2", |(_, text)| text);
            write(item["path"].as_str().unwrap(), text);
        }
    }
    folder
}

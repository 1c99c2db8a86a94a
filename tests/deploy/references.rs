//! What one resource says of another is so.

use serde_json::{Map, Value, json};

use crate::privileges::list;
use crate::rendered::{Rendered, everything};

#[test]
fn everything_that_is_named_is_there() {
    let Some(everything) = everything() else { return };
    for rendered in everything {
        for resource in &rendered.resources {
            let spec = &resource["spec"];
            let place = format!("{}: {} {}", rendered.name, resource["kind"], resource["metadata"]["name"]);
            match resource["kind"].as_str().unwrap() {
                "Service" => assert_ports(rendered, spec, &place),
                "PodDisruptionBudget" => {
                    assert_eq!(selected(rendered, &spec["selector"]["matchLabels"]).len(), 1, "{place}");
                }
                "HorizontalPodAutoscaler" | "ScaledObject" => {
                    let target = find(rendered, "Deployment", &spec["scaleTargetRef"]["name"], &place);
                    assert!(target["spec"]["replicas"].is_null(), "{place}: each apply would set `replicas` back");
                }
                "Ingress" => {
                    for path in list(&spec["rules"]).iter().flat_map(|rule| list(&rule["http"]["paths"])) {
                        let backend = &path["backend"]["service"];
                        let service = find(rendered, "Service", &backend["name"], &place);
                        let ports = list(&service["spec"]["ports"]);
                        assert!(ports.iter().any(|port| port["name"] == backend["port"]["name"]), "{place}");
                    }
                }
                "StatefulSet" => {
                    find(rendered, "Service", &spec["serviceName"], &place);
                }
                "ServiceMonitor" => {
                    let wanted = spec["selector"]["matchLabels"].as_object().unwrap();
                    let port = &spec["endpoints"][0]["port"];
                    let has_port = |it: &&Value| list(&it["spec"]["ports"]).iter().any(|one| one["name"] == *port);
                    let services = rendered.all("Service").filter(|it| has_all(&it["metadata"]["labels"], wanted));
                    let scraped: Vec<_> = services.filter(has_port).collect();
                    // The alerts go by the job's name.
                    let label = spec["jobLabel"].as_str().unwrap_or_else(|| panic!("{place} has no jobLabel"));
                    let job = |service: &&Value| service["metadata"]["labels"][label].clone();
                    assert!(!scraped.is_empty() && scraped.iter().all(|service| job(service) == "upcall"), "{place}");
                }
                _ => {}
            }
        }
        for (workload, template) in rendered.workloads() {
            let place = format!("{}: {}", rendered.name, workload["metadata"]["name"]);
            find(rendered, "ServiceAccount", &template["spec"]["serviceAccountName"], &place);
            let selector = workload["spec"]["selector"]["matchLabels"].as_object().unwrap();
            assert!(has_all(&template["metadata"]["labels"], selector), "{place}");
        }
    }
}

/// Names of other parts that stand in text, which neither Kustomize nor Helm knows of.
#[test]
fn every_address_is_that_of_a_service() {
    let Some(everything) = everything() else { return };
    // The parts alone name each other.
    for rendered in
        everything.iter().filter(|one| one.all("StatefulSet").count() > 0 && one.all("ScaledObject").count() > 0)
    {
        let text = Value::from(rendered.resources.clone()).to_string();
        let mut found = 0;
        for rest in text.split("nats://").skip(1).chain(text.split("natsServerMonitoringEndpoint\":\"").skip(1)) {
            let host: String = rest.chars().take_while(|c| !":\\\"".contains(*c)).collect();
            let mut names = host.split('.').filter(|name| !["upcall", "svc", "cluster", "local"].contains(name));
            let service = names.next_back().unwrap();
            find(rendered, "Service", &service.into(), &rendered.name);
            found += 1;
        }
        assert!(found >= 6, "{}: only {found} addresses were found", rendered.name);
    }
}

/// OSS signs what it calls, to the letter.
#[test]
fn no_ingress_changes_the_path() {
    let Some(everything) = everything() else { return };
    let mut found = 0;
    for ingress in everything.iter().flat_map(|rendered| rendered.all("Ingress")) {
        found += 1;
        let annotations = ingress["metadata"]["annotations"].as_object().unwrap();
        for name in ["rewrite", "regex", "app-root", "snippet", "actions", "conditions"] {
            assert!(annotations.keys().all(|annotation| !annotation.contains(name)), "{annotations:?}");
        }
        // A callback that is redirected has failed.
        let redirects = annotations.iter().find(|(annotation, _)| annotation.ends_with("/ssl-redirect"));
        assert_eq!(redirects.map(|(_, value)| value), Some(&"false".into()), "{annotations:?}");
        assert_eq!(ingress["spec"]["rules"][0]["http"]["paths"][0]["pathType"], "Prefix");
    }
    assert_eq!(found, 4, "both controllers, each from Kustomize and from Helm");
}

/// The admin port changes the log's level and shows refused callbacks.
#[test]
fn nobody_but_prometheus_may_connect_to_an_admin_port() {
    let Some(everything) = everything() else { return };
    let mut found = 0;
    for rendered in everything {
        let policies = rendered.all("NetworkPolicy").flat_map(|policy| list(&policy["spec"]["ingress"]));
        for rule in policies.filter(|rule| list(&rule["ports"]).iter().any(|port| port["port"] == "admin")) {
            let monitoring =
                json!([{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "monitoring" } } }]);
            assert_eq!((&rule["from"], list(&rule["ports"]).len()), (&monitoring, 1), "{}", rendered.name);
            found += 1;
        }
    }
    assert_eq!(found, 9, "each shape, as an overlay, an example and a release");
}

fn assert_ports(rendered: &Rendered, service: &Value, place: &str) {
    let pods = selected(rendered, &service["selector"]);
    let [template] = &pods[..] else { panic!("{place} selects the pods of {} workloads", pods.len()) };
    for port in list(&service["ports"]) {
        let ports = list(&template["spec"]["containers"][0]["ports"]);
        assert!(ports.iter().any(|one| one["name"] == port["targetPort"]), "{place}: {port}");
    }
}

fn selected<'r>(rendered: &'r Rendered, labels: &Value) -> Vec<&'r Value> {
    let wanted = labels.as_object().unwrap();
    let templates = rendered.workloads().map(|(_, template)| template);
    templates.filter(|template| has_all(&template["metadata"]["labels"], wanted)).collect()
}

fn has_all(labels: &Value, wanted: &Map<String, Value>) -> bool {
    wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
}

fn find<'r>(rendered: &'r Rendered, kind: &str, name: &Value, place: &str) -> &'r Value {
    let found = rendered.all(kind).find(|resource| resource["metadata"]["name"] == *name);
    found.unwrap_or_else(|| panic!("{place}: there is no {kind} {name}"))
}

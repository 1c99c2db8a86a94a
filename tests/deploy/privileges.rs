//! Pods may do as little as Kubernetes lets them, and are given the time that they need.

use serde_json::{Value, json};

use upcall_tests::executable::workspace;

use crate::rendered::{everything, kustomize, renderer};

/// Kubernetes' profile `restricted`, and a read-only root.
#[test]
fn no_pod_has_a_privilege() {
    let Some(everything) = everything() else { return };
    for (rendered, (workload, template)) in everything.iter().flat_map(|one| one.workloads().map(move |it| (one, it))) {
        let place = format!("{}: {}", rendered.name, workload["metadata"]["name"]);
        let pod = &template["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false, "{place}");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{place}");
        assert!(pod["securityContext"]["runAsUser"].as_u64().is_some_and(|user| user > 0), "{place}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{place}");
        for name in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod[name].is_null(), "{place}: {name}");
        }
        for container in list(&pod["containers"]) {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false, "{place}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{place}");
            assert_eq!(context["capabilities"], json!({ "drop": ["ALL"] }), "{place}");
            assert!(context["privileged"].is_null(), "{place}");
            for resource in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
                assert!(container["resources"].pointer(resource).is_some(), "{place}: resources{resource}");
            }
        }
        for volume in list(&pod["volumes"]) {
            let is_harmless = volume["projected"].is_object() || volume["emptyDir"]["sizeLimit"].is_string();
            assert!(is_harmless, "{place}: {volume}");
        }
    }
}

#[test]
fn every_pod_has_a_policy_for_what_comes_and_goes() {
    let Some(everything) = everything() else { return };
    for rendered in everything {
        for (workload, template) in rendered.workloads() {
            let labels = template["metadata"]["labels"].as_object().unwrap();
            let selects = |policy: &&Value| {
                let wanted = policy["spec"]["podSelector"]["matchLabels"].as_object();
                wanted.is_some_and(|wanted| wanted.iter().all(|(name, value)| labels.get(name) == Some(value)))
            };
            let policies: Vec<_> = rendered.all("NetworkPolicy").filter(selects).collect();
            let [policy] = &policies[..] else {
                panic!("{}: {} has {} policies", rendered.name, workload["metadata"]["name"], policies.len())
            };
            assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]), "{}", rendered.name);
        }
    }
}

/// No example has it.
#[test]
fn with_the_component_for_telemetry_every_part_reaches_a_collector() {
    let (Some(_), Some(renderer)) = (everything(), renderer()) else { return };
    let site = tempfile::tempdir().unwrap();
    // Kustomize takes relative paths only.
    let folder = site.path().canonicalize().unwrap();
    let up = "../".repeat(folder.components().count() - 1);
    let kubernetes = workspace().canonicalize().unwrap().join("deploy/kubernetes");
    let kubernetes = format!("{up}{}", kubernetes.strip_prefix("/").unwrap().display());
    let text = format!("resources: [{kubernetes}/examples/on-nats]\ncomponents: [{kubernetes}/components/telemetry]\n");
    std::fs::write(folder.join("kustomization.yaml"), text).unwrap();
    let rendered = kustomize(&renderer, "a site with telemetry".to_owned(), &folder);
    let is_ours = |policy: &&Value| policy["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("upcall-"));
    let policies: Vec<_> = rendered.all("NetworkPolicy").filter(is_ours).collect();
    assert_eq!(policies.len(), 2, "gateways and consumers");
    for policy in policies {
        let collector = json!({ "ports": [{ "port": 4317 }, { "port": 4318 }] });
        assert!(list(&policy["spec"]["egress"]).contains(&collector), "{policy}");
    }
}

#[test]
fn pods_of_which_there_are_several_are_spread_and_not_all_taken_at_once() {
    let Some(everything) = everything() else { return };
    for rendered in everything {
        for (workload, template) in rendered.workloads() {
            let name = &workload["metadata"]["name"];
            if workload["spec"]["replicas"] == 1 {
                continue;
            }
            let keys: Vec<_> =
                list(&template["spec"]["topologySpreadConstraints"]).iter().map(|one| &one["topologyKey"]).collect();
            for key in ["topology.kubernetes.io/zone", "kubernetes.io/hostname"] {
                assert!(keys.iter().any(|one| *one == key), "{}: {name} is not spread over {key}", rendered.name);
            }
            let budget = rendered.all("PodDisruptionBudget").find(|budget| budget["metadata"]["name"] == *name);
            assert_eq!(budget.unwrap()["spec"]["maxUnavailable"], 1, "{}: {name}", rendered.name);
        }
    }
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

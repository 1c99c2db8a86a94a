//! What the chart makes of values: a configuration that says the same, or a refusal that names the mistake.

use serde_json::{Value, json};
use upcall_tests::executable::workspace;

use crate::rendered::{everything, helm, renderer, valid};

/// Renders with these values; the standard output, or the complaint.
fn render(values: &Value) -> Option<Result<String, String>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    // JSON is YAML.
    std::fs::write(&file, values.to_string()).unwrap();
    let output = helm(&renderer()?, &file);
    Some(match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    })
}

fn config(config: &Value) -> Value {
    json!({ "gateway": { "config": config } })
}

#[test]
fn a_mistake_is_refused_before_anything_is_rendered() {
    let route = json!({ "name": "a", "path": "/a" });
    for (values, complaint) in [
        (json!({ "gatway": {} }), "gatway"),
        (config(&json!({ "gateway": { "lisen": "0.0.0.0:80" } })), "lisen"),
        (config(&json!({ "gateway": { "deadline": 5 } })), "/gateway/config/gateway/deadline"),
        (config(&json!({ "route": [{ "name": "a" }] })), "missing property 'path'"),
        (config(&json!({ "route": [route], "bus": { "nats": { "url": "nats://a", "ack": "brokr" } } })), "'journal'"),
        (config(&json!({ "consumer": [{ "name": "c", "sql": { "url": { "fil": "x" } } }] })), "'fil'"),
        (config(&json!({ "bus": { "journal": "/elsewhere" } })), "gateway.config.bus.journal is a table here"),
        (config(&json!({ "route": [{ "name": "a", "path": "/a", "response": { "x": null } }] })), "no null"),
        (
            config(&json!({ "bus": { "nats": { "url": "nats://a", "password": "hunter2" } } })),
            "gateway.config.bus.nats.password: a secret in the values would be in a ConfigMap",
        ),
        (
            config(&json!({ "consumer": [{ "name": "c", "sql": { "url": "postgres://me:hunter2@db/uploads" } }] })),
            "name that in gateway.secrets",
        ),
        (
            config(
                &json!({ "route": [{ "name": "a", "path": "/a", "response": { "http": { "url": "http://a", "authorization": "Bearer x" } } }] }),
            ),
            "gateway.config.route.response.http.authorization",
        ),
        (
            config(
                &json!({ "consumer": [{ "name": "c", "webhook": { "url": "https://a", "secrets": ["whsec_x"] } }] }),
            ),
            "gateway.config.consumer.webhook.secrets",
        ),
        (
            json!({ "ingress": { "enabled": true, "annotations": { "nginx.ingress.kubernetes.io/rewrite-target": "/" } } }),
            "can change the path that OSS signed",
        ),
    ] {
        let Some(rendered) = render(&values) else { return };
        let said = rendered.expect_err(&format!("{values} was taken"));
        assert!(said.contains(complaint), "{values}: {said}");
    }
}

/// YAML has no integers by the time that a chart sees it, and Helm's own TOML shows it.
#[test]
fn a_configuration_arrives_as_it_was_given() {
    let given = json!({
        "gateway": { "limits": { "connections": 1_000_000, "body": "1MiB" }, "deadline": "4s" },
        "bus": { "journal": { "retention": { "age": "3d", "drop_unsettled": true } } },
        "route": [
            { "name": "a", "path": "/a", "buckets": [], "response": {
                "Status": "OK", "quoted \"key\"": "\\ \" é \n <&> ${object}", "numbers": [1, 2.5, -3], "mixed": [1, { "x": [] }],
                "deep": { "er": { "still": { "more": true, "and": { "more": 1 } } } }, "tables": [{ "a": 1 }, { "b": { "c": 2 } }],
                "empty": {},
            } },
            { "name": "b", "path": "/b" },
        ],
        "consumer": [{ "name": "c", "batch_max": 7, "backoff": { "first": "2s" }, "sql": { "url": "sqlite://x.db" } }],
    });
    let Some(rendered) = render(&config(&given)) else { return };
    let rendered = rendered.unwrap();
    let (_, block) = rendered.split_once("  upcall.toml: |\n").unwrap();
    let lines = block.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    let text: String = lines.map(|line| format!("{}\n", line.get(4..).unwrap_or_default())).collect();
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut expected = given;
    // What the chart says of itself.
    expected["gateway"]["admin"] = "0.0.0.0:9090".into();
    expected["gateway"]["health"] = "0.0.0.0:9091".into();
    expected["gateway"]["listen"] = "0.0.0.0:8080".into();
    expected["gateway"]["shutdown"] = json!({ "grace": "10s" });
    expected["log"] = json!({ "format": "json" });
    expected["bus"]["journal"]["folder"] = "/var/lib/upcall/journal".into();
    assert_eq!(serde_json::to_value(table).unwrap(), expected, "{text}");
}

/// YAML takes words for numbers, truths and aliases where nobody says that they are text.
#[test]
fn a_name_that_looks_like_something_else_stays_a_name() {
    let values = json!({
        "image": { "repository": "registry.example.com/upcall", "tag": "1e3" },
        "gateway": {
            "journal": { "enabled": false },
            "secrets": [{ "secret": "123", "key": "456", "path": "nats.password" }],
            "config": {
                "bus": { "nats": { "url": "nats://nats:4222", "password": { "file": "secrets/nats.password" } } },
                "route": [{ "name": "a", "path": "/a", "response": { "token": "${object}" } }],
                "telemetry": { "otlp": { "endpoint": "http://collector:4317" } },
            },
        },
        "consumers": {
            "enabled": true,
            "config": { "bus": { "nats": { "url": "nats://nats:4222" } }, "consumer": [
                { "name": "2024", "sql": { "url": "sqlite:///tmp/a.db" } },
                { "name": "on", "sql": { "url": "sqlite:///tmp/b.db" } },
                { "name": "1e3", "sql": { "url": "sqlite:///tmp/c.db" } },
            ] },
        },
        "nats": { "enabled": true, "account": "42", "authSecret": "789", "storageClass": "0x10" },
        "ingress": { "enabled": true, "host": "*.example.com", "tlsSecret": "1", "className": "true", "namespace": "42" },
        "networkPolicy": {
            "monitoringNamespace": "1", "kedaNamespace": "2",
            "egress": [{ "to": [{ "ipBlock": { "cidr": "10.1.2.3/32" } }], "ports": [{ "port": 9000 }] }],
        },
        "monitoring": { "enabled": true },
        "rrsa": { "role": "7" },
    });
    if everything().is_none() {
        return;
    }
    let Some(rendered) = render(&values) else { return };
    let resources = valid("names", &rendered.unwrap());
    let one = |kind: &str| resources.iter().find(|resource| resource["kind"] == kind).unwrap();
    let ingress = &one("Ingress")["spec"];
    assert_eq!((&ingress["rules"][0]["host"], &ingress["ingressClassName"]), (&"*.example.com".into(), &"true".into()));
    let triggers = one("ScaledObject")["spec"]["triggers"].as_array().unwrap();
    let names: Vec<_> = triggers.iter().map(|trigger| trigger["metadata"]["consumer"].clone()).collect();
    assert_eq!(names, ["2024", "on", "1e3"]);
    let all = resources.iter().map(Value::to_string).collect::<String>();
    assert!(all.contains(r#""cidr":"10.1.2.3/32""#) && all.contains(r#""port":4317"#), "{all}");
}

#[test]
fn the_values_in_the_documentation_are_taken() {
    let page = std::fs::read_to_string(workspace().join("docs/operations/kubernetes.md")).unwrap();
    let blocks: Vec<_> = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("values.yaml");
        std::fs::write(&file, block).unwrap();
        let Some(renderer) = renderer() else { return };
        let output = helm(&renderer, &file);
        assert!(output.status.success(), "{block}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

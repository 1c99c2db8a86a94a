//! What is in `deploy/function-compute`.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use upcall_tests::executable::{self, Running, workspace};
use upcall_tests::skip;

fn folder() -> PathBuf {
    workspace().join("deploy/function-compute")
}

/// The Serverless Devs file, with what it merges merged.
fn functions() -> Option<Value> {
    let python = std::env::var_os("UPCALL_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let read = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let output = Command::new(python).args(["-c", read]).arg(folder().join("s.yaml")).output().ok()?;
    if String::from_utf8_lossy(&output.stderr).contains("No module named") {
        skip("what is deployed to Function Compute: there is no YAML for Python (tests/run installs it)");
        return None;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn both_functions_have_configurations_that_upcall_takes() {
    let Some(file) = functions() else { return };
    for function in file["resources"].as_object().unwrap().values() {
        let name = function["props"]["environmentVariables"]["CONFIG_FILE"].as_str().unwrap();
        let output = Command::new(executable::path())
            .args(["check", "-c"])
            .arg(folder().join(name))
            .envs([("NATS_PASSWORD", "secret"), ("FC_SERVER_PORT", "9000")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Nobody signs a notification: an HTTP trigger that anybody may call must not lead to where they are taken.
#[test]
fn only_a_function_without_an_http_trigger_takes_notifications() {
    let Some(file) = functions() else { return };
    let read = |name: &str| std::fs::read_to_string(folder().join(name)).unwrap().parse::<toml::Table>().unwrap();
    for function in file["resources"].as_object().unwrap().values() {
        let props = &function["props"];
        let configuration = read(props["environmentVariables"]["CONFIG_FILE"].as_str().unwrap());
        let triggers = props["triggers"].as_array().unwrap();
        let has_http = triggers.iter().any(|trigger| trigger["triggerType"] == "http");
        let invoked_by = configuration["function_compute"]["invoked_by"].as_str().unwrap();
        assert_eq!(invoked_by, if has_http { "http" } else { "events" });
        for trigger in triggers.iter().filter(|trigger| trigger["triggerType"] == "http") {
            assert_eq!(trigger["triggerConfig"], json!({ "authType": "anonymous", "methods": ["POST"] }));
        }
        // What all of them share is merged in.
        assert_eq!(props["customRuntimeConfig"]["command"], json!(["/code/bootstrap"]));
        // What an instance waits for, when it is new and at its end, is shorter.
        for hook in ["initializer", "preStop"] {
            assert!(props["instanceLifecycleConfig"][hook]["timeout"].as_u64() >= Some(3), "{hook}");
        }
        assert!(props["vpcConfig"]["vpcId"].is_string() && props["timeout"].as_u64() >= Some(5));
    }
}

#[test]
fn bootstrap_starts_what_lies_beside_it() {
    let code = tempfile::tempdir().unwrap();
    let bootstrap = code.path().join("bootstrap");
    std::fs::copy(folder().join("bootstrap"), &bootstrap).unwrap();
    assert_eq!(std::fs::metadata(&bootstrap).unwrap().permissions().mode() & 0o111, 0o111);
    std::os::unix::fs::symlink(executable::path(), code.path().join("upcall")).unwrap();
    let configuration = std::fs::read_to_string(folder().join("upcall.toml")).unwrap();
    // Nobody is there, which stops no instance from starting.
    let configuration = configuration.replace("nats.example.internal:4222", "127.0.0.1:1");
    std::fs::write(code.path().join("upcall.toml"), configuration).unwrap();
    let mut start = Command::new(&bootstrap);
    start.envs([("NATS_PASSWORD", "secret"), ("FC_SERVER_PORT", "0"), ("UPCALL_GATEWAY__ADMIN", "127.0.0.1:0")]);
    let mut running = Running::spawn(start.current_dir("/"));
    running.wait_for("line that says that it serves", |line| line.contains("serving 1 route").then_some(()));
    assert!(running.terminate().success());
}

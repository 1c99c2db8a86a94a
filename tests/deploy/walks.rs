//! The walks of the documentation, followed up to the cluster or the cloud, as a newcomer would.

use std::path::Path;
use std::process::Command;

use upcall_tests::executable::{self, workspace};

use crate::rendered::renderer;

/// What is done by people, takes a cluster, or was done already.
const PASSED_OVER: [&str; 3] = ["$EDITOR", "cargo ", "s deploy"];

#[test]
fn the_walks_to_kubernetes_can_be_followed_up_to_the_cluster() {
    let Some(renderer) = renderer() else { return };
    let page = "docs/operations/kubernetes.md";
    for block in blocks(page) {
        follow(page, &block, "deploy/kubernetes", &renderer);
    }
}

#[test]
fn the_walk_to_function_compute_can_be_followed_up_to_the_cloud() {
    let Some(renderer) = renderer() else { return };
    let page = "docs/operations/function-compute.md";
    for block in blocks(page) {
        follow(page, &block, "deploy/function-compute", &renderer);
    }
}

/// Runs a block's commands in a copy of a folder, and compares what they print with what the block says.
fn follow(page: &str, block: &str, folder: &str, renderer: &Path) {
    let site = tempfile::tempdir().unwrap();
    let copied = Command::new("sh")
        .args(["-c", "mkdir -p \"$1/deploy\" \"$1/target/release\" \"$1/bin\" && cp -r \"$2\" \"$1/deploy\"", "sh"])
        .arg(site.path())
        .arg(workspace().join(folder))
        .status();
    assert!(copied.unwrap().success());
    std::os::unix::fs::symlink(executable::path(), site.path().join("target/release/upcall")).unwrap();
    // `kubectl kustomize` is what the tests render with.
    std::os::unix::fs::symlink(renderer, site.path().join("bin/kubectl")).unwrap();
    std::os::unix::fs::symlink(executable::path(), site.path().join("bin/upcall")).unwrap();

    let commands: Vec<&str> = block.lines().filter_map(|line| line.trim_start().strip_prefix("$ ")).collect();
    let commands = commands.into_iter().filter(|command| PASSED_OVER.iter().all(|over| !command.starts_with(over)));
    let script: Vec<&str> = std::iter::once("set -e").chain(commands).collect();
    let path = format!("{}:{}", site.path().join("bin").display(), std::env::var("PATH").unwrap());
    let output =
        Command::new("sh").args(["-c", &script.join("\n")]).current_dir(site.path()).env("PATH", path).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{page}:\n{block}\n{said}{}", String::from_utf8_lossy(&output.stderr));
    let shown = block.lines().map(str::trim).filter(|line| !line.starts_with("$ ") && !line.is_empty());
    assert_eq!(said.lines().collect::<Vec<_>>(), shown.collect::<Vec<_>>(), "{page}:\n{block}");
}

/// The blocks of a page that say that they are tested.
fn blocks(page: &str) -> Vec<String> {
    let text = std::fs::read_to_string(workspace().join(page)).unwrap();
    let rests = text.split("<!-- Tested").skip(1);
    let blocks: Vec<_> = rests.map(|rest| rest.split("```").nth(1).unwrap().replacen("console\n", "", 1)).collect();
    assert!(!blocks.is_empty(), "{page} has no tested block");
    blocks
}

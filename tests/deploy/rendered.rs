//! Renders everything that there is to deploy, once, and compares it with what was agreed.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use upcall_tests::executable::workspace;
use upcall_tests::skip;

/// The versions of Kubernetes: the oldest that the chart takes, and the newest whose schemas the validator has.
const VERSIONS: [&str; 2] = ["1.29", "1.37"];

/// One way to deploy, as a cluster would get it.
pub(crate) struct Rendered {
    /// Such as `kustomize-on-nats`; the file in `golden/` is called so.
    pub(crate) name: String,
    text: String,
    /// The resources, each valid for Kubernetes.
    pub(crate) resources: Vec<Value>,
}

impl Rendered {
    fn new(name: String, output: &Output) -> Self {
        let text = succeeded(&name, output);
        let resources = valid(&name, &text);
        Self { name, text, resources }
    }

    /// The resources of a kind.
    pub(crate) fn all(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.resources.iter().filter(move |resource| resource["kind"] == kind)
    }

    /// The resources that make pods, each with its pods' template.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = (&Value, &Value)> {
        let makes_pods = |resource: &&Value| ["Deployment", "StatefulSet"].iter().any(|kind| resource["kind"] == *kind);
        self.resources.iter().filter(makes_pods).map(|resource| (resource, &resource["spec"]["template"]))
    }
}

/// Everything; `None`, and a test is skipped, where it can't be rendered.
pub(crate) fn everything() -> Option<&'static [Rendered]> {
    static EVERYTHING: OnceLock<Option<Vec<Rendered>>> = OnceLock::new();
    EVERYTHING.get_or_init(render).as_deref()
}

fn render() -> Option<Vec<Rendered>> {
    let renderer = renderer()?;
    let has_validator = Command::new(python())
        .args(["-c", "import kubernetes_validate"])
        .output()
        .is_ok_and(|said| said.status.success());
    if !has_validator {
        skip("what is deployed to Kubernetes: kubernetes-validate is not installed (tests/run installs it)");
        return None;
    }
    let mut all = Vec::new();
    let kubernetes = workspace().join("deploy/kubernetes");
    for kind in ["overlays", "examples"] {
        for folder in entries(&kubernetes.join(kind)) {
            let name = format!("kustomize-{}", stem(&folder));
            all.push(kustomize(&renderer, name, &folder));
        }
    }
    for values in entries(&folder().join("values")) {
        all.push(Rendered::new(format!("helm-{}", stem(&values)), &helm(&renderer, &values)));
    }
    Some(all)
}

/// The program that renders; `None`, and a test is skipped, where there is none.
pub(crate) fn renderer() -> Option<PathBuf> {
    let found = std::env::var_os("UPCALL_TEST_RENDER").map(PathBuf::from).filter(|path| path.exists());
    if found.is_none() {
        skip("what is deployed to Kubernetes: the renderer was not built, which needs Go (tests/run builds it)");
    }
    found
}

/// Renders a site in a folder.
pub(crate) fn kustomize(renderer: &Path, name: String, folder: &Path) -> Rendered {
    Rendered::new(name, &Command::new(renderer).arg("kustomize").arg(folder).output().unwrap())
}

/// Renders the chart as `helm install upcall` would in the namespace `upcall`.
pub(crate) fn helm(renderer: &Path, values: &Path) -> Output {
    let chart = workspace().join("deploy/helm/upcall");
    let version = format!("v{}.0", VERSIONS[1]);
    let mut command = Command::new(renderer);
    command.arg("helm").arg(chart).args(["upcall", "upcall", &version]).arg(values).output().unwrap()
}

/// The resources of a text, each valid for Kubernetes.
pub(crate) fn valid(name: &str, text: &str) -> Vec<Value> {
    let mut validate = Command::new(python());
    validate.arg(folder().join("validate.py")).args(VERSIONS);
    serde_json::from_str(&succeeded(name, &run_with(&mut validate, text))).unwrap()
}

fn succeeded(name: &str, output: &Output) -> String {
    assert!(output.status.success(), "{name}:\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn run_with(command: &mut Command, input: &str) -> Output {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn stem(path: &Path) -> &str {
    path.file_stem().and_then(OsStr::to_str).unwrap()
}

fn folder() -> PathBuf {
    workspace().join("tests/deploy")
}

fn python() -> String {
    std::env::var("UPCALL_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// Writes what differs anew, and fails: look at the difference, and commit it if it is meant.
#[test]
fn a_cluster_gets_what_was_agreed() {
    let Some(everything) = everything() else { return };
    let golden = folder().join("golden");
    let mut written = Vec::new();
    for rendered in everything {
        let path = golden.join(format!("{}.yaml", rendered.name));
        if std::fs::read_to_string(&path).ok().as_ref() != Some(&rendered.text) {
            std::fs::write(&path, &rendered.text).unwrap();
            written.push(path);
        }
    }
    assert!(written.is_empty(), "written anew; look at the difference, and commit it: {written:?}");
    let left: Vec<_> =
        entries(&golden).into_iter().filter(|path| everything.iter().all(|one| one.name != stem(path))).collect();
    assert!(left.is_empty(), "nothing is rendered to {left:?} any more");
}

#[test]
fn no_secret_is_written_down() {
    let Some(everything) = everything() else { return };
    for rendered in everything {
        assert_eq!(rendered.all("Secret").count(), 0, "{}: secrets are referred to", rendered.name);
    }
}

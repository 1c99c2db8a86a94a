//! What is in `deploy/image`: built, looked into, and run.
//!
//! The executable of the tests takes the place of one that is compiled for long. So the image has the libraries that
//! that needs, too; all else is as `deploy/image/Containerfile` has it.

use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;
use upcall_tests::executable::{self, Running, workspace};
use upcall_tests::skip;

/// Who the process in the image is.
const USER: u32 = 65532;

/// A store of images of its own.
struct Builder {
    folder: TempDir,
}

impl Builder {
    /// `None`, and a test is skipped, where there is no builder.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        if Command::new("buildah").arg("--version").output().is_err() {
            skip("the image: buildah is not installed (tests/run installs it)");
            return None;
        }
        if std::fs::metadata(folder.path()).unwrap().uid() != 0 {
            skip("the image: only root may give files to others, and look into an image");
            return None;
        }
        Some(Self { folder })
    }

    fn buildah(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("buildah");
        for (option, name) in [("--root", "store"), ("--runroot", "run")] {
            command.arg(option).arg(self.folder.path().join(name));
        }
        // One that needs no kernel's help, and so is there in a container, too.
        let output =
            command.args(["--storage-driver", "vfs"]).args(arguments).current_dir(workspace()).output().unwrap();
        succeeded(&output)
    }

    /// Builds the image, with files made for this name, and returns its id.
    fn build(&self, name: &str, format: &str) -> String {
        let files = self.folder.path().join(name);
        let root = files.join("image");
        if !root.exists() {
            let made =
                Command::new(workspace().join("deploy/image/rootfs")).arg(&root).arg(executable::path()).output();
            succeeded(&made.unwrap());
        }
        let context = format!("build={}", files.display());
        let build = ["build", "--format", format, "--isolation", "chroot", "--timestamp", "1767225600", "--quiet"];
        let file = ["--build-context", &context, "-f", "deploy/image/Containerfile", "-t", name, "."];
        self.buildah(&[&build[..], &file[..]].concat()).trim().to_owned()
    }

    /// The image's files.
    fn mount(&self, name: &str) -> PathBuf {
        let container = self.buildah(&["from", "--pull-never", name]);
        PathBuf::from(self.buildah(&["mount", container.trim()]).trim())
    }
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Every file and folder below one, by its path there.
fn everything(root: &Path, folder: &Path, found: &mut Vec<(String, std::fs::Metadata)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            everything(root, &path, found);
        }
        found.push((path.strip_prefix(root).unwrap().display().to_string(), metadata));
    }
}

/// A process in the image, as its user.
fn inside(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("chroot");
    command.arg(format!("--userspec={USER}:{USER}")).arg(root).arg("/usr/bin/upcall").args(arguments);
    command
}

#[test]
fn the_image_is_small_the_same_each_time_and_runs_as_nobody_in_particular() {
    let Some(builder) = Builder::new() else { return };
    let (id, again) = (builder.build("upcall", "oci"), builder.build("upcall-again", "oci"));
    assert_eq!(id, again, "the same source gives the same image");
    // With a health check, which an OCI image can't have.
    builder.build("upcall", "docker");
    let described: Value = serde_json::from_str(&builder.buildah(&["inspect", "--type", "image", "upcall"])).unwrap();
    let config = &described["Docker"]["config"];
    assert_eq!((&config["User"], &config["Entrypoint"]), (&json!("65532:65532"), &json!(["/usr/bin/upcall"])));
    assert_eq!(config["Cmd"], json!(["serve", "-c", "/etc/upcall/upcall.toml"]));
    let check = json!(["CMD", "/usr/bin/upcall", "health", "-c", "/etc/upcall/upcall.toml"]);
    assert_eq!(config["Healthcheck"]["Test"], check);

    let root = builder.mount("upcall");
    let mut found = Vec::new();
    everything(&root, &root, &mut found);
    for (path, metadata) in &found {
        let is_own = path == "var/lib/upcall";
        assert_eq!(metadata.uid() == USER, is_own, "{path}: who may write it");
        assert!(metadata.file_type().is_symlink() || metadata.mode() & 0o022 == 0, "{path}: anybody may write it");
        let is_executable = metadata.is_file() && metadata.permissions().mode() & 0o111 != 0;
        assert!(!is_executable || path == "usr/bin/upcall" || path.contains("/ld-") || path.contains(".so"), "{path}");
    }
    let bill: Value =
        serde_json::from_slice(&std::fs::read(root.join("usr/share/doc/upcall/sbom.cdx.json")).unwrap()).unwrap();
    let names: Vec<_> = bill["components"].as_array().unwrap().iter().map(|component| &component["name"]).collect();
    assert!(["tokio", "async-nats", "upcall-gateway"].iter().all(|name| names.contains(&&json!(name))), "{names:?}");
    assert!(!names.contains(&&json!("proptest")), "what tests need is not in it");
    runs(&root);
}

/// Runs the image's command as its user, to whom all but one folder is as good as read-only.
fn runs(root: &Path) {
    let text = "[gateway]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[bus]\njournal = \"/var/lib/upcall\"\n\
                [[route]]\nname = \"a\"\npath = \"/a\"\n[[consumer]]\nname = \"c\"\nsql = { url = \"sqlite:///var/lib/upcall/c.db\", table = \"t\" }\n";
    std::fs::write(root.join("etc/upcall/upcall.toml"), text).unwrap();
    let mut running = Running::spawn(&mut inside(root, &["serve", "-c", "/etc/upcall/upcall.toml"]));
    let admin: SocketAddr = running
        .wait_for("line with its address", |line| line.split("admin=").nth(1)?.split_whitespace().next()?.parse().ok());
    let health = |ready: &[&str]| {
        let admin = admin.to_string();
        inside(root, &[&["health", "--admin", &admin][..], ready].concat()).output().unwrap().status.success()
    };
    assert!(health(&[]) && health(&["--ready"]));
    assert!(running.terminate().success());
    assert!(!health(&[]), "nobody is there any more");
}

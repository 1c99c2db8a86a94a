//! The official OSS SDKs against `upcall dev`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use upcall_tests::executable::Running;
use upcall_tests::skip;

/// `oss2`, Alibaba Cloud's SDK for Python: uploads with callbacks in every way that it has.
#[test]
fn the_python_sdk_uploads_and_sees_the_answer() {
    let python = std::env::var("UPCALL_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_sdk =
        Command::new(&python).args(["-c", "import oss2"]).output().is_ok_and(|output| output.status.success());
    if !has_sdk {
        return skip("the official Python SDK: oss2 is not installed (tests/run installs it)");
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut dev = Running::start_dev(&data);
    let address = |dev: &mut Running, name: &str| {
        dev.wait_for(name, |line| {
            let rest = line.trim_start().strip_prefix(name)?;
            rest.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned)
        })
    };
    let oss = address(&mut dev, "OSS");
    let gateway = address(&mut dev, "callbacks");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/python_sdk.py");
    let output = Command::new(python).arg(script).args([&oss, &gateway]).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("all is well"), "{said}\n{}", dev.rest().join("\n"));
    assert!(dev.terminate().success());
}

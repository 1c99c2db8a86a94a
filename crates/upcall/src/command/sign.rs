//! `upcall sign`: sends a signed callback to any URL, as OSS would.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use clap::Args;
use upcall_callback::{BodyType, CallbackUrl, PrivateKey};
use upcall_simulator::{HttpsTrust, SingleCallback};

use crate::runtime;
use crate::terminal::printable;
use crate::words::quoted;

/// Send a signed callback to any URL, as OSS would send it
///
/// For trying out a gateway, or any other application server: no upload is needed. Says what was answered, and what OSS
/// would have made of it. The exit status is 0 if OSS would relay the answer, and 1 if not.
///
/// The key is one of your own, which the server must be told to trust; only OSS has OSS's key. `upcall dev` makes one
/// and trusts it. Another is made by:
///   openssl genrsa -out key.pem 1024
///   openssl rsa -in key.pem -pubout -out public.pem
/// and trusted by a gateway that has in its configuration:
///   [[keys.trusted]]
///   url  = "https://your.host/key.pem"    # the same as --key-url; nobody fetches it
///   file = "public.pem"
///
/// Examples:
///   upcall sign http://127.0.0.1:8080/oss/callback      # to `upcall dev`
///   upcall sign https://your.host/oss/avatars --key key.pem --key-url https://your.host/key.pem \
///     --json --body '{"bucket":"examplebucket","object":"a.png","size":3,"reqId":"5CF3E7821AB22D0FDB86704D"}'
///   upcall sign http://127.0.0.1:8080/oss/callback --print    # the same as a curl command
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// Whom to call
    #[arg(value_name = "URL")]
    url: String,
    /// The private key to sign with, in PEM
    #[arg(long, value_name = "FILE", default_value = DEFAULT_KEY)]
    key: PathBuf,
    /// The URL that the callback names its public key by
    #[arg(long, value_name = "URL", default_value = DEFAULT_KEY_URL)]
    key_url: String,
    /// The body; by default that of a small upload with a request id of its own
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// Send the body as application/json instead of as a form
    #[arg(long)]
    json: bool,
    /// The `x-oss-bucket` header, which nobody signs
    #[arg(long, value_name = "NAME", default_value = "examplebucket")]
    bucket: String,
    /// The `x-oss-request-id` header, which nobody signs; by default a new one
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Accept any certificate of an https server
    #[arg(long)]
    insecure: bool,
    /// Print a curl command that sends the callback, instead of sending it
    #[arg(long)]
    print: bool,
}

/// The key of `upcall dev`, where it keeps its data unless told otherwise.
pub(super) const DEFAULT_KEY: &str = "./upcall-data/oss/callback_key.pem";
/// The URL by which `upcall dev` trusts it, unless it listens elsewhere.
pub(super) const DEFAULT_KEY_URL: &str = "http://127.0.0.1:9000/_simulator/callback_pub_key.pem";
/// How long OSS waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let url = CallbackUrl::parse(&arguments.url).ok().filter(|_| arguments.url.contains("://"));
    let Some(url) = url else {
        bail!("{:?} is no URL that OSS can call: write http:// or https://, a host, and a path", arguments.url);
    };
    let pem = std::fs::read_to_string(&arguments.key).with_context(|| {
        format!(
            "the key {} can't be read; start `upcall dev` once, or name another with --key",
            arguments.key.display()
        )
    })?;
    let key =
        PrivateKey::from_pem(&pem).with_context(|| format!("{} holds no private key", arguments.key.display()))?;
    let request_id = arguments.request_id.clone().unwrap_or_else(new_request_id);
    let body = arguments.body.clone().unwrap_or_else(|| example_body(&request_id, arguments.json));
    let callback = SingleCallback {
        url: &url,
        key: &key,
        key_url: &arguments.key_url,
        body_type: if arguments.json { BodyType::Json } else { BodyType::Form },
        body: &body,
        bucket: &arguments.bucket,
        request_id: &request_id,
    };
    if arguments.print {
        println!("{}", curl(&callback, arguments.insecure)?);
        return Ok(ExitCode::SUCCESS);
    }
    send(&callback, if arguments.insecure { HttpsTrust::Everything } else { HttpsTrust::System })
}

fn send(callback: &SingleCallback<'_>, trust: HttpsTrust) -> anyhow::Result<ExitCode> {
    let sent = runtime::block_on(async { Ok(callback.send(&trust, PATIENCE).await?) })?;
    if let Some(status) = sent.status {
        let (elapsed_ms, body) = (sent.elapsed.as_secs_f64() * 1000.0, String::from_utf8_lossy(&sent.body));
        // Whoever reads may have seen enough, as `head` does.
        let _ = writeln!(std::io::stdout(), "{status} in {elapsed_ms:.1} ms\n{}", printable(&body));
    }
    match sent.verdict {
        Ok(()) => {
            eprintln!("OSS would relay this answer to the uploader.");
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            eprintln!("OSS would tell the uploader, with status 203: {}", failure.message());
            if let Some(cause) = &sent.cause {
                eprintln!("What happened: {}", printable(cause));
            }
            if let Some(advice) = advice(callback, &sent.body) {
                eprintln!("{advice}");
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

/// What to do where a gateway does not know the key, going by the code of its answer.
fn advice(callback: &SingleCallback<'_>, body: &[u8]) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
    let key_url = printable(callback.key_url);
    match answer["error"]["code"].as_str()? {
        "key_url_forbidden" => Some(format!(
            "The callback named its key by {key_url}, which this gateway does not trust. Name the URL that it has in \
             [[keys.trusted]] with --key-url; `upcall dev` shows the whole command at its start."
        )),
        "signature_mismatch" => Some(format!(
            "The gateway knows another key by {key_url}. Name the private key that belongs to that with --key."
        )),
        _ => None,
    }
}

fn curl(callback: &SingleCallback<'_>, insecure: bool) -> anyhow::Result<String> {
    let mut command = format!("curl -sS -i --path-as-is {}", quoted(callback.url.as_str()));
    if insecure {
        command.push_str(" --insecure");
    }
    for (name, value) in callback.headers()? {
        // curl counts the length itself; a header without a value is written with a semicolon.
        match (name.as_str(), value.as_str()) {
            ("content-length", _) => {}
            (name, "") => command.push_str(&format!(" \\\n  -H {}", quoted(&format!("{name};")))),
            (name, value) => command.push_str(&format!(" \\\n  -H {}", quoted(&format!("{name}: {value}")))),
        }
    }
    Ok(format!("{command} \\\n  --data-raw {}", quoted(callback.body)))
}

fn example_body(request_id: &str, json: bool) -> String {
    if json {
        serde_json::json!({ "bucket": "examplebucket", "object": "hello.txt", "size": 11, "reqId": request_id })
            .to_string()
    } else {
        format!("bucket=examplebucket&object=hello.txt&size=11&reqId={request_id}")
    }
}

/// A request id as OSS makes them: 24 hex digits, of which the first 8 are the time in seconds.
fn new_request_id() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{:08X}{:08X}{:08X}", now.as_secs(), now.subsec_nanos(), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_command_survives_the_shell() {
        let text = "it's \"$HOME\" `x` \\ \n";
        let shell =
            std::process::Command::new("sh").args(["-c", &format!("printf %s {}", quoted(text))]).output().unwrap();
        assert_eq!(String::from_utf8(shell.stdout).unwrap(), text);
    }
}

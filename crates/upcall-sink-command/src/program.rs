//! One run of the program: started, fed, listened to, ended in time, and nothing of it left.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{FusedFuture, FutureExt};
use rustix::fs::{Access, access};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, Command};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use upcall_consumer::Item;
use upcall_telemetry::trace;

use crate::Options;
use crate::closing::Closing;
use crate::group::Group;
use crate::tail::Tail;

/// What a program gets of this process's environment. Not more: there may be secrets in it.
const ENV_COMMON: [&str; 8] = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE"];
/// The longest variable made of an event: Linux starts no program that has one of 128 KiB.
const VARIABLE_BYTES_MAX: usize = 64 * 1024;
/// How long what a program said is waited for when it has ended: a process that left its group may hold the pipe.
const REST_TIMEOUT: Duration = Duration::from_millis(200);

/// Why the program can't be run.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// There is no such file.
    #[error("the program {0} is not there")]
    Missing(PathBuf),
    /// There is no such name in `PATH`.
    #[error("no program {0} is in PATH; write its path, with a slash in it")]
    NotInPath(PathBuf),
    /// It is there and may not be run.
    #[error("the program {0} may not be run by this user: it needs `chmod +x`, and to be no folder")]
    NotExecutable(PathBuf),
    /// There is no such folder to run in.
    #[error("the folder {0} to run in is not there")]
    NoFolder(PathBuf),
}

/// How a run ended.
pub(crate) enum End {
    /// By itself.
    Exited(ExitStatus),
    /// It took too long, and was made to.
    TimedOut,
    /// The consumer shuts down, and it was made to.
    ShutDown,
}

/// Looks whether the program is there and may be run.
pub(crate) fn check(options: &Options) -> Result<(), Unfit> {
    if let Some(folder) = options.folder.as_deref().filter(|folder| !folder.is_dir()) {
        return Err(Unfit::NoFolder(folder.to_owned()));
    }
    let program = &options.program;
    if program.components().count() == 1 && !program.is_absolute() {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).any(|folder| may_be_run(&folder.join(program)));
        return if found { Ok(()) } else { Err(Unfit::NotInPath(program.clone())) };
    }
    match program {
        program if may_be_run(program) => Ok(()),
        program if program.exists() => Err(Unfit::NotExecutable(program.clone())),
        program => Err(Unfit::Missing(program.clone())),
    }
}

fn may_be_run(program: &Path) -> bool {
    program.is_file() && access(program, Access::EXEC_OK).is_ok()
}

/// Runs the program for one event. Tells how it ended, and the last of what it said.
///
/// # Errors
/// When it can't be started.
///
/// # Cancel safety
/// Dropping the future kills the program and all that it has started.
pub(crate) async fn run(options: &Options, item: &Item<'_>, closing: &Closing) -> io::Result<(End, String)> {
    let (mut child, group) = Group::start(command(options, item))?;
    let tail = Mutex::new(Tail::default());
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let mut line = item.event.to_structured();
    line.push(b'\n');
    let talk = async { tokio::join!(feed(stdin, &line), listen(stderr, &tail)) };
    let mut talk = pin!(talk.fuse());

    let begun = async {
        tokio::select! {
            biased;
            status = timeout(options.timeout, child.wait()) => status.map_err(|_| None),
            last = closing.last_call(options.kill_after) => Err(Some(last)),
        }
    };
    let end = match beside(begun, &mut talk).await {
        Ok(status) => End::Exited(status?),
        Err(shut_down_by) => {
            group.signal(Signal::TERM);
            let by = shut_down_by.unwrap_or_else(|| Instant::now() + options.kill_after);
            // A shutdown may leave less time than that.
            let ended = async {
                tokio::select! {
                    status = timeout_at(by, child.wait()) => status.is_ok(),
                    last = closing.last_call(Duration::ZERO) => {
                        sleep_until(last).await;
                        false
                    }
                }
            };
            if !beside(ended, &mut talk).await {
                group.signal(Signal::KILL);
                child.wait().await?;
            }
            if shut_down_by.is_some() { End::ShutDown } else { End::TimedOut }
        }
    };
    // What it has left behind would go on without a limit.
    drop(group);
    if !talk.is_terminated() {
        let _ = timeout(REST_TIMEOUT, talk).await;
    }
    let said = tail.lock().unwrap_or_else(PoisonError::into_inner).text();
    Ok((end, said))
}

fn command(options: &Options, item: &Item<'_>) -> Command {
    let mut command = Command::new(&options.program);
    command.args(&options.args).env_clear();
    let passed = ENV_COMMON.into_iter().chain(options.env_from.iter().map(String::as_str));
    command.envs(passed.filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.envs(&options.env);
    let (event, upload) = (item.event, &item.event.data);
    for (name, value) in [
        ("UPCALL_EVENT_ID", event.id.to_string().as_str()),
        ("UPCALL_EVENT_SUBJECT", item.subject.as_str()),
        ("UPCALL_EVENT_SEQUENCE", &item.sequence.to_string()),
        ("UPCALL_EVENT_ATTEMPT", &item.attempt.to_string()),
        ("UPCALL_EVENT_BUCKET", &upload.bucket),
        ("UPCALL_EVENT_OBJECT", &upload.object),
    ] {
        // The JSON has what no variable can hold.
        if !value.contains('\0') && value.len() <= VARIABLE_BYTES_MAX {
            command.env(name, value);
        }
    }
    // Whatever else the program does with OpenTelemetry goes by it.
    if let Some(trace) = item.span.and_then(trace::context) {
        command.env("TRACEPARENT", trace.parent().to_string());
    }
    if let Some(folder) = &options.folder {
        command.current_dir(folder);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    command
}

/// Writes the event. A program that does not read it, or not all of it, is free to.
async fn feed(stdin: Option<ChildStdin>, line: &[u8]) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(line).await;
    }
}

async fn listen(stderr: Option<ChildStderr>, tail: &Mutex<Tail>) {
    let Some(mut stderr) = stderr else { return };
    let mut buffer = vec![0; 8192];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        tail.lock().unwrap_or_else(PoisonError::into_inner).push(&buffer[..read]);
    }
}

/// Waits for something while something else goes on beside it.
async fn beside<T>(awaited: impl Future<Output = T>, other: &mut (impl FusedFuture + Unpin)) -> T {
    let mut awaited = pin!(awaited);
    loop {
        tokio::select! {
            biased;
            value = &mut awaited => return value,
            _ = &mut *other, if !other.is_terminated() => {}
        }
    }
}

//! `[[consumer]] command`: a program that is run for each event.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Value;
use upcall_sink_command::Options;

use crate::config::consumer::Given;
use crate::config::reader::Section;

/// What a batch may take beside its programs.
const MARGIN: Duration = Duration::from_secs(1);

/// Reads `command`. `None` where mistakes leave no sink; they are on record.
pub(super) fn read(mut section: Section<'_>) -> Option<Options> {
    let program: Option<PathBuf> = section.required(
        "program",
        "The program: a path, relative to this file, or a name without a slash that is looked for in `PATH`. It gets the \
         event as one line of JSON on its standard input.",
    );
    let args: Vec<String> = section.or(
        "args",
        Value::Array(Vec::new()),
        "Its arguments, as they are: there is no shell, and nothing of an event comes among them.",
    );
    let env: BTreeMap<String, String> =
        section.optional("env", "Variables that it gets, such as `{ TABLE = \"uploads\" }`.").unwrap_or_default();
    let env_from: Vec<String> = section.or(
        "env_from",
        Value::Array(Vec::new()),
        "Variables of Upcall's own environment that it gets beside `PATH`, `HOME`, `USER`, `LANG`, `LC_ALL`, `TZ`, `TMPDIR` \
         and `SSL_CERT_FILE`.",
    );
    let folder: PathBuf = section.or("folder", ".", "The folder that it runs in, relative to this file.");
    let timeout: Duration = section.or(
        "timeout",
        "20s",
        "How long it may take over one event. Then it is told to end (SIGTERM), with all that it has started.",
    );
    let kill_after: Duration = section.or("kill_after", "5s", "How long it has to end, before it is killed.");
    let names = env.keys().map(|name| ("env", name)).chain(env_from.iter().map(|name| ("env_from", name)));
    for (key, name) in names.filter(|(_, name)| name.is_empty() || name.contains(['=', '\0'])) {
        section.mistake(key, format!("has {name:?}, which is no name of a variable"));
    }
    if args.iter().chain(env.values()).any(|text| text.contains('\0')) {
        section.mistake_here("has a zero byte in an argument or a variable: no program takes that");
    }
    for (key, time) in [("timeout", timeout), ("kill_after", kill_after)] {
        if time.is_zero() {
            section.mistake(key, "is zero: no program ends in no time");
        }
    }
    let program = match program? {
        name if name.components().count() == 1 && !name.is_absolute() => name,
        path => absolute(&section, &path),
    };
    let folder = Some(absolute(&section, &folder));
    Some(Options { args, env, env_from, folder, timeout, kill_after, ..Options::new(program) })
}

/// A path that means the same whichever folder the program runs in.
fn absolute(section: &Section<'_>, path: &Path) -> PathBuf {
    let path = section.resolve(path);
    std::path::absolute(&path).unwrap_or(path)
}

/// Hands events over one by one unless told otherwise, and gives a batch the time that its programs may take.
pub(super) fn fit(options: &Options, section: &Section<'_>, given: Given, consumer: &mut upcall_consumer::Options) {
    if !given.batch_max {
        consumer.batch_max = NonZeroUsize::MIN;
    }
    let events = u32::try_from(consumer.batch_max.get()).unwrap_or(u32::MAX);
    let needed = (options.timeout.saturating_add(options.kill_after)).saturating_mul(events).saturating_add(MARGIN);
    if !given.deliver_timeout {
        consumer.deliver_timeout = consumer.deliver_timeout.max(needed);
    } else if consumer.deliver_timeout < needed {
        section.mistake(
            "deliver_timeout",
            format!(
                "is below the {} that the programs of a batch may take (`batch_max` times `command.timeout` and \
                 `command.kill_after`): raise it, or leave it out",
                humantime::format_duration(needed)
            ),
        );
    }
}

mod values_schema;

use std::collections::BTreeSet;
use std::fmt::Write;

use super::reader::{Default, Entry};
use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("/etc/upcall/upcall.toml"), text, std::iter::empty())
}

/// Names every table, so that every key is read.
const EVERY_TABLE: &str = r#"
    [gateway.forwarded_target]
    header = "X-Original-URI"
    from = ["127.0.0.1/32"]
    [[keys.trusted]]
    url = "http://127.0.0.1:9000/key.pem"
    pem = """
-----BEGIN PUBLIC KEY-----
MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKs/JBGzwUB2aVht4crBx3oIPBLNsjGs
C0fTXv+nvlmklvkcolvpvXLTjaxUHR3W9LXxQ2EHXAJfCB+6H2YF1k8CAwEAAQ==
-----END PUBLIC KEY-----
"""
    [telemetry.otlp]
    endpoint = "http://127.0.0.1:4317"
    [[route]]
    name = "avatars"
    path = "/oss/avatars"
    [[consumer]]
    name = "catalog"
    sql = { url = "sqlite://catalog.db" }
    [[consumer]]
    name = "partner"
    webhook = { url = "https://hooks.example.com/upcall", secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] }
"#;

#[test]
fn defaults_hold_where_nothing_is_said() {
    let config = parse(EVERY_TABLE).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.bus.journal.as_ref().unwrap().folder, Path::new("/etc/upcall/./upcall-data"));
    assert_eq!(config.consumers[0].options.batch_max.get(), 500);
    let Sink::Sql(sql) = &config.consumers[0].sink else { panic!("it is the first one") };
    assert_eq!(sql.url, "sqlite:///etc/upcall/catalog.db");
    assert_eq!(config.summary(), "1 route, 2 consumers");
}

#[test]
fn the_environment_lies_over_the_file() {
    let variables = [("UPCALL_BUS__JOURNAL".to_owned(), "/var/lib/upcall".to_owned())];
    let config = Config::parse(Path::new("upcall.toml"), EVERY_TABLE, variables.into_iter()).unwrap();
    assert_eq!(config.bus.journal.unwrap().folder, Path::new("/var/lib/upcall"));
    let variables =
        [("UPCALL_GATEWAY__LISEN".to_owned(), "x".to_owned()), ("UPCALL_ROUTE__7__PATH".to_owned(), "/x".to_owned())];
    let error = Config::parse(Path::new("upcall.toml"), EVERY_TABLE, variables.into_iter()).unwrap_err().to_string();
    assert!(error.contains("gateway.lisen") && error.contains("UPCALL_ROUTE__7__PATH"), "{error}");
}

#[test]
fn telemetry_goes_nowhere_unless_a_collector_is_named_there_or_in_the_environment() {
    let route = "[[route]]\nname = \"a\"\npath = \"/a\"\n";
    let read = |text: &str, variables: &[(&str, &str)]| {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::parse(Path::new("upcall.toml"), &format!("{text}\n{route}"), variables)
    };
    let options = |text, variables: &[_]| read(text, variables).unwrap().telemetry.map(|telemetry| telemetry.options);
    assert!(options("", &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).is_none());
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
    let variables = [
        endpoint,
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b, x-other=c"),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ("OTEL_LOGS_EXPORTER", "none"),
    ];
    let from_environment = options("", &variables).unwrap();
    assert_eq!(from_environment.endpoint.to_string(), "http://c:4318");
    assert_eq!(from_environment.timeout, std::time::Duration::from_millis(2500));
    assert_eq!((from_environment.sample, from_environment.headers["x-key"].to_str().unwrap()), (0.25, "a b"));
    assert!(from_environment.signals.traces && !from_environment.signals.logs);
    let text = "[telemetry.otlp]\nendpoint = \"http://file:4317\"\nsample = 1";
    assert_eq!(options(text, &variables).unwrap().endpoint.to_string(), "http://file:4317", "the file goes first");
    assert_eq!(options(text, &variables).unwrap().sample, 1.0);

    let error = read("", &[endpoint, ("OTEL_TRACES_SAMPLER", "jaeger_remote")]).unwrap_err().to_string();
    assert!(error.contains("telemetry.otlp.sample") && error.contains("set by OTEL_TRACES_SAMPLER"), "{error}");
    let mistakes = "[telemetry.otlp]\nendpoint = \"http://user:hunter2@c\"\nprotocol = \"udp\"\nsample = 2\nsignals = [\"trace\"]\n\
                    metrics_interval = \"1ms\"\nparents_from = [\"x\"]\nheaders = { \"a b\" = \"c\" }\nca = \"nowhere.pem\"";
    let error = read(mistakes, &[]).unwrap_err().to_string();
    for key in ["endpoint", "protocol", "sample", "signals", "metrics_interval", "parents_from", "headers.a b", "ca"] {
        assert!(error.contains(&format!("telemetry.otlp.{key}: ")), "{key}: {error}");
    }
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_configuration_without_a_route_consumes_from_nats_or_is_a_mistake() {
    let (consumer, nats) = (
        "[[consumer]]\nname = \"c\"\nsql = { url = \"sqlite://c.db\", table = \"t\" }\n",
        "[bus.nats]\nurl = \"nats://a\"\n",
    );
    let problem = |text: &str| parse(text).unwrap_err().to_string();
    for nothing_to_do in ["", nats] {
        let error = problem(nothing_to_do);
        assert!(error.contains("route: is missing") && error.contains("`[[consumer]]`"), "{error}");
    }
    let error = problem(consumer);
    assert!(error.contains("route: is missing") && error.contains("nobody else can publish"), "{error}");
    let config = parse(&format!("{nats}{consumer}")).unwrap();
    assert_eq!(config.summary(), "0 routes, 1 consumer");
    assert!(config.bus.nats.unwrap().options.subjects.is_empty(), "the stream is left to those who publish");
}

#[test]
fn beside_nats_there_is_a_journal_only_where_it_is_named() {
    let config = parse(&format!("[bus]\nnats = {{ url = \"nats://a\" }}\n{EVERY_TABLE}")).unwrap();
    assert!(config.bus.journal.is_none());
    let nats = config.bus.nats.unwrap();
    assert_eq!((nats.ack, nats.options.urls.len()), (Ack::Broker, 1));
    assert_eq!(nats.options.subjects, ["upcall.uploads.>"]);
    let error =
        parse(&format!("[bus]\nnats = {{ url = \"nats://a\", ack = \"journal\" }}\n{EVERY_TABLE}")).unwrap_err();
    assert!(error.to_string().contains("bus.journal: is missing"), "{error}");
}

#[test]
fn the_broker_is_given_one_way_to_know_us() {
    let nats = |keys: &str| parse(&format!("[bus.nats]\nurl = [\"nats://a\", \"tls://b\"]\n{keys}\n{EVERY_TABLE}"));
    for keys in ["", "user = \"u\"\npassword = \"p\"", "token = \"t\"", "nkey = \"SU\"", "credentials = \"c\""] {
        nats(keys).unwrap_or_else(|error| panic!("{error}"));
    }
    for keys in ["user = \"u\"", "token = \"t\"\nnkey = \"SU\"", "url = \"hunter2@host\""] {
        let error = nats(keys).unwrap_err().to_string();
        assert!(error.contains("bus.nats") || error.contains("line"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn errors_never_show_a_secret() {
    let text = EVERY_TABLE.replace("sqlite://catalog.db", "postgress://user:hunter2@host/db");
    let error = parse(&text).unwrap_err().to_string();
    assert!(error.contains("consumer[0].sql.url") && !error.contains("hunter2"), "{error}");
    let error = parse("[gateway]\nurl = \"postgres://user:hunter2@host/db").unwrap_err().to_string();
    assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
}

/// Writes the reference anew where it differs, and fails: the repaired file belongs in the commit.
#[test]
fn the_reference_lists_every_key() {
    write_anew("docs/reference/configuration.md", &reference(&every_entry()));
}

/// Writes a file that is made from the code where it differs, and fails.
fn write_anew(path: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::fs::read_to_string(&path).ok().as_deref() != Some(generated) {
        std::fs::write(&path, generated).unwrap();
        panic!("{} was out of date and has been written anew: commit it", path.display());
    }
}

/// Every key, in the order in which they are read, and some more than once.
fn every_entry() -> Vec<Entry> {
    let reader = Reader::new(Path::new("."));
    // `journal` is read as a table, so that its keys are listed.
    let mut document: Table = EVERY_TABLE.parse().unwrap();
    document
        .insert("bus".to_owned(), "journal = {}\nnats = { url = \"nats://nats\" }".parse::<Table>().unwrap().into());
    document.insert("function_compute".to_owned(), Table::new().into());
    // Each way to ask a service has keys of its own.
    let routes = document["route"].as_array_mut().unwrap();
    for response in ["request = { subject = \"app.avatars.answer\" }", "http = { url = \"http://127.0.0.1:9000\" }"] {
        let mut route = routes[0].clone();
        route.as_table_mut().unwrap().insert("response".to_owned(), response.parse::<Table>().unwrap().into());
        routes.push(route);
    }
    // All services at once are a mistake, and are read nevertheless.
    let names = ["slack", "teams", "discord", "dingtalk", "feishu", "wecom", "mail", "json", "digest"];
    let command: Table =
        "name = \"thumbnails\"\ncommand = { program = \"./thumbnail\" }\nwhere = { size = {} }".parse().unwrap();
    document["consumer"].as_array_mut().unwrap().push(command.into());
    let notify: String = names.iter().map(|name| format!("notify.{name} = {{}}\n")).collect();
    let notify: Table = format!("name = \"people\"\n{notify}").parse().unwrap();
    document["consumer"].as_array_mut().unwrap().push(notify.into());
    read(&reader, document);
    // What may also be written in short.
    read(&reader, "bus.journal = \"./upcall-data\"".parse().unwrap());
    reader.into_entries()
}

/// What the reference says of a table: its heading, and the rows of its keys.
#[derive(Default)]
struct Listed {
    heading: String,
    rows: String,
}

/// The reference. Each table's keys stand under its heading, in whichever order they are read.
fn reference(entries: &[Entry]) -> String {
    let mut tables: Vec<(String, Listed)> = Vec::new();
    let mut seen = BTreeSet::new();
    for entry in entries {
        // `[[route]]` is read as `route[0]`, and perhaps `route[1]`.
        let path: String =
            entry.path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect();
        if !seen.insert(path.clone()) {
            continue;
        }
        let (parent, key) = path.rsplit_once('.').unwrap_or(("", &path));
        let is_table = entry.default == Default::Section;
        let name = if is_table { path.as_str() } else { parent };
        let at = tables.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            // Below its parent and the parent's other tables.
            let parent = name.rsplit_once('.').map(|(parent, _)| parent);
            let is_near =
                |known: &str| parent.is_some_and(|parent| format!("{known}.").starts_with(&format!("{parent}.")));
            let after = tables.iter().rposition(|(known, _)| is_near(known)).unwrap_or(tables.len().saturating_sub(1));
            let at = (after + 1).min(tables.len());
            tables.insert(at, (name.to_owned(), Listed::default()));
            at
        });
        let listed = &mut tables[at].1;
        if is_table {
            let is_array = entry.kind == "array of tables";
            let title = if is_array { format!("[[{path}]]") } else { format!("[{path}]") };
            write!(listed.heading, "\n## `{title}`\n\n{}\n", entry.doc).unwrap();
            continue;
        }
        let default = match &entry.default {
            Default::Required => "required".to_owned(),
            Default::Absent | Default::Section => String::new(),
            Default::Value(value) => format!("`{value}`"),
        };
        let cell = |text: &str| text.replace('|', "\\|");
        writeln!(listed.rows, "| `{key}` | {} | {default} | {} |", cell(entry.kind), cell(entry.doc)).unwrap();
    }
    let mut text = String::from(INTRODUCTION);
    for (name, Listed { heading, rows }) in tables {
        text.push_str(&heading);
        if !rows.is_empty() {
            write!(text, "\n| key of `{name}` | takes | default | |\n|---|---|---|---|\n{rows}").unwrap();
        }
    }
    text
}

const INTRODUCTION: &str = "\
# Configuration

<!-- Generated from the code by a test; change the code. -->

One TOML file: `upcall serve -c upcall.toml`. `upcall check -c upcall.toml` reports every mistake at once, each with its
place. A key that is not listed here is a mistake. Relative paths start at the file's folder. Durations and sizes carry
their unit: `\"4500ms\"`, `\"7d\"`, `\"1MiB\"`.

The environment lies over the file: `UPCALL_GATEWAY__LISTEN=0.0.0.0:80` is `listen` in `[gateway]`, and
`UPCALL_ROUTE__0__PATH` is `path` of the first `[[route]]`. A value is read as TOML where it is valid TOML, and is a
string otherwise.

Strings with `${NAME}` are filled in from the event: `bucket`, `object`, `etag`, `size`, `mime_type`, `crc64`,
`content_md5`, `image.width`, `image.height`, `image.format`, `operation`, `request_id`, `client_ip`, `vpc_id`, `route`,
`bucket_from`, `origin`, `event.id`, `event.time`, `vars.NAME`, `extra.NAME`. A string that is one name and nothing else keeps the
value's type (`\"${size}\"` is a number); a missing value is null there, and empty inside a longer string. `$${` is a
literal `${`.

A small configuration, whole:

```toml
[gateway]
listen = \"0.0.0.0:8080\"
admin  = \"127.0.0.1:9090\"

[bus]
journal = \"./upcall-data\"

[[route]]
name     = \"avatars\"
path     = \"/oss/avatars\"
buckets  = [\"examplebucket\"]
response = { Status = \"OK\", url = \"https://cdn.example.com/${object}\", size = \"${size}\" }

[[consumer]]
name   = \"catalog\"
filter = \"upcall.uploads.examplebucket.>\"
sql    = { url = \"sqlite://catalog.db\", table = \"uploads\" }
```
";

#[test]
fn the_configuration_in_the_reference_is_valid() {
    let (_, block) = INTRODUCTION.split_once("```toml\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    parse(block).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_stream_captures_the_subjects_of_every_route_once() {
    let captured = |subjects: &[&str]| {
        let route = |(at, subject): (usize, &&str)| {
            format!("[[route]]\nname = \"r{at}\"\npath = \"/oss/{at}\"\nsubject = \"{subject}\"\n")
        };
        let routes: String = subjects.iter().enumerate().map(route).collect();
        parse(&format!("[bus]\nnats = {{ url = \"nats://a\" }}\n{routes}")).unwrap().bus.nats.unwrap().options.subjects
    };
    assert_eq!(captured(&["up.${bucket}", "up.${operation}"]), ["up.>"]);
    assert_eq!(captured(&["up.photos", "up.photos.${bucket}"]), ["up.photos", "up.photos.>"]);
    assert_eq!(captured(&["up.photos", "up.photos-raw.${bucket}"]), ["up.photos", "up.photos-raw.>"]);
    assert_eq!(captured(&["up.${bucket}", "up.photos.${bucket}", "up.x"]), ["up.>"]);
}

/// What is said of a configuration with one route, of one bucket, and a consumer with these keys.
fn complaint_of_consumer(keys: &str) -> Option<String> {
    let text = format!(
        "[[route]]\nname = \"avatars\"\npath = \"/a\"\nbuckets = [\"examplebucket\"]\n[[consumer]]\nname = \"c\"\n{keys}"
    );
    parse(&text).err().map(|error| error.to_string())
}

#[test]
fn a_condition_that_can_never_match_is_refused() {
    let program = "command = { program = \"sh\" }";
    for (keys, expected) in [
        ("where = { bucket = [] }", "consumer[0].where.bucket: lists nothing"),
        ("where = { vars = { user = [] } }", "consumer[0].where.vars.user: lists nothing"),
        ("where = { size = { min = \"2KiB\", max = \"1KiB\" } }", "consumer[0].where.size: has a `min` above"),
        ("where = { route = \"other\" }", "consumer[0].where: can never match"),
        ("where = { bucket = \"other\" }", "consumer[0].where: can never match"),
        ("where = { operation = \"PutObject\" }\nfilter = \"upcall.uploads.*.PostObject\"", "can never match"),
        ("where = { size = { min = \"0B\" } }\nfilter = \"elsewhere.>\"", "can never match"),
        ("filter = \"upcall.uploads.exampelbucket.>\"", "consumer[0].filter: can never match"),
        (
            "filter = \"upcall.upload.examplebucket.>\"",
            "publish, which is `upcall.uploads.${bucket}.${operation}` of examplebucket",
        ),
        ("filter = \"uploads.>\"", "consumer[0].filter: can never match"),
        ("filter = \"upcall.uploads.examplebucket\"", "consumer[0].filter: can never match"),
        (
            "filter = \"upcall.uploads.*.putobject\"",
            "consumer[0].filter: has \"putobject\", which is no operation of OSS; did you mean \"PutObject\"?",
        ),
        ("where = { operation = \"PutObjekt\" }", "consumer[0].where.operation: has \"PutObjekt\""),
        (
            "where = { mime_type = \"text/plain; charset=utf-8\" }",
            "consumer[0].where.mime_type: has \"text/plain; charset=utf-8\"",
        ),
        (
            "where = { object = \"/images/**\" }",
            "consumer[0].where.object: has \"/images/**\", which no object's key is like",
        ),
        ("where = { object = \"*.{jpg,png}\" }", "List several patterns"),
        ("where = { object = \"\" }", "consumer[0].where.object: has \"\""),
        ("where = { object = 7 }", "consumer[0].where.object: takes a pattern"),
        ("where = { size = { min = 7 } }", "consumer[0].where.size.min"),
        ("where = { oject = \"x\" }", "did you mean `object`?"),
    ] {
        let complaint = complaint_of_consumer(&format!("{keys}\n{program}")).unwrap_or_default();
        assert!(complaint.contains(expected), "{keys}: {complaint}");
    }
    for keys in [
        "where = { object = [\"images/**/*.jpg\", \"*.png\"], bucket = [\"examplebucket\", \"b\"], mime_type = \"image/*\" }",
        "where = { operation = \"PutObject\", route = \"avatars\", vars = { user = \"42\" }, size = { max = \"1MiB\" } }",
        "where = { bucket = \"examplebucket\" }\nfilter = \"upcall.uploads.examplebucket.>\"",
    ] {
        assert_eq!(complaint_of_consumer(&format!("{keys}\n{program}")), None, "{keys}");
    }
}

#[test]
fn a_program_has_the_time_that_it_needs_and_is_found_beside_the_file() {
    let text = "[[route]]\nname = \"a\"\npath = \"/a\"\n[[consumer]]\nname = \"c\"\ncommand = { program = \"bin/x\", timeout = \"1m\" }";
    let config = parse(text).unwrap();
    let [consumer] = &config.consumers[..] else { panic!("one consumer") };
    assert_eq!(consumer.options.batch_max.get(), 1);
    assert!(consumer.options.deliver_timeout > std::time::Duration::from_secs(65));
    let Sink::Command(options) = &consumer.sink else { panic!("a program") };
    assert_eq!(options.program, Path::new("/etc/upcall/bin/x"));
    for (keys, expected) in [
        ("command = { program = \"x\" }\ndeliver_timeout = \"10s\"", "consumer[0].deliver_timeout: is below the 26s"),
        ("command = {}", "consumer[0].command.program: is missing"),
        ("command = { program = \"x\", timeout = \"0s\" }", "consumer[0].command.timeout: is zero"),
        ("command = { program = \"x\", env_from = [\"A=B\"] }", "consumer[0].command.env_from: has \"A=B\""),
    ] {
        let complaint = complaint_of_consumer(keys).unwrap_or_default();
        assert!(complaint.contains(expected), "{keys}: {complaint}");
    }
}

#[test]
fn a_secret_that_is_empty_is_a_mistake_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    for (content, is_mistake) in [("", true), (" \n", true), ("value\n", false)] {
        std::fs::write(&file, content).unwrap();
        let url = format!(
            "webhook = {{ url = \"https://example.com/\", secrets = [], headers = {{ a = {{ file = {file:?} }} }} }}"
        );
        let complaint = complaint_of_consumer(&url).unwrap_or_default();
        assert_eq!(
            complaint.contains("which is empty: write the value into it"),
            is_mistake,
            "{content:?}: {complaint}"
        );
    }
}

#[test]
fn a_mistake_that_follows_from_another_is_not_told() {
    let notify = |keys: &str| format!("notify = {{ {keys} }}");
    let mail = "mail = { server = \"localhost\", user = \"u\", password = { env = \"UPCALL_TEST_UNSET\" }, from = \"a@b.c\", to = [\"d@e.f\"] }";
    let webhook = "webhook = { url = \"http://127.0.0.1/\", secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"], allow_networks = [\"127.0.0.1/8\"] }";
    for (keys, expected, other) in [
        (notify(mail), "password.env: names UPCALL_TEST_UNSET", "give both"),
        (webhook.to_owned(), "write `127.0.0.0/8`", "leads where"),
        (notify("telegram = { token = \"t\" }"), "notify.telegram: is not a known key", "nobody to tell"),
        ("command = \"./x\"".to_owned(), "write `[consumer.command]`, or `command = { … }`", "has no sink"),
        ("webhok = { url = \"http://a\" }".to_owned(), "did you mean `webhook`?", "has no sink"),
        (
            notify("slack = { url = \"https://a\" }, digest = \"1m\""),
            "write `[consumer.notify.digest]`",
            "nobody to tell",
        ),
    ] {
        let complaint = complaint_of_consumer(&keys).unwrap_or_default();
        assert!(complaint.contains(expected) && complaint.contains(": 1 mistake\n"), "{keys}: {complaint}");
        assert!(!complaint.contains(other), "{keys}: {complaint}");
    }
    let complaint =
        complaint_of_consumer("webhook = { url = \"http://127.0.0.1/\", secrets = [] }").unwrap_or_default();
    assert!(complaint.contains("Add it to `allow_networks` if it may be"), "{complaint}");
}

#[test]
fn a_mistake_is_told_with_its_line_and_whose_it_is() {
    let complaint = complaint_of_consumer("filter = \"a..b\"\ncommand = { program = \"sh\" }").unwrap_or_default();
    assert!(complaint.contains("line 7, consumer \"c\": consumer[0].filter: "), "{complaint}");
    let twice = "[[consumer]]\nname = \"c\"\ncommand = { program = \"sh\" }\n";
    let complaint = complaint_of_consumer(&format!("command = {{ program = \"sh\" }}\n{twice}")).unwrap_or_default();
    let expected = "line 9, consumer \"c\": consumer[1].name: \"c\" is taken by another consumer, consumer[0]";
    assert!(complaint.contains(expected), "{complaint}");
}

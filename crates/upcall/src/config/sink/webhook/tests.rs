use std::path::Path;

use super::*;
use crate::config::{Config, ConfigError, Sink};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A configuration whose consumer has these keys, and these in its `webhook` beside a URL.
fn parse(folder: &Path, consumer: &str, webhook: &str) -> Result<Config, ConfigError> {
    let text = format!(
        "[[route]]\nname = \"r\"\npath = \"/r\"\n[[consumer]]\nname = \"partner\"\n{consumer}\n\
         [consumer.webhook]\nurl = \"https://hooks.example.com/upcall?token=hunter2\"\n{webhook}\n"
    );
    let text = if webhook.contains("url =") { text.replacen("url = \"https://hooks", "# \"", 1) } else { text };
    Config::parse(&folder.join("upcall.toml"), &text, std::iter::empty())
}

fn read(consumer: &str, webhook: &str) -> (upcall_consumer::Options, Options) {
    let webhook = format!("secrets = [\"{SECRET}\"]\n{webhook}");
    let config = parse(Path::new("/etc/upcall"), consumer, &webhook).unwrap_or_else(|error| panic!("{error}"));
    let consumer = config.consumers.into_iter().next().unwrap();
    let Sink::Webhook(options) = consumer.sink else { panic!("it is a webhook") };
    (consumer.options, *options)
}

#[track_caller]
fn assert_mistake(consumer: &str, webhook: &str, expected: &str) {
    let error = parse(Path::new("/etc/upcall"), consumer, webhook).unwrap_err().to_string();
    assert!(error.contains(expected), "{expected} in {error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_batch_has_time_for_its_requests_and_for_the_waits_that_the_rate_asks_for() {
    for (consumer, webhook, batches, batch_max, seconds) in [
        ("", "", 4, 16, 80),
        ("", "timeout = \"30s\"", 4, 16, 155),
        ("", "concurrency = 1", 1, 1, 35),
        ("", "concurrency = 40", 4, 40, 80),
        ("batch_max = 100\nconcurrency = 1", "", 1, 100, 15 * 8 + 5),
        ("", "rate = \"100/s\"", 4, 4, 36),
        ("", "rate = \"20/min\"", 4, 4, 95),
        ("", "rate = \"2/min\"", 2, 1, 95),
        ("batch_max = 10\nconcurrency = 1", "rate = \"1/s\"", 1, 10, 45),
        ("deliver_timeout = \"2m\"", "", 4, 16, 120),
    ] {
        let (consumer, options) = read(consumer, webhook);
        let found = (consumer.concurrency.get(), consumer.batch_max.get(), consumer.deliver_timeout.as_secs());
        assert_eq!(found, (batches, batch_max, seconds), "{webhook}");
        assert_eq!(options.batch_time, consumer.deliver_timeout);
    }
    let secrets = format!("secrets = [\"{SECRET}\"]");
    assert_mistake("deliver_timeout = \"20s\"", &secrets, "consumer[0].deliver_timeout: is below the 1m 20s");
}

#[test]
fn the_schedule_says_how_often_an_event_may_fail() {
    assert_eq!(read("", "").0.attempts_max.unwrap().get(), 10);
    assert_eq!(read("", "retry = [\"1s\", \"1m\"]").0.attempts_max.unwrap().get(), 3);
    assert_eq!(read("", "retry = []").0.attempts_max.unwrap().get(), 1);
    let secrets = format!("secrets = [\"{SECRET}\"]");
    assert_mistake("attempts_max = 3", &secrets, "consumer[0].attempts_max: has no meaning");
    assert_mistake("backoff = { first = \"1s\" }", &secrets, "consumer[0].backoff: has no meaning");
    assert_mistake("", &format!("{secrets}\nretry = [\"60d\"]"), "webhook.retry: takes longer");
}

#[test]
fn an_address_that_is_not_public_has_to_be_allowed() {
    let secrets = format!("secrets = [\"{SECRET}\"]");
    for host in ["127.0.0.1:9000", "0x7f.1", "10.0.0.1", "[::1]", "169.254.169.254", "[::ffff:10.0.0.1]"] {
        let webhook = format!("{secrets}\nurl = \"http://{host}/?token=hunter2\"");
        assert_mistake("", &webhook, "webhook.url: leads where nothing is posted");
    }
    read("", "url = \"http://10.0.0.1/\"\nallow_networks = [\"10.0.0.0/8\"]");
    assert_mistake(
        "",
        &format!("{secrets}\nallow_networks = [\"10.0.0.1/8\"]"),
        "allow_networks: \"10.0.0.1/8\" has bits set",
    );
}

#[test]
fn secrets_come_from_files_and_the_environment_too() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), format!("{SECRET}\n")).unwrap();
    std::fs::write(folder.path().join("bearer"), "Bearer hunter2\n").unwrap();
    let webhook = format!(
        "secrets = [{{ file = \"secret\" }}, \"{SECRET}\"]\n\
         headers = {{ Authorization = {{ file = \"bearer\" }}, X-Tenant = \"7\" }}"
    );
    let config = parse(folder.path(), "", &webhook).unwrap_or_else(|error| panic!("{error}"));
    let Sink::Webhook(options) = &config.consumers[0].sink else { panic!("it is a webhook") };
    assert_eq!((options.secrets.len(), options.headers.len()), (2, 2));
    assert_eq!(options.headers["authorization"], "Bearer hunter2");
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
}

#[test]
fn every_mistake_is_reported_with_its_place_and_no_secret_is_shown() {
    let webhook = "secrets = [\"whsec_c2hvcnQ=\", \"hunter2\", { env = \"UPCALL_TEST_NOT_SET\" }, 7]\n\
                   headers = { Host = \"a\", webhook-id = \"b\", X = \"hunter2\\n\\rx: y\", \"a b\" = \"c\" }\n\
                   format = \"xml\"\nrate = \"fast\"\nrefusals = [500]\nca = \"/no/such/file\"\nretries = 3\n\
                   retry = [5]\nbreaker = { failures = 0, pause_max = \"1ms\" }\ntimeout = \"0s\"";
    for expected in [
        "webhook.secrets[0]: has 5 bytes",
        "webhook.secrets[1]: begins with neither",
        "webhook.secrets[2].env: names UPCALL_TEST_NOT_SET",
        "webhook.secrets[3]: takes a string, not an integer",
        "webhook.headers.Host: is a header that is made",
        "webhook.headers.webhook-id: is a header that is made",
        "webhook.headers.X: can't be",
        "webhook.headers.a b: is no header",
        "webhook.format: takes",
        "webhook.rate: \"fast\" is no rate",
        "webhook.refusals: 500 is about the endpoint",
        "webhook.ca: names /no/such/file",
        "webhook.retries: is not a known key",
        "webhook.retry: takes a duration",
        "webhook.breaker.failures: takes a positive integer",
        "webhook.breaker.pause_max: is below",
        "webhook.timeout: is no time",
    ] {
        assert_mistake("", webhook, expected);
    }
    assert_mistake("", "", "webhook.secrets: takes 1 to 10 secrets");
    assert_mistake("", "secrets = []", "webhook.secrets: is empty");
    assert_mistake("", "secrets = []\nurl = \"ftp://hunter2\"", "webhook.url: is no URL");
}

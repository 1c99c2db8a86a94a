use std::path::Path;

use super::*;
use crate::config::{Config, ConfigError, Sink};

/// A configuration whose consumer has these keys, and these in its `notify`.
fn parse(consumer: &str, notify: &str) -> Result<Config, ConfigError> {
    let text = format!(
        "[[route]]\nname = \"r\"\npath = \"/r\"\n[[consumer]]\nname = \"people\"\n{consumer}\n[consumer.notify]\n{notify}\n"
    );
    Config::parse(Path::new("/etc/upcall/upcall.toml"), &text, std::iter::empty())
}

#[track_caller]
fn read(consumer: &str, notify: &str) -> (upcall_consumer::Options, Options) {
    let config = parse(consumer, notify).unwrap_or_else(|error| panic!("{error}"));
    let consumer = config.consumers.into_iter().next().unwrap();
    let Sink::Notify(options) = consumer.sink else { panic!("it tells people") };
    (consumer.options, *options)
}

#[track_caller]
fn assert_mistake(consumer: &str, notify: &str, expected: &str) {
    let error = parse(consumer, notify).unwrap_err().to_string();
    assert!(error.contains(expected), "{expected} in {error}");
    assert!(!error.contains("hunter2"), "{error}");
}

const SLACK: &str = "slack.url = \"https://hooks.slack.com/services/hunter2\"";
const MAIL: &str = "mail = { server = \"smtp.example.com\", from = \"a@example.com\", to = [\"b@example.com\"] }";

#[test]
fn a_message_has_time_to_wait_for_its_turn() {
    let dingtalk = "dingtalk.url = \"https://oapi.dingtalk.com/robot/send?access_token=t\"";
    for (consumer, notify, batch_max, linger, seconds) in [
        ("", SLACK, 1, 0, 30),
        ("", dingtalk, 1, 0, 60 + 15 + 5),
        ("batch_max = 25", dingtalk, 25, 0, 2 * 60 + 25 * 15 + 5),
        ("", &format!("{SLACK}\nrate = \"1/h\""), 1, 0, 3600 + 15 + 5),
        ("", &format!("{dingtalk}\ndigest = {{}}"), 500, 60, 60 + 2 * 15 + 5),
        ("batch_max = 2000", &format!("{MAIL}\ndigest = {{ window = \"5m\", list = 3 }}"), 2000, 300, 45 + 600),
        ("deliver_timeout = \"30s\"", MAIL, 1, 0, 30),
    ] {
        let (consumer, options) = read(consumer, notify);
        let found = (consumer.batch_max.get(), consumer.linger.as_secs(), consumer.deliver_timeout.as_secs());
        assert_eq!(found, (batch_max, linger, seconds), "{notify}");
        assert_eq!((consumer.concurrency.get(), options.patience.as_secs()), (1, seconds - 1));
    }
    assert_mistake("deliver_timeout = \"30s\"", dingtalk, "consumer[0].deliver_timeout: is below the 1m 20s");
}

#[test]
fn what_the_service_imposes_can_only_be_narrowed() {
    let shown = |notify: &str| read("", notify).1.rates.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(SLACK), ["1/s"]);
    assert_eq!(shown(&format!("{SLACK}\nrate = \"100/s\"")), ["1/s", "100/s"]);
    assert_eq!(shown("feishu.url = \"https://open.feishu.cn/open-apis/bot/v2/hook/t\""), ["5/s", "100/min"]);
    assert_eq!(shown("wecom.url = \"https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=k\""), ["20/min"]);
}

#[test]
fn mail_goes_by_an_encrypted_connection_unless_it_stays_on_this_machine() {
    let mail = |notify: &str| match read("", notify).1.service {
        Service::Mail(mail) => (mail.host, mail.port.map(NonZeroU16::get), mail.security),
        other => panic!("{other:?}"),
    };
    use std::num::NonZeroU16;
    use upcall_sink_notify::Security;
    assert_eq!(mail(MAIL), ("smtp.example.com".into(), None, Security::StartTls));
    let with = |server: &str, security: &str| {
        MAIL.replace("smtp.example.com\"", &format!("{server}\", security = \"{security}\""))
    };
    assert_eq!(mail(&with("smtp.example.com:2465", "tls")), ("smtp.example.com".into(), Some(2465), Security::Tls));
    assert_eq!(mail(&with("[::1]:25", "none")), ("::1".into(), Some(25), Security::None));
    assert_mistake("", &with("smtp.example.com", "none"), "consumer[0].notify.mail.security: is `none` for a server");
    assert_mistake("", &with("smtp.example.com:x", "tls"), "consumer[0].notify.mail.server: takes a name");
    assert_mistake("", &with("a b", "tls"), "consumer[0].notify.mail.server: takes a name");
}

#[test]
fn every_mistake_is_named_and_no_secret_shown() {
    assert_mistake("", "", "consumer[0].notify: names nobody to tell");
    assert_mistake("", &format!("{SLACK}\n{MAIL}"), "consumer[0].notify: names several services");
    assert_mistake("", "slack = {}", "consumer[0].notify.slack.url: is missing");
    assert_mistake("", "slack.url = \"http://127.0.0.1/hunter2\"", "leads where nothing is posted");
    assert_mistake("", &format!("{SLACK}\ntitle = \"${{objekt}}\""), "consumer[0].notify.title: ${objekt} is no field");
    assert_mistake("", &format!("{SLACK}\nlink = \"${{object}}\""), "consumer[0].notify.link: begins with");
    assert_mistake("", &format!("{SLACK}\ndigest.window = \"0s\""), "consumer[0].notify.digest.window: is no time");
    assert_mistake("", &format!("{SLACK}\nrate = \"fast\""), "consumer[0].notify.rate: \"fast\" is no rate");
    assert_mistake(
        "",
        "dingtalk = { url = \"https://d/\", secret = { env = \"NO_SUCH_VARIABLE_HERE\" } }",
        "dingtalk.secret.env: names",
    );
    assert_mistake(
        "",
        "json = { url = \"https://j/\", body = { a = \"${objekt}\" } }",
        "notify.json.body.a: ${objekt}",
    );
    assert_mistake(
        "",
        "json = { url = \"https://j/\", body = {} }\ntitle = \"x\"",
        "notify.title: has no meaning beside `json`",
    );
    assert_mistake(
        "",
        "json = { url = \"https://j/\", body = {} }\ndigest = {}",
        "notify.digest: has no meaning beside `json`",
    );
    let mail =
        |from: &str, to: &str| format!("mail = {{ server = \"s\", from = \"{from}\", to = {to}, user = \"u\" }}");
    assert_mistake("", &mail("a", "[]"), "consumer[0].notify.mail.from: \"a\" is no mail address");
    assert_mistake("", &mail("a@b.c", "[]"), "consumer[0].notify.mail.to: takes 1 to 100");
    assert_mistake("", &mail("a@b.c", "[\"x\\ny@b.c\"]"), "is no mail address");
    assert_mistake("", &mail("a@b.c", "[\"x@b.c\"]"), "consumer[0].notify.mail: has one of `user` and `password`");
}

#[test]
fn a_url_in_place_of_the_mail_servers_name_is_not_shown() {
    for server in
        ["smtp://ops:hunter2@smtp.example.com", "ops:hunter2@smtp.example.com:587", "smtp.example.com:hunter2"]
    {
        assert_mistake("", &MAIL.replace("smtp.example.com", server), "mail.server: takes a name and a port");
    }
}

use std::path::Path;

use rcgen::{CertifiedKey, generate_simple_self_signed};

use upcall_sink_sql::Effect;

use crate::config::sink::Sink;
use crate::config::{Config, ConfigError};

fn parse(sql: &str) -> Result<Config, ConfigError> {
    let text =
        format!("[[route]]\nname = \"a\"\npath = \"/a\"\n[[consumer]]\nname = \"catalog\"\n[consumer.sql]\n{sql}\n");
    Config::parse(Path::new("/etc/upcall/upcall.toml"), &text, std::iter::empty())
}

fn options(sql: &str) -> upcall_sink_sql::Options {
    let config = parse(sql).unwrap_or_else(|error| panic!("{error}"));
    let Sink::Sql(options) = &config.consumers[0].sink else { panic!("it is the one") };
    options.clone()
}

#[test]
fn servers_get_more_connections_than_a_file() {
    for (url, connections) in
        [("sqlite://a.db", 1), ("postgres://u:p@h/d", 4), ("mysql://h/d", 4), ("mariadb://h/d", 4)]
    {
        assert_eq!(options(&format!("url = \"{url}\"")).pool_max.get(), connections, "{url}");
    }
    assert_eq!(options("url = \"postgres://h/d\"\npool_max = 9").pool_max.get(), 9);
}

#[test]
fn a_history_has_its_own_name_or_the_tables() {
    let history = |keys: &str| match options(&format!("url = \"postgres://h/d\"\n{keys}")).effect {
        Effect::Table { history, .. } => history.map(|history| history.as_str().to_owned()),
        Effect::Statement { .. } => panic!("{keys}"),
    };
    assert_eq!(history(""), None);
    assert_eq!(history("history = true\ntable = \"files\"").as_deref(), Some("files_history"));
    assert_eq!(history("history = \"all_files\"").as_deref(), Some("all_files"));
}

#[test]
fn every_mistake_is_reported_and_no_password_is_shown() {
    for (keys, expected) in [
        ("url = \"postgres://u:hunter2@h:port/d\"", "sql.url: can't be read"),
        ("url = \"redis://u:hunter2@h\"", "sql.url: is no database that this version knows"),
        ("url = \"mysql://h/d\"\nstatement = \"INSERT INTO t VALUES (${object})\"", "sql.applied: is missing"),
        ("url = \"mysql://h/d\"\nstatement = \"x ${sise}\"\napplied = \"a\"", "${sise} is no field of an event"),
        ("url = \"mysql://h/d\"\nstatement = \" ; \"\napplied = \"a\"", "sql.statement: is empty"),
        ("url = \"mysql://h/d\"\nstatement = \"x\"\napplied = \"a\"\ntable = \"t\"", "sql.table: does not go with"),
        ("url = \"mysql://h/d\"\nstatement = \"x\"\napplied = \"a\"\nhistory = true", "sql.history: does not go with"),
        ("url = \"mysql://h/d\"\napplied = \"uploads\"", "sql.applied: is uploads, which is a table of uploads"),
        ("url = \"mysql://h/d\"\nhistory = \"uploads_applied\"", "sql.applied: is uploads_applied, which is a table"),
        (
            "url = \"postgres://u:hunter2@h/d?sslmod=verify-full\"",
            "the parameter `sslmod`, which there is not; did you mean `sslmode`?",
        ),
        ("url = \"mysql://u:hunter2@h/d?sslmod=VERIFY_CA\"", "sql.url: has the parameter `sslmod`"),
        (
            "url = \"mysql://u:hunter2@h/d?sslmode=require\"",
            "sql.url: has a value for `sslmode` that is none; it takes DISABLED,",
        ),
        (
            "url = \"postgres://u:hunter2@h/d?sslmode=yes\"",
            "it takes disable, allow, prefer, require, verify-ca, verify-full",
        ),
        ("url = \"postgres://u:12?hunter2@h/d\"", "sql.url: can't be read"),
        ("url = \"sqlite://a.db?mod=rw\"", "the parameter `mod`, which there is not; did you mean `mode`?"),
        ("url = \"sqlite:a.db\"", "sql.url: is no database that this version knows"),
        ("url = \"mysql://h/d\"\nhistory = \"uploads\"", "sql.history: is the table itself"),
        ("url = \"mysql://h/d\"\nhistory = 1", "sql.history: takes true, false or a table's name"),
    ] {
        let error = parse(keys).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{keys}: {error}");
    }
}

#[test]
fn files_that_a_url_names_hold_what_they_should() {
    let folder = tempfile::tempdir().unwrap();
    let [own, other] = [(); 2].map(|()| generate_simple_self_signed(["db".to_owned()]).unwrap());
    let file = |name: &str, text: String| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string().replace('/', "%2F")
    };
    let CertifiedKey { cert, signing_key } = &own;
    let (cert, key) = (file("own.pem", cert.pem()), file("key.pem", signing_key.serialize_pem()));
    let (others, none) = (file("other.pem", other.signing_key.serialize_pem()), file("none.pem", String::new()));
    let valid = format!("url = \"postgres://h/d?sslrootcert={cert}&sslcert={cert}&sslkey={key}\"");
    parse(&valid).unwrap_or_else(|error| panic!("{error}"));
    for (query, expected) in [
        (format!("sslrootcert={none}"), "none.pem, which holds no certificates in PEM"),
        (format!("ssl-ca={}", none.replace("none", "nowhere")), "nowhere.pem, which can't be read"),
        (format!("ssl-cert={key}&ssl-key={key}"), "key.pem, which holds no certificate in PEM"),
        (format!("sslcert={cert}&sslkey={cert}"), "own.pem, which holds no private key"),
        (format!("sslcert={cert}&sslkey={others}"), "other.pem, which holds the private key of another certificate"),
    ] {
        let error = parse(&format!("url = \"mysql://u:hunter2@h/d?{query}\"")).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{query}: {error}");
    }
}

/// Consumers `a`, `b` and so on, each with these keys of `sql`.
fn several(keys: &[&str]) -> String {
    let consumer = |(name, keys): (char, &&str)| format!("[[consumer]]\nname = \"{name}-x\"\nsql = {{ {keys} }}\n");
    let consumers: String = ('a'..).zip(keys).map(consumer).collect();
    let text = format!("[[route]]\nname = \"a\"\npath = \"/a\"\n{consumers}");
    let config = Config::parse(Path::new("/etc/upcall/upcall.toml"), &text, std::iter::empty());
    config.err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn consumers_that_would_take_each_others_ids_for_their_own_are_refused() {
    let table = "url = \"sqlite://sh.db\", table = \"uploads\"";
    let statement =
        "url = \"sqlite:///etc/upcall/./sh.db\", statement = \"x ${object}\", applied = \"uploads_applied\"";
    let history = "url = \"sqlite://sh.db\", table = \"Uploads\", history = true";
    let mistakes = several(&[table, statement, history]);
    assert!(mistakes.contains("2 mistakes"), "{mistakes}");
    for expected in [
        "consumer[1].sql: would keep the ids of what \"b-x\" has applied in the table `uploads_applied`, where \"a-x\" keeps its own",
        "Name another: `applied = \"b_x_applied\"`",
        "consumer[2].sql: would keep",
    ] {
        assert!(mistakes.contains(expected), "{mistakes}");
    }
    let mistakes = several(&[
        "url = \"postgres://a:secret@localhost/d\", statement = \"x\", applied = \"ids\"",
        "url = \"postgresql://b@127.0.0.1:5432/d?sslmode=require\", statement = \"y\", applied = \"ids\"",
    ]);
    assert!(mistakes.contains("consumer[1].sql: would keep") && !mistakes.contains("secret"), "{mistakes}");
}

#[test]
fn consumers_share_a_table_of_uploads_with_ids_of_their_own() {
    for keys in [
        ["url = \"sqlite://sh.db\"", "url = \"sqlite://sh.db\", applied = \"others\""],
        ["url = \"sqlite://sh.db\"", "url = \"sqlite://other.db\""],
        ["url = \"mysql://h/d\"", "url = \"mysql://h/e\""],
        ["url = \"postgres://h/d\"", "url = \"postgres://h/d\", table = \"Uploads\""],
    ] {
        assert_eq!(several(&keys), "", "{keys:?}");
    }
}

#[test]
fn a_secret_that_is_missing_is_the_only_mistake() {
    for source in ["{ env = \"UPCALL_TEST_NOWHERE\" }", "{ file = \"/nowhere/url\" }"] {
        let error = parse(&format!("url = {source}")).unwrap_err().to_string();
        assert!(error.contains(": 1 mistake\n"), "{error}");
    }
}

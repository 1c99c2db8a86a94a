//! What a database's URL may ask for. The drivers leave out what they do not know: a slip in the name of a TLS option
//! would leave the connection without protection.

use std::path::{Path, PathBuf};

use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::OptionsError;
use crate::dialect::Dialect;

/// A parameter after the `?` of a URL.
struct Parameter {
    /// Its names; the first is the one that the documentation uses.
    names: &'static [&'static str],
    takes: Takes,
}

/// What a parameter's value may be.
enum Takes {
    Text,
    Number,
    /// One of these words.
    Words(&'static [&'static str]),
    /// One of these words, in capitals or not.
    AnyCase(&'static [&'static str]),
}

const POSTGRES: &[Parameter] = &[
    parameter(
        &["sslmode", "ssl-mode"],
        Takes::AnyCase(&["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]),
    ),
    parameter(&["sslrootcert", "ssl-root-cert", "ssl-ca"], Takes::Text),
    parameter(&["sslcert", "ssl-cert"], Takes::Text),
    parameter(&["sslkey", "ssl-key"], Takes::Text),
    parameter(&["host"], Takes::Text),
    parameter(&["hostaddr"], Takes::Text),
    parameter(&["port"], Takes::Number),
    parameter(&["dbname"], Takes::Text),
    parameter(&["user"], Takes::Text),
    parameter(&["password"], Takes::Text),
    parameter(&["application_name"], Takes::Text),
    parameter(&["options"], Takes::Text),
    parameter(&["statement-cache-capacity"], Takes::Number),
];

const MYSQL: &[Parameter] = &[
    parameter(
        &["ssl-mode", "sslmode"],
        Takes::AnyCase(&["DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"]),
    ),
    parameter(&["ssl-ca", "sslca"], Takes::Text),
    parameter(&["ssl-cert", "sslcert"], Takes::Text),
    parameter(&["ssl-key", "sslkey"], Takes::Text),
    parameter(&["socket"], Takes::Text),
    parameter(&["charset"], Takes::Text),
    parameter(&["collation"], Takes::Text),
    parameter(&["timezone", "time-zone"], Takes::Text),
    parameter(&["statement-cache-capacity"], Takes::Number),
];

const SQLITE: &[Parameter] = &[
    parameter(&["mode"], Takes::Words(&["ro", "rw", "rwc", "memory"])),
    parameter(&["cache"], Takes::Words(&["shared", "private"])),
    parameter(&["immutable"], Takes::Words(&["true", "false", "1", "0"])),
    parameter(&["vfs"], Takes::Text),
];

const fn parameter(names: &'static [&'static str], takes: Takes) -> Parameter {
    Parameter { names, takes }
}

/// Which kind of database a URL names.
pub(crate) fn dialect(url: &str) -> Result<Dialect, OptionsError> {
    match url.split(':').next().unwrap_or_default() {
        "sqlite" => Ok(Dialect::Sqlite),
        "postgres" | "postgresql" => Ok(Dialect::Postgres),
        "mysql" | "mariadb" => Ok(Dialect::MySql),
        other => Err(OptionsError::Scheme(other.to_owned())),
    }
}

/// Checks that the database knows each parameter of a URL, and takes its value.
pub(crate) fn check_parameters(dialect: Dialect, url: &str) -> Result<(), OptionsError> {
    let known = match dialect {
        Dialect::Sqlite => SQLITE,
        Dialect::Postgres => POSTGRES,
        Dialect::MySql => MYSQL,
    };
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        // A setting of the session's.
        if dialect == Dialect::Postgres && (name.starts_with("options[") || name.starts_with("options%5B")) {
            continue;
        }
        let Some(parameter) = known.iter().find(|parameter| parameter.names.contains(&name)) else {
            // It may be the end of a password with a `?` in it, which nobody is to see.
            if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
                return Err(OptionsError::Url("what follows the `?` is no list of parameters".into()));
            }
            let known = known.iter().map(|parameter| parameter.names[0]).collect();
            return Err(OptionsError::Parameter { name: name.to_owned(), known });
        };
        let (is_good, takes) = match parameter.takes {
            Takes::Text => continue,
            Takes::Number => (value.parse::<u16>().is_ok(), "a number".to_owned()),
            Takes::Words(words) => (words.contains(&value), words.join(", ")),
            Takes::AnyCase(words) => (words.iter().any(|word| word.eq_ignore_ascii_case(value)), words.join(", ")),
        };
        if !is_good {
            return Err(OptionsError::Value { name: name.to_owned(), takes });
        }
    }
    Ok(())
}

/// Which database a URL leads to, as far as the URL tells: two that are the same database may differ here, two that are
/// the same here are one database. `None` for a database of its own in memory, and for what is no URL.
pub(crate) fn place(url: &str) -> Option<String> {
    Some(match dialect(url).ok()? {
        Dialect::Sqlite => {
            let options: SqliteConnectOptions = url.parse().ok()?;
            if url.contains(":memory:") || url.contains("mode=memory") {
                return None;
            }
            format!("sqlite {}", canonical(options.get_filename()).display())
        }
        Dialect::Postgres => {
            let options: PgConnectOptions = url.parse().ok()?;
            let database = options.get_database().unwrap_or(options.get_username());
            let host = match options.get_socket() {
                Some(socket) => socket.display().to_string(),
                None => host(options.get_host()),
            };
            // A schema may be named there, which has tables of its own.
            let settings = options.get_options().unwrap_or_default();
            format!("postgres {host} {} {database} {settings}", options.get_port())
        }
        Dialect::MySql => {
            let options: MySqlConnectOptions = url.parse().ok()?;
            let server = match options.get_socket() {
                Some(socket) => socket.display().to_string(),
                None => format!("{} {}", host(options.get_host()), options.get_port()),
            };
            format!("mysql {server} {}", options.get_database().unwrap_or_default())
        }
    })
}

/// A host, by one name if it is this machine.
fn host(name: &str) -> String {
    match name.trim_matches(['[', ']']) {
        "127.0.0.1" | "::1" => "localhost".to_owned(),
        name => name.to_ascii_lowercase(),
    }
}

/// A file by its one path, as far as it and its folder are there.
fn canonical(file: &Path) -> PathBuf {
    let in_folder = || Some(file.parent()?.canonicalize().ok()?.join(file.file_name()?));
    file.canonicalize().ok().or_else(in_folder).unwrap_or_else(|| file.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(url: &str) -> String {
        let checked = dialect(url).and_then(|dialect| check_parameters(dialect, url));
        checked.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_the_driver_would_leave_out_is_refused() {
        for (url, expected) in [
            ("postgres://u:p@h/d?sslmod=verify-full", "`sslmod`"),
            ("postgres://u:p@h/d?sslmode=verify-full&SSLMODE=x", "`SSLMODE`"),
            ("mysql://u:p@h/d?sslmod=VERIFY_CA", "`sslmod`"),
            ("mysql://u:p@h/d?sslrootcert=/ca.pem", "there are: ssl-mode, ssl-ca,"),
            ("sqlite://a.db?mod=ro", "`mod`"),
        ] {
            let complaint = complaint(url);
            assert!(complaint.contains(expected), "{url}: {complaint}");
        }
    }

    #[test]
    fn what_may_be_a_password_is_not_shown() {
        let complaint = complaint("postgres://u:12?hunter2@h/d");
        assert!(!complaint.is_empty() && !complaint.contains("hunter2"), "{complaint}");
    }

    #[test]
    fn a_value_that_does_not_go_is_named_with_those_that_do() {
        for (url, expected) in [
            (
                "postgres://h/d?sslmode=yes",
                "`sslmode` of the database's URL takes disable, allow, prefer, require, verify-ca, verify-full",
            ),
            (
                "mysql://h/d?sslmode=require",
                "`sslmode` of the database's URL takes DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY",
            ),
            ("postgres://h/d?statement-cache-capacity=few", "takes a number"),
            ("sqlite://a.db?mode=read", "`mode` of the database's URL takes ro, rw, rwc, memory"),
        ] {
            let complaint = complaint(url);
            assert!(complaint.contains(expected), "{url}: {complaint}");
        }
    }

    #[test]
    fn what_the_documentation_names_is_taken() {
        for url in [
            "postgres://u:p@h:5432/d?sslmode=verify-full&sslrootcert=/a&sslcert=/b&sslkey=/c",
            "postgres://h/d?options=-c%20search_path%3Dapp&options[search_path]=x&statement-cache-capacity=0",
            "postgresql:///d?host=/run/postgresql",
            "mysql://u:p@h:3306/d?ssl-mode=VERIFY_IDENTITY&ssl-ca=/a&ssl-cert=/b&ssl-key=/c",
            "mariadb://h/d?socket=/run/mysqld/mysqld.sock&ssl-mode=required",
            "sqlite://a.db?mode=rwc",
            "sqlite::memory:",
        ] {
            assert_eq!(complaint(url), "", "{url}");
        }
    }

    #[test]
    fn one_database_is_known_under_several_urls() {
        for (one, other) in [
            ("postgres://a:b@localhost/d", "postgresql://c@127.0.0.1:5432/d?sslmode=require"),
            ("mysql://a@DB.example.com/d", "mariadb://b@db.example.com:3306/d"),
            ("sqlite:///tmp/x.db", "sqlite:///tmp/../tmp/./x.db?mode=rwc"),
        ] {
            assert!(place(one).is_some());
            assert_eq!(place(one), place(other), "{one} {other}");
        }
        for (one, other) in [
            ("postgres://a@h/d", "postgres://a@h/e"),
            ("postgres://a@h/d", "postgres://a@h/d?options=-c%20search_path%3Dapp"),
            ("mysql://a@h/d", "mysql://a@h:3307/d"),
            ("sqlite:///tmp/x.db", "sqlite:///tmp/y.db"),
        ] {
            assert_ne!(place(one), place(other), "{one} {other}");
        }
        assert_eq!(place("sqlite::memory:"), None);
    }
}

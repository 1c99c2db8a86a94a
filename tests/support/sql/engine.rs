//! Kinds of SQL servers, and how one is started.

use std::path::PathBuf;

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// PostgreSQL; `UPCALL_TEST_POSTGRES` is the folder of its programs, else they are where Debian puts them.
    Postgres,
    /// MariaDB; `UPCALL_TEST_MARIADB` is the path of `mariadbd`, else it is where Debian puts it.
    MariaDb,
}

impl Engine {
    /// Says that tests with it can't run here, and skips `what`: `if engine.is_missing("the sink") { return; }`.
    pub fn is_missing(self, what: &str) -> bool {
        let missing = self.program().is_none();
        if missing {
            crate::skip(&format!("{what}: {self:?} is not installed (tests/run installs it)"));
        }
        missing
    }

    pub(super) fn program(self) -> Option<PathBuf> {
        let path = match self {
            Self::Postgres => match std::env::var_os("UPCALL_TEST_POSTGRES") {
                Some(folder) => PathBuf::from(folder).join("postgres"),
                None => newest_postgres()?.join("postgres"),
            },
            Self::MariaDb => std::env::var_os("UPCALL_TEST_MARIADB").map_or("/usr/sbin/mariadbd".into(), PathBuf::from),
        };
        path.is_file().then_some(path)
    }

    pub(super) fn scheme(self) -> &'static str {
        match self {
            Self::Postgres => "postgres://postgres",
            Self::MariaDb => "mysql://root",
        }
    }
}

fn newest_postgres() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    folders.filter(|folder| folder.join("postgres").is_file()).max()
}

/// How a server differs from the one that tests share.
#[derive(Debug, Clone, Default)]
pub struct SqlOptions {
    /// Arguments of its program, beside the others. The last one of a kind counts.
    pub arguments: Vec<String>,
    /// Files in its data folder, which relative paths begin in, by their names. Nobody else can read them.
    pub files: Vec<(String, String)>,
}

impl SqlOptions {
    /// As it has to be where a power cut is to lose nothing.
    pub fn durable(engine: Engine) -> Self {
        let arguments = match engine {
            Engine::Postgres => vec!["-c".to_owned(), "fsync=on".to_owned()],
            Engine::MariaDb => vec!["--innodb-flush-log-at-trx-commit=1".to_owned()],
        };
        Self { arguments, files: Vec::new() }
    }
}

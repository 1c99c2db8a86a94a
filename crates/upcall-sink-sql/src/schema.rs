//! The tables that the sink makes, and what makes them from nothing or from those of an older version.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use crate::applied::Keys;
use crate::column::{COLUMNS, Column, KEY};
use crate::dialect::Dialect;
use crate::{Effect, TableName};

/// The layout of the tables that this version makes. It grows with every change of them.
pub(crate) const VERSION: i64 = 2;
/// Since this one the keys of applied events begin with a time.
const VERSION_TIMES: i64 = 2;
/// The table of the layouts of the tables that the sink has made.
pub(crate) const VERSIONS: &str = "upcall_tables";
/// The columns of the table of applied events.
pub(crate) const APPLIED_COLUMNS: [&str; 2] = ["event_id", "applied_at"];
/// MySQL's key has no room for an object's name; its hash stands for it there.
pub(crate) const OBJECT_HASH: &str = "object_sha256";

/// A table that the sink needs.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<&'static str>,
    create: Vec<String>,
}

/// What is there: each table's columns, in lower case, and the layouts of those that the sink has made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Present {
    pub(crate) columns: HashMap<String, HashSet<String>>,
    pub(crate) versions: HashMap<String, i64>,
}

impl Present {
    /// The columns that a table lacks; all of them if it is not there.
    pub(crate) fn missing(&self, table: &Table) -> Vec<&'static str> {
        let present = self.columns.get(&table.name);
        let lacks = |name: &&&'static str| present.is_none_or(|present| !present.contains(**name));
        table.columns.iter().filter(lacks).copied().collect()
    }

    fn has(&self, table: &str) -> bool {
        self.columns.get(table).is_some_and(|columns| !columns.is_empty())
    }
}

/// The tables for an effect, and how they are made.
#[derive(Debug, Clone)]
pub(crate) struct Schema {
    dialect: Dialect,
    /// The table of applied events is the last.
    pub(crate) tables: Vec<Table>,
}

impl Schema {
    pub(crate) fn new(dialect: Dialect, effect: &Effect) -> Self {
        let tables = match effect {
            Effect::Table { table, history } => {
                let history = history.iter().map(|history| history_table(dialect, history));
                let applied = applied_table(dialect, &applied_name(table));
                std::iter::once(uploads_table(dialect, table)).chain(history).chain([applied]).collect()
            }
            Effect::Statement { applied, .. } => vec![applied_table(dialect, applied.as_str())],
        };
        Self { dialect, tables }
    }

    /// What makes the tables that are missing, and adds columns to those that an older version made. A table of the
    /// user's is left as it is.
    pub(crate) fn plan(&self, present: &Present) -> Vec<String> {
        let absent: Vec<&Table> = self.tables.iter().filter(|table| !present.has(&table.name)).collect();
        let mut plan = Vec::new();
        if !absent.is_empty() {
            plan.push(self.create_versions());
        }
        for table in absent {
            // First, so that a table that is there is known to be the sink's.
            plan.push(self.note_version(&table.name));
            plan.extend(table.create.iter().cloned());
        }
        for table in self.tables.iter().filter(|table| present.has(&table.name)) {
            if present.versions.get(&table.name).is_some_and(|version| *version <= VERSION) {
                let missing = present.missing(table);
                let added = COLUMNS.iter().filter(|column| missing.contains(&column.name));
                plan.extend(added.map(|column| self.add_column(&table.name, column)));
            }
        }
        plan
    }

    /// How the keys of applied events are made in the table that is there.
    pub(crate) fn keys(&self, present: &Present) -> Keys {
        let version = self.tables.last().and_then(|applied| present.versions.get(&applied.name));
        if version.is_some_and(|version| *version >= VERSION_TIMES) { Keys::Times } else { Keys::Ids }
    }

    /// Everything that makes the tables, for the reference.
    pub(crate) fn create(&self) -> impl Iterator<Item = &String> {
        self.tables.iter().flat_map(|table| &table.create)
    }

    /// Creates the table of layouts.
    pub(crate) fn create_versions(&self) -> String {
        let (versions, integer) = (self.dialect.quoted(VERSIONS), self.dialect.integer_type());
        let suffix = self.dialect.table_suffix();
        format!(
            "CREATE TABLE IF NOT EXISTS {versions} (\n  table_name VARCHAR(64) NOT NULL PRIMARY KEY,\n  version {integer} NOT NULL\n){suffix}"
        )
    }

    fn note_version(&self, table: &str) -> String {
        let versions = self.dialect.quoted(VERSIONS);
        // A table's name has nothing in it that could end the string.
        let values = format!("(table_name, version) VALUES ('{table}', {VERSION})");
        match self.dialect {
            Dialect::Sqlite | Dialect::Postgres => format!("INSERT INTO {versions} {values} ON CONFLICT DO NOTHING"),
            Dialect::MySql => format!("INSERT IGNORE INTO {versions} {values}"),
        }
    }

    fn add_column(&self, table: &str, column: &Column) -> String {
        let table = self.dialect.quoted(table);
        let mut sql = format!("ALTER TABLE {table} ADD COLUMN {}", definition(self.dialect, column));
        if !column.nullable {
            let _ = write!(sql, " DEFAULT {}", self.dialect.default_of(column.kind));
        }
        sql
    }
}

/// The name of the table of the ids that were applied to a table.
pub(crate) fn applied_name(table: &TableName) -> String {
    table.with_suffix("_applied")
}

fn uploads_table(dialect: Dialect, table: &TableName) -> Table {
    let mut create = begin(dialect, table.as_str());
    match dialect {
        Dialect::Sqlite | Dialect::Postgres => {
            let _ = write!(create, ",\n  PRIMARY KEY ({})", KEY.join(", "));
        }
        Dialect::MySql => {
            let _ = write!(
                create,
                ",\n  {OBJECT_HASH} BINARY(32) GENERATED ALWAYS AS (UNHEX(SHA2(object, 256))) STORED,\n  UNIQUE KEY {} (bucket, {OBJECT_HASH})",
                dialect.quoted(&table.with_suffix("_key")),
            );
        }
    }
    let by_object: &[&[&str]] = if dialect == Dialect::MySql { &[&["bucket", "object"]] } else { &[] };
    let indexes = [&["uploaded_at"][..]].into_iter().chain(by_object.iter().copied());
    finish(dialect, table, create, indexes)
}

fn history_table(dialect: Dialect, table: &TableName) -> Table {
    let mut create = begin(dialect, table.as_str());
    create.push_str(",\n  PRIMARY KEY (event_id)");
    finish(dialect, table, create, [&["uploaded_at"][..], &["bucket", "object"][..]].into_iter())
}

fn applied_table(dialect: Dialect, name: &str) -> Table {
    let (table, id, integer) = (dialect.quoted(name), dialect.id_type(), dialect.integer_type());
    let mut create = format!(
        "CREATE TABLE IF NOT EXISTS {table} (\n  event_id {id} NOT NULL PRIMARY KEY,\n  applied_at {integer} NOT NULL"
    );
    let index = dialect.quoted(&format!("{name}_applied_at"));
    let mut statements = Vec::new();
    match dialect {
        Dialect::MySql => {
            let _ = write!(create, ",\n  INDEX {index} (applied_at)");
        }
        Dialect::Sqlite => {
            statements.push(format!("CREATE INDEX IF NOT EXISTS {index} ON {table} (applied_at)"));
        }
        // Rows come in the order of this column: an index of ranges is enough, and costs next to nothing.
        Dialect::Postgres => {
            statements.push(format!("CREATE INDEX IF NOT EXISTS {index} ON {table} USING brin (applied_at)"));
        }
    }
    let _ = write!(create, "\n){}", dialect.key_only_suffix());
    statements.insert(0, create);
    Table { name: name.to_owned(), columns: APPLIED_COLUMNS.to_vec(), create: statements }
}

fn begin(dialect: Dialect, table: &str) -> String {
    let columns: Vec<String> = COLUMNS.iter().map(|column| format!("  {}", definition(dialect, column))).collect();
    format!("CREATE TABLE IF NOT EXISTS {} (\n{}", dialect.quoted(table), columns.join(",\n"))
}

fn finish<'a>(
    dialect: Dialect,
    table: &TableName,
    mut create: String,
    indexes: impl Iterator<Item = &'a [&'a str]>,
) -> Table {
    let mut after = Vec::new();
    for columns in indexes {
        let index = dialect.quoted(&table.with_suffix(&format!("_{}", columns[columns.len() - 1])));
        let columns: Vec<String> = columns.iter().map(|column| dialect.indexed(column)).collect();
        let columns = columns.join(", ");
        match dialect {
            Dialect::MySql => {
                let _ = write!(create, ",\n  INDEX {index} ({columns})");
            }
            Dialect::Sqlite | Dialect::Postgres => {
                let table = dialect.quoted(table.as_str());
                after.push(format!("CREATE INDEX IF NOT EXISTS {index} ON {table} ({columns})"));
            }
        }
    }
    let _ = write!(create, "\n){}", dialect.table_suffix());
    after.insert(0, create);
    Table {
        name: table.as_str().to_owned(),
        columns: COLUMNS.iter().map(|column| column.name).collect(),
        create: after,
    }
}

fn definition(dialect: Dialect, Column { name, kind, nullable, .. }: &Column) -> String {
    let null = if *nullable { "" } else { " NOT NULL" };
    format!("{name} {}{null}", dialect.column_type(*kind))
}

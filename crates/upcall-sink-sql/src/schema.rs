//! The tables that the sink makes, and what makes them from nothing or from those of an older version.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use crate::applied::Keys;
use crate::column::{COLUMNS, Column, KEY};
use crate::dialect::Dialect;
use crate::{Effect, TableName};

/// The layout of the tables that this version makes. It grows with every change of them.
pub(crate) const VERSION: i64 = 2;
/// Since this one the keys of applied events begin with a time.
const VERSION_TIMES: i64 = 2;
/// What a table of applied events is taken for that nobody has noted: its keys stay as they are.
const VERSION_UNKNOWN: i64 = 1;
/// The table of the tables that the sink has made: their layouts, and whose ids are in them.
pub(crate) const VERSIONS: &str = "upcall_tables";
/// Its column of the consumer whose ids are in a table of applied events. It came later than the others.
const CONSUMER: &str = "consumer";
/// How long plain statements may be in a message; the reference has the others.
const STATEMENTS_SHOWN_MAX: usize = 300;
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

/// What is there: each table's columns, in lower case, and what is noted of those that the sink has made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Present {
    pub(crate) columns: HashMap<String, HashSet<String>>,
    pub(crate) notes: BTreeMap<String, Note>,
    /// Whether `Uploads` and `uploads` are one table.
    pub(crate) folds_case: bool,
}

/// What is noted of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) version: i64,
    /// Whose ids are in it, if it is a table of applied events that somebody has begun with.
    pub(crate) consumer: Option<String>,
}

impl Present {
    /// What is noted of a table, and under which name.
    pub(crate) fn note(&self, table: &str) -> Option<(&str, &Note)> {
        let is_it = |noted: &str| noted == table || (self.folds_case && noted.eq_ignore_ascii_case(table));
        self.notes.iter().find(|(noted, _)| is_it(noted)).map(|(noted, note)| (noted.as_str(), note))
    }

    /// The layout that is noted of a table.
    pub(crate) fn version(&self, table: &str) -> Option<i64> {
        self.note(table).map(|(_, note)| note.version)
    }

    /// Takes in what the database has noted: names, layouts, consumers.
    pub(crate) fn take_notes(&mut self, notes: Vec<(String, i64, Option<String>)>) {
        let note = |(name, version, consumer)| (name, Note { version, consumer });
        self.notes = notes.into_iter().map(note).collect();
    }

    /// The columns that a table lacks; all of them if it is not there.
    pub(crate) fn missing(&self, table: &Table) -> Vec<&'static str> {
        let present = self.columns.get(&table.name);
        let lacks = |name: &&&'static str| present.is_none_or(|present| !present.contains(**name));
        table.columns.iter().filter(lacks).copied().collect()
    }

    fn has(&self, table: &str) -> bool {
        self.columns.get(table).is_some_and(|columns| !columns.is_empty())
    }

    fn notes_consumers(&self) -> bool {
        self.columns.get(VERSIONS).is_some_and(|columns| columns.contains(CONSUMER))
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
            Effect::Table { table, history, .. } => {
                let history = history.iter().map(|history| history_table(dialect, history));
                let applied = applied_table(dialect, &effect.applied());
                std::iter::once(uploads_table(dialect, table)).chain(history).chain([applied]).collect()
            }
            Effect::Statement { .. } => vec![applied_table(dialect, &effect.applied())],
        };
        Self { dialect, tables }
    }

    /// What makes the tables that are missing, and adds columns to those that an older version made. A table of the
    /// user's is left as it is.
    pub(crate) fn plan(&self, present: &Present) -> Vec<String> {
        let absent: Vec<&Table> = self.tables.iter().filter(|table| !present.has(&table.name)).collect();
        let mut plan = Vec::new();
        if !present.has(VERSIONS) {
            plan.push(self.create_versions());
        } else if !present.notes_consumers() {
            let versions = self.dialect.quoted(VERSIONS);
            plan.push(format!("ALTER TABLE {versions} ADD COLUMN {CONSUMER} VARCHAR(255)"));
        }
        for table in absent {
            // First, so that a table that is there is known to be the sink's.
            plan.push(self.note_version(&table.name));
            plan.extend(table.create.iter().cloned());
        }
        for table in self.tables.iter().filter(|table| present.has(&table.name)) {
            if present.version(&table.name).is_some_and(|version| version <= VERSION) {
                let missing = present.missing(table);
                let added = COLUMNS.iter().filter(|column| missing.contains(&column.name));
                plan.extend(added.map(|column| self.add_column(&table.name, column)));
            }
        }
        plan
    }

    /// How the keys of applied events are made in the table that is there.
    pub(crate) fn keys(&self, present: &Present) -> Keys {
        let version = present.version(self.applied());
        if version.is_some_and(|version| version >= VERSION_TIMES) { Keys::Times } else { Keys::Ids }
    }

    /// The table of applied events.
    pub(crate) fn applied(&self) -> &str {
        self.tables.last().map_or("", |applied| &applied.name)
    }

    /// The names of the tables that the sink writes to.
    pub(crate) fn names(&self) -> Vec<String> {
        self.tables.iter().map(|table| table.name.clone()).chain([VERSIONS.to_owned()]).collect()
    }

    /// Selects what is noted of the tables: names, layouts, consumers.
    pub(crate) fn select_notes(&self, present: &Present) -> Option<String> {
        let none = if self.dialect == Dialect::MySql { "CAST(NULL AS CHAR)" } else { "CAST(NULL AS VARCHAR(255))" };
        let consumer = if present.notes_consumers() { CONSUMER } else { none };
        let select = || format!("SELECT table_name, version, {consumer} FROM {}", self.dialect.quoted(VERSIONS));
        present.has(VERSIONS).then(select)
    }

    /// Has the table of applied events be a consumer's, unless it is somebody's: a statement, and its parameters.
    pub(crate) fn claim<'c>(&'c self, present: &'c Present, consumer: &'c str) -> (String, [&'c str; 2]) {
        let (mut first, mut second) = (String::new(), String::new());
        self.dialect.push_placeholder(&mut first, 1);
        self.dialect.push_placeholder(&mut second, 2);
        let versions = self.dialect.quoted(VERSIONS);
        match present.note(self.applied()) {
            Some((noted, _)) => {
                let sql = format!(
                    "UPDATE {versions} SET {CONSUMER} = {first} WHERE table_name = {second} AND {CONSUMER} IS NULL"
                );
                (sql, [consumer, noted])
            }
            None => {
                let values = format!("(table_name, version, {CONSUMER}) VALUES ({first}, {VERSION_UNKNOWN}, {second})");
                (self.insert_note(&values), [self.applied(), consumer])
            }
        }
    }

    /// What of a plan is shown to somebody who has to run it by hand.
    pub(crate) fn shown(plan: &[String]) -> String {
        let length: usize = plan.iter().map(String::len).sum();
        if length > STATEMENTS_SHOWN_MAX {
            return "the statements of Upcall's reference (docs/reference/sql-sink.md)".to_owned();
        }
        // MySQL's names are in such quotes themselves.
        let quoted = |sql: &String| if sql.contains('`') { sql.clone() } else { format!("`{sql}`") };
        plan.iter().map(quoted).collect::<Vec<_>>().join(" and ")
    }

    /// Creates the table of layouts.
    fn create_versions(&self) -> String {
        let (versions, integer) = (self.dialect.quoted(VERSIONS), self.dialect.integer_type());
        let suffix = self.dialect.table_suffix();
        format!(
            "CREATE TABLE IF NOT EXISTS {versions} (\n  table_name VARCHAR(64) NOT NULL PRIMARY KEY,\n  version {integer} NOT NULL,\n  {CONSUMER} VARCHAR(255)\n){suffix}"
        )
    }

    fn note_version(&self, table: &str) -> String {
        // A table's name has nothing in it that could end the string.
        self.insert_note(&format!("(table_name, version) VALUES ('{table}', {VERSION})"))
    }

    /// Inserts a note; one that is there stays.
    fn insert_note(&self, values: &str) -> String {
        let versions = self.dialect.quoted(VERSIONS);
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

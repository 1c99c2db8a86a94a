//! The reference of the sink's tables, written from the code.

use std::fmt::Write as _;

use crate::column::{COLUMNS, KEY, Kind, ORDER};
use crate::dialect::Dialect;
use crate::schema::{Present, Schema, VERSIONS};
use crate::statement::Statements;
use crate::{Effect, Options, TableName};

/// Writes the reference of the sink's tables, in Markdown.
#[must_use]
pub fn reference() -> String {
    let table = TableName::example();
    let effect = Effect::Table { history: Some(TableName::history_of(&table)), table, applied: None };
    let kept_days = Options::new("", effect.clone()).applied_kept.as_secs() / (24 * 60 * 60);
    let mut text = format!(
        "# The SQL sink's tables\n\n\
         Generated from the code by a test. The consumer's `table` is called `uploads` here. \
         [sinks.md](../sinks.md#a-table-in-a-database) shows how it is configured.\n\n\
         ## `uploads`\n\n\
         One row per object ({key}): the latest upload's. An event is later if its ({order}) is greater; an older \
         one that arrives late changes nothing. `sequence` is comparable on one bus only.\n\n\
         | column | type | may be null | holds |\n|---|---|---|---|\n",
        key = quoted(&KEY),
        order = quoted(&ORDER),
    );
    for column in COLUMNS {
        let kind = match column.kind {
            Kind::Text | Kind::Bucket | Kind::Object | Kind::Id => "text",
            Kind::Integer => "64-bit integer",
            Kind::Json => "JSON",
            Kind::Time => "time",
        };
        let null = if column.nullable { "yes" } else { "no" };
        let _ = writeln!(text, "| `{}` | {kind} | {null} | {} |", column.name, column.doc);
    }
    let _ = write!(
        text,
        "\nThe table may have columns, indexes, constraints and triggers of yours besides. A row that one of them \
         refuses is found by halving its batch; the others go on, and it is tried again until the consumer's attempts \
         are used up, and is then a dead letter with the database's message. An integer that exceeds 64 signed bits \
         makes its event a dead letter at once. A table of yours is never altered: if it lacks one of \
         the columns above, or its key is another, the consumer says so and waits. A table that Upcall made gets the \
         columns that a newer version adds; `{VERSIONS}` is where Upcall notes which tables those are.\n\n\
         **Rights.** A user who may make tables needs nothing else. One who may not does with `SELECT`, `INSERT`, \
         `UPDATE` and `DELETE` on these tables, once somebody has run the statements below for the database's kind, with \
         your names. If a newer version needs a column or a table more, the consumer waits and names the statement.\n\n\
         ## `uploads_history`\n\n\
         Only with `history`: one row per event, with the columns of `uploads` and the key `event_id`. Nothing is ever \
         deleted there.\n\n\
         ## `uploads_applied`\n\n\
         The events that were applied, written in the transaction that applied them: an event that is delivered again \
         does nothing, even if you have deleted or changed its row. Ids are forgotten {kept_days} days after \
         they were applied; keep that longer than your bus keeps events. `applied` gives it another name; with a \
         `statement` of yours it is the only table.\n\n\
         | column | type | holds |\n|---|---|---|\n\
         | `event_id` | 16 bytes | The event: the second in which OSS took the upload, as 4 bytes (0 where the event does not tell), and the first 12 bytes of its id, so that new rows stand side by side. In a table of layout 1 (`upcall_tables`): the id. |\n\
         | `applied_at` | 64-bit integer | When it was applied, in Unix seconds. |\n\n\
         ## `{VERSIONS}`\n\n\
         One row per table that Upcall made or keeps ids in.\n\n\
         | column | type | holds |\n|---|---|---|\n\
         | `table_name` | text | The table. |\n\
         | `version` | 64-bit integer | The layout that it was made in. |\n\
         | `consumer` | text | Of a table of applied ids: the consumer whose they are, which is the first that came. Processes that run a consumer of this name share it; a consumer of another name touches nothing, says so, and its events wait. Null where nobody has come yet, and for other tables. |\n\n\
         For a consumer that has got another name, and runs under its old one nowhere any more: \
         `UPDATE {VERSIONS} SET consumer = 'NEW' WHERE table_name = 'uploads_applied'`.\n"
    );
    for dialect in Dialect::ALL {
        let _ = write!(text, "\n## {}\n\n{}\n\n```sql\n", dialect.name(), about(dialect));
        for sql in Schema::new(dialect, &effect).plan(&Present::default()) {
            let _ = writeln!(text, "{sql};");
        }
        text.push_str("```\n");
        if let Some(sql) = Statements::new(dialect, effect.clone()).forget_absent() {
            let _ = write!(
                text,
                "\nRows that were deleted come back by a [replay](../operations/commands.md#replay) once the ids of their \
                 events are deleted, too. This deletes those of which no row is there:\n\n```sql\n{sql};\n```\n"
            );
        }
    }
    text
}

fn about(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => {
            "Times are text, as `2026-01-01T00:00:00.000000Z`: the width is fixed, so that the order of the text is the \
             order of time. JSON is text, too. The file is in WAL mode with `synchronous=FULL`: your readers and \
             Upcall's writer do not hold each other up, and what was acknowledged outlives a power cut. A writer of \
             yours should keep its transactions short; while it holds the lock, the consumer waits, which costs no event \
             an attempt."
        }
        Dialect::Postgres => {
            "Tables are made in the first schema of the `search_path`. What was acknowledged outlives a crash of the \
             server unless `synchronous_commit` is off there."
        }
        Dialect::MySql => {
            "Times are UTC. The key has no room for an object's name, so that its hash stands for it there: \
             `WHERE bucket = … AND object = …` uses the index on both. What was acknowledged outlives a crash of the \
             server unless `innodb_flush_log_at_trx_commit` is other than 1 there."
        }
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Writes the reference anew where it differs, and fails: the repaired file belongs in the commit.
    #[test]
    fn the_reference_is_this_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/sql-sink.md");
        let generated = super::reference();
        if std::fs::read_to_string(&path).ok().as_deref() != Some(&generated) {
            std::fs::write(&path, generated).unwrap();
            panic!("{} was out of date and has been written anew: commit it", path.display());
        }
    }
}

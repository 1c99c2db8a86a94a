//! The reference of the sink's tables, written from the code.

use std::fmt::Write as _;

use crate::column::{COLUMNS, KEY, Kind, ORDER};
use crate::statement::{Dialect, Statements};
use crate::{Options, TableName};

/// Writes the reference of the sink's tables, in Markdown.
#[must_use]
pub fn reference() -> String {
    let table = TableName::example();
    let statements = Statements::new(Dialect::Sqlite, table.clone());
    let kept_days = Options::new("", table).applied_kept.as_secs() / (24 * 60 * 60);
    let mut text = format!(
        "# The SQL sink's tables\n\n\
         Generated from the code by a test. The consumer's `table` is called `uploads` here.\n\n\
         ## `uploads`\n\n\
         One row per object ({key}): the latest upload's. An event is later if its ({order}) is greater; an older \
         one that arrives late changes nothing. `sequence` is comparable on one bus only.\n\n\
         | column | type | may be null | holds |\n|---|---|---|---|\n",
        key = quoted(&KEY),
        order = quoted(&ORDER),
    );
    for column in COLUMNS {
        let kind = match column.kind {
            Kind::Text => "text",
            Kind::Integer => "64-bit integer",
            Kind::Bytes => "bytes",
            Kind::Json => "JSON, as text",
            Kind::Time => "time, as text",
        };
        let null = if column.nullable { "yes" } else { "no" };
        let _ = writeln!(text, "| `{}` | {kind} | {null} | {} |", column.name, column.doc);
    }
    let _ = write!(
        text,
        "\nThe table may have columns, indexes, constraints and triggers of yours besides. A row that one of them \
         refuses is found by halving its batch; the others go on, and it is tried again until the consumer's attempts \
         are used up, and is then a dead letter with the database's message. An integer that exceeds 64 signed bits \
         makes its event a dead letter at once. A table that was there before is never altered: if it lacks one of \
         the columns above, or its key is another, the consumer says so and waits.\n\n\
         ## `uploads_applied`\n\n\
         The events that were applied, written in the transaction that applied them: an event that is delivered again \
         does nothing, even if you have deleted or changed its row. Ids are forgotten {kept_days} days after \
         they were applied; keep that longer than your bus keeps events.\n\n\
         | column | type | holds |\n|---|---|---|\n\
         | `event_id` | 16 bytes | The event's id; `lower(hex(event_id))` is what `uploads` has. |\n\
         | `applied_at` | 64-bit integer | When it was applied, in Unix seconds. |\n\n\
         ## SQLite\n\n\
         The file is in WAL mode with `synchronous=FULL`: your readers and Upcall's writer do not hold each other up, \
         and what was acknowledged outlives a power cut. A writer of yours should keep its transactions short; while it \
         holds the lock, the consumer waits, which costs no event an attempt.\n\n```sql\n"
    );
    for sql in statements.create_uploads().iter().chain(&statements.create_applied()) {
        let _ = writeln!(text, "{sql};");
    }
    text.push_str("```\n");
    text
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

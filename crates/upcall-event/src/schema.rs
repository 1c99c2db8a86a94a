//! The event's JSON Schema.

use serde_json::Value;

use crate::cloudevents::Envelope;

/// Generates the JSON Schema (2020-12) of the structured form.
#[must_use]
pub fn json_schema() -> Value {
    schemars::schema_for!(Envelope<'static>).to_value()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Writes the reference anew where it differs, and fails: the repaired file belongs in the commit.
    #[test]
    fn the_schema_in_the_reference_is_this_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/upload-completed.schema.json");
        let generated = serde_json::to_string_pretty(&super::json_schema()).unwrap() + "\n";
        if std::fs::read_to_string(&path).ok().as_deref() != Some(&generated) {
            std::fs::write(&path, generated).unwrap();
            panic!("{} was out of date and has been written anew: commit it", path.display());
        }
    }
}

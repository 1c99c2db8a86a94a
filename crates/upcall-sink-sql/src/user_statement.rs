//! The user's own statement: its `${…}` become parameters.

use std::str::FromStr;

use serde_json::Value as Json;
use upcall_consumer::Item;
use upcall_event::{Field, InvalidTemplate, Known, Part, Template};

use crate::applied::Keys;
use crate::column::{Unstorable, Value};
use crate::row::Row;

/// A statement whose `${…}` stand for an event's values, such as
/// `INSERT INTO avatars (user_id, object) VALUES (${vars.user}, ${object})`. They are bound as parameters; no value
/// becomes part of the SQL. `$${` is a literal `${`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserStatement {
    template: Template,
}

/// Text that is no statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStatement {
    /// One of its `${…}` is none.
    #[error(transparent)]
    Template(#[from] InvalidTemplate),
    /// There is nothing in it.
    #[error("is empty; write a statement such as `INSERT INTO avatars (user_id) VALUES (${{vars.user}})`")]
    Empty,
}

impl UserStatement {
    /// The SQL, with placeholders that are written by the parameter's number, from 1.
    pub(crate) fn sql(&self, mut placeholder: impl FnMut(usize) -> String) -> String {
        let mut parameters = 0;
        let pieces = self.template.parts().iter().map(|part| match part {
            Part::Literal(text) => text.clone(),
            Part::Field(_) => {
                parameters += 1;
                placeholder(parameters)
            }
        });
        pieces.collect()
    }

    /// How many parameters it has. A name that stands in it twice is two.
    pub(crate) fn parameters(&self) -> usize {
        self.fields().count()
    }

    /// A parameter as it is written, counted from 1.
    pub(crate) fn parameter(&self, number: usize) -> Option<String> {
        self.fields().nth(number.checked_sub(1)?).map(|field| format!("${{{field}}}"))
    }

    /// The event's parameters.
    pub(crate) fn row<'e>(&self, item: &Item<'e>, keys: Keys) -> Result<Row<'e>, Unstorable> {
        let values = self.fields().map(|field| value(field, item)).collect::<Result<_, _>>()?;
        Ok(Row::of(keys.key(item.event), values))
    }

    fn fields(&self) -> impl Iterator<Item = &Field> {
        self.template.parts().iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Field(field) => Some(field),
        })
    }
}

impl FromStr for UserStatement {
    type Err = InvalidStatement;

    fn from_str(text: &str) -> Result<Self, InvalidStatement> {
        // One statement may end as it would in a shell.
        let text = text.trim().trim_end_matches(';').trim_end();
        if text.is_empty() {
            return Err(InvalidStatement::Empty);
        }
        Ok(Self { template: text.parse()? })
    }
}

fn value<'e>(field: &Field, item: &Item<'e>) -> Result<Value<'e>, Unstorable> {
    if let Field::Known(Known::EventTime) = field {
        return Ok(Value::Time(item.event.time.as_microsecond()));
    }
    Ok(match field.value(item.event) {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Bool(flag),
        Json::String(text) => Value::Text(text.into()),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::Integer(integer),
            (None, Some(value)) => return Err(Unstorable { name: field.to_string(), value }),
            (None, None) => Value::Decimal(number.to_string()),
        },
        structure @ (Json::Array(_) | Json::Object(_)) => Value::Text(structure.to_string().into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(text: &str) -> Result<UserStatement, InvalidStatement> {
        text.parse()
    }

    #[test]
    fn names_become_parameters_in_their_order() {
        let statement = statement("INSERT INTO t VALUES (${object}, ${size}, ${object}, '$${x}');\n").unwrap();
        let sql = statement.sql(|number| format!("${number}"));
        assert_eq!(sql, "INSERT INTO t VALUES ($1, $2, $3, '${x}')");
        assert_eq!(statement.parameters(), 3);
    }

    #[test]
    fn what_is_no_statement_is_named() {
        assert_eq!(statement(" ;\n"), Err(InvalidStatement::Empty));
        let error = statement("SELECT ${sise}").unwrap_err().to_string();
        assert!(error.contains("${sise} is no field of an event"), "{error}");
    }
}

//! Lays the environment over the file: `UPCALL_GATEWAY__LISTEN=…` is `listen` in `[gateway]`.

use toml::{Table, Value};

/// What a variable's name begins with.
pub(crate) const PREFIX: &str = "UPCALL_";

/// Sets every `UPCALL_SECTION__FIELD` in the document, in the order of their names, and tells which variable set which
/// key.
///
/// A number as a section is a place in an array: `UPCALL_ROUTE__0__PATH`. A value is read as TOML where it is
/// valid TOML, and is a string otherwise. Variables without `__` are not configuration.
///
/// # Errors
/// With each variable that has no place in the document, and why.
pub(crate) fn lay_over(
    document: &mut Table,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Vec<Origin>, Vec<(String, String)>> {
    let (mut mistakes, mut origins) = (Vec::new(), Vec::new());
    let mut variables: Vec<_> = variables.filter(|(name, _)| name.starts_with(PREFIX) && name.contains("__")).collect();
    variables.sort();
    for (name, text) in variables {
        let path = name[PREFIX.len()..].to_ascii_lowercase();
        let keys: Vec<&str> = path.split("__").collect();
        match set(document, &keys, parse(&text)) {
            Ok(()) => origins.push(Origin { path: path_of(&keys), variable: name }),
            Err(problem) => mistakes.push((name, problem)),
        }
    }
    if mistakes.is_empty() { Ok(origins) } else { Err(mistakes) }
}

/// A key that was set from the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The key, as mistakes name it: `route[0].path`.
    pub(crate) path: String,
    /// The variable.
    pub(crate) variable: String,
}

fn path_of(keys: &[&str]) -> String {
    let mut path = String::new();
    for key in keys {
        if key.bytes().all(|byte| byte.is_ascii_digit()) {
            path.push_str(&format!("[{key}]"));
        } else {
            path.push_str(if path.is_empty() { "" } else { "." });
            path.push_str(key);
        }
    }
    path
}

fn parse(text: &str) -> Value {
    let document = format!("value = {text}");
    // More than one key means that the text broke out of its line: then it is a string.
    let parsed = document.parse::<Table>().ok().filter(|table| table.len() == 1);
    parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn set(table: &mut Table, keys: &[&str], value: Value) -> Result<(), String> {
    match keys {
        [] | [""] => Err("names no key".to_owned()),
        [key] => {
            table.insert((*key).to_owned(), value);
            Ok(())
        }
        [key, rest @ ..] => {
            let inner = table.entry((*key).to_owned()).or_insert_with(|| Value::Table(Table::new()));
            set_inside(inner, key, rest, value)
        }
    }
}

fn set_inside(inner: &mut Value, key: &str, rest: &[&str], value: Value) -> Result<(), String> {
    match inner {
        Value::Table(table) => set(table, rest, value),
        Value::Array(items) => {
            let place = rest[0].parse::<usize>().ok().filter(|place| *place < items.len());
            let Some(place) = place else {
                return Err(format!(
                    "`{key}` has {} entries; {:?} is none of them (they count from 0)",
                    items.len(),
                    rest[0]
                ));
            };
            match rest {
                [_] => items[place] = value,
                [at, rest @ ..] => return set_inside(&mut items[place], at, rest, value),
                [] => {}
            }
            Ok(())
        }
        _ => Err(format!("`{key}` is no table in the file, so it has no keys")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(document: &str, variables: &[(&str, &str)], expected: &str) {
        let mut document: Table = document.parse().unwrap();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        lay_over(&mut document, variables).unwrap();
        assert_eq!(document, expected.parse::<Table>().unwrap());
    }

    #[test]
    fn a_variable_sets_or_replaces_a_key() {
        check(
            "[gateway]\nlisten = 'a'",
            &[("UPCALL_GATEWAY__LISTEN", "0.0.0.0:80")],
            "[gateway]\nlisten = '0.0.0.0:80'",
        );
        check("", &[("UPCALL_BUS__JOURNAL", "./data")], "[bus]\njournal = './data'");
        check("", &[("UPCALL_A__B__C", "1")], "[a.b]\nc = 1");
        check("[[route]]\npath = '/a'", &[("UPCALL_ROUTE__0__PATH", "/b")], "[[route]]\npath = '/b'");
    }

    #[test]
    fn values_are_toml_where_they_can_be() {
        check("", &[("UPCALL_A__B", "true")], "[a]\nb = true");
        check("", &[("UPCALL_A__B", "['x', 'y']")], "[a]\nb = ['x', 'y']");
        check("", &[("UPCALL_A__B", "1\nc = 2")], "[a]\nb = \"1\\nc = 2\"");
        check("", &[("UPCALL_A__B", "'7'")], "[a]\nb = '7'");
    }

    #[test]
    fn other_variables_are_left_alone() {
        check("", &[("UPCALL_CONFIG", "x"), ("PATH", "y"), ("OTHER__A", "z")], "");
    }

    #[test]
    fn a_variable_without_a_place_is_a_mistake() {
        let mut document: Table = "[[route]]\npath = '/a'\n[bus]\njournal = 'x'".parse().unwrap();
        let variables = [("UPCALL_ROUTE__1__PATH", "/b"), ("UPCALL_BUS__JOURNAL__PATH", "c"), ("UPCALL___", "d")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(lay_over(&mut document, variables.into_iter()).unwrap_err().len(), 3);
    }
}

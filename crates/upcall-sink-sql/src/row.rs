//! Events as rows, and what is left of them once repetitions are folded.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use upcall_consumer::Item;

use crate::applied::{Key, Keys};
use crate::column::{COLUMNS, KEY, ORDER, Unstorable, Value};

/// An event as values: a row of the table, or the parameters of the user's statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row<'e> {
    applied: Key,
    values: Vec<Value<'e>>,
    size: usize,
}

impl<'e> Row<'e> {
    /// Makes the event's row of the table.
    pub(crate) fn new(item: &Item<'e>, keys: Keys) -> Result<Self, Unstorable> {
        let values = COLUMNS.iter().map(|column| column.value(item)).collect::<Result<_, _>>()?;
        Ok(Self::of(keys.key(item.event), values))
    }

    /// An event with these values.
    pub(crate) fn of(applied: Key, values: Vec<Value<'e>>) -> Self {
        let size = values.iter().map(Value::size).sum();
        Self { applied, values, size }
    }

    /// What stands for its event once it is applied.
    pub(crate) fn applied(&self) -> Key {
        self.applied
    }

    /// The values, in the order of the columns.
    pub(crate) fn values(&self) -> &[Value<'e>] {
        &self.values
    }

    /// About how many bytes it is on its way to the database.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// What makes two rows of one object.
    pub(crate) fn key(&self) -> [&Value<'e>; KEY.len()] {
        KEY_AT.map(|at| &self.values[at])
    }

    /// What decides which of two events is later.
    fn order(&self) -> [&Value<'e>; ORDER.len()] {
        ORDER_AT.map(|at| &self.values[at])
    }
}

/// The first row of each event.
pub(crate) fn once_per_event<'r, 'e>(rows: &'r [Row<'e>]) -> Vec<&'r Row<'e>> {
    let mut seen = HashSet::with_capacity(rows.len());
    rows.iter().filter(|row| seen.insert(row.applied)).collect()
}

/// The latest row of each object.
pub(crate) fn latest_per_object<'r, 'e>(rows: &[&'r Row<'e>]) -> Vec<&'r Row<'e>> {
    let mut places = HashMap::with_capacity(rows.len());
    let mut latest: Vec<&Row<'e>> = Vec::with_capacity(rows.len());
    for row in rows {
        match places.entry(row.key()) {
            Entry::Vacant(place) => {
                place.insert(latest.len());
                latest.push(row);
            }
            Entry::Occupied(place) => {
                let kept = &mut latest[*place.get()];
                if row.order() > kept.order() {
                    *kept = row;
                }
            }
        }
    }
    latest
}

/// Cuts rows into pieces of limited number and size. A row that is larger than that is a piece of its own.
pub(crate) fn pieces<'a, 'r, 'e>(
    rows: &'a [&'r Row<'e>],
    rows_max: usize,
    bytes_max: usize,
) -> impl Iterator<Item = &'a [&'r Row<'e>]> {
    let mut rest: Range<usize> = 0..rows.len();
    std::iter::from_fn(move || {
        let (start, mut bytes) = (rest.start, 0);
        while let Some(at) = rest.next() {
            bytes += rows[at].size();
            let is_full = rest.start - start >= rows_max;
            let next_fits = rows.get(rest.start).is_some_and(|next| bytes + next.size() <= bytes_max);
            if is_full || !next_fits {
                break;
            }
        }
        (rest.start > start).then(|| &rows[start..rest.start])
    })
}

const KEY_AT: [usize; KEY.len()] = [position(KEY[0]), position(KEY[1])];
const ORDER_AT: [usize; ORDER.len()] = [position(ORDER[0]), position(ORDER[1]), position(ORDER[2])];

/// Where a column is among the columns; fails to compile where there is none.
const fn position(name: &str) -> usize {
    let mut at = 0;
    while at < COLUMNS.len() {
        if same(COLUMNS[at].name.as_bytes(), name.as_bytes()) {
            return at;
        }
        at += 1;
    }
    panic!("no such column")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

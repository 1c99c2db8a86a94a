//! One figure of several rounds.

/// The figure's values.
pub(crate) struct Spread(Vec<f64>);

impl Spread {
    /// Of these rounds.
    pub(crate) fn of(rounds: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = rounds.collect();
        values.sort_unstable_by(f64::total_cmp);
        Self(values)
    }

    /// Median, minimum and maximum.
    pub(crate) fn to_string(&self, digits: usize) -> String {
        let Self(values) = self;
        match (values.first(), values.get(values.len() / 2), values.last()) {
            (Some(min), Some(median), Some(max)) => format!("{median:.digits$} ({min:.digits$}–{max:.digits$})"),
            _ => "no round".to_owned(),
        }
    }
}

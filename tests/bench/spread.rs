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

    /// The same, and how sure the median is.
    pub(crate) fn to_sure_string(&self, digits: usize) -> String {
        let confidence = self.confidence();
        let sure = confidence.map(|(low, high)| format!(", 95 % confidence {low:.digits$}–{high:.digits$}"));
        self.to_string(digits) + &sure.unwrap_or_default()
    }

    /// Where the median of many more rounds would be, with a confidence of 95 %: between two of the values, whatever they
    /// are distributed like. None of fewer than six rounds.
    ///
    /// Source: the interval by order statistics, with the normal approximation of the binomial distribution.
    fn confidence(&self) -> Option<(f64, f64)> {
        const QUANTILE_OF_95_PERCENT: f64 = 1.96;
        const ROUNDS_MIN: usize = 6;
        let Self(values) = self;
        if values.len() < ROUNDS_MIN {
            return None;
        }
        let half = values.len() as f64 / 2.0;
        let reach = QUANTILE_OF_95_PERCENT * half.sqrt() / std::f64::consts::SQRT_2;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let (low, high) = ((half - reach).floor().max(0.0) as usize, (half + reach).ceil() as usize);
        Some((values[low], values[high.min(values.len() - 1)]))
    }
}

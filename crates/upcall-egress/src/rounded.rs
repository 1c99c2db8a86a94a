//! Times for people.

use std::time::Duration;

/// A time to wait in words, rounded up to whole seconds: `8 s`.
#[must_use]
pub fn rounded(wait: Duration) -> String {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    format!("{seconds} s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_never_shown_shorter_than_it_is() {
        for (millis, shown) in [(0, "0 s"), (1, "1 s"), (1000, "1 s"), (7_470, "8 s"), (120_000, "120 s")] {
            assert_eq!(rounded(Duration::from_millis(millis)), shown);
        }
    }
}

//! JSON lines that are fit for a terminal, too.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::printable::printable_json;

/// Writes what strangers may have written as JSON escapes, which mean the same: JSON itself lets DEL, U+0080 to U+009F and
/// the marks that turn text around pass.
pub(super) struct Printable<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for Printable<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&printable_json(&line))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_strangers_wrote_is_escaped_in_json_lines_and_means_the_same() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).json().flatten_event(true);
        let subscriber = tracing_subscriber::registry().with(layer.map_event_format(Printable));
        let object = "a\u{1b}[2J\u{85}\u{9b}31m\u{7f}\u{202e}ü";
        tracing::subscriber::with_default(subscriber, || tracing::warn!(object, "refused: {object}"));
        let line = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(!line.trim_end().contains(['\u{1b}', '\u{85}', '\u{9b}', '\u{7f}', '\u{202e}', '\n']), "{line:?}");
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&json["object"], &json["message"]), (&object.into(), &format!("refused: {object}").into()));
    }
}

//! Rejected callbacks for people and for programs.

use std::process::ExitCode;

use jiff::Timestamp;
use upcall_bus::{Quarantined, RejectedBody};

use super::super::kept::{Kept, Listing, Style};
use super::super::operated::Operated;
use super::select::Selection;

/// Prints what was selected.
pub(super) async fn run(bus: &Operated, selection: &Selection, style: Style) -> anyhow::Result<ExitCode> {
    let mut listing = Listing::new(style);
    let selected = selection.at(Timestamp::now())?;
    let missing = selected.each(&*bus.archive(), |kept| listing.show(&kept)).await?;
    Ok(listing.end::<Quarantined>(&missing, selection.demand().is_ok()))
}

impl Kept for Quarantined {
    const NOUN: &str = "rejected callback";
    const HEADINGS: [&str; 6] = ["NUMBER", "REJECTED", "ROUTE", "CODE", "FROM", "REASON"];

    fn row(&self) -> [String; 6] {
        let Self { number, callback } = self;
        let route = callback.route.as_deref().unwrap_or("-");
        let [route, code, peer, reason] = [route, &callback.code, &callback.peer, &callback.reason].map(str::to_owned);
        [number.to_string(), format!("{:.0}", callback.time), route, code, peer, reason]
    }

    fn whole(&self) -> Vec<String> {
        let Self { number, callback } = self;
        let mut lines = vec![
            format!("rejected callback {number}: {}", callback.code),
            format!("  reason     {}", callback.reason),
            format!("  time       {}, from {}", callback.time, callback.peer),
            format!("  request id {}", callback.request_id),
            format!("  route      {}", callback.route.as_deref().unwrap_or("none")),
            format!("  {} {}", callback.method, callback.target),
        ];
        lines.extend(callback.headers.iter().map(|(name, value)| format!("  {name}: {value}")));
        match &callback.body {
            None => lines.push("  (rejected before its body was read)".to_owned()),
            Some(RejectedBody { bytes, length }) => {
                lines.push(String::new());
                lines.extend(String::from_utf8_lossy(bytes).lines().map(|line| format!("  {line}")));
                if *length > bytes.len() as u64 {
                    lines.push(format!("  (the first {} of {length} bytes)", bytes.len()));
                }
            }
        }
        lines
    }

    fn to_json(&self) -> String {
        let Self { number, callback } = self;
        // The number first, as the table has it.
        let json = callback.to_json();
        format!("{{\"number\":{number},{}", json.strip_prefix('{').unwrap_or_default())
    }
}

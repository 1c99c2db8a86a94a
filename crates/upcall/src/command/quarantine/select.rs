//! Which rejected callbacks.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use jiff::Timestamp;
use upcall_bus::{Archive, Quarantined};

use super::super::kept::Go;
use super::super::moment::before;

/// How many callbacks are read at once.
const PAGE: usize = 64;

/// Which rejected callbacks a command is about: those that meet every condition.
#[derive(Args)]
pub(super) struct Selection {
    /// Numbers of rejected callbacks, as `list` shows them
    #[arg(value_name = "NUMBER")]
    numbers: Vec<u64>,
    /// Those that were answered with this code, such as signature_mismatch
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// Those of one route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Those that were rejected longer ago than this
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// Those that were rejected since then
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    newer_than: Option<Duration>,
    /// All of them
    #[arg(long)]
    all: bool,
}

/// A selection at a moment.
pub(super) struct Selected<'s> {
    selection: &'s Selection,
    before: Option<Timestamp>,
    after: Option<Timestamp>,
}

impl Selection {
    /// Refuses a selection that says nothing.
    ///
    /// # Errors
    /// With what could be said.
    pub(super) fn demand(&self) -> anyhow::Result<()> {
        let has_condition =
            self.code.is_some() || self.route.is_some() || self.older_than.is_some() || self.newer_than.is_some();
        if self.is_exact() || has_condition || self.all {
            return Ok(());
        }
        bail!(
            "say which: numbers, --code, --route, --older-than, --newer-than, or --all; `upcall quarantine list` shows \
             what there is"
        );
    }

    /// Whether each is named.
    pub(super) fn is_exact(&self) -> bool {
        !self.numbers.is_empty()
    }

    /// The selection, its ages counted from now.
    pub(super) fn at(&self, now: Timestamp) -> anyhow::Result<Selected<'_>> {
        let moment = |age: Option<Duration>| age.map(|age| before(now, age)).transpose();
        Ok(Selected { selection: self, before: moment(self.older_than)?, after: moment(self.newer_than)? })
    }
}

impl Selected<'_> {
    /// Hands over the callbacks in pages, oldest first, until `take` has enough. Returns the numbers that were asked
    /// for and are those of no callback.
    pub(super) async fn each(
        &self,
        archive: &dyn Archive,
        mut take: impl FnMut(Vec<Quarantined>) -> anyhow::Result<Go>,
    ) -> anyhow::Result<Vec<u64>> {
        let numbers: BTreeSet<u64> = self.selection.numbers.iter().copied().collect();
        let mut missing = Vec::new();
        for number in &numbers {
            let found = archive.quarantined(number.saturating_sub(1), 1).await?;
            match found.into_iter().find(|kept| kept.number == *number) {
                None => missing.push(*number),
                Some(kept) if self.meets(&kept) => {
                    if take(vec![kept])? == Go::Enough {
                        return Ok(missing);
                    }
                }
                Some(_) => {}
            }
        }
        let mut after = 0;
        while numbers.is_empty() {
            let page = archive.quarantined(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.number;
            let wanted: Vec<_> = page.into_iter().filter(|kept| self.meets(kept)).collect();
            if !wanted.is_empty() && take(wanted)? == Go::Enough {
                break;
            }
        }
        Ok(missing)
    }

    fn meets(&self, kept: &Quarantined) -> bool {
        let callback = &kept.callback;
        self.selection.code.as_ref().is_none_or(|code| *code == callback.code)
            && self.selection.route.as_ref().is_none_or(|route| Some(route) == callback.route.as_ref())
            && self.before.is_none_or(|moment| callback.time < moment)
            && self.after.is_none_or(|moment| callback.time >= moment)
    }
}

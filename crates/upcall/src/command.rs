//! The commands, a file each.

pub(crate) mod check;
pub(crate) mod dead;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod health;
pub(crate) mod journal;
mod kept;
mod moment;
mod operated;
mod progress;
pub(crate) mod provision;
pub(crate) mod quarantine;
pub(crate) mod replay;
pub(crate) mod serve;
pub(crate) mod sign;
mod table;
pub(crate) mod tail;

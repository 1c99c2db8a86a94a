//! The commands, a file each.

pub(crate) mod check;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod serve;
pub(crate) mod sign;
pub(crate) mod tail;

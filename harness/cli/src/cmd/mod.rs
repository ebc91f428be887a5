//! The verbs, one file each.

pub(crate) mod badcase;
pub(crate) mod compare;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod export;
#[cfg(feature = "dist")]
pub(crate) mod generate;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod merge;
pub(crate) mod record;
mod record_attach;
pub(crate) mod replay;
pub(crate) mod report;
mod report_export;
mod report_slim;
pub(crate) mod run;
mod spark;
pub(crate) mod syscalls;
pub(crate) mod trace;
mod trace_export;
mod trace_leaks;
pub(crate) mod trace_profile;
pub(crate) mod trim;
pub(crate) mod tune;
pub(crate) mod watch;

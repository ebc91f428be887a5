//! Readers of `/proc` and `/sys` over a root path, so that a live machine and a captured directory are read by
//! the same code. They refuse to decide anything: what a figure means is said elsewhere.
//!
//! A process that vanishes while it is read is [`ProcError::Gone`]: data, not a crash.

mod anonymous;
mod capture;
mod cgroup;
mod core;
mod error;
mod live;
mod machine;
mod process;
mod rights;
mod statm;
mod sys;
mod target;
mod text;

pub use self::core::CoreTarget;
pub use anonymous::AnonymousMemory;
pub use capture::{CaptureTarget, CaptureWriter};
pub use cgroup::{CgroupLimits, cgroup_limits};
pub use error::ProcError;
pub use live::LiveTarget;
pub use machine::{CpuTotals, MachineFacts, available_bytes, count_of_list, cpu_hz, cpu_totals, machine_facts};
pub use process::{CpuTimes, Grants, Process, ProcessStatus};
pub use rights::{Rights, User};
pub use statm::{Statm, StatmReader, statm_bound_bytes};
pub use target::{Mapping, Part, ProcessFacts, Residency, Source, Target, TargetKind};

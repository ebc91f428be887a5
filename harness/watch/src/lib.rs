//! A process's heap over time: read from outside at intervals, shown on a terminal, kept in a file, or given to
//! Prometheus. The process is neither stopped nor written to.
//!
//! What watching costs is part of every reading ([`survey_ms`](fragbench_model::Reading::survey_ms)), and a reading is never begun sooner than ten
//! times the last one took, so that looking takes at most a tenth of one processor's time ([`pause`]).

mod discover;
mod event;
mod file;
mod metrics;
mod reading;
mod serve;
mod sys;
mod view;

pub use discover::{Select, discover};
pub use event::{events, events_of};
pub use file::{ReadError, read, write};
pub use metrics::openmetrics;
pub use reading::{Watched, pause};
pub use serve::{Limits, Server};
pub use view::{History, draw};

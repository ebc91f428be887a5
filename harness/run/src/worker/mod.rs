//! A run of the worker: started under an allocator's environment, led from barrier to barrier, sampled and purged from
//! outside, and recorded.

mod binary;
mod environment;
mod metrics;
mod placement;
mod process;
mod sampler;
mod session;

pub use binary::WorkerBinary;
pub use environment::environments;
pub(crate) use placement::is_libc;
pub use process::{allocator_version, check, describe, describe_cases};
pub(crate) use session::{LoadMeter, failed};
pub use session::{RunLimits, run_once, run_watched};

//! A run of the worker: started under an allocator's environment, led from barrier to barrier, sampled and purged from
//! outside, and recorded.

mod binary;
mod environment;
mod metrics;
mod placement;
mod process;
mod sampler;
mod session;

use fragbench_model::{AllocatorKind, Common, RunSpec};

use crate::campaign::Order;

pub use binary::WorkerBinary;
pub(crate) use environment::environments;
pub(crate) use placement::is_libc;
pub use process::{allocator_version, check, describe, describe_cases};
pub use session::{OnBarrier, WorkerRunner};

/// What a run is told to do; `None` where it is a command that is run.
fn specification(order: &Order, common: &Common) -> Option<RunSpec> {
    let cell = order.cell;
    let mut spec = common.spec(&cell.workload.of_repetition(order.repetition), order.seed)?;
    // The epilogue is about what an allocator gives back; the null allocator gives back nothing.
    spec.driver.epilogue &= cell.allocator.kind != AllocatorKind::Null;
    spec.driver.thp = cell.thp.unwrap_or(spec.driver.thp);
    Some(spec)
}

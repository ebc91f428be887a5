//! The one way in which a plan is carried out.

mod agreement;
mod execute;
mod rung;

pub use agreement::Agreement;
pub use execute::{Event, Execution, Runner, WorkerRunner, execute};
pub use rung::add_rung_block;

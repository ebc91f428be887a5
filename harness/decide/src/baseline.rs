//! What everything else is compared with: the environment that a plan runs a second copy of, to know how far it is from
//! itself. A plan without a copy has glibc with default settings.

use fragbench_model::{Allocator, Cell, Plan, Settings};

use crate::BASELINE;

/// Whether an allocator with these settings is glibc as it comes: the baseline where a plan names no other.
pub fn is_plain_glibc(allocator: &str, settings: &Settings) -> bool {
    allocator == BASELINE && settings.is_empty()
}

/// Whether this cell is what the others of its workload are compared with.
pub(crate) fn is_baseline(plan: &Plan, cell: &Cell) -> bool {
    if cell.aa {
        return false;
    }
    let workload = cell.workload.name();
    match plan.cells.iter().find(|copy| copy.aa && copy.workload.name() == workload) {
        Some(copy) => copy.allocator.is(&cell.allocator),
        None => is_plain_glibc(&cell.allocator.name, &cell.allocator.settings),
    }
}

/// The baseline of a plan's first workload.
pub fn baseline_of_plan(plan: &Plan) -> Option<&Allocator> {
    plan.cells.iter().find(|cell| is_baseline(plan, cell)).map(|cell| &cell.allocator)
}

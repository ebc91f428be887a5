//! Questions to the allocator in place.
use crate::Spawner;
use fragbench_model::*;
/// The allocator in place.
#[derive(Debug)]
pub struct Probe;
impl Probe {
    pub(crate) fn find() -> Probe {
        Probe
    }
    pub(crate) fn answer(&self) -> AllocatorAnswer {
        todo!()
    }
    pub(crate) fn stats(&mut self) -> AllocatorStats {
        todo!()
    }
    pub(crate) fn purge(&mut self) -> Purge {
        todo!()
    }
    pub(crate) fn purge_with_stall(&mut self, _spawner: &Spawner) -> Purge {
        todo!()
    }
}

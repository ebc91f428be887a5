//! For the tests that pin calibrated workloads: the calls a session makes, and shares of them.

use std::collections::HashMap;
use std::sync::Arc;

use fragbench_engine::{Call, Ledger, LoggedCall, Random, Share, Spawner};

use crate::Sysvars;
use crate::session::{Links, Session};

/// A quantity: its name, what the model does, what was recorded, how far apart they may be.
pub(crate) type Measured = (&'static str, f64, f64, f64);

/// Fails when a quantity is further from the recording than its bound allows.
pub(crate) fn assert_close(measured: &[Measured]) {
    let off: Vec<_> = measured.iter().filter(|(_, got, want, bound)| (got - want).abs() > *bound).collect();
    assert!(off.is_empty(), "off: {off:?}\nall: {measured:?}");
}

/// The calls of `work`, done by a session that is its own neighbour, after `before`.
pub(crate) fn calls(
    vars: Sysvars,
    before: impl FnOnce(&mut Session, &mut Ledger),
    work: impl FnOnce(&mut Session, &mut Ledger),
) -> Vec<LoggedCall> {
    let mut ledger = Spawner::new(Share { latency_every: 1, ..Share::default() }).main_ledger();
    let vars = Arc::new(vars);
    let links = Links::ring(1, &vars).remove(0);
    let mut session = Session::new(vars, Random::new(1, 0), 0, links);
    session.connect(&mut ledger, None);
    before(&mut session, &mut ledger);
    ledger.log_calls();
    work(&mut session, &mut ledger);
    ledger.logged()
}

/// Sizes of a log's allocations.
#[derive(Debug)]
pub(crate) struct Sizes(Vec<usize>);

impl Sizes {
    pub(crate) fn of(calls: &[LoggedCall]) -> Sizes {
        Sizes(calls.iter().filter(|c| c.call == Call::Malloc).map(|c| c.size).collect())
    }

    pub(crate) fn len(&self) -> f64 {
        self.0.len() as f64
    }

    pub(crate) fn mean(&self) -> f64 {
        self.0.iter().sum::<usize>() as f64 / self.len()
    }

    /// Allocations of that size.
    pub(crate) fn count(&self, size: usize) -> f64 {
        self.0.iter().filter(|s| **s == size).count() as f64
    }
}

/// Percentage of frees that come `age` calls after the allocation, or later.
pub(crate) fn freed_late(calls: &[LoggedCall], age: usize) -> f64 {
    let mut made: HashMap<u64, usize> = HashMap::new();
    let (mut late, mut frees) = (0.0, 0.0);
    for (at, call) in calls.iter().enumerate() {
        match call.call {
            Call::Malloc => drop(made.insert(call.id, at)),
            Call::Free => {
                frees += 1.0;
                // What was made before the log began is older than that as well.
                let old = made.get(&call.id).is_none_or(|from| at - from > age);
                late += f64::from(u8::from(old));
            }
            Call::Realloc => {}
        }
    }
    late / frees * 100.0
}

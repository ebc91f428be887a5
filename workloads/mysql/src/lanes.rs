//! Sessions that work a few at a time: how much large work overlaps, and with it the peak, then does not follow the
//! scheduler.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use fragbench_engine::{Ledger, clock};

/// A gate a session, open for the first of each lane. Session n is in lane n modulo the number of lanes, and opens the
/// next one's gate when it is through.
#[derive(Debug, Clone)]
pub(crate) struct Lanes {
    gates: Arc<Vec<(Mutex<bool>, Condvar)>>,
    lanes: usize,
}

impl Lanes {
    /// For `sessions` sessions, `lanes` of which work at a time.
    pub(crate) fn new(sessions: usize, lanes: usize) -> Lanes {
        let gates = (0..sessions).map(|number| (Mutex::new(number < lanes), Condvar::new())).collect();
        Lanes { gates: Arc::new(gates), lanes }
    }

    /// Does `work` when the session's turn has come, once.
    pub(crate) fn pass(&self, ledger: &mut Ledger, number: usize, work: impl FnOnce(&mut Ledger)) {
        let (open, opened) = &self.gates[number];
        let gate = open.lock().unwrap_or_else(PoisonError::into_inner);
        if !*gate {
            let start = clock::monotonic_ns();
            drop(opened.wait_while(gate, |open| !*open).unwrap_or_else(PoisonError::into_inner));
            ledger.waited(clock::monotonic_ns() - start);
        } else {
            drop(gate);
        }
        work(ledger);
        if let Some((open, opened)) = self.gates.get(number + self.lanes) {
            *open.lock().unwrap_or_else(PoisonError::into_inner) = true;
            opened.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::test_ledger;

    #[test]
    fn no_more_work_at_a_time_than_there_are_lanes_and_each_lane_in_order() {
        let lanes = Lanes::new(10, 3);
        let (inside, through) = (Mutex::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            // The last come first.
            for number in (0..10).rev() {
                let (lanes, inside, through) = (&lanes, &inside, &through);
                scope.spawn(move || {
                    lanes.pass(&mut test_ledger(), number, |_| {
                        *inside.lock().unwrap() += 1;
                        assert!(*inside.lock().unwrap() <= 3);
                        through.lock().unwrap().push(number);
                        *inside.lock().unwrap() -= 1;
                    });
                });
            }
        });
        let through = through.into_inner().unwrap();
        for lane in 0..3 {
            let own: Vec<_> = through.iter().filter(|number| **number % 3 == lane).collect();
            assert!(own.is_sorted(), "lane {lane}: {own:?}");
        }
        assert_eq!(through.len(), 10);
    }
}

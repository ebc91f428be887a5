//! Whether all runs of a workload did the same work: ops, live bytes and checksum must be equal for one workload and
//! seed, whatever the allocator. A workload that says itself that its work depends on what the allocator answers is exempt, and its records
//! say so.

use std::collections::BTreeMap;

use fragbench_model::{Failure, FailureKind, RunRecord};

/// What each workload did in each repetition, as the first of its runs had it.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    first: BTreeMap<(String, u32), (String, [u64; 3])>,
}

impl Agreement {
    /// Compares a run with those before it; the failure that it is when it did other work.
    pub(super) fn check(&mut self, record: &RunRecord) -> Option<Failure> {
        let done = record.done.as_ref().filter(|done| record.is_ok() && !done.adaptive)?;
        let figures = [done.ops, done.live_end_bytes, done.checksum];
        let label = fragbench_model::label(&record.allocator, &record.settings);
        let (first, expected) =
            self.first.entry((record.workload.clone(), record.repetition)).or_insert_with(|| (label.clone(), figures));
        (*expected != figures).then(|| Failure {
            kind: FailureKind::Disagrees,
            reason: format!(
                "not the same work as under {first} (ops, live bytes at the end, checksum: {figures:?} against {expected:?}); \
                 an allocator must not change what the program does: suspect corruption or a workload that depends on timing"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fragbench_model::{Done, MachineLoad, RunStatus, SCHEMA};

    fn record(allocator: &str, repetition: u32, checksum: u64) -> RunRecord {
        RunRecord {
            schema: SCHEMA,
            run: 0,
            workload: "w".into(),
            allocator: allocator.into(),
            settings: Default::default(),
            repetition,
            recording: None,
            aa: false,
            status: RunStatus::Ok,
            started_unix_s: 0,
            attempt: 1,
            environment: Default::default(),
            proof: None,
            libc: None,
            processes: Vec::new(),
            metrics: Default::default(),
            phases: vec![],
            done: Some(Done {
                ops: 1,
                live_end_bytes: 2,
                checksum,
                adaptive: false,
                work_ns: 3,
                threads_started: 1,
                harness_vm_bytes: 0,
                latency: Default::default(),
                facts: Default::default(),
            }),
            load: MachineLoad::default(),
            sampler_cpu_ratio: None,
            samples: None,
            cautions: vec![],
        }
    }

    #[test]
    fn a_run_that_did_other_work_is_named() {
        let mut agreement = Agreement::default();
        assert_eq!(agreement.check(&record("glibc", 0, 5)), None);
        assert_eq!(agreement.check(&record("jemalloc", 0, 5)), None);
        assert_eq!(agreement.check(&record("glibc", 1, 6)), None, "another repetition has another seed");
        let failure = agreement.check(&record("mimalloc", 0, 6)).unwrap();
        assert_eq!(failure.kind, FailureKind::Disagrees);
        assert!(failure.reason.contains("glibc"), "{}", failure.reason);
    }

    #[test]
    fn only_a_workload_that_says_it_is_adaptive_is_exempt() {
        let mut agreement = Agreement::default();
        let adaptive = |allocator: &str, checksum: u64| {
            let mut record = record(allocator, 0, checksum);
            record.done.as_mut().unwrap().adaptive = true;
            record
        };
        assert_eq!(agreement.check(&adaptive("glibc", 5)), None);
        assert_eq!(agreement.check(&adaptive("jemalloc", 6)), None);
        assert_eq!(agreement.check(&record("glibc", 0, 5)), None);
        assert!(agreement.check(&record("jemalloc", 0, 6)).is_some());
    }
}

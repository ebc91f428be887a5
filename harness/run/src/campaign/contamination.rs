//! What else the machine did during a run: beyond these shares a run is repeated once, then marked.

use fragbench_model::{Caution, CautionKind, RunRecord};

/// A run during which other processes took more than this share of a core is repeated once, then marked.
const FOREIGN_CPU_LIMIT: f64 = 0.25;
/// The same for time stolen by the hypervisor, as a share of all CPU time.
const STEAL_LIMIT: f64 = 0.05;

/// What a reader of the run's figures must know of that.
pub(super) fn contamination(record: &RunRecord) -> Vec<Caution> {
    let mut cautions = Vec::new();
    if let Some(foreign) = record.load.foreign_cpu_ratio.filter(|&r| r > FOREIGN_CPU_LIMIT) {
        cautions.push(Caution {
            kind: CautionKind::ForeignCpu,
            text: format!(
                "other processes used {:.0} % of a core during the run; repeat on a quiet machine",
                foreign * 100.0
            ),
        });
    }
    if let Some(steal) = record.load.steal_ratio.filter(|&r| r > STEAL_LIMIT) {
        cautions.push(Caution {
            kind: CautionKind::Steal,
            text: format!(
                "the hypervisor took {:.0} % of the CPU time during the run; its times are not to be trusted",
                steal * 100.0
            ),
        });
    }
    cautions
}

#[cfg(test)]
mod tests {
    use super::*;
    use fragbench_model::{AllocatorKind, MachineLoad};

    fn record() -> RunRecord {
        let allocator = fragbench_model::Allocator {
            name: "glibc".into(),
            kind: AllocatorKind::Glibc,
            library: None,
            libc: None,
            settings: Default::default(),
            environment: Default::default(),
            notes: vec![],
        };
        RunRecord::begin("w".into(), &allocator, 0)
    }

    #[test]
    fn a_busy_machine_is_marked_and_an_unknown_one_is_not() {
        let mut run = record();
        assert!(contamination(&run).is_empty());
        run.load = MachineLoad { steal_ratio: Some(0.2), foreign_cpu_ratio: Some(0.8), cpu_hz: None };
        let kinds: Vec<CautionKind> = contamination(&run).into_iter().map(|c| c.kind).collect();
        assert_eq!(kinds, [CautionKind::ForeignCpu, CautionKind::Steal]);
    }
}

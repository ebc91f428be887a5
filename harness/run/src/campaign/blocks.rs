//! When a plan of whole blocks has enough of them: as many as were asked for, as many as the time allows, or as many as an
//! interval of a wanted width takes.

use std::time::{Duration, Instant};

use fragbench_decide::MIN_BLOCKS;
use fragbench_model::{Manifest, PlannedRun, RunRecord};

use super::Schedule;
use crate::plan::add_block;

/// Time that blocks added for precision may take when none is given.
const PATIENCE: Duration = Duration::from_secs(600);

/// When enough blocks were run.
#[derive(Debug)]
pub struct StoppingRule {
    /// Half the width of the 95 % interval that is wanted, as a share, and the metric it is about.
    precision: Option<(f64, String)>,
    deadline: Option<Instant>,
}

impl StoppingRule {
    /// The plan's own blocks, and further ones until the ratio of every cell to the baseline in this metric is known to this
    /// share. No block is begun after `max_time`, which runs from now.
    pub fn new(precision: Option<(f64, String)>, max_time: Option<Duration>) -> Self {
        let patience = max_time.or(precision.as_ref().map(|_| PATIENCE));
        Self { deadline: patience.map(|time| Instant::now() + time), precision }
    }

    /// The plan's own blocks, however long they take.
    pub fn all() -> Self {
        Self { precision: None, deadline: None }
    }

    fn in_time(&self) -> bool {
        self.deadline.is_none_or(|deadline| Instant::now() < deadline)
    }
}

impl Schedule for StoppingRule {
    /// A block is run whole, so that its cells stay comparable; the first is run in any case.
    fn admits(&mut self, _planned: &PlannedRun, begins: bool) -> bool {
        !begins || self.in_time()
    }

    /// Stopping when an interval is narrow does not favour differences, as stopping when one is significant would.
    fn extend(&mut self, manifest: &mut Manifest, records: &[RunRecord], whole: bool) -> bool {
        let Some((share, metric)) = self.precision.as_ref().filter(|_| whole) else { return false };
        let reached = fragbench_decide::precision(&manifest.plan, records, metric);
        // What has no interval yet gets none by waiting when every run of a cell fails.
        let hopeless =
            reached.is_none() && manifest.plan.runs.last().is_some_and(|run| run.repetition >= 2 * MIN_BLOCKS);
        let more = self.in_time() && !hopeless && reached.is_none_or(|reached| reached > *share);
        if more {
            add_block(&mut manifest.plan);
        }
        more
    }
}

//! How many blocks are run: a number, or as many as an interval or the time asks for; and what counts as a difference of
//! consequence.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use fragbench_decide::MIN_BLOCKS;
use fragbench_model::{Manifest, Part, Plan, RunRecord, Shard, metric};

use crate::sizes::{parse_duration, parse_share};
use crate::usage;

/// Options of every verb that measures.
#[derive(Debug, Args)]
pub(crate) struct BlockOptions {
    /// Blocks: each runs every cell once, in an order of its own
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    reps: Option<u32>,
    /// Add blocks until the ratio of every cell to the baseline is known to this share: half the width of its 95 %
    /// interval
    #[arg(long, value_parser = parse_share, value_name = "PERCENT")]
    precision: Option<f64>,
    /// The figure that --precision is about
    #[arg(long, value_name = "METRIC", default_value = fragbench_decide::PEAK, requires = "precision")]
    precision_of: String,
    /// Begin no further block after this time [default: no limit; 10m with --precision]
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    max_time: Option<Duration>,
    /// Share from which on a difference counts as relevant
    #[arg(long, value_parser = parse_share, value_name = "PERCENT", default_value = "5%")]
    relevant: f64,
    /// Run only the I-th of N parts of the plan, whole blocks; every part can run on a machine of its own, and `fragbench
    /// merge` puts them together
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
}

/// Time that --precision may take without --max-time.
const PATIENCE: Duration = Duration::from_secs(600);

/// When enough blocks were run.
#[derive(Debug)]
pub(crate) struct Enough {
    precision: Option<(f64, String)>,
    pub(crate) deadline: Option<Instant>,
}

impl BlockOptions {
    /// Blocks to begin with.
    pub(crate) fn first(&self, usual: u32) -> u32 {
        let least = if self.precision.is_some() { MIN_BLOCKS } else { usual };
        self.reps.unwrap_or(least)
    }

    /// Share from which on a difference counts as relevant.
    pub(crate) fn relevant(&self) -> f64 {
        self.relevant
    }

    /// Leaves of a plan what --shard asks for.
    ///
    /// # Errors
    /// More shards than blocks, or an end that only who sees all blocks could find.
    pub(crate) fn part(&self, plan: &mut Plan) -> Result<Option<Part>> {
        let Some(shard) = self.shard else { return Ok(None) };
        if self.precision.is_some() {
            return Err(alone());
        }
        Ok(Some(fragbench_run::take_shard(plan, shard).map_err(|error| usage(format!("--shard {shard}: {error}")))?))
    }

    /// Refuses to go on with a result that is another shard than was asked for.
    pub(crate) fn agrees(&self, manifest: &Manifest) -> Result<()> {
        let is = manifest.part.map(|part| part.shard);
        if let Some(shard) = self.shard.filter(|shard| is != Some(*shard)) {
            let is = is.map_or("no shard".to_owned(), |is| format!("shard {is}"));
            return Err(usage(format!("--shard {shard}: the result to be finished is {is}")));
        }
        if is.is_some() && self.precision.is_some() {
            return Err(alone());
        }
        Ok(())
    }

    /// When to stop; `known` says whether a name that is not in the table of metrics is one of the user's.
    pub(crate) fn enough(&self, known: impl Fn(&str) -> bool) -> Result<Enough> {
        let name = &self.precision_of;
        if metric(name).is_none() && !known(name) {
            return Err(usage(format!("--precision-of {name}: there is no such figure; summary.json names them all")));
        }
        let patience = self.max_time.or(self.precision.map(|_| PATIENCE));
        Ok(Enough {
            precision: self.precision.map(|share| (share, name.clone())),
            deadline: patience.map(|time| Instant::now() + time),
        })
    }
}

/// A shard sees its own blocks only, and would stop, or not, by their scatter.
fn alone() -> anyhow::Error {
    usage("--precision needs to see every block, a shard sees its own only: give --reps N and no --precision")
}

impl Enough {
    /// Whether another block is to be added to a plan that was carried out. Stopping when an interval is narrow does not
    /// favour differences, as stopping when one is significant would.
    pub(crate) fn wants_more(&self, manifest: &Manifest, records: &[RunRecord]) -> bool {
        let Some((share, name)) = &self.precision else { return false };
        let reached = fragbench_decide::precision(&manifest.plan, records, name);
        // What has no interval yet gets none by waiting when every run of a cell fails.
        let hopeless =
            reached.is_none() && manifest.plan.runs.last().is_some_and(|run| run.repetition >= 2 * MIN_BLOCKS);
        let in_time = self.deadline.is_none_or(|deadline| Instant::now() < deadline);
        in_time && !hopeless && reached.is_none_or(|reached| reached > *share)
    }
}

#[cfg(test)]
mod tests {
    use fragbench_model::DEFAULT_RELEVANT;

    use super::*;

    #[test]
    fn the_default_threshold_is_the_models() {
        assert_eq!(parse_share("5%"), Ok(DEFAULT_RELEVANT));
    }
}

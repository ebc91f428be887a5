//! How many blocks are run: a number, or as many as an interval or the time asks for; and what counts as a difference of
//! consequence.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use fragbench_decide::MIN_BLOCKS;
use fragbench_model::{Manifest, Part, Plan, Shard, metric};
use fragbench_run::StoppingRule;

use crate::sizes::{parse_duration, parse_share};
use crate::{same_load, usage};

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

impl BlockOptions {
    /// Blocks to begin with, of workloads with so many recordings at the most.
    ///
    /// # Errors
    /// When fewer are asked for than there are recordings.
    pub(crate) fn first(&self, usual: u32, recordings: u32) -> Result<u32> {
        let least = if self.precision.is_some() { MIN_BLOCKS } else { usual };
        same_load::blocks(self.reps, least, recordings)
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
        if self.shard.is_some() && self.precision.is_some() {
            return Err(alone());
        }
        part(self.shard, plan)
    }

    /// Refuses to go on with a result that is another shard than was asked for.
    pub(crate) fn agrees(&self, manifest: &Manifest) -> Result<()> {
        same_shard(self.shard, manifest)?;
        if manifest.part.is_some() && self.precision.is_some() {
            return Err(alone());
        }
        Ok(())
    }

    /// When to stop; `known` says whether a name that is not in the table of metrics is one of the user's.
    pub(crate) fn stopping(&self, known: impl Fn(&str) -> bool) -> Result<StoppingRule> {
        let name = &self.precision_of;
        if metric(name).is_none() && !known(name) {
            return Err(usage(format!("--precision-of {name}: there is no such figure; summary.json names them all")));
        }
        Ok(StoppingRule::new(self.precision.map(|share| (share, name.clone())), self.max_time))
    }
}

/// Leaves of a plan what a shard is to run.
///
/// # Errors
/// More shards than blocks.
pub(crate) fn part(shard: Option<Shard>, plan: &mut Plan) -> Result<Option<Part>> {
    let taken = shard.map(|shard| {
        fragbench_run::take_shard(plan, shard).map_err(|error| usage(format!("--shard {shard}: {error}")))
    });
    taken.transpose()
}

/// Refuses to go on with a result that is another shard than this.
pub(crate) fn same_shard(shard: Option<Shard>, manifest: &Manifest) -> Result<()> {
    let is = manifest.part.map(|part| part.shard);
    match shard.filter(|shard| is != Some(*shard)) {
        None => Ok(()),
        Some(shard) => {
            let is = is.map_or("no shard".to_owned(), |is| format!("shard {is}"));
            Err(usage(format!("--shard {shard}: the result to be finished is {is}")))
        }
    }
}

/// A shard sees its own blocks only, and would stop, or not, by their scatter.
fn alone() -> anyhow::Error {
    usage("--precision needs to see every block, a shard sees its own only: give --reps N and no --precision")
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

//! `fragbench compare`: any command under every environment, measured from outside.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use fragbench_model::{Allocator, AllocatorKind, CommandSpec, Plan, ResultKind, WorkloadSpec};
use fragbench_run::{CommandRunner, Conditions, Program, RunLimits, Selection, StoppingRule, new_manifest};

use crate::blocks::BlockOptions;
use crate::command::{self, CommandOptions};
use crate::conclude::{begin, finish, show_plan};
use crate::emission::EmitOptions;
use crate::environments::EnvironmentOptions;
use crate::options::{OutputOptions, WatchOptions};
use crate::progress::Progress;
use crate::sizes::parse_duration;
use crate::{Outcome, interrupt, usage};

/// Blocks when nothing else is asked for: enough to exclude chance in a handful of cells.
const BLOCKS: u32 = 10;

/// Run any command under every allocator and compare memory, time and your own figures
///
/// Examples: fragbench compare -- python3 job.py;
/// fragbench compare --parameter N=1000,100000 -- sort -R --lines {N} big.txt;
/// fragbench compare --ready-socket /tmp/my.sock --load 'sysbench … run' --metric '+tps=transactions: .* \(([0-9.]+) per' --
/// mariadbd --no-defaults --socket=/tmp/my.sock …
#[derive(Debug, Args)]
pub(crate) struct Compare {
    #[command(flatten)]
    environments: EnvironmentOptions,
    /// Also run on glibc as unpacked in DIR, started by its own dynamic loader; may be repeated
    #[arg(long, value_delimiter = ',', value_name = "DIR")]
    glibc: Vec<PathBuf>,
    /// Runs of each cell before those that count
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup: u32,
    /// Run with each of these values in place of {NAME}; may be repeated, all combinations are run
    #[arg(long, value_name = "NAME=V1,V2")]
    parameter: Vec<String>,
    #[command(flatten)]
    options: CommandOptions,
    /// Quiet time of a server between the load and its stop
    #[arg(long, value_parser = parse_duration, value_name = "TIME", default_value = "1s")]
    idle: Duration,
    /// Seed of the order
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    blocks: BlockOptions,
    #[command(flatten)]
    watching: WatchOptions,
    #[command(flatten)]
    output: OutputOptions,
    #[command(flatten)]
    emit: EmitOptions,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, value_name = "CMD", required_unless_present = "resume")]
    command: Vec<OsString>,
}

impl Compare {
    pub(crate) fn go(&self) -> Result<Outcome> {
        let limits = self.watching.limits()?;
        let resumed = self.output.resumed(ResultKind::Comparison)?;
        let commands = match &resumed {
            Some(campaign) => commands_of(&campaign.manifest.plan)?,
            None => self.options.specs(&self.command, &self.parameter)?,
        };
        let programs = command::programs(&commands)?;
        let mut campaign = match resumed {
            Some(campaign) => campaign,
            None => {
                let mut plan = self.plan(commands, &programs)?;
                let part = self.blocks.part(&mut plan)?;
                self.stopping(&plan)?;
                if self.output.dry_run {
                    return show_plan(&plan, self.output.format);
                }
                let conditions = Conditions {
                    kind: ResultKind::Comparison,
                    profile: "command",
                    programs: &command::images(&programs),
                    common: command::common(self.seed, self.idle),
                    limits,
                    relevant: self.blocks.relevant(),
                    part,
                };
                begin(Some(&self.output.directory()), new_manifest(conditions, plan))?
            }
        };
        self.blocks.agrees(&campaign.manifest)?;
        let limits = RunLimits { mem_limit_bytes: campaign.manifest.mem_limit_bytes, ..limits };
        let interrupted = interrupt::flag()?;
        let mut runner = CommandRunner::new(&programs, campaign.manifest.common.idle_ms, limits);
        if campaign.records.is_empty() {
            runner.warm_up(&campaign.manifest.plan.cells, self.warmup, interrupted, |cell, record| {
                let label = cell.allocator.label();
                note!("warm-up of {} under {label}: {}", record.workload, fragbench_report::failure_text(record));
            });
        }
        let mut stopping = self.stopping(&campaign.manifest.plan)?;
        let progress = Progress::of_runs(campaign.manifest.plan.runs.len(), campaign.records.len())?;
        let ending = campaign.run(&mut runner, &mut stopping, interrupted, &mut |event| progress.hear(&event))?;
        progress.finish();
        finish(campaign, ending, self.output.format, &self.emit)
    }

    fn plan(&self, commands: Vec<CommandSpec>, programs: &BTreeMap<String, Program>) -> Result<Plan> {
        let mut allocators = self.allocators()?;
        let as_linked = command::fit(&mut allocators, programs)?;
        // What runs today is what everything is compared with.
        let baseline = as_linked.clone();
        allocators.extend(as_linked);
        Ok(fragbench_run::build(&Selection {
            allocators,
            baseline,
            workloads: commands.into_iter().map(|command| WorkloadSpec::Command { command }).collect(),
            repetitions: self.blocks.first(BLOCKS, 1)?,
            seed: self.seed,
        }))
    }

    /// When to stop; refuses a figure that neither the table of metrics nor the user has.
    fn stopping(&self, plan: &Plan) -> Result<StoppingRule> {
        self.blocks.stopping(|name| fragbench_decide::user_metrics(plan).any(|own| own.name == name))
    }

    fn allocators(&self) -> Result<Vec<Allocator>> {
        let versions =
            fragbench_allocators::find_all(&self.glibc).map_err(|error| usage(format!("--glibc: {error}")))?;
        let allocators = self.environments.allocators(
            &versions,
            &["glibc", "jemalloc", "mimalloc"],
            fragbench_allocators::USUAL_OF_A_COMMAND,
        )?;
        match allocators.iter().find(|a| a.kind == AllocatorKind::Null) {
            Some(null) => Err(usage(format!("{}: a program that runs for long needs memory to be reused", null.name))),
            None => Ok(allocators),
        }
    }
}

/// The commands of a result that is to be finished.
fn commands_of(plan: &Plan) -> Result<Vec<CommandSpec>> {
    let commands: Vec<CommandSpec> = plan.cells.iter().filter_map(|cell| cell.workload.command().cloned()).collect();
    if commands.len() < plan.cells.len() {
        return Err(usage("that result is not of a command: finish it with fragbench run --resume"));
    }
    Ok(commands)
}

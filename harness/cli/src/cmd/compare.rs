//! `fragbench compare`: any command under every environment, measured from outside.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use fragbench_model::{Allocator, AllocatorKind, CommandSpec, Manifest, Plan, WorkloadSpec};
use fragbench_run::{ResultDir, RunLimits, Selection};

use crate::blocks::{BlockOptions, Enough};
use crate::command::{self, CommandOptions, CommandRunner};
use crate::environments::EnvironmentOptions;
use crate::measure::{Measurement, new_manifest, show_plan};
use crate::options::{OutputOptions, WatchOptions};
use crate::sizes::parse_duration;
use crate::{Outcome, usage};

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
    /// The command and its arguments
    #[arg(trailing_var_arg = true, value_name = "CMD", required_unless_present = "resume")]
    command: Vec<OsString>,
}

impl Compare {
    pub(crate) fn go(&self) -> Result<Outcome> {
        let limits = self.watching.limits()?;
        let resumed = self.output.resumed(&self.blocks)?;
        let commands = match &resumed {
            Some((_, manifest, _)) => commands_of(&manifest.plan)?,
            None => self.options.specs(&self.command, &self.parameter)?,
        };
        let programs = command::programs(&commands)?;
        let (results, manifest, done) = match resumed {
            Some(resumed) => resumed,
            None => {
                let mut allocators = self.allocators()?;
                let as_linked = command::fit(&mut allocators, &programs)?;
                // What runs today is what everything is compared with.
                let baseline = as_linked.clone();
                allocators.extend(as_linked);
                let mut plan = fragbench_run::build(&Selection {
                    allocators,
                    baseline,
                    workloads: commands.into_iter().map(|command| WorkloadSpec::Command { command }).collect(),
                    repetitions: self.blocks.first(BLOCKS),
                    seed: self.seed,
                });
                let part = self.blocks.part(&mut plan)?;
                if self.output.dry_run {
                    return show_plan(&plan, self.output.format);
                }
                self.enough(&plan)?;
                let common = command::common(self.seed, self.idle);
                let manifest = Manifest {
                    relevant: self.blocks.relevant(),
                    part,
                    ..new_manifest("command", &command::images(&programs), plan, common, &limits)
                };
                (ResultDir::create(&self.output.directory(), &manifest)?, manifest, Vec::new())
            }
        };
        let limits = RunLimits { mem_limit_bytes: manifest.mem_limit_bytes, ..limits };
        let runner = CommandRunner::new(&manifest, &programs, limits);
        if done.is_empty() {
            runner.warm_up(&manifest.plan.cells, self.warmup)?;
        }
        let enough = self.enough(&manifest.plan)?;
        let OutputOptions { format, emit, .. } = &self.output;
        Measurement { results, manifest, done, enough, format: *format, emit }.go(&runner)
    }

    /// When to stop; refuses a figure that neither the table of metrics nor the user has.
    fn enough(&self, plan: &Plan) -> Result<Enough> {
        self.blocks.enough(|name| fragbench_decide::user_metrics(plan).any(|own| own.name == name))
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

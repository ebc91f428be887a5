//! `fragbench compare`: any command under every environment, measured from outside.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use fragbench_allocators::PRELOAD;
use fragbench_model::{
    Allocator, AllocatorKind, Better, Cell, CommandSpec, Manifest, Plan, PlannedRun, Ready, RunRecord, RunSpec,
    RunStatus, SCHEMA, Sample, ServerSpec, Settings, Touch, Unit, UserMetric, WorkloadSpec, metric,
};
use fragbench_run::{CommandRun, OwnMalloc, Program, ResultDir, RunLimits, Runner, Selection, run_command};

use crate::blocks::{BlockOptions, Enough};
use crate::environments::EnvironmentOptions;
use crate::measure::{Measurement, new_manifest, show_plan};
use crate::options::{OutputOptions, WatchOptions};
use crate::sizes::parse_duration;
use crate::{Outcome, interrupt, usage};

/// Blocks when nothing else is asked for: enough to exclude chance in a handful of cells.
const BLOCKS: u32 = 10;
/// Arena limits when none is named: a program runs for seconds, and each costs its time.
const SWEEP: [Option<&str>; 2] = [None, Some("2")];

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
    /// Shell command before each run, not measured
    #[arg(long, value_name = "CMD")]
    prepare: Option<String>,
    /// Shell command after each run, not measured
    #[arg(long, value_name = "CMD")]
    cleanup: Option<String>,
    /// Runs of each cell before those that count
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup: u32,
    /// Run with each of these values in place of {NAME}; may be repeated, all combinations are run
    #[arg(long, value_name = "NAME=V1,V2")]
    parameter: Vec<String>,
    /// A figure read from the output: a regular expression with one number in parentheses, of which the last match counts.
    /// Before the name `+` says that more is better, `-` that less is; without, the name's ending tells (_per_s: more; _s,
    /// _ms, _ns, _bytes: less)
    #[arg(long, value_name = "NAME=REGEX", allow_hyphen_values = true)]
    metric: Vec<String>,
    /// The command is a server that is ready when its output matches this regular expression
    #[arg(long, value_name = "REGEX", requires = "load", conflicts_with = "ready_socket")]
    ready: Option<String>,
    /// The command is a server that is ready when this unix socket takes connections
    #[arg(long, value_name = "PATH", requires = "load")]
    ready_socket: Option<String>,
    /// Shell command that loads the server; its duration is the run's
    #[arg(long, value_name = "CMD")]
    load: Option<String>,
    /// Time a server gets to end after SIGTERM, before SIGKILL
    #[arg(long, value_parser = parse_duration, value_name = "TIME", default_value = "30s")]
    stop_timeout: Duration,
    /// Quiet time of a server between the load and its stop
    #[arg(long, value_parser = parse_duration, value_name = "TIME", default_value = "1s")]
    idle: Duration,
    /// Count runs that end with another status than 0
    #[arg(long)]
    ignore_failure: bool,
    /// Name in tables [default: the program's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
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
        let (results, manifest, done) = match resumed {
            Some(resumed) => resumed,
            None => {
                let commands = self.commands()?;
                let programs = programs(&commands)?;
                let mut plan = fragbench_run::build(&Selection {
                    allocators: self.allocators(&programs)?,
                    workloads: commands.into_iter().map(|command| WorkloadSpec::Command { command }).collect(),
                    repetitions: self.blocks.first(BLOCKS),
                    seed: self.seed,
                });
                let part = self.blocks.part(&mut plan)?;
                if self.output.dry_run {
                    return show_plan(&plan, self.output.format);
                }
                self.enough(&plan)?;
                let common = self.common(&plan.cells[0]);
                let files: Vec<(&str, &Path)> =
                    programs.iter().map(|(name, program)| (name.as_str(), program.image.as_path())).collect();
                let manifest = Manifest {
                    relevant: self.blocks.relevant(),
                    part,
                    ..new_manifest("command", &files, plan, common, &limits)
                };
                (ResultDir::create(&self.output.directory(), &manifest)?, manifest, Vec::new())
            }
        };
        let limits = RunLimits { mem_limit_bytes: manifest.mem_limit_bytes, ..limits };
        let runner = CommandRunner::new(&manifest, limits)?;
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

    /// One command for each combination of the parameters' values.
    fn commands(&self) -> Result<Vec<CommandSpec>> {
        let words: Vec<String> = self
            .command
            .iter()
            .map(|word| word.clone().into_string().map_err(|word| usage(format!("{word:?} is not UTF-8"))))
            .collect::<Result<_>>()?;
        let metrics = self.metric.iter().map(|text| user_metric(text)).collect::<Result<Vec<_>>>()?;
        if let Some(twin) = metrics.iter().enumerate().find(|(i, m)| metrics[..*i].iter().any(|o| o.name == m.name)) {
            return Err(usage(format!("--metric names {} twice", twin.1.name)));
        }
        if self.load.is_some() && self.ready.is_none() && self.ready_socket.is_none() {
            return Err(usage("--load needs --ready REGEX or --ready-socket PATH, to know when to begin"));
        }
        if let Some(pattern) = &self.ready {
            regex::Regex::new(pattern).map_err(|e| usage(format!("--ready: {e}")))?;
        }
        let base = self.name.clone().unwrap_or_else(|| usual_name(&words));
        combinations(&self.parameter)?
            .into_iter()
            .map(|values| {
                let fill = |text: &String| {
                    values.iter().fold(text.clone(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
                };
                let named: Vec<String> = values.iter().map(|(name, value)| format!(" {name}={value}")).collect();
                let ready = match (&self.ready, &self.ready_socket) {
                    (Some(pattern), _) => Some(Ready::Output(fill(pattern))),
                    (_, Some(path)) => Some(Ready::Socket(fill(path).into())),
                    _ => None,
                };
                let server = ready.zip(self.load.as_ref()).map(|(ready, load)| ServerSpec {
                    ready,
                    load: fill(load),
                    stop_ms: self.stop_timeout.as_millis() as u64,
                });
                Ok(CommandSpec {
                    name: format!("{base}{}", named.concat()),
                    words: words.iter().map(fill).collect(),
                    prepare: self.prepare.as_ref().map(fill),
                    cleanup: self.cleanup.as_ref().map(fill),
                    server,
                    metrics: metrics.clone(),
                    ignore_failure: self.ignore_failure,
                })
            })
            .collect()
    }

    /// Environments for these programs. Where one is linked with an allocator of its own, glibc's malloc is put first by
    /// preloading libc, and the program as it is linked becomes a cell beside it.
    fn allocators(&self, programs: &BTreeMap<String, Program>) -> Result<Vec<Allocator>> {
        let versions =
            fragbench_allocators::find_all(&self.glibc).map_err(|error| usage(format!("--glibc: {error}")))?;
        let mut allocators = self.environments.allocators(&versions, &["glibc", "jemalloc", "mimalloc"], &SWEEP)?;
        if let Some(null) = allocators.iter().find(|a| a.kind == AllocatorKind::Null) {
            return Err(usage(format!("{}: a program that runs for long needs memory to be reused", null.name)));
        }
        for program in programs.values() {
            match &program.own_malloc {
                None => {}
                Some(OwnMalloc::Embedded(name)) => eprintln!(
                    "{} has {name} built in under names of its own: what it asks of that is not moved by preloading; only \
                     its other memory is compared",
                    program.image.display()
                ),
                Some(OwnMalloc::Linked { library, operators }) => {
                    eprintln!(
                        "{} is linked with {}, which brings malloc: as it is linked it is the cell `as-linked`; for the cells \
                         of glibc, libc is preloaded so that its malloc comes first",
                        program.image.display(),
                        library.display()
                    );
                    put_first(&mut allocators, operators.as_deref())?;
                    allocators.push(as_linked(library));
                    break;
                }
            }
        }
        Ok(allocators)
    }

    /// The parts of a run's specification that a command has no use for are at rest.
    fn common(&self, first: &Cell) -> RunSpec {
        RunSpec {
            schema: SCHEMA,
            workload: first.workload.clone(),
            threads: None,
            seed: self.seed,
            scale: 1.0,
            touch: Touch::None,
            thp: true,
            latency_every: 0,
            idle_ms: self.idle.as_millis() as u64,
            epilogue: false,
        }
    }
}

/// Looks at the program of each command.
fn programs(commands: &[CommandSpec]) -> Result<BTreeMap<String, Program>> {
    commands
        .iter()
        .map(|command| {
            let first = command.words.first().map_or("", String::as_str);
            Ok((command.name.clone(), Program::find(first).map_err(usage)?))
        })
        .collect()
}

/// For a program that is linked with an allocator's library: preloads libc where glibc is to be measured, and under every
/// allocator the C++ library whose operators that library would replace.
fn put_first(allocators: &mut [Allocator], operators: Option<&Path>) -> Result<()> {
    let libc = fragbench_run::own_libc_file()
        .ok_or_else(|| usage("this machine's libc is not found, so glibc's malloc cannot be put first"))?;
    for allocator in allocators.iter_mut().filter(|a| a.libc.is_none()) {
        let own = (allocator.kind == AllocatorKind::Glibc).then_some(libc.as_path());
        let first: Vec<String> = own.into_iter().chain(operators).map(|path| path.display().to_string()).collect();
        if first.is_empty() {
            continue;
        }
        allocator.environment.insert(PRELOAD.into(), first.join(":"));
        allocator.notes.push(format!(
            "{} is preloaded so that it comes before the allocator's library the program is linked with",
            first.join(" and ")
        ));
    }
    Ok(())
}

fn as_linked(library: &Path) -> Allocator {
    Allocator {
        name: fragbench_decide::AS_LINKED.into(),
        kind: AllocatorKind::Other,
        library: None,
        libc: None,
        settings: Settings::new(),
        environment: BTreeMap::new(),
        notes: vec![format!("malloc of {}, with which the program is linked", library.display())],
    }
}

/// The program's name, with that of the script it runs.
fn usual_name(words: &[String]) -> String {
    let file = |word: &String| Path::new(word).file_name().map(|n| n.to_string_lossy().into_owned());
    let script = words.get(1).filter(|word| !word.starts_with('-') && Path::new(word).is_file());
    let parts: Vec<String> = words.first().into_iter().chain(script).filter_map(file).collect();
    parts.join(" ")
}

fn user_metric(text: &str) -> Result<UserMetric> {
    let wrong =
        || usage(format!("--metric {text}: write NAME=REGEX, for instance 'qps=queries: .*\\(([0-9.]+) per sec'"));
    let (name, pattern) = text.split_once('=').ok_or_else(wrong)?;
    let (sign, name) = match name.as_bytes().first() {
        Some(b'+') => (Some(Better::More), &name[1..]),
        Some(b'-') => (Some(Better::Less), &name[1..]),
        _ => (None, name),
    };
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || pattern.is_empty() {
        return Err(wrong());
    }
    if metric(name).is_some() {
        return Err(usage(format!("--metric {name}: a figure of that name is measured already; choose another")));
    }
    regex::Regex::new(pattern).map_err(|e| usage(format!("--metric {name}: {e}")))?;
    let unit = Unit::of_name(name);
    let better = sign.or(match unit {
        Unit::PerSecond => Some(Better::More),
        Unit::Seconds | Unit::Milliseconds | Unit::Nanoseconds | Unit::Bytes => Some(Better::Less),
        Unit::Count | Unit::Ratio => None,
    });
    Ok(UserMetric { name: name.to_owned(), pattern: pattern.to_owned(), unit, better })
}

/// All combinations of the parameters' values; one empty one without parameters.
fn combinations(parameters: &[String]) -> Result<Vec<Vec<(String, String)>>> {
    let mut all: Vec<Vec<(String, String)>> = vec![Vec::new()];
    for text in parameters {
        let (name, values) = text
            .split_once('=')
            .filter(|(name, values)| !name.is_empty() && !values.is_empty())
            .ok_or_else(|| usage(format!("--parameter {text}: write NAME=V1,V2")))?;
        if all[0].iter().any(|(known, _)| known == name) {
            return Err(usage(format!("--parameter {name} is given twice")));
        }
        all = all
            .into_iter()
            .flat_map(|chosen| {
                values.split(',').map(move |value| {
                    chosen.iter().cloned().chain([(name.to_owned(), value.to_owned())]).collect::<Vec<_>>()
                })
            })
            .collect();
    }
    Ok(all)
}

/// Runs a plan's commands.
struct CommandRunner {
    programs: BTreeMap<String, Program>,
    environments: Vec<BTreeMap<String, String>>,
    idle_ms: u64,
    limits: RunLimits,
}

impl CommandRunner {
    fn new(manifest: &Manifest, limits: RunLimits) -> Result<Self> {
        let commands: Vec<CommandSpec> =
            manifest.plan.cells.iter().filter_map(|cell| cell.workload.command().cloned()).collect();
        if commands.len() < manifest.plan.cells.len() {
            return Err(usage("that result is not of a command: finish it with fragbench run --resume"));
        }
        let programs = programs(&commands)?;
        let environments = fragbench_run::command_environments(&manifest.plan.cells, &programs);
        Ok(Self { programs, environments, idle_ms: manifest.common.idle_ms, limits })
    }

    /// Runs every cell so often without keeping anything; a failure is told, not kept.
    fn warm_up(&self, cells: &[Cell], times: u32) -> Result<()> {
        let interrupted = interrupt::flag()?;
        for repetition in 0..times {
            for (cell, of) in cells.iter().enumerate().filter(|(_, of)| !of.aa) {
                let (record, _) = self.run(&PlannedRun { run: 0, cell, repetition }, of, 0, interrupted);
                if let RunStatus::Failed(failure) = record.status {
                    eprintln!("warm-up of {} under {}: {}", record.workload, of.allocator.label(), failure.reason);
                }
            }
        }
        Ok(())
    }
}

impl Runner for CommandRunner {
    fn run(&self, planned: &PlannedRun, cell: &Cell, _seed: u64, interrupted: &AtomicBool) -> (RunRecord, Vec<Sample>) {
        let (Some(command), Some(program)) = (cell.workload.command(), self.programs.get(&cell.workload.name())) else {
            unreachable!("a plan of commands was checked when the runner was made")
        };
        let run = CommandRun {
            command,
            program,
            allocator: &cell.allocator,
            environment: &self.environments[planned.cell],
            idle_ms: self.idle_ms,
            limits: &self.limits,
        };
        run_command(&run, interrupted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_tells_its_direction_by_sign_or_name() {
        let of = |text: &str| user_metric(text).map(|m| (m.name, m.unit, m.better)).map_err(|e| e.to_string());
        assert_eq!(of("qps_per_s=(x)").unwrap(), ("qps_per_s".into(), Unit::PerSecond, Some(Better::More)));
        assert_eq!(of("p99_ms=(x)").unwrap(), ("p99_ms".into(), Unit::Milliseconds, Some(Better::Less)));
        assert_eq!(of("+tps=a=(x)").unwrap(), ("tps".into(), Unit::Count, Some(Better::More)));
        assert_eq!(of("-errors=(x)").unwrap(), ("errors".into(), Unit::Count, Some(Better::Less)));
        assert_eq!(of("tps=(x)").unwrap().2, None);
        for (text, word) in
            [("tps", "NAME=REGEX"), ("a b=x", "NAME=REGEX"), ("wall_s=(x)", "measured already"), ("t=(", "regex")]
        {
            assert!(of(text).unwrap_err().contains(word), "{text}: {:?}", of(text));
        }
    }

    #[test]
    fn parameters_are_combined() {
        let all = combinations(&["N=1,2".into(), "M=a,b".into()]).unwrap();
        assert_eq!(all.len(), 4);
        assert_eq!(all[1], [("N".to_owned(), "1".to_owned()), ("M".to_owned(), "b".to_owned())]);
        assert_eq!(combinations(&[]).unwrap(), [Vec::new()]);
        for wrong in ["N", "N=", "=1"] {
            assert!(combinations(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
        assert!(combinations(&["N=1".into(), "N=2".into()]).is_err());
    }
}

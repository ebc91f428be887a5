//! `fragbench inspect`: a process's heap from outside: how much is address space, memory, live; what `malloc_trim` would
//! give back and why not the rest; what is the matter, and what to do next.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use fragbench_ask::{Limits, MallocInfo, Purged};
use fragbench_inspect::{Depth, InspectError, Inspected, Survey, advice, capture, inspect, verdict};
use fragbench_model::Inspection;
use fragbench_proc::{CaptureTarget, CoreTarget, LiveTarget, Process, Rights, Target};

use super::trim::VisitOptions;
use crate::freeze::Frozen;
use crate::limits::limits_of;
use crate::options::Format;
use crate::output::terminal;
use crate::sizes::{parse_duration, parse_pid};
use crate::there::explain;
use crate::{Outcome, interrupt, usage};

/// Look at a process's heap from outside: memory, retention, pins, a verdict
///
/// The process is neither stopped nor changed, and nothing is called in it, unless --freeze or --malloc-info asks for it.
///
/// Examples: fragbench inspect 4242; fragbench inspect --watch 60s 4242; fragbench inspect --format json 4242 > a.json;
/// fragbench inspect --compare a.json b.json; fragbench inspect --capture ticket-17 4242; fragbench inspect core.4242
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// What to look at: the number of a process, a core file, or a directory made by --capture
    #[arg(value_name = "PID|CORE|DIR", required_unless_present = "compare")]
    what: Option<String>,
    /// Compare two inspections that were saved with `--format json`: the earlier one and the later one
    #[arg(long, num_args = 2, value_names = ["EARLIER", "LATER"], conflicts_with = "what")]
    compare: Vec<PathBuf>,
    /// Look twice, this long apart, and tell growth of live memory from growth of what is retained
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    watch: Option<Duration>,
    /// Surveys in a row, for the spread of a heap that is at work; the figures are those of the last
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    surveys: u32,
    /// Capture the process into this new directory, to be inspected elsewhere: pages and malloc's own words, not what the
    /// program wrote
    #[arg(long, value_name = "DIR")]
    capture: Option<PathBuf>,
    /// Show the first bytes of the chunks that hold memory; with --capture, keep everything the program wrote
    #[arg(long)]
    with_contents: bool,
    /// Stop the process for the time of the survey, for figures that are exact
    #[arg(long)]
    freeze: bool,
    /// With --freeze, let it go on after this time at the latest
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration, requires = "freeze")]
    freeze_limit: Duration,
    /// Also ask the process's malloc itself, through gdb as `fragbench trim` does its call: glibc's by malloc_info(0),
    /// jemalloc, mimalloc and tcmalloc for their statistics
    #[arg(long, conflicts_with_all = ["capture", "freeze"])]
    malloc_info: bool,
    #[command(flatten)]
    visit: VisitOptions,
    /// Also read smaps_rollup, for PSS and huge pages; the kernel walks the page tables for it and holds up the process
    #[arg(long)]
    pss: bool,
    /// Write the heap map to this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Cells of the map in the terminal, in lines of its width.
const MAP_LINES: usize = 12;
/// Cells of the map in a file.
const SVG_CELLS: usize = 1600;

impl Inspect {
    pub(crate) fn go(&self) -> Result<Outcome> {
        if let [earlier, later] = self.compare.as_slice() {
            let (before, mut now) = (saved(earlier)?, saved(later)?);
            now.verdict = verdict(&now, Some(&before));
            return self.show(Inspected { inspection: now, survey: None });
        }
        let what = self.what.as_deref().unwrap_or_default();
        let Ok(pid) = parse_pid(what) else { return self.show(self.stored(Path::new(what))?) };
        let before = self.watch.map(|time| self.look(pid).map(|seen| (time, seen.inspection))).transpose()?;
        if let Some((time, _)) = &before {
            wait(*time)?;
        }
        let mut seen = self.look(pid)?;
        if let Some((_, before)) = before {
            seen.inspection.verdict = verdict(&seen.inspection, Some(&before));
        }
        self.show(seen)
    }

    fn look(&self, pid: u32) -> Result<Inspected> {
        let depth = Depth { surveys: self.surveys, with_contents: self.with_contents };
        let target = LiveTarget::open(pid).map_err(|error| explain(pid, error))?;
        let frozen = self.freeze.then(|| Frozen::stop(pid, self.freeze_limit)).transpose()?;
        let mut seen = inspect(&target, &depth).map_err(|error| unread(pid, error))?;
        if let (Some(dir), Some(survey)) = (&self.capture, &seen.survey) {
            capture(&target, survey, dir, self.with_contents).map_err(|error| unread(pid, error))?;
        }
        if let Some(frozen) = frozen {
            let (stopped, to_the_end) = frozen.go_on();
            seen.inspection.stopped_ms = Some((stopped.as_secs_f64() * 1e3).round());
            if !to_the_end {
                seen.inspection
                    .warnings
                    .push("the process went on before the survey had ended: see --freeze-limit".into());
            }
        }
        if seen.survey.is_none() && !seen.inspection.lacks.is_empty() {
            let rights = Rights::read(pid).map_err(|error| explain(pid, error))?;
            seen.inspection.lacks.extend(advice(pid, &rights));
        }
        if self.pss {
            seen.inspection.smaps = Process::live(pid).smaps_rollup().map_err(|error| explain(pid, error))?;
        }
        seen.inspection.limits = Some(limits_of(pid, seen.inspection.glibc.as_deref()));
        // Of another malloc's memory part may be the kernel's for the taking already: no free memory, and not to be gained.
        if seen.inspection.mallocs.iter().any(|malloc| !malloc.is_glibc() && malloc.takes_malloc) {
            let sums = if self.pss { Ok(seen.inspection.smaps.clone()) } else { Process::live(pid).smaps_rollup() };
            seen.inspection.lazy_free_bytes = sums.ok().and_then(|sums| sums.get("lazyfree_bytes").copied());
        }
        Ok(seen)
    }

    /// A core file or a capture.
    fn stored(&self, path: &Path) -> Result<Inspected> {
        if self.watch.is_some() || self.freeze || self.pss || self.malloc_info || self.capture.is_some() {
            return Err(usage("--watch, --freeze, --pss, --malloc-info and --capture are for a process that runs"));
        }
        let missing = |_| {
            usage(format!(
                "`{}` is neither the number of a process, nor a core, nor a capture; give for instance \
                 $(pidof -s mariadbd)",
                path.display()
            ))
        };
        let target: Box<dyn Target> = if std::fs::metadata(path).map_err(missing)?.is_dir() {
            Box::new(CaptureTarget::open(path)?)
        } else {
            Box::new(CoreTarget::open(path)?)
        };
        Ok(inspect(&*target, &Depth { surveys: 1, with_contents: self.with_contents })?)
    }

    fn show(&self, seen: Inspected) -> Result<Outcome> {
        let Inspected { inspection, survey } = seen;
        let asked = match inspection.pid.filter(|_| self.malloc_info) {
            Some(pid) => Some(Asked::of(pid, &self.visit.limits())?),
            None => None,
        };
        if let (Some(file), Some(survey)) = (&self.svg, &survey) {
            let about =
                format!("{} {}", inspection.program, inspection.pid.map_or(String::new(), |pid| pid.to_string()));
            let map = survey.map(SVG_CELLS);
            let plot = fragbench_report::heap_plot(&[("", &map)], about.trim());
            std::fs::write(file, plot.wide.svg()?).with_context(|| format!("{}", file.display()))?;
        }
        let text = if self.format == Format::Json {
            let mut value = serde_json::to_value(&inspection)?;
            if let Some(asked) = &asked {
                match asked {
                    Asked::Glibc(info) => value["malloc_info"] = serde_json::to_value(info)?,
                    Asked::Other(words) => value["allocator_stats"] = serde_json::to_value(&words.before)?,
                }
            }
            format!("{}\n", serde_json::to_string_pretty(&value)?)
        } else {
            self.text(&inspection, survey.as_ref(), asked.as_ref())
        };
        put!("{text}");
        Ok(if inspection.heap.is_none() && !inspection.lacks.is_empty() {
            Outcome::FellShort
        } else {
            Outcome::Success
        })
    }

    fn text(&self, inspection: &Inspection, survey: Option<&Survey>, asked: Option<&Asked>) -> String {
        let (width, colour) = terminal();
        let mut text = fragbench_report::inspection_text(inspection, width, colour);
        if let Some(survey) = survey {
            let columns = usize::from(width.unwrap_or(100));
            let map = survey.map(MAP_LINES * columns);
            let _ = write!(text, "\n{}", fragbench_report::heap_map(&map, columns, colour));
        }
        match asked {
            Some(Asked::Glibc(asked)) => {
                let (stopped, xml) = (asked.stopped_ms, asked.xml.trim_end());
                let _ = writeln!(text, "\nmalloc_info(0), the process stopped for {stopped:.1} ms:\n{xml}");
            }
            Some(Asked::Other(words)) => {
                let _ = writeln!(
                    text,
                    "\n{} ({}) says, the process stopped for {:.1} ms:",
                    words.allocator, words.object, words.stopped_ms
                );
                for (name, n) in &words.before {
                    let _ = writeln!(text, "  {name:<42} {:>10}", fragbench_report::bytes(*n as f64));
                }
            }
            None => {}
        }
        if let Some(dir) = &self.capture {
            let _ = writeln!(text, "\ncaptured into {}; look again with `fragbench inspect {0}`", dir.display());
        }
        text
    }
}

/// What the process's malloc says of itself.
enum Asked {
    Glibc(Box<MallocInfo>),
    /// jemalloc, mimalloc or tcmalloc.
    Other(Box<Purged>),
}

impl Asked {
    fn of(pid: u32, limits: &Limits) -> Result<Asked> {
        let other = fragbench_ask::heap(pid).is_ok_and(|heap| !matches!(heap.allocator.as_str(), "glibc" | "unknown"));
        Ok(if other {
            Asked::Other(Box::new(fragbench_ask::words(pid, None, limits)?))
        } else {
            Asked::Glibc(Box::new(fragbench_ask::malloc_info(pid, limits)?))
        })
    }
}

/// Waits, but not on when the user has had enough.
fn wait(time: Duration) -> Result<()> {
    let stop = interrupt::flag()?;
    let bar = indicatif::ProgressBar::new(time.as_secs())
        .with_style(indicatif::ProgressStyle::with_template("{bar:30} looking again in {eta}")?);
    if bar.is_hidden() {
        note!("looking again in {}", fragbench_report::duration_ns(time.as_nanos() as f64));
    }
    let end = std::time::Instant::now() + time;
    while let Some(left) = end.checked_duration_since(std::time::Instant::now()) {
        if stop.load(std::sync::atomic::Ordering::Acquire) {
            anyhow::bail!("stopped before the second look");
        }
        bar.set_position(time.as_secs().saturating_sub(left.as_secs()));
        std::thread::sleep(left.min(Duration::from_millis(200)));
    }
    bar.finish_and_clear();
    Ok(())
}

fn unread(pid: u32, error: InspectError) -> anyhow::Error {
    match error {
        InspectError::Proc(error) => explain(pid, error),
        other => other.into(),
    }
}

/// An inspection saved as JSON.
fn saved(path: &Path) -> Result<Inspection> {
    let text = std::fs::read_to_string(path).map_err(|error| usage(format!("{}: {error}", path.display())))?;
    let inspection = serde_json::from_str(&text);
    inspection.map_err(|error| {
        usage(format!("{}: {error}; it is to be what `fragbench inspect --format json PID` prints", path.display()))
    })
}

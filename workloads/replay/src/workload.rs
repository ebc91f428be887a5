//! The replay as a workload: what it is built from, its one phase, and what it reports.
//! Also without the worker around it ([`Replay::play`]), for benchmarks of the driver.

use std::path::Path;
use std::sync::Arc;

use fragbench_engine::{Context, Ledger, Spawner, Thread, Workload, refuse, timeline};
use fragbench_model::WorkerErrorKind;
use fragbench_model::{Pace, SERVER_CPU_S, SERVER_SPAN_S, WorkerError};
use fragbench_trace::decode::{Block, Op};
use fragbench_trace::{Scratch, Totals, Trace};

use crate::load::Loader;
use crate::pace::Paced;
use crate::peak::Peak;
use crate::player;
use crate::resume;
use crate::run::{Counts, Gate, Run, Start};
use crate::slots::Lanes;
use crate::starter::Starter;
use crate::turns::Turns;

/// The default skew is the longest window within which the recorded threads shift no more than this share of the live
/// peak between them. That bounds the error of the replay's peak from far above: on recordings of MariaDB (OLTP, storms
/// of connections, large blobs) the windows so chosen gave errors of 0 to 1.2 %, five times longer ones up to 5 %.
/// Longer windows cost less waking.
const SWING_SHARE: f64 = 0.2;
/// Most copies side by side.
const COPIES_MAX: u32 = 256;

/// A replay; see the crate.
#[derive(Debug)]
pub struct Replay {
    run: Arc<Run>,
    totals: Totals,
    /// Processor time of the recorded process.
    recorded_cpu_us: Option<u64>,
    skew_us: u64,
    /// The allocator reads recorded time.
    by_virtual_clock: bool,
    /// First threads of the copies but the first, and what keeps each copy's threads.
    firsts: Vec<Thread<()>>,
    starter: Option<Starter>,
}

/// [`Replay::open`] as the worker's catalogue wants it.
///
/// # Errors
/// As there.
pub fn build(trace: &Path, pace: Pace, skew_us: u64, copies: u32) -> Result<Box<dyn Workload>, WorkerError> {
    Ok(Box::new(Replay::open(trace, pace, skew_us, copies)?))
}

impl Replay {
    /// Opens and checks a trace, for `copies` of it side by side. A skew of 0 asks for the default.
    ///
    /// # Errors
    /// `bad_trace` for a trace that cannot be read or is damaged, `bad_spec` for numbers that make no sense.
    pub fn open(trace: &Path, pace: Pace, skew_us: u64, copies: u32) -> Result<Replay, WorkerError> {
        if !(1..=COPIES_MAX).contains(&copies) {
            let text = format!("--threads-scale {copies} must be between 1 and {COPIES_MAX}");
            return Err(refuse(WorkerErrorKind::BadSpec, text));
        }
        let paced = match pace {
            Pace::Fast | Pace::Virtual => None,
            Pace::Recorded { speed } if speed.is_finite() && speed > 0.0 => Some(Paced::new(speed)),
            Pace::Recorded { speed } => {
                return Err(refuse(
                    WorkerErrorKind::BadSpec,
                    format!("--pace recorded×{speed}: the factor must lie above 0"),
                ));
            }
        };
        let bad = |what: String| refuse(WorkerErrorKind::BadTrace, format!("{}: {what}", trace.display()));
        let opened = Trace::open(trace).map_err(|e| bad(e.to_string()))?;
        let damage = opened.verify().map_err(|e| bad(e.to_string()))?;
        if let Some(first) = damage.first() {
            let n = damage.len();
            return Err(bad(format!("damaged in {n} places, first: {first}; replay another copy, or record again")));
        }
        let Some(totals) = opened.totals().copied() else {
            return Err(bad("the index holds no totals; record again".to_owned()));
        };
        let slots = opened.lane_slots().map_err(|e| bad(e.to_string()))?;
        let threads: Vec<u32> = opened.threads().collect();
        let recorded_cpu_us = opened.recorded_on().cpu_us;
        let prologue_us = opened.recorded_on().prologue_us.unwrap_or(0);
        let starts = starts(&opened, &threads).map_err(bad)?;
        let skew_us = match (&paced, skew_us) {
            // The wall's clock keeps the threads together.
            (Some(_), _) => u64::MAX,
            (None, 0) => default_skew_us(&totals),
            (None, us) => us,
        };
        let peak = Peak::new(
            totals.peak_live_bytes.saturating_mul(copies.into()),
            u64::from(totals.threads_peak) * u64::from(copies),
        );
        let run = Run {
            loader: Loader::new(opened),
            seats: (0..(threads.len() + 1) * copies as usize).map(|_| timeline().seat()).collect(),
            threads,
            starts,
            copies: (0..copies).map(|_| Lanes::new(&slots)).collect(),
            turns: Turns::default(),
            peak,
            paced,
            counts: Counts::default(),
            prologue_us,
            no_holes: prologue_us > 0 && !fragbench_engine::adjust::is_glibcs(),
            gate: Gate::default(),
        };
        let by_virtual_clock = pace == Pace::Virtual;
        let run = Arc::new(run);
        Ok(Replay { run, totals, recorded_cpu_us, skew_us, by_virtual_clock, firsts: Vec::new(), starter: None })
    }

    fn place_of_first(&self) -> Option<usize> {
        self.run.threads.iter().position(|t| *t == 0)
    }

    /// Replays the whole trace, its first thread on the calling one, whose ledger is given. Returns when every thread
    /// has come to its recorded end; those that lived at the recording's end go on living, quiet, until this is dropped.
    pub fn play(&mut self, spawner: &Spawner, ledger: &mut Ledger) {
        let (run, place) = (self.run.clone(), self.place_of_first());
        let copies = run.copies.len();
        if let Some(paced) = &run.paced {
            paced.begin();
        }
        timeline().open(self.skew_us.saturating_mul(1000));
        if self.by_virtual_clock {
            timeline().begin_virtual();
        }
        // All first threads are there before any of them moves the horizon.
        (0..copies).for_each(|copy| timeline().enter(run.seat(copy, place)));
        for copy in 1..copies {
            let (run, own) = (run.clone(), spawner.clone());
            self.firsts.push(spawner.spawn(move |ledger| {
                let mut starter = Starter::new(&run, &own, copy);
                player::play(&run, copy, place, ledger, Some(&mut starter));
                run.gate.pass();
            }));
        }
        let starter = self.starter.insert(Starter::new(&run, spawner, 0));
        player::play(&run, 0, place, ledger, Some(starter));
        timeline().wait_quiet();
        let end_us = self.totals.duration_us;
        if let Some(paced) = &run.paced {
            paced.wait(end_us);
        } else if self.by_virtual_clock {
            timeline().pass((end_us * 1000).saturating_sub(timeline().elapsed_ns()));
        }
        starter.reap();
    }

    /// What there is to say of the replay once it has been played, by name.
    pub fn facts(&self) -> Vec<(&'static str, f64)> {
        let (run, load) = (&self.run, std::sync::atomic::Ordering::Relaxed);
        let copies = run.copies.len() as f64;
        let recorded = self.totals.peak_live_bytes as f64 * copies;
        let counts = &run.counts;
        let mut facts = vec![
            ("events", self.totals.events as f64 * copies),
            ("skipped_unseen_frees", counts.unseen_frees.load(load) as f64),
            ("own_adjusts", counts.adjusts.load(load) as f64),
            ("own_adjusts_left_out", counts.adjusts_left_out.load(load) as f64),
            ("waits", counts.waits.load(load) as f64),
            ("slot_waits", counts.slot_waits.load(load) as f64),
            ("turn_waits", counts.turn_waits.load(load) as f64),
        ];
        if recorded > 0.0 {
            facts.push(("live_peak_error_ratio", (run.peak.bytes() as f64 - recorded).abs() / recorded));
        }
        match &run.paced {
            Some(paced) => facts.push(("late_max_us", paced.late_ns() as f64 / 1e3)),
            None => {
                facts.push(("skew_us", self.skew_us as f64));
                facts.push(("horizon_moves", timeline().moves() as f64));
            }
        }
        // The whole trace's: copies are as many servers.
        if let Some(cpu_us) = self.recorded_cpu_us.filter(|cpu_us| *cpu_us > 0) {
            facts.push((SERVER_CPU_S, cpu_us as f64 * copies / 1e6));
            facts.push((SERVER_SPAN_S, self.totals.duration_us as f64 / 1e6));
        }
        facts
    }
}

fn default_skew_us(totals: &Totals) -> u64 {
    let windows = [
        (25_000, totals.swing_25ms_bytes),
        (5_000, totals.swing_5ms_bytes),
        (1_000, totals.swing_1ms_bytes),
        (200, totals.swing_200us_bytes),
    ];
    let most = totals.peak_live_bytes as f64 * SWING_SHARE;
    windows.into_iter().find(|(_, swing)| *swing as f64 <= most).map_or(200, |(us, _)| us)
}

/// When each thread but the first starts, in order of turns.
fn starts(trace: &Trace, threads: &[u32]) -> Result<Vec<Start>, String> {
    let mut starts = Vec::new();
    let (mut block, mut scratch) = (Block::default(), Scratch::default());
    for (place, &thread) in threads.iter().enumerate().filter(|(_, t)| **t != 0) {
        let Some(entry) = trace.blocks(thread).first() else { continue };
        trace.load(entry, &mut block, &mut scratch).map_err(|e| e.to_string())?;
        match block.next_op() {
            Ok(Some((us, Op::Turn { number }))) => starts.push(Start { turn: number, us, place }),
            _ => return Err(format!("thread {thread} begins without its turn; the trace contradicts itself")),
        }
    }
    starts.sort_by_key(|s| s.turn);
    if !starts.is_sorted_by_key(|s| s.us) {
        return Err("threads start in another order than that of time; the trace contradicts itself".to_owned());
    }
    Ok(starts)
}

impl Workload for Replay {
    fn threads(&self) -> u32 {
        self.totals.threads_peak.max(1).saturating_mul(self.run.copies.len() as u32)
    }

    fn run(&mut self, ctx: &mut Context) {
        ctx.phase("replay", |ctx| {
            let spawner = ctx.spawner().clone();
            self.play(&spawner, ctx.ledger());
        });
        for (name, value) in self.facts() {
            ctx.fact(name, value);
        }
    }

    fn resume(&mut self, ctx: &mut Context) {
        resume::resume(&self.run, &self.totals, self.place_of_first(), ctx);
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        // The threads that lived at the recording's end are joined when their handles are dropped.
        self.run.gate.open();
    }
}

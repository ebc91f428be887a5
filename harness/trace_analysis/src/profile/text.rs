//! A profile as TOML: one line a row of blocks, with comments for who reads it. Reading names the line of what is wrong.

use std::fmt::Write;
use std::ops::Range;

use fragbench_model::{Blocks, Columns, Life, PROFILE_VERSION, Profile, Role, ShapeRows};

use fragbench_trace::format::SIZE_MAX;

/// What is wrong with a profile's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ProfileError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

const HEAD: &str = "\
# A statistical profile of a program's memory, distilled by `fragbench trace profile`: sizes, lifetimes, numbers.
# It holds no names, no addresses, no contents and no sequence of events. Run it: fragbench run profile:FILE
#
# Each [[role]] is a group of threads that do alike. They come in `waves`, and work from their start to their end. That
# life is cut into `phases` (shares of it), numbered from 0. Each row of `blocks` is a kind of block:
#   size      least and largest size asked for, bytes; `mean` where they differ
#   life      freed after [least, most] microseconds, in a later \"phase N\" of the thread that made it, by that thread as
#             it ends (\"thread\"), or never (\"end\"); `mean_life` where that is long
#   freed_by  the role of the thread that frees it, where that is not the thread that made it
#   reallocs  how often it is reallocated: by the steps of `growth`, within `growing_us` microseconds, to about `grown` bytes
#   touched   share of its pages that is used
#   n         how many all threads of the role allocate in phase number `phase` (0 when left out) and those that follow
";

/// A profile as text.
pub fn to_toml(profile: &Profile) -> String {
    let mut out = format!("{HEAD}version = {}\nduration_us = {}\n", profile.version, profile.duration_us);
    shape(&mut out, &profile.recording);
    for role in &profile.role {
        self::role(&mut out, role);
    }
    out
}

fn list<T: std::fmt::Display>(values: &[T]) -> String {
    let values: Vec<String> = values.iter().map(T::to_string).collect();
    format!("[{}]", values.join(","))
}

fn shape(out: &mut String, s: &ShapeRows) {
    out.push_str(
        "\n# The recording itself, to compare generated work with; nothing is generated from it.\n[recording]\n",
    );
    let mut line = |name: &str, value: &dyn std::fmt::Display| _ = writeln!(out, "{name} = {value}");
    line("blocks", &s.blocks);
    line("callocs", &s.callocs);
    line("aligned", &s.aligned);
    line("reallocs", &s.reallocs);
    line("frees", &s.frees);
    line("cross_thread_frees", &s.cross_thread_frees);
    line("threads_peak", &s.threads_peak);
    line("live_growth_bytes", &list(&s.live_growth_bytes));
    line("thread_starts", &list(&s.thread_starts));
    line("thread_exits", &list(&s.thread_exits));
    let tables: [(&str, &Columns); 3] =
        [("sizes", &s.sizes), ("lifetimes_us", &s.lifetimes_us), ("lifetimes_events", &s.lifetimes_events)];
    for (name, c) in tables {
        let (from, count, bytes) = (list(&c.from), list(&c.count), list(&c.bytes));
        _ = writeln!(out, "\n[recording.{name}]\nfrom = {from}\ncount = {count}\nbytes = {bytes}");
    }
}

fn role(out: &mut String, r: &Role) {
    let blocks: u64 = r.blocks.iter().flat_map(|b| &b.n).sum();
    let share = r.blocks.iter().filter(|b| b.freed_by.is_some()).flat_map(|b| &b.n).sum::<u64>();
    _ = writeln!(
        out,
        "\n# {} thread(s), {blocks} blocks, {:.2} % of them freed by another thread\n[[role]]\nname = {:?}\n\
         threads_peak = {}\nscales = {}\ngaps_ns = {}",
        r.threads(),
        100.0 * share as f64 / blocks.max(1) as f64,
        r.name,
        r.threads_peak,
        r.scales,
        list(&r.gaps_ns),
    );
    out.push_str("waves = [\n");
    for w in &r.waves {
        let (starts, ends) = (list(&w.starts_us), list(&w.ends_us));
        _ = writeln!(
            out,
            "  {{ threads = {}, starts_us = {starts}, ends_us = {ends}, exits = {} }},",
            w.threads, w.exits
        );
    }
    out.push_str("]\n");
    let phases: Vec<String> = r.phases.iter().map(|p| format!("{p:.5}")).collect();
    _ = writeln!(out, "phases = [{}]\nblocks = [", phases.join(","));
    for b in &r.blocks {
        _ = writeln!(out, "  {{ {} }},", block(b));
    }
    out.push_str("]\n");
    if !r.growth.is_empty() {
        out.push_str("growth = [\n");
        for g in &r.growth {
            _ = writeln!(out, "  {{ from = {}, to = {}, n = {} }},", list(&g.from), list(&g.to), g.n);
        }
        out.push_str("]\n");
    }
}

fn block(b: &Blocks) -> String {
    let mut out = format!("size = {}", list(&b.size));
    let mut field = |name: &str, value: &dyn std::fmt::Display| _ = write!(out, ", {name} = {value}");
    if let Some(mean) = b.mean {
        field("mean", &mean);
    }
    if b.zeroed {
        field("zeroed", &true);
    }
    if let Some(align) = b.align {
        field("align", &align);
    }
    match b.life {
        Life::Us(least, most) => field("life", &list(&[least, most])),
        Life::Phase(phase) => field("life", &format!("\"phase {phase}\"")),
        Life::Thread => field("life", &"\"thread\""),
        Life::End => field("life", &"\"end\""),
    }
    if let Some(mean) = b.mean_life {
        field("mean_life", &mean);
    }
    if let Some(role) = &b.freed_by {
        field("freed_by", &format!("{role:?}"));
    }
    if let Some(range) = b.reallocs {
        field("reallocs", &list(&range));
    }
    if let Some(us) = b.growing_us {
        field("growing_us", &us);
    }
    if let Some(grown) = b.grown {
        field("grown", &grown);
    }
    if let Some(touched) = b.touched {
        field("touched", &format!("{touched:?}"));
    }
    if b.phase > 0 {
        field("phase", &b.phase);
    }
    field("n", &list(&b.n));
    out
}

/// Reads a profile.
///
/// # Errors
/// The first thing that is wrong: no TOML, an unknown or a missing key, a value of another kind, or values that
/// contradict each other.
pub fn from_toml(text: &str) -> Result<Profile, ProfileError> {
    let profile: Profile = toml::from_str(text).map_err(|error| ProfileError {
        line: line_at(text, error.span()),
        what: with_nearest(error.message().trim()),
    })?;
    check(&profile).map_err(|(place, what)| ProfileError { line: place.line(text), what })?;
    Ok(profile)
}

fn line_at(text: &str, span: Option<Range<usize>>) -> usize {
    let at = span.map_or(0, |s| s.start).min(text.len());
    text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1
}

/// serde's message on an unknown field lists all that are known; the nearest of them is named first.
fn with_nearest(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let Some((unknown, known)) = quoted.split_first().filter(|_| message.starts_with("unknown field")) else {
        return message.to_owned();
    };
    let nearest =
        known.iter().max_by(|a, b| strsim::jaro_winkler(a, unknown).total_cmp(&strsim::jaro_winkler(b, unknown)));
    match nearest {
        Some(nearest) => format!("unknown key `{unknown}`; did you mean `{nearest}`? There are: {}", known.join(", ")),
        None => message.to_owned(),
    }
}

/// Where something stands: a role by number, and a row of one of its lists.
#[derive(Debug, Clone, Copy)]
struct Place {
    role: Option<usize>,
    row: Option<(&'static str, usize)>,
}

impl Place {
    fn line(self, text: &str) -> usize {
        line_at(text, self.span(text))
    }

    fn span(self, text: &str) -> Option<Range<usize>> {
        let table = toml::de::DeTable::parse(text).ok()?;
        let role = table.get_ref().get("role")?.get_ref().as_array()?.get(self.role?)?;
        match self.row {
            None => Some(role.span()),
            Some((list, row)) => {
                let rows = role.get_ref().as_table()?.get(list)?;
                Some(rows.get_ref().as_array().and_then(|rows| rows.get(row)).map_or(rows.span(), |row| row.span()))
            }
        }
    }
}

/// Most blocks, and most reallocs, of a profile: what is generated from it is held in memory.
const EVENTS_MAX: u64 = 1 << 28;
/// Longest time, µs: some 35 years.
const TIME_MAX: u64 = 1 << 50;

/// How many blocks and reallocs there are, so that no number makes more work than the recording was.
struct Sums {
    blocks: u64,
    reallocs: u64,
    limit: u64,
}

impl Sums {
    /// Adds a row of blocks; what is wrong when they become too many.
    fn add(&mut self, row: &Blocks) -> Result<(), String> {
        let n = row.n.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
        self.blocks = self.blocks.saturating_add(n);
        if self.blocks > self.limit {
            return Err(format!(
                "n: with this row there are {} blocks, but [recording] says blocks = {} in all",
                self.blocks, self.limit
            ));
        }
        let most = row.reallocs.map_or(0, |range| u64::from(range[1]));
        self.reallocs = self.reallocs.saturating_add(n.saturating_mul(most));
        if self.reallocs > EVENTS_MAX {
            return Err(format!("reallocs: with this row there may be {}, more than {EVENTS_MAX}", self.reallocs));
        }
        Ok(())
    }
}

type Fault = (Place, String);

/// `what` is wrong at `place` unless it is `ok`.
fn ensure(ok: bool, place: Place, what: impl FnOnce() -> String) -> Result<(), Fault> {
    if ok { Ok(()) } else { Err((place, what())) }
}

/// What the types alone do not say.
fn check(profile: &Profile) -> Result<(), Fault> {
    let top = Place { role: None, row: None };
    let version = profile.version;
    ensure((1..=PROFILE_VERSION).contains(&version), top, || {
        format!("version {version} of a profile; this program reads up to {PROFILE_VERSION}")
    })?;
    ensure(profile.duration_us > 0, top, || "duration_us = 0: a profile without length".into())?;
    ensure(profile.duration_us <= TIME_MAX, top, || format!("duration_us: must not be above {TIME_MAX}"))?;
    let mut sums = Sums { blocks: 0, reallocs: 0, limit: profile.recording.blocks };
    ensure(sums.limit <= EVENTS_MAX, top, || {
        format!("[recording] blocks = {}: more than {EVENTS_MAX} cannot be generated", sums.limit)
    })?;
    ensure(!profile.role.is_empty(), top, || "no [[role]]: there is nothing to generate".into())?;
    for (number, role) in profile.role.iter().enumerate() {
        let at = |list: &'static str, row: usize| Place { role: Some(number), row: Some((list, row)) };
        check_threads(number, role)?;
        for (row, blocks) in role.blocks.iter().enumerate() {
            sums.add(blocks).map_err(|what| (at("blocks", row), what))?;
            check_blocks(profile, role, blocks, at("blocks", row))?;
        }
        for (row, g) in role.growth.iter().enumerate() {
            let ok = g.from[0] <= g.from[1] && 0 < g.to[0] && g.to[0] <= g.to[1] && g.to[1] <= SIZE_MAX && g.n > 0;
            ensure(ok, at("growth", row), || "growth: from and to must ascend, to from 1 on, and n be above 0".into())?;
        }
    }
    Ok(())
}

/// The waves of a role's threads and the phases of their lives.
fn check_threads(number: usize, role: &Role) -> Result<(), Fault> {
    let of_role = Place { role: Some(number), row: None };
    let at = |list: &'static str, row: usize| Place { role: Some(number), row: Some((list, row)) };
    let first = || role.threads() == 1 && role.waves.iter().all(|w| !w.exits);
    ensure(number > 0 || first(), of_role, || {
        "the first role is the program's first thread: one wave of threads = 1, exits = false".into()
    })?;
    ensure(!role.waves.is_empty(), of_role, || "waves: there must be at least one".into())?;
    ensure(role.threads() <= 1 << 20, of_role, || "waves: more than 1048576 threads".into())?;
    for (row, w) in role.waves.iter().enumerate() {
        let ok = w.threads > 0
            && w.ends_us[1] <= TIME_MAX
            && w.starts_us[1] <= TIME_MAX
            && w.starts_us.is_sorted()
            && w.ends_us.is_sorted()
            && w.starts_us[0] <= w.ends_us[0];
        ensure(ok, at("waves", row), || {
            "wave: threads must be above 0, starts_us and ends_us ascend, and ends not come before starts".into()
        })?;
    }
    let phases = &role.phases;
    let ordered = phases.first() == Some(&0.0) && phases.is_sorted_by(|a, b| a < b) && phases.iter().all(|p| *p < 1.0);
    ensure(ordered, at("phases", 0), || "phases: must ascend from 0 and stay below 1".into())
}

/// A row of blocks.
fn check_blocks(profile: &Profile, role: &Role, b: &Blocks, place: Place) -> Result<(), Fault> {
    let phases = role.phases.len();
    let [low, high] = b.size;
    ensure(low <= high && high <= SIZE_MAX, place, || {
        format!("size = [{low}, {high}]: must ascend, up to {SIZE_MAX}")
    })?;
    ensure(b.mean.is_none_or(|m| (low..=high).contains(&m)), place, || "mean: must lie within size".into())?;
    ensure(b.align.is_none_or(|a| a.is_power_of_two() && a <= 1 << 30), place, || {
        "align: must be a power of two up to 2^30".into()
    })?;
    ensure(b.phase.saturating_add(b.n.len()) <= phases, place, || {
        format!("n: {} numbers from phase {} on, but there are {phases} phases", b.n.len(), b.phase)
    })?;
    ensure(b.touched.is_none_or(|t| (0.0..=1.0).contains(&t)), place, || "touched: must be a share, 0 to 1".into())?;
    ensure(b.grown.is_none_or(|g| 0 < g && g <= SIZE_MAX), place, || "grown: must be above 0".into())?;
    ensure(b.reallocs.is_none_or(|[a, b]| a <= b && b <= 1 << 20), place, || {
        "reallocs: must ascend, up to 1048576".into()
    })?;
    match b.life {
        Life::Us(least, most) => ensure(least < most && most <= 1 << 50, place, || "life: must ascend".into())?,
        Life::Phase(phase) => ensure(phase < phases, place, || {
            format!("life = \"phase {phase}\": there are {phases} phases, numbered from 0")
        })?,
        Life::Thread | Life::End => {}
    }
    let within = |m: u64| matches!(b.life, Life::Us(least, most) if (least..most).contains(&m));
    ensure(b.mean_life.is_none_or(within), place, || "mean_life: must lie within life".into())?;
    let Some(name) = &b.freed_by else { return Ok(()) };
    let known = || profile.role.iter().map(|r| r.name.as_str());
    let nearest = known().max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
    ensure(known().any(|k| k == name), place, || {
        format!("freed_by = {name:?}: no role of that name; did you mean {:?}?", nearest.unwrap_or_default())
    })
}

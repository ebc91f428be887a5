//! An inspection as text for a terminal: the verdict first, then what it rests on.

use std::fmt::Write;

use fragbench_model::{
    ArenaFigures, HeapVerdict, HeapVerdictKind, Inspection, MappingClass, PinKind, ProcessLimits, Retained, SizeClass,
    StretchKind, WaterfallStep,
};

use crate::table::{Row, Table, Value};
use crate::terminal::draw;
use crate::units::{bytes, count};

/// Arenas shown; of more those with most free memory.
const ARENAS: usize = 16;
/// Stretches of heap shown whose pins are named.
const STRETCHES: usize = 8;
/// Characters of the longest bar.
const BAR: u64 = 24;

/// Everything but the heap map.
pub fn inspection_text(inspection: &Inspection, width: Option<u16>, colour: bool) -> String {
    let wrap = usize::from(width.unwrap_or(100)).max(40);
    let mut out = String::new();
    let _ = writeln!(out, "{}", head(inspection));
    out.push_str(&verdict_text(&inspection.verdict, wrap));
    for warning in &inspection.warnings {
        paragraph(&mut out, wrap, "! ", warning);
    }
    for lack in &inspection.lacks {
        paragraph(&mut out, wrap, "not seen: ", lack);
    }
    if !inspection.waterfall.is_empty() {
        let _ = writeln!(out, "\nFrom address space to live bytes");
        out.push_str(&waterfall(&inspection.waterfall));
    }
    if let Some(lazy) = inspection.lazy_free_bytes.filter(|bytes| *bytes > 0) {
        let line = format!(
            "{} of what is resident is lazily freed (MADV_FREE): the kernel takes it when it needs memory, and until then it counts as resident",
            size(lazy)
        );
        paragraph(&mut out, wrap, "", &line);
    }
    for line in inspection.limits.iter().flat_map(|limits| limit_lines(inspection, limits)) {
        paragraph(&mut out, wrap, "limit: ", &line);
    }
    if let Some(trim) = &inspection.trim {
        let bound = if trim.residency_known { "" } else { " at most (which pages were in memory is not known)" };
        let _ = writeln!(out, "\nmalloc_trim(0) would give back {}{bound}", size(trim.predicted_release_bytes));
        let _ = writeln!(out, "  {:>10}  whole pages inside free chunks", size(trim.interior_bytes));
        let _ = writeln!(out, "  {:>10}  end of the main arena", size(trim.main_top_bytes));
        let _ = writeln!(out, "and keep");
        let mut kept: Vec<_> = trim.kept.iter().collect();
        kept.sort_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
        for (reason, bytes) in kept {
            let _ = writeln!(out, "  {:>10}  {}", size(*bytes), reason.name());
        }
    }
    if !inspection.arenas.is_empty() {
        let _ = writeln!(out, "\n{}", draw(&arena_table(&inspection.arenas), width, colour));
    }
    if !inspection.mappings.is_empty() {
        let _ = writeln!(out, "\n{}", draw(&mapping_table(&inspection.mappings), width, colour));
    }
    if !inspection.sizes.is_empty() {
        let _ = writeln!(out, "\n{}", draw(&chunk_table(&inspection.sizes), width, colour));
    }
    if !inspection.retained.is_empty() {
        let _ = writeln!(out, "\nWhat holds free memory");
        inspection.retained.iter().take(STRETCHES).for_each(|held| stretch(&mut out, wrap, held));
        if let Some(rest) = inspection.retained.get(STRETCHES..).filter(|rest| !rest.is_empty()) {
            let free: u64 = rest.iter().map(|held| held.free_resident_bytes).sum();
            let _ = writeln!(out, "  {} other stretches with {} free", rest.len(), size(free));
        }
    }
    foot(&mut out, wrap, inspection);
    out
}

/// What the limits of its groups mean for it; nothing where there are none.
fn limit_lines(inspection: &Inspection, limits: &ProcessLimits) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(max) = limits.memory_max_bytes {
        let headroom = limits
            .memory_headroom_bytes
            .map_or_else(String::new, |left| format!(", {} below it are free (file cache counts as used)", size(left)));
        lines.push(format!("the kernel ends a process of its group at {} (memory.max){headroom}", size(max)));
    }
    if let Some(high) = limits.memory_high_bytes {
        lines.push(format!("its group is slowed down above {} (memory.high)", size(high)));
    }
    if let (Some(quota), Some(processors)) = (limits.cpu_quota, limits.processors)
        && quota < f64::from(processors)
    {
        let arenas = limits.default_arena_limit.map_or_else(String::new, |limit| {
            let made = inspection.arena_count.map_or_else(String::new, |made| format!(" (it has {made})"));
            format!(
                "; glibc counts processors, not the quota, and makes up to {limit} arenas{made}, so set MALLOC_ARENA_MAX by the quota"
            )
        });
        lines.push(format!("{quota} processors' worth of time (cpu.max) on {processors} processors{arenas}"));
    }
    lines
}

/// The verdict by itself: what is the matter, why, and what to do.
pub fn verdict_text(verdict: &HeapVerdict, wrap: usize) -> String {
    let mut out = String::new();
    paragraph(&mut out, wrap, "", &format!("{}: {}", kind_word(verdict.kind), verdict.summary));
    verdict.evidence.iter().for_each(|line| paragraph(&mut out, wrap, "  · ", line));
    verdict.next.iter().for_each(|line| paragraph(&mut out, wrap, "  → ", line));
    if let Some(case) = &verdict.resembles {
        paragraph(&mut out, wrap, "  ≈ ", &format!("looks like `fragbench badcase {case}`"));
    }
    let mut said: Vec<&String> = verdict.next.iter().collect();
    for also in &verdict.also {
        paragraph(&mut out, wrap, "also: ", &also.summary);
        for line in &also.next {
            if !said.contains(&line) {
                paragraph(&mut out, wrap, "  → ", line);
                said.push(line);
            }
        }
    }
    out
}

/// A kind of verdict in words.
pub fn kind_word(kind: HeapVerdictKind) -> &'static str {
    match kind {
        HeapVerdictKind::Healthy => "healthy",
        HeapVerdictKind::LeakOrGrowth => "leak or growth",
        HeapVerdictKind::Fragmentation => "fragmentation",
        HeapVerdictKind::PinnedRetention => "retention below pins",
        HeapVerdictKind::MainTopRetention => "retention in the main top",
        HeapVerdictKind::ThreadTopRetention => "retention in threads' tops",
        HeapVerdictKind::TcacheRetention => "retention by tcaches",
        HeapVerdictKind::FastbinRetention => "retention in fast bins",
        HeapVerdictKind::MmapRatchet => "retention after a risen mmap threshold",
        HeapVerdictKind::SmallMappings => "small blocks on pages of their own",
        HeapVerdictKind::AddressSpace => "address space only",
        HeapVerdictKind::NotTheHeap => "not glibc's heap",
        HeapVerdictKind::NotEnoughData => "not enough data",
    }
}

fn size(value: u64) -> String {
    bytes(value as f64)
}

fn head(inspection: &Inspection) -> String {
    let mut head = if inspection.program.is_empty() {
        "process".to_owned()
    } else {
        fragbench_model::printable(&inspection.program).into_owned()
    };
    if let Some(pid) = inspection.pid {
        let _ = write!(head, " (pid {pid})");
    }
    let source = if inspection.source == "live" { String::new() } else { format!("{}, ", inspection.source) };
    let glibc = inspection.glibc.as_ref().map_or("no glibc heap seen".into(), |version| format!("glibc {version}"));
    let _ = write!(head, ": {source}{glibc}");
    if let Some(threads) = inspection.threads {
        let _ = write!(head, ", {threads} threads");
    }
    if let Some(arenas) = inspection.arena_count {
        let _ = write!(head, ", {arenas} arenas");
    }
    let _ = write!(head, ", VIRT {}", size(inspection.vm_bytes));
    if let Some(rss) = inspection.rss_bytes {
        let _ = write!(head, ", RSS {}", size(rss));
    }
    head
}

fn waterfall(steps: &[WaterfallStep]) -> String {
    let most = steps.iter().map(|step| step.bytes).max().unwrap_or(1).max(1);
    // Address space is often a hundred times what is resident: bars below it are to the scale of the resident step.
    let resident = steps.iter().find(|step| step.name == "in memory").map_or(most, |step| step.bytes.max(1));
    let mut out = String::new();
    for step in steps {
        let scale = if step.bytes > resident { most } else { resident };
        let bar = "█".repeat((step.bytes * BAR).div_ceil(scale).min(BAR) as usize);
        let name = format!("{}{}", "  ".repeat(usize::from(step.depth)), step.name);
        let _ = writeln!(out, "  {name:<46} {:>10}  {bar}", size(step.bytes));
    }
    out
}

fn text(value: impl Into<String>) -> Option<Value> {
    Some(Value { text: value.into(), interval: None, mark: None })
}

fn table(corner: &str, columns: &[&str], rows: Vec<Row>) -> Table {
    let columns = columns.iter().map(|column| (*column).to_owned()).collect();
    Table { corner: corner.into(), columns, rows, notes: Vec::new() }
}

fn arena_table(arenas: &[ArenaFigures]) -> Table {
    let mut shown: Vec<&ArenaFigures> = arenas.iter().collect();
    shown.sort_by_key(|arena| (std::cmp::Reverse(arena.resident_free_bytes), arena.index));
    let rest = shown.split_off(shown.len().min(ARENAS));
    shown.sort_by_key(|arena| arena.index);
    let row = |label: String, threads: Option<u64>, figures: [u64; 8]| {
        let threads = std::iter::once(threads.and_then(|n| text(n.to_string())));
        Row { label, values: threads.chain(figures.into_iter().map(|bytes| text(size(bytes)))).collect() }
    };
    let figures = |a: &ArenaFigures| {
        [
            a.system_bytes,
            a.resident_bytes,
            a.live_bytes,
            a.free_bytes,
            a.top_bytes,
            a.tcache_bytes,
            a.resident_free_bytes,
            a.releasable_bytes,
        ]
    };
    let mut rows: Vec<Row> = shown
        .iter()
        .map(|a| row(if a.index == 0 { "main".into() } else { a.index.to_string() }, a.threads, figures(a)))
        .collect();
    if !rest.is_empty() {
        let mut sums = [0; 8];
        rest.iter().for_each(|a| sums.iter_mut().zip(figures(a)).for_each(|(sum, bytes)| *sum += bytes));
        rows.push(row(format!("{} others", rest.len()), rest.iter().map(|a| a.threads).sum(), sums));
    }
    let columns = ["threads", "system", "resident", "live", "free", "top", "tcache", "resident free", "trim releases"];
    table("arena", &columns, rows)
}

fn mapping_table(classes: &[MappingClass]) -> Table {
    let optional = |bytes: Option<u64>| bytes.and_then(|bytes| text(size(bytes)));
    let rows = classes
        .iter()
        .map(|class| Row {
            label: class.kind.name().into(),
            values: vec![
                text(class.count.to_string()),
                text(size(class.vm_bytes)),
                optional(class.resident_bytes),
                optional(class.anonymous_bytes),
                optional(class.swapped_bytes),
            ],
        })
        .collect();
    table("mappings", &["count", "VIRT", "resident", "anonymous", "swapped"], rows)
}

/// Chunks an octave a row, those of less than a hundredth of the bytes together at the end.
fn chunk_table(classes: &[SizeClass]) -> Table {
    let mut octaves: Vec<SizeClass> = Vec::new();
    for class in classes {
        let upper = class.to_bytes.next_power_of_two();
        match octaves.last_mut().filter(|octave| octave.to_bytes == upper) {
            Some(octave) => add(octave, class),
            None => octaves.push(SizeClass { to_bytes: upper, ..*class }),
        }
    }
    let of = |class: &SizeClass| class.live_bytes + class.free_bytes + class.tcache_bytes;
    let total: u64 = octaves.iter().map(of).sum();
    let (shown, rare): (Vec<_>, Vec<_>) = octaves.into_iter().partition(|class| of(class) * 100 >= total);
    let row = |label: String, class: &SizeClass| Row {
        label,
        values: [
            (class.live_count, class.live_bytes),
            (class.free_count, class.free_bytes),
            (class.tcache_count, class.tcache_bytes),
        ]
        .into_iter()
        .flat_map(|(n, bytes)| [text(count(n as f64)), text(size(bytes))])
        .collect(),
    };
    let mut rows: Vec<Row> = shown.iter().map(|class| row(format!("to {}", size(class.to_bytes)), class)).collect();
    if !rare.is_empty() {
        let mut sum = SizeClass::default();
        rare.iter().for_each(|class| add(&mut sum, class));
        rows.push(row("other sizes".into(), &sum));
    }
    table("chunks", &["live", "bytes", "free", "bytes", "tcache", "bytes"], rows)
}

fn add(sum: &mut SizeClass, class: &SizeClass) {
    sum.live_count += class.live_count;
    sum.live_bytes += class.live_bytes;
    sum.free_count += class.free_count;
    sum.free_bytes += class.free_bytes;
    sum.tcache_count += class.tcache_count;
    sum.tcache_bytes += class.tcache_bytes;
}

fn stretch(out: &mut String, wrap: usize, held: &Retained) {
    let arena = if held.arena == 0 { "main arena".into() } else { format!("arena {}", held.arena) };
    let pins = match held.pin_chunks {
        1 => "1 chunk keeps".into(),
        n => format!("{} chunks keep", count(n as f64)),
    };
    let what = if held.kind == StretchKind::Heap { "the heap mapped" } else { "it from the top" };
    let line = format!(
        "{arena} at {:#x}: {} free and in memory; {pins} {what} ({} held); malloc_trim gives back {}",
        held.start,
        size(held.free_resident_bytes),
        size(held.held_bytes),
        size(held.releasable_bytes)
    );
    paragraph(out, wrap, "  ", &line);
    for pin in held.pins.iter().take(4) {
        let kind =
            if pin.kind == PinKind::Live { "live".into() } else { format!("in use by malloc ({})", pin.kind.name()) };
        let mut line = format!("{} × {} B, {kind}, e.g. at {:#x}", pin.chunks, pin.chunk_bytes, pin.example);
        let mut types: Vec<_> = pin.types.iter().collect();
        types.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
        for (name, n) in types.iter().take(3) {
            let _ = write!(line, "; {n} × {name}");
        }
        if let Some(contents) = &pin.contents {
            let _ = write!(line, "; begins {contents}");
        }
        paragraph(out, wrap, "    ", &line);
    }
    let named: u64 = held.pins.iter().take(4).map(|pin| pin.chunks).sum();
    if named < held.pin_chunks {
        let _ = writeln!(out, "    {} others", count((held.pin_chunks - named) as f64));
    }
}

fn foot(out: &mut String, wrap: usize, inspection: &Inspection) {
    out.push('\n');
    let settings = &inspection.settings;
    let mut facts: Vec<String> = Vec::new();
    facts.extend(settings.mmap_threshold_bytes.map(|n| format!("mmap_threshold {}", size(n))));
    facts.extend(settings.trim_threshold_bytes.map(|n| format!("trim_threshold {}", size(n))));
    facts.extend(settings.thresholds_move.filter(|moves| !moves).map(|_| "thresholds fixed".into()));
    facts.extend(settings.tcache_count.map(|n| format!("tcache_count {n}")));
    if !facts.is_empty() {
        paragraph(out, wrap, "settings: ", &facts.join(", "));
    }
    let mallocs: Vec<String> = inspection.mallocs.iter().map(|m| format!("{} in {}", m.name, m.object)).collect();
    if !mallocs.is_empty() {
        paragraph(out, wrap, "mallocs: ", &mallocs.join("; "));
    }
    if let Some(found) = &inspection.found {
        paragraph(out, wrap, "found: ", found);
    }
    for (name, bytes) in &inspection.smaps {
        let _ = writeln!(out, "{}: {}", name.trim_end_matches("_bytes"), size(*bytes));
    }
    for (name, spread) in &inspection.spread {
        let (least, median, most) = (size(spread.least), size(spread.median), size(spread.most));
        let _ =
            writeln!(out, "{} over the surveys: {least} to {most}, median {median}", name.trim_end_matches("_bytes"));
    }
    if let (Some(cost), Some(coverage)) = (&inspection.survey, inspection.coverage_ratio) {
        let stopped = match inspection.stopped_ms {
            Some(ms) => format!("the process was stopped for {ms:.0} ms"),
            None if inspection.source == "live" => "the process was not stopped".into(),
            None => format!("from a {}", inspection.source),
        };
        let line = format!(
            "{} chunks in {:.0} ms, {:.3} % of the heap understood, {} breaks; {stopped}",
            count(cost.chunks as f64),
            cost.ms,
            coverage * 100.0,
            cost.breaks
        );
        paragraph(out, wrap, "survey: ", &line);
    }
}

/// A paragraph behind a mark, wrapped and indented as deep as the mark is wide.
fn paragraph(out: &mut String, wrap: usize, mark: &str, text: &str) {
    let indent = " ".repeat(mark.chars().count());
    let mut line = mark.to_owned();
    let mut empty = true;
    for word in text.split(' ') {
        if !empty && line.chars().count() + 1 + word.chars().count() > wrap {
            let _ = writeln!(out, "{}", line.trim_end());
            line.clone_from(&indent);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    let _ = writeln!(out, "{}", line.trim_end());
}

#[cfg(test)]
mod limit_tests {
    use super::*;

    fn inspection() -> Inspection {
        let text = include_str!("../tests/inspection.json");
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn limits_and_lazily_freed_memory_are_said_where_they_are() {
        let mut inspection = inspection();
        let plain = inspection_text(&inspection, None, false);
        assert!(!plain.contains("limit:") && !plain.contains("MADV_FREE"), "{plain}");
        inspection.lazy_free_bytes = Some(300 << 20);
        inspection.limits = Some(ProcessLimits {
            cpu_quota: Some(2.0),
            processors: Some(64),
            default_arena_limit: Some(512),
            memory_max_bytes: Some(4 << 30),
            memory_high_bytes: None,
            memory_headroom_bytes: Some(1 << 29),
        });
        let text = inspection_text(&inspection, None, false).replace(['\n', ' '], "");
        for said in
            ["300MiBofwhatisresidentislazilyfreed", "4GiB(memory.max)", "512MiBbelowit", "512arenas", "bythequota"]
        {
            assert!(text.contains(said), "{said}: {text}");
        }
        inspection.limits = Some(ProcessLimits { processors: Some(64), ..ProcessLimits::default() });
        assert!(!inspection_text(&inspection, None, false).contains("limit:"), "no limit is none");
    }
}

//! An inspection: a target's address space and heap put together as figures, with the verdict of [`crate::rules`]. What
//! may not be read is left out and named; what could be read is still said.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, UNIX_EPOCH};

use fragbench_model::{
    ArenaFigures, HeapBytes, HeapSettings, HeapVerdict, HeapVerdictKind, Inspection, MallocFact, MappingClass,
    MappingKind, SCHEMA, Spread, SurveyCost, WaterfallStep,
};
use fragbench_proc::{Mapping, ProcError, ProcessFacts, Target, TargetKind};

use crate::chunk::Kind;
use crate::human::size;
use crate::objects::objects;
use crate::pages::Pages;
use crate::rules::verdict;
use crate::space::classes;
use crate::survey::{InspectError, Survey, survey};
use crate::types::Types;

/// An inspection and the survey behind it.
#[derive(Debug)]
pub struct Inspected {
    /// Figures and verdict.
    pub inspection: Inspection,
    /// The heap chunk by chunk, for maps; `None` when there is none or it may not be read.
    pub survey: Option<Survey>,
}

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Surveys in a row: figures are those of the last, beside the spread over all.
    pub surveys: u32,
    /// Whether first bytes of chunks are shown.
    pub with_contents: bool,
}

impl Default for Depth {
    fn default() -> Self {
        Self { surveys: 1, with_contents: false }
    }
}

/// Looks at a target. The target is not stopped or changed.
///
/// # Errors
/// When it has ended, is being replaced by another program, or is a thread of the kernel. What may not be read is no
/// error: see [`Inspection::lacks`].
pub fn inspect(target: &dyn Target, depth: &Depth) -> Result<Inspected, InspectError> {
    let facts = target.process()?;
    let mut lacks = target.gaps();
    let mut last: Option<Survey> = None;
    let mut seen: Vec<(HeapBytes, u64)> = Vec::new();
    let mut took = Duration::ZERO;
    for _ in 0..depth.surveys.max(1) {
        let begin = Instant::now();
        match survey(target) {
            Ok(survey) => {
                took = begin.elapsed();
                if depth.surveys > 1 {
                    seen.push((survey.bytes(), survey.trim().predicted_release_bytes));
                }
                last = Some(survey);
            }
            Err(InspectError::NoHeap) => {
                lacks.push(InspectError::NoHeap.to_string());
                break;
            }
            Err(InspectError::Proc(ProcError::Denied(path))) => {
                if path.ends_with("mem") {
                    lacks.push("memory may not be read: the heap cannot be walked".into());
                }
                break;
            }
            Err(error) => return Err(error),
        }
    }
    let mappings = match target.mappings() {
        Ok(mappings) => mappings,
        Err(ProcError::Denied(_)) => {
            lacks.push("mappings may not be read: only the kernel's totals are known".into());
            Vec::new()
        }
        Err(error) => return Err(error.into()),
    };
    let mut inspection = assemble(target, &facts, &mappings, last.as_ref(), lacks, depth)?;
    inspection.spread = spread(&seen);
    if let Some(cost) = &mut inspection.survey {
        cost.ms = (took.as_secs_f64() * 1e6).round() / 1e3;
    }
    inspection.verdict = verdict(&inspection, None);
    target.check()?;
    Ok(Inspected { inspection, survey: last })
}

fn assemble(
    target: &dyn Target,
    facts: &ProcessFacts,
    mappings: &[Mapping],
    survey: Option<&Survey>,
    mut lacks: Vec<String>,
    depth: &Depth,
) -> Result<Inspection, InspectError> {
    let mut pages = Pages::new(target);
    let object = survey.and_then(|s| s.libc.object.as_deref());
    let found_objects = objects(&mut pages, mappings, object);
    let (mut mallocs, glibc) = (found_objects.facts(), found_objects.glibc);
    // Where another malloc is all there is, what came from brk is its memory.
    let may_be_glibc = mallocs.is_empty() || mallocs.iter().any(MallocFact::is_glibc);
    let classes = match classes(&mut pages, mappings, survey, may_be_glibc) {
        Ok(classes) => classes,
        Err(ProcError::Denied(_)) => {
            lacks.push("which pages are in memory may not be read".into());
            Vec::new()
        }
        Err(error) => return Err(error.into()),
    };
    let heap = survey.map(Survey::bytes);
    name_holdings(&mut mallocs, heap.as_ref(), &classes);
    let mapped: u64 = mappings.iter().map(|m| m.end - m.start).sum();
    let resident: Option<u64> = classes.iter().map(|class| class.resident_bytes).sum();
    let retained = survey.map_or_else(Vec::new, |survey| {
        let mut types = Types::new(&mut pages, mappings, depth.with_contents);
        survey.retained(&mut types)
    });
    let mut inspection = Inspection {
        schema: SCHEMA,
        source: match target.kind() {
            TargetKind::Live => "live",
            TargetKind::Core => "core",
            TargetKind::Capture => "capture",
        }
        .into(),
        pid: facts.pid,
        program: facts.name.to_string_lossy().into_owned(),
        taken_unix_s: matches!(target.kind(), TargetKind::Live)
            .then(|| UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())),
        glibc: glibc.or_else(|| survey.map(|s| s.libc.arena_layout.clone())),
        threads: facts.threads,
        arena_count: survey.map(|s| s.arenas.len() as u64),
        vm_bytes: facts.vm_bytes.unwrap_or(mapped),
        rss_bytes: facts.rss_bytes.or(resident.filter(|_| !classes.is_empty())),
        heap,
        trim: survey.map(Survey::trim),
        coverage_ratio: heap.map(|heap| heap.coverage_ratio()),
        waterfall: waterfall(&classes, survey),
        mappings: classes,
        arenas: survey.map_or_else(Vec::new, arenas),
        sizes: survey.map_or_else(Vec::new, Survey::sizes),
        retained,
        mallocs,
        settings: survey.map_or_else(HeapSettings::default, settings),
        found: survey.map(found),
        warnings: Vec::new(),
        lacks,
        survey: survey.map(|s| SurveyCost {
            ms: 0.0,
            chunks: s.segments.iter().map(|s| s.chunks.len() as u64).sum(),
            breaks: s.segments.iter().map(|s| s.breaks).sum(),
        }),
        spread: BTreeMap::new(),
        smaps: BTreeMap::new(),
        lazy_free_bytes: None,
        limits: None,
        stopped_ms: None,
        verdict: HeapVerdict {
            kind: HeapVerdictKind::NotEnoughData,
            summary: String::new(),
            bytes: 0,
            evidence: Vec::new(),
            next: Vec::new(),
            remedies: Vec::new(),
            growth: None,
            resembles: None,
            also: Vec::new(),
        },
    };
    inspection.warnings = warnings(&inspection);
    Ok(inspection)
}

/// What each malloc holds: glibc's its heap, one other at most all anonymous memory that is nobody's.
fn name_holdings(mallocs: &mut [MallocFact], heap: Option<&HeapBytes>, classes: &[MappingClass]) {
    let others = mallocs.iter().filter(|malloc| !malloc.is_glibc()).count();
    let anonymous = classes.iter().find(|class| class.kind == MappingKind::OtherAnonymous);
    for malloc in mallocs {
        malloc.holds_at_most_bytes = match malloc.is_glibc() {
            true => heap.map(|heap| heap.resident_bytes),
            false => anonymous.filter(|_| others == 1).and_then(|class| class.resident_bytes),
        };
    }
}

fn arenas(survey: &Survey) -> Vec<ArenaFigures> {
    let figures = |(index, arena): (usize, &crate::ArenaSurvey)| {
        let bytes = survey.arena_bytes(index);
        let segments = || survey.segments.iter().filter(|segment| segment.arena == index);
        ArenaFigures {
            index,
            address: arena.address,
            threads: arena.threads,
            system_bytes: bytes.system_bytes,
            resident_bytes: bytes.resident_bytes,
            live_bytes: bytes.live_bytes,
            free_bytes: bytes.free_bytes,
            top_bytes: bytes.top_bytes,
            tcache_bytes: bytes.tcache_bytes,
            resident_free_bytes: bytes.free_resident_bytes + bytes.top_resident_bytes,
            releasable_bytes: segments().map(|segment| survey.releasable(segment)).sum(),
        }
    };
    survey.arenas.iter().enumerate().map(figures).collect()
}

fn settings(survey: &Survey) -> HeapSettings {
    let s = &survey.settings;
    HeapSettings {
        mmap_threshold_bytes: s.mmap_threshold,
        trim_threshold_bytes: s.trim_threshold,
        tcache_count: s.tcache_count,
        thresholds_move: s.thresholds_move,
        mmapped_count: s.mmapped_count,
    }
}

fn found(survey: &Survey) -> String {
    let libc = &survey.libc;
    let object = libc.object.as_ref().map_or_else(|| "memory".into(), |path| path.display().to_string());
    let method = match libc.method {
        crate::Method::Symbol => "by its symbol",
        crate::Method::InitialData => "by its initial data",
        crate::Method::Sentinels => "by the sentinels of its bins",
        crate::Method::Ring => "by the ring of arenas",
    };
    format!("main_arena at {:#x} of {object}, {method}; laid out as in glibc {}", libc.main_arena, libc.arena_layout)
}

/// Resident bytes of a heap by what they are, in the order shown.
fn heap_steps(survey: &Survey) -> [(&'static str, u64); 8] {
    let mut sums = [0u64; Kind::ALL.len()];
    for segment in &survey.segments {
        let resident = segment.resident();
        let mut sweep = resident.sweep();
        for (address, size, kind) in segment.chunks() {
            sums[kind as usize] += sweep.overlap(address..address + size);
        }
    }
    let of = |kinds: &[Kind]| kinds.iter().map(|kind| sums[*kind as usize]).sum();
    [
        ("live, in arenas", of(&[Kind::Live])),
        ("live, mapped one by one", survey.mmapped.iter().map(|c| c.present_bytes.unwrap_or(c.bytes)).sum()),
        ("free", of(&[Kind::Small, Kind::Large, Kind::Unsorted])),
        ("free, in fast bins", of(&[Kind::Fast])),
        ("free, in tcaches", of(&[Kind::Tcache])),
        ("tops", of(&[Kind::Top])),
        ("malloc's own", of(&[Kind::Own])),
        ("not understood", of(&[Kind::Foreign, Kind::Unknown])),
    ]
}

/// From address space down to live bytes: built from below, so that steps add up.
fn waterfall(classes: &[MappingClass], survey: Option<&Survey>) -> Vec<WaterfallStep> {
    let step = |depth, name: &str, bytes| WaterfallStep { depth, name: name.into(), bytes };
    let heap: Vec<WaterfallStep> = survey
        .map(|survey| heap_steps(survey).into_iter().filter(|s| s.1 > 0).map(|(name, bytes)| step(4, name, bytes)))
        .into_iter()
        .flatten()
        .collect();
    let heap_bytes: u64 = heap.iter().map(|step| step.bytes).sum();
    let vm: u64 = classes.iter().map(|class| class.vm_bytes).sum();
    let residents: Option<Vec<(MappingKind, u64, u64)>> =
        classes.iter().map(|c| Some((c.kind, c.resident_bytes?, c.anonymous_bytes?))).collect();
    let Some(residents) = residents.filter(|r| !r.is_empty()) else {
        // Which pages are in memory is not known: the heap stands by itself.
        let mut steps = if vm > 0 { vec![step(0, "address space", vm)] } else { Vec::new() };
        if !heap.is_empty() {
            steps.push(step(0, "glibc heap", heap_bytes));
            steps.extend(heap.into_iter().map(|s| WaterfallStep { depth: 1, ..s }));
        }
        return steps;
    };
    let anonymous = |kinds: &dyn Fn(MappingKind) -> bool| -> u64 {
        residents.iter().filter(|(kind, ..)| kinds(*kind)).map(|(.., bytes)| bytes).sum()
    };
    let seen = anonymous(&MappingKind::is_heap);
    let heap_bytes = if survey.is_some() { heap_bytes } else { seen };
    use MappingKind::{File, MainStack, OtherAnonymous, SharedMemory, StaticData, ThreadStack};
    let known = |kind| matches!(kind, ThreadStack | MainStack | StaticData | File) || MappingKind::is_heap(kind);
    let mut below = vec![step(3, "glibc heap", heap_bytes)];
    below.extend(heap);
    let others = [
        ("stacks", anonymous(&|kind| matches!(kind, ThreadStack | MainStack))),
        ("static data and written pages of files", anonymous(&|kind| matches!(kind, StaticData | File))),
        // Of the heap's mappings what is no heap: the rest of a page before it, or what changed meanwhile.
        ("other anonymous", anonymous(&|kind| !known(kind)) + seen.saturating_sub(heap_bytes)),
    ];
    below.extend(others.into_iter().filter(|(_, bytes)| *bytes > 0).map(|(name, bytes)| step(3, name, bytes)));
    let own: u64 = below.iter().filter(|step| step.depth == 3).map(|step| step.bytes).sum();
    let shared = |kinds: &dyn Fn(MappingKind) -> bool| -> u64 {
        residents.iter().filter(|(kind, ..)| kinds(*kind)).map(|(_, present, own)| present - own).sum()
    };
    let memory = |kind| matches!(kind, SharedMemory | OtherAnonymous);
    let mut middle = vec![step(2, "anonymous", own)];
    middle.extend(below);
    middle.push(step(2, "files", shared(&|kind| !memory(kind))));
    middle.push(step(2, "shared memory", shared(&memory)));
    let resident: u64 = middle.iter().filter(|step| step.depth == 2).map(|step| step.bytes).sum();
    let swapped: u64 = classes.iter().filter_map(|class| class.swapped_bytes).sum();
    let reserved = |kind| matches!(kind, MappingKind::Reserved | MappingKind::ArenaReserve | MappingKind::Guard);
    let absent = |reserve: bool| -> u64 {
        let gone =
            |c: &MappingClass| c.vm_bytes.saturating_sub(c.resident_bytes.unwrap_or(0) + c.swapped_bytes.unwrap_or(0));
        classes.iter().filter(|class| reserved(class.kind) == reserve).map(gone).sum()
    };
    let mut steps = vec![step(0, "address space", 0)];
    steps.extend(Some(absent(true)).filter(|n| *n > 0).map(|n| step(1, "reserved, no access", n)));
    steps.push(step(1, "never touched, or given back", absent(false)));
    steps.extend((swapped > 0).then(|| step(1, "in swap", swapped)));
    steps.push(step(1, "in memory", resident));
    steps[0].bytes = steps.iter().filter(|step| step.depth == 1).map(|step| step.bytes).sum();
    steps.extend(middle.into_iter().filter(|step| step.bytes > 0));
    steps
}

fn warnings(inspection: &Inspection) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(heap) = &inspection.heap {
        const INT: u64 = i32::MAX as u64;
        let largest = heap.system_bytes.max(heap.live_bytes);
        if largest > INT {
            warnings.push(format!(
                "mallinfo() counts in int and is wrong above {}: this heap has {}; use mallinfo2() (glibc 2.33) or malloc_info()",
                size(INT),
                size(largest)
            ));
        }
        if largest > u64::from(u32::MAX) {
            warnings.push(
                "malloc_stats() counts in 32 bits and wraps at 4 GiB: its figures for this heap are wrong".into(),
            );
        }
    }
    let glibcs = inspection.mallocs.iter().filter(|malloc| malloc.is_glibc()).count();
    if glibcs > 1 {
        warnings.push(format!("{glibcs} copies of glibc are mapped; the survey is of one of them"));
    }
    for malloc in inspection.mallocs.iter().filter(|malloc| !malloc.is_glibc()) {
        let object = &malloc.object;
        warnings.push(match (malloc.name.as_str(), malloc.takes_malloc, malloc.takes_new) {
            ("unknown", ..) => format!(
                "malloc goes to {object}, which is no allocator known here; what it does not pass on is not in glibc's heap"
            ),
            (name, true, _) => {
                format!("malloc is {name}'s ({object}): glibc's heap holds only what was allocated past it")
            }
            (name, false, true) => {
                format!("operator new is {name}'s ({object}), malloc is not: two allocators share this process's memory")
            }
            (name, false, false) => format!(
                "{name} is in this process as well ({object}), called by names of its own: what it holds is not in glibc's \
                 heap"
            ),
        });
    }
    warnings
}

/// Least, median and greatest of the figures that matter, over several surveys.
fn spread(seen: &[(HeapBytes, u64)]) -> BTreeMap<String, Spread> {
    let mut figures: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (bytes, release) in seen {
        for (name, value) in [
            ("live_bytes", bytes.live_bytes),
            ("free_bytes", bytes.free_bytes),
            ("free_resident_bytes", bytes.free_resident_bytes),
            ("unknown_bytes", bytes.unknown_bytes),
            ("predicted_release_bytes", *release),
        ] {
            figures.entry(name).or_default().push(value);
        }
    }
    let spread = |mut values: Vec<u64>| {
        values.sort_unstable();
        Spread { least: values[0], median: values[values.len() / 2], most: values[values.len() - 1] }
    };
    figures.into_iter().map(|(name, values)| (name.into(), spread(values))).collect()
}

//! `report.html`: one page that needs nothing else: plots are inline SVG, the style sheet is inline, there is no
//! script, font or address to fetch. maud escapes every text that came from outside.

use std::path::Path;

use anyhow::Result;
use fragbench_decide::cell_runs;
use fragbench_model::{
    Driver, HugePages, METRICS, Machine, Manifest, Metric, Unit, VerdictKind, how_of_command, label, metric,
};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::cautions::Cautions;
use crate::conditions::conditions;
use crate::overview::{self, overview};
use crate::profile;
use crate::replay::replay_note;
use crate::server::server_notes;
use crate::table::{
    COMMAND_COLUMNS, Column, LEGEND, MEMORY_COLUMNS, Mark, RATIO_LEGEND, SPEED_COLUMNS, Table, columns, columns_of,
    failure_text, failures, is_of_commands, metric_table, own_columns, purge_table, ratio_table,
};
use crate::units::{bytes, digits, duration_ns, in_unit, utc};
use crate::verdict::{MoreBy, advice, finding, reasons};
use crate::{Application, LIBRARY_DIR, Page, Plot, ResultData, SERVICE, Target, emit, plot_stem, slug};

/// The report as one page.
///
/// # Errors
/// When a plot cannot be drawn.
pub(crate) fn report_html(report: &Page) -> Result<String> {
    let (data, plots) = (report.data, report.plots);
    let sections: Vec<Markup> = plots.iter().map(|(w, plots)| workload(report, w, plots)).collect::<Result<_>>()?;
    let failed = failed_runs(data);
    let advice = advice(&data.summary.verdict);
    let reasons = reasons(&data.summary.verdict, MoreBy::Blocks);
    let cautions = Cautions::of_summary(&data.summary).lines();
    let matrices = overview(&data.summary);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "fragbench: " (headline(data)) }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body { main {
                h1 { "Which allocator?" }
                p.finding { (finding(&data.summary)) }
                @for note in server_notes(&data.manifest, &data.records, None) { p.soft { (note) } }
                @if data.summary.partial {
                    p.warn { "The plan was not finished. What follows is what had been measured by then." }
                }
                @if reasons.len() > 1 {
                    details {
                        summary { "Why: all reasons" }
                        ul { @for reason in &reasons { li { (reason) } } }
                    }
                }
                @if !advice.is_empty() {
                    details open {
                        summary { "Before you act" }
                        ul { @for (what, text) in &advice { li { b { (what) } " " (text) } } }
                    }
                }
                @if let Some(lines) = unit_lines(data) {
                    h3 { "To apply it to a service" }
                    pre { code { (lines) } }
                }
                p.soft {
                    (utc(data.manifest.started_unix_s)) " · profile " (data.manifest.profile) " · "
                    (data.manifest.host.cpus) " CPUs · fragbench " (data.manifest.version)
                    @for fact in conditions(data) { " · " (fact) }
                }
                (contents(report, !matrices.is_empty(), failed.len(), cautions.len()))
                @if !matrices.is_empty() {
                    h2 id="all" { "All workloads" }
                    @for (heading, matrix) in &matrices {
                        h3 { (heading) }
                        (table(matrix))
                    }
                    p.legend { (overview::LEGEND) }
                }
                @for section in &sections { (section) }
                @if !failed.is_empty() {
                    h2 id="failed" { "Failed runs" }
                    p { "They are counted, never averaged." }
                    ul { @for line in &failed { li { (line) } } }
                }
                @if !cautions.is_empty() {
                    h2 id="cautions" { "Cautions and known risks" }
                    p.soft { "The numbers stand with the cells in the tables." }
                    ul { @for text in &cautions { li { (text) } } }
                }
                h2 id="how" { "How it was measured" }
                (how(data))
                h2 id="runs" { "Every run" }
                @for (w, _) in plots { (every_run(data, w)) }
            } }
        }
    };
    Ok(page.into_string())
}

/// Where on the page what stands.
fn contents(report: &Page, matrices: bool, failed: usize, cautions: usize) -> Markup {
    html! {
        nav {
            ul {
                @if matrices { li { a href="#all" { "All workloads" } } }
                @for (w, _) in report.plots { li { a href={ "#" (slug(w)) } { (w) } } }
                @if failed > 0 { li { a href="#failed" { "Failed runs (" (failed) ")" } } }
                @if cautions > 0 { li { a href="#cautions" { "Cautions (" (cautions) ")" } } }
                li { a href="#how" { "How it was measured" } }
                li { a href="#runs" { "Every run" } }
            }
        }
    }
}

/// What applies the recommendation, for systemd: the change as it was resolved, in the words of the room that emits lines.
fn unit_lines(data: &ResultData) -> Option<String> {
    let change = data.summary.verdict.change.as_ref().filter(|change| change.changes_something())?;
    let application = Application {
        change,
        library_dir: Path::new(LIBRARY_DIR),
        service: SERVICE,
        huge_pages: data.manifest.same_huge_pages(),
    };
    Some(emit(Target::Systemd, &application))
}

fn headline(data: &ResultData) -> String {
    let v = &data.summary.verdict;
    let name = v.allocator.as_deref().map(|a| label(a, &v.settings)).unwrap_or_default();
    match v.kind {
        VerdictKind::Switch => format!("switch to {name}"),
        VerdictKind::Tune => format!("tune to {name}"),
        VerdictKind::Leave => format!("leave {name} as it is"),
        VerdictKind::NotEnoughData => "not enough data".into(),
    }
}

fn workload(report: &Page, workload: &str, plots: &[Plot]) -> Result<Markup> {
    let data = report.data;
    let (plan, records) = (&data.manifest.plan, &data.records);
    let (memory_of_command, speed_of_command) = COMMAND_COLUMNS.split_at(7);
    let commands = is_of_commands(plan);
    let memory =
        metric_table(&data.summary, workload, &columns(if commands { memory_of_command } else { MEMORY_COLUMNS }));
    let speed = metric_table(&data.summary, workload, &columns_of(plan, SPEED_COLUMNS, speed_of_command));
    let failures = failures(plan, records, workload);
    let ratios = ratio_table(&data.summary, plan, workload);
    let purge = purge_table(&data.summary, workload);
    let figures: Vec<Markup> = plots.iter().map(|p| figure(workload, p)).collect::<Result<_>>()?;
    Ok(html! {
        h2 id=(slug(workload)) { (workload) }
        (table(&memory))
        p.legend { (LEGEND) " Small figures: 95 % interval of the median over the runs." }
        @for note in server_notes(&data.manifest, &data.records, Some(workload)) { p.warn { (note) } }
        @if let Some(note) = replay_note(records, workload) { p.legend { (note) } }
        @for note in &failures { p.warn { (note) } }
        @if let Some(fact) = profile::fact(data, workload) {
            h3 { (profile::HEADING) }
            (table(&profile::shape_table(fact)))
            @if let Some(memory) = profile::memory_table(data, workload) { (table(&memory)) }
            p.legend { (profile::LEGEND) }
        }
        h3 { @if commands { "Time, faults and your figures" } @else { "Time and arenas" } }
        (table(&speed))
        @if !ratios.rows.is_empty() {
            h3 { "Relative to glibc" }
            (table(&ratios))
            p.legend { (RATIO_LEGEND) }
        }
        @for figure in &figures { (figure) }
        @if !purge.rows.is_empty() {
            h3 { "Purge" }
            (table(&purge))
            p.legend { "The first purge after the idle stretch, a second one with nothing new to give back, the longest allocation of a thread that worked meanwhile, and the page faults when work resumed." }
        }
    })
}

pub(crate) fn figure(workload: &str, plot: &Plot) -> Result<Markup> {
    let (wide, narrow) = (plot.wide.inline_svg()?, plot.narrow.inline_svg()?);
    Ok(html! {
        figure id=(format!("{}-{}", slug(workload), plot.name)) {
            div.wide { (PreEscaped(wide)) }
            div.narrow { (PreEscaped(narrow)) }
            figcaption { (plot.caption) " " span.soft { "File: " code { (plot_stem(workload, plot.name)) ".svg" } } }
        }
    })
}

pub(crate) fn table(table: &Table) -> Markup {
    html! {
        div.scroll tabindex="0" {
            table {
                thead { tr {
                    th scope="col" { (table.corner) }
                    @for column in &table.columns { th scope="col" { (column) } }
                } }
                tbody { @for row in &table.rows { tr {
                    th scope="row" { (row.label) }
                    @for value in &row.values {
                        @match value {
                            None => td.missing { "–" },
                            Some(v) => td class=[v.mark.map(mark_class)] {
                                (v.text) @if let Some(mark) = v.mark { " " (mark.sign()) }
                                @if let Some(interval) = &v.interval { small { (interval) } }
                            },
                        }
                    }
                } } }
            }
        }
    }
}

fn mark_class(mark: Mark) -> &'static str {
    match mark {
        Mark::Best => "best",
        Mark::Worst => "worst",
    }
}

/// One line a run that failed.
fn failed_runs(data: &ResultData) -> Vec<String> {
    data.records
        .iter()
        .filter(|r| !r.is_ok())
        .map(|r| {
            let copy = if r.aa { ", A/A copy" } else { "" };
            format!(
                "run {} ({}, {}{copy}, repetition {}): {}",
                r.run,
                r.workload,
                label(&r.allocator, &r.settings),
                r.repetition,
                failure_text(r)
            )
        })
        .collect()
}

fn how(data: &ResultData) -> Markup {
    let m = &data.manifest;
    let latency = |driver: &Driver| match driver.latency_every {
        0 => "no call was timed".to_owned(),
        n => format!("one call in {n} was timed; the timer's own cost is in the figures"),
    };
    let percent = |noise: Option<f64>| noise.map_or("unknown".into(), |n| format!("{} %", digits(100.0 * n)));
    let noise = (percent(data.summary.verdict.memory_noise), percent(data.summary.verdict.throughput_noise));
    let sampler = data
        .records
        .iter()
        .filter_map(|r| r.sampler_cpu_ratio)
        .fold(None, |worst: Option<f64>, r| Some(worst.map_or(r, |w| w.max(r))));
    let present = |metric: &&Metric| data.summary.cells.iter().any(|c| c.metrics.contains_key(metric.name));
    let commands = is_of_commands(&m.plan);
    html! {
        @if commands { p {
            "Each run is the command anew, under an environment that differs only in the allocator and its settings. It and its descendants are read from outside. "
            "Heap is anonymous memory less stacks, what a fork left shared counted once; stacks, shared memory and mapped files stand apart. That the allocator is in place was "
            "looked for in the maps and the environment of every process. Runs are ordered in blocks, each with every cell once, shuffled (seed " (m.plan.seed) "). "
        } }
        p {
            @if !commands {
            "Each run is a fresh process that does the same work through libc's malloc API; only the allocator and its settings differ. "
            "The harness keeps its own memory out of the anonymous memory of that process, so its RssAnon is the heap under test. "
            "Runs are ordered repetition by repetition, shuffled within each (seed " (m.plan.seed) "), so that a drift of the machine hits all cells alike. "
            }
            "Medians with 95 % percentile bootstrap intervals (10,000 resamples); ratios are formed block by block. "
            "Beyond noise is what the signed-rank test excludes from chance at the 5 % level, corrected by Holm's method for all cells compared in a figure; "
            "relevant is what lies beyond " (percent(Some(data.summary.relevant))) " with its whole interval. They are told apart everywhere."
        }
        ul {
            li { "Sampled from outside every " (duration_ns(m.sample_interval_ns as f64))
                @if let Some(worst) = sampler { "; the sampler took at most " (digits(100.0 * worst)) " % of a core" } "." }
            @if let Some(driver) = m.common.driver.as_ref().filter(|_| !commands) {
                li { "Touch policy: " code { (format!("{:?}", driver.touch).to_lowercase()) } "; " (latency(driver)) "." }
                li { (huge_pages(m, driver.thp)) }
                li { "After the work: " (duration_ns(m.common.idle_ms as f64 * 1e6)) " of quiet untouched"
                    @if driver.monitor_calls > 0 { ", as long again with a monitor of " (driver.monitor_calls) " allocations a second" } ", then the purge"
                    @if !driver.epilogue { " (left out in this result)" } "." }
            }
            li { "Noise floor, the baseline against its own copy: memory " (noise.0) ", throughput " (noise.1) ". Nothing within it is called a difference." }
            li { "Memory guard " (bytes(m.mem_limit_bytes as f64)) ", time limit " (m.timeout_s) " s a run." }
        }
        h3 { "The figures" }
        div.scroll tabindex="0" { table.words {
            thead { tr { th scope="col" { "metric" } th scope="col" { "meaning" } th scope="col" { "how obtained" } } }
            tbody { @for metric in METRICS.iter().filter(present) {
                tr { th scope="row" { code { (metric.name) } } td { (metric.meaning) } td {
                    (if commands { how_of_command(metric.name).unwrap_or("not told") } else { metric.how })
                } }
            } }
        } }
        h3 { "The machine and the programs" }
        (manifest(m))
        @if !m.machines.is_empty() { (machines(m)) }
    }
}

/// Which huge pages the runs had.
fn huge_pages(m: &Manifest, common: HugePages) -> String {
    if m.huge_pages.is_empty() {
        return format!("Transparent huge pages: {}.", common.name());
    }
    let each: Vec<String> = m
        .huge_pages
        .iter()
        .map(|fact| match (fact.server, fact.caution()) {
            (_, Some(caution)) => caution,
            (Some(_), None) => format!("{} {}, as its server", fact.workload, fact.used.name()),
            (None, None) => format!("{} {}, its server's are not known", fact.workload, fact.used.name()),
        })
        .collect();
    format!("Transparent huge pages: {}.", each.join("; "))
}

fn manifest(m: &Manifest) -> Markup {
    let h = &m.host;
    let yes_no = |b: Option<bool>| b.map(|b| if b { "yes" } else { "no" }.to_owned());
    let size = |b: Option<u64>| b.map(|b| bytes(b as f64));
    let mut facts: Vec<(&str, Option<String>)> = vec![
        ("command", Some(m.command.join(" "))),
        (
            "fragbench",
            Some(format!(
                "{}{}",
                m.version,
                m.revision.as_ref().map(|r| format!(", revision {r}")).unwrap_or_default()
            )),
        ),
        ("started", Some(utc(m.started_unix_s))),
        ("ended", m.ended_unix_s.map(utc)),
        ("kernel", Some(h.kernel.clone())),
        ("system", h.os.clone()),
        ("CPU", h.cpu.as_ref().map(|c| format!("{c}, {} usable", h.cpus))),
        ("virtualised", yes_no(h.virtualised)),
        ("frequency governor", h.governor.clone()),
        ("memory", size(h.memory_bytes)),
        ("available at the start", size(h.available_bytes)),
        ("cgroup memory limit", size(h.cgroup_memory_limit_bytes)),
        ("cgroup memory.high", size(h.cgroup_memory_high_bytes)),
        ("cgroup processor quota", h.cgroup_cpu_quota.map(|quota| format!("{quota} processors' time"))),
        ("cgroup processors", h.cgroup_cpuset.clone()),
        ("address space limit", size(h.address_space_limit_bytes)),
        ("transparent huge pages", h.thp.clone()),
        ("overcommit", h.overcommit.map(|o| o.to_string())),
        ("seed", Some(m.plan.seed.to_string())),
    ];
    if let Some(part) = m.part {
        facts.push(("shard", Some(format!("{} of a plan of {} blocks", part.shard, part.blocks))));
    }
    for l in &m.libraries {
        let version = l.version.as_deref().unwrap_or("version unknown");
        let build = l.build_id.as_deref().map(|b| format!(", build id {b}")).unwrap_or_default();
        facts.push((&l.name, Some(format!("{} {version}{build}", l.file))));
    }
    html! {
        div.scroll tabindex="0" { table.words { tbody { @for (name, value) in &facts {
            tr { th scope="row" { (name) } td {
                @match value { Some(v) => (v), None => span.missing { "not known, or none" } }
            } }
        } } } }
    }
}

/// Where a merged result was measured; the table above is that of the first machine.
fn machines(m: &Manifest) -> Markup {
    let missing = || "not known".to_owned();
    let of = |machine: &Machine| -> [String; 7] {
        let blocks: Vec<String> = machine.blocks.iter().map(u32::to_string).collect();
        let libc = machine.libraries.iter().find(|library| library.name == "libc");
        [
            machine.shard.to_string(),
            blocks.join(", "),
            format!("{}, {} usable", machine.host.cpu.clone().unwrap_or_else(missing), machine.host.cpus),
            machine.host.memory_bytes.map_or_else(missing, |b| bytes(b as f64)),
            machine.host.kernel.clone(),
            libc.and_then(|libc| libc.version.clone()).unwrap_or_else(missing),
            utc(machine.started_unix_s),
        ]
    };
    html! {
        h3 { "Merged from shards" }
        p {
            "Each block, every cell once, ran on one machine, and ratios are formed block by block: what differs between "
            "machines does not enter them. The table above is of the first machine; manifest.json has all of each."
        }
        div.scroll tabindex="0" { table.words {
            thead { tr { @for head in ["directory", "shard", "repetitions", "CPU", "memory", "kernel", "libc", "started"] {
                th scope="col" { (head) }
            } } }
            tbody { @for machine in &m.machines { tr {
                th scope="row" { (machine.directory) }
                @for text in of(machine) { td { (text) } }
            } } }
        } }
    }
}

/// Every figure of every run of a workload, failed and repeated ones too.
fn every_run(data: &ResultData, workload: &str) -> Markup {
    let runs: Vec<_> = data.records.iter().filter(|r| r.workload == workload).collect();
    let counted: Vec<u32> =
        cell_runs(&data.manifest.plan, &data.records).iter().flat_map(|c| &c.ok).map(|r| r.run).collect();
    let mut columns: Vec<Column> = METRICS
        .iter()
        .map(|m| Column { name: m.name.into(), head: column_name(m), unit: m.unit, better: m.better })
        .chain(own_columns(&data.manifest.plan))
        .collect();
    columns.retain(|c| runs.iter().any(|r| r.metrics.contains_key(&c.name)));
    let percent = |r: Option<f64>| r.map_or("–".into(), |r| format!("{} %", digits(100.0 * r)));
    html! {
        details {
            summary { (workload) ": " (runs.len()) " runs" }
            div.scroll tabindex="0" { table {
                thead { tr {
                    th scope="col" { "run" } th scope="col" { "allocator" } th scope="col" { "repetition" } th scope="col" { "status" }
                    @for c in &columns { th scope="col" title=(metric(&c.name).map_or("", |m| m.meaning)) { (c.head) } }
                    th scope="col" { "steal" } th scope="col" { "foreign CPU" } th scope="col" { "samples" }
                } }
                tbody { @for r in &runs { tr {
                    th scope="row" { (r.run) @if r.attempt > 1 { " (attempt " (r.attempt) ")" } }
                    td { (label(&r.allocator, &r.settings)) @if r.aa { " (A/A)" } }
                    td { (r.repetition) }
                    td { @if r.is_ok() { @if counted.contains(&r.run) { "ok" } @else { "not counted" } } @else { span.worst { "failed" } } }
                    @for c in &columns { td { @match r.metrics.get(&c.name) { Some(v) => (in_unit(c.unit, *v)), None => "–" } } }
                    td { (percent(r.load.steal_ratio)) } td { (percent(r.load.foreign_cpu_ratio)) }
                    td { @match &r.samples { Some(s) => code { (s) }, None => "–" } }
                } } }
            } }
        }
    }
}

/// A metric's name without its last word: its figures show the unit already.
fn column_name(m: &Metric) -> String {
    let unit = match m.unit {
        Unit::Bytes => "_bytes",
        Unit::PerSecond => "_per_s",
        Unit::Seconds => "_s",
        Unit::Milliseconds => "_ms",
        Unit::Nanoseconds => "_ns",
        Unit::Count => "_count",
        Unit::Ratio => "_ratio",
    };
    m.name.trim_end_matches(unit).replace('_', " ")
}

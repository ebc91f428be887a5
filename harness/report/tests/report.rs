//! The whole rendering on a made-up result: tables and Markdown by snapshot, the page's promises, and odd results
//! that must not break a plot.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fixture;

use std::collections::BTreeMap;

use fragbench_decide::{Figures, summarize};
use fragbench_model::{
    Caution, CautionKind, Failure, FailureKind, RunStatus, Sample, Standing, Summary, VerdictKind, metric,
};
use fragbench_report::{
    COLUMNS, MoreBy, PURGE_COLUMNS, RATIO_COLUMNS, RenderedFile, ResultData, draw, finding, reasons, render,
    render_trace, result_tables, size_table, trace_table,
};
use quick_xml::Reader;
use quick_xml::events::Event;

fn text<'a>(files: &'a [RenderedFile], path: &str) -> &'a str {
    let file = files.iter().find(|f| f.0 == path).unwrap_or_else(|| panic!("{path} is not rendered"));
    std::str::from_utf8(&file.1).expect("text")
}

/// Renders a result again after a change of its records.
fn rendered(change: impl FnOnce(&mut ResultData)) -> (ResultData, Vec<RenderedFile>) {
    let mut data = fixture::result();
    change(&mut data);
    data.summary = summarize(&data.manifest.plan, &data.records, data.summary.partial, data.summary.relevant);
    let files = render(&data).expect("a rendering");
    (data, files)
}

/// Every element is closed and no text escapes from an SVG: enough of a check without an XML library.
/// Well-formed XML of one `svg`, whose shapes and words lie at numbers inside its canvas.
fn assert_sound_svg(path: &str, svg: &str) {
    let mut reader = Reader::from_str(svg);
    let (mut depth, mut canvas, mut words) = (0, None::<(f64, f64)>, 0);
    loop {
        let event = reader.read_event().unwrap_or_else(|error| panic!("{path}: {error}"));
        let (element, opens) = match event {
            Event::Start(element) => (element, true),
            Event::Empty(element) => (element, false),
            Event::End(_) => {
                depth -= 1;
                continue;
            }
            Event::Eof => break,
            _ => continue,
        };
        let attribute = |name: &str| {
            let value = element.try_get_attribute(name).unwrap()?;
            Some(String::from_utf8(value.value.into_owned()).unwrap())
        };
        let number = |name: &str| {
            let text = attribute(name)?;
            let number = text.parse::<f64>().unwrap_or_else(|_| panic!("{path}: {name}=\"{text}\""));
            assert!(number.is_finite(), "{path}: {name}=\"{text}\"");
            Some(number)
        };
        if depth == 0 {
            assert_eq!((element.name().as_ref(), canvas), (b"svg".as_slice(), None), "{path}");
            let view = attribute("viewBox").unwrap_or_else(|| panic!("{path} has no viewBox"));
            let numbers: Vec<f64> = view.split(' ').map(|number| number.parse().unwrap()).collect();
            assert_eq!(numbers[..2], [0.0, 0.0], "{path}: {view}");
            canvas = Some((numbers[2], numbers[3]));
        }
        let (width, height) = canvas.unwrap_or_else(|| panic!("{path} has no canvas"));
        for (names, limit) in [(["x", "x1", "x2", "cx"], width), (["y", "y1", "y2", "cy"], height)] {
            for at in names.into_iter().filter_map(number) {
                assert!((0.0..=limit).contains(&at), "{path}: {at} of {limit} in {element:?}");
            }
        }
        for pair in attribute("points").iter().flat_map(|points| points.split_whitespace()) {
            let (x, y) = pair.split_once(',').unwrap_or_else(|| panic!("{path}: {pair}"));
            let [x, y] = [x, y].map(|text| text.parse::<f64>().unwrap_or_else(|_| panic!("{path}: {pair}")));
            assert!((0.0..=width).contains(&x) && (0.0..=height).contains(&y), "{path}: {pair}");
        }
        words += usize::from(element.name().as_ref() == b"text");
        depth += i32::from(opens);
    }
    assert!(depth == 0 && canvas.is_some() && words > 3, "{path}: {words} words");
}

#[test]
fn the_terminal_shows_every_cell_and_names_what_failed() {
    let data = fixture::result();
    insta::assert_snapshot!("terminal", result_tables(&data.summary, &data.manifest.plan, &data.records, None, false));
}

#[test]
fn a_narrow_terminal_loses_columns_not_figures() {
    let data = fixture::result();
    let narrow = result_tables(&data.summary, &data.manifest.plan, &data.records, Some(100), false);
    let table_lines =
        narrow.lines().filter(|l| !l.starts_with('!') && !l.starts_with('▲') && !l.starts_with("Left out"));
    assert!(table_lines.clone().all(|l| l.chars().count() <= 100), "{narrow}");
    assert!(narrow.contains("Left out for want of width: RSS mean, purge, arenas"), "{narrow}");
    assert!(narrow.contains("290 MiB ▽"), "{narrow}");
    let colour = result_tables(&data.summary, &data.manifest.plan, &data.records, None, true);
    assert!(colour.contains("\u{1b}[") && colour.contains('▲'), "marks stay with colour");
}

#[test]
fn what_is_to_be_known_of_a_cell_stands_with_it_recommended_or_not() {
    let told = "jemalloc said: Invalid conf value";
    let (data, files) = rendered(|data| {
        for record in data.records.iter_mut().filter(|r| r.allocator == "jemalloc") {
            record.cautions = vec![Caution { kind: CautionKind::Complaint, text: told.into() }];
        }
    });
    assert_eq!(data.summary.verdict.kind, VerdictKind::Tune, "jemalloc is not what is recommended");
    let terminal = result_tables(&data.summary, &data.manifest.plan, &data.records, None, false);
    let number = |text: &str, of: &str| {
        let line = text.lines().find(|line| line.contains(of)).unwrap_or_else(|| panic!("{of} in {text}"));
        let at = line.split_once('[').map(|(_, rest)| rest.split_once(']').unwrap().0.to_owned());
        at.unwrap_or_else(|| panic!("{line}"))
    };
    let told_as = number(&terminal, told);
    let row = terminal.lines().find(|line| line.starts_with("jemalloc 5.3.1")).expect("a row with its version");
    let marks: Vec<&str> = row.split_once('[').unwrap().1.split_once(']').unwrap().0.split(',').collect();
    assert!(marks.contains(&told_as.as_str()) && marks.len() >= 3, "caution and risks: {row}");
    assert!(terminal.contains("decay when idle"), "{terminal}");
    let glibc = terminal.lines().find(|line| line.starts_with("glibc ")).unwrap();
    assert!(!glibc.split_once('[').is_some_and(|(_, marks)| marks.starts_with(&told_as)), "{glibc}");
    for name in ["report.md", "report.html"] {
        let page = text(&files, name).replace('\\', "");
        assert!(page.contains(&format!("[{told_as}] {told}")), "{name}");
        assert!(page.contains("jemalloc 5.3.1 [") && page.contains("jemalloc(3)"), "{name}");
    }
    let json: serde_json::Value = serde_json::from_str(text(&files, "summary.json")).unwrap();
    let cell = json["cells"].as_array().unwrap().iter().find(|cell| cell["allocator"] == "jemalloc").unwrap();
    assert_eq!((&cell["version"], &cell["cautions"][0]), (&"5.3.1".into(), &told.into()));
    assert!(cell["risks"].as_array().unwrap().iter().any(|risk| risk["name"] == "decay when idle"), "{cell}");
}

#[test]
fn the_markdown_report_on_the_fixture() {
    let data = fixture::result();
    insta::assert_snapshot!("markdown", text(&render(&data).unwrap(), "report.md"));
}

#[test]
fn the_tables_of_a_trace() {
    let stat = fixture::trace_stat();
    let tables = format!("{}\n\n{}", draw(&trace_table(&stat), None, false), draw(&size_table(&stat), None, false));
    insta::assert_snapshot!("trace", tables);
}

#[test]
fn the_page_needs_nothing_else() {
    let files = render(&fixture::result()).unwrap();
    let page = text(&files, "report.html");
    for fetched in ["<script", "<link", "<img", "<iframe", "src=", "url(", "@import", "javascript:", " onload", "xlink"]
    {
        assert!(!page.contains(fetched), "the page contains {fetched}");
    }
    // The only addresses are the SVG name space and places within the page.
    assert_eq!(page.matches("http").count(), page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count());
    for link in page.split("href=\"").skip(1) {
        let target = link.split('"').next().unwrap();
        let id = target.strip_prefix('#').unwrap_or_else(|| panic!("{target} leaves the page"));
        assert!(page.contains(&format!("id=\"{id}\"")), "{target} leads nowhere");
    }
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("width=device-width"));
    assert!(!page.contains("#1A1A1A"), "ink that does not follow the page's colour");
}

#[test]
fn texts_from_outside_are_escaped() {
    let (_, files) = rendered(|data| {
        let mut failure = data.records[0].clone();
        let reason = "</p><script>alert(1)</script> | `x` & more".to_owned();
        failure.status = RunStatus::Failed(Failure { kind: FailureKind::Crashed, reason });
        failure.attempt = 2;
        data.records[0] = failure;
        data.manifest.command.push("--set=<b>".into());
        data.manifest.command.push("\u{1b}[2J\u{202e}\nfragbench: all is well".into());
        data.manifest.host.cpu = Some("\u{1b}]0;x\u{7}\u{9b}1m\nforged line\r".into());
    });
    for (name, bytes) in &files {
        let plain = String::from_utf8_lossy(bytes);
        let acts = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
        let read = [".md", ".html", ".csv", ".svg", ".json"].iter().any(|ending| name.ends_with(ending));
        assert!(!read || !plain.contains(acts), "{name} has something that acts on a terminal");
        assert!(!name.ends_with(".md") || !plain.lines().any(|line| line.starts_with("f")), "{name}: a forged line");
    }
    let page = text(&files, "report.html");
    assert!(!page.contains("<script>") && page.contains("&lt;script&gt;") && page.contains("--set=&lt;b&gt;"));
    let md = text(&files, "report.md");
    assert!(!md.contains("<script>") && md.contains(r"&lt;script&gt;alert(1)"), "{md}");
}

#[test]
fn what_the_page_says_to_paste_is_what_a_process_reads() {
    for (settings, environment, library, line) in [
        (
            ("glibc.malloc.trim_threshold", "131072"),
            ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=131072"),
            None,
            "Environment=&quot;GLIBC_TUNABLES=glibc.malloc.trim_threshold=131072&quot;",
        ),
        (
            ("FRAGBENCH_TRIM_EVERY_MS", "1000"),
            ("FRAGBENCH_TRIM_EVERY_MS", "1000"),
            Some("/x/libfragbench_trim.so"),
            "Environment=&quot;LD_PRELOAD=/usr/local/lib/fragbench/libfragbench_trim.so&quot;",
        ),
    ] {
        let pair = |(key, value): (&str, &str)| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let (data, files) = rendered(|data| {
            let tuned = |name: &str, own: &BTreeMap<String, String>| {
                name == "glibc" && own.get("MALLOC_ARENA_MAX").is_some_and(|limit| limit == "2")
            };
            for cell in &mut data.manifest.plan.cells {
                if tuned(&cell.allocator.name, &cell.allocator.settings) {
                    cell.allocator.settings = pair(settings);
                    cell.allocator.environment = pair(environment);
                    cell.allocator.library = library.map(Into::into);
                }
            }
            for record in &mut data.records {
                if tuned(&record.allocator, &record.settings) {
                    record.settings = pair(settings);
                    for memory in ["heap_rss_peak_bytes", "heap_rss_idle_bytes"] {
                        record.metrics.insert(memory.to_owned(), 1e6 + f64::from(record.repetition));
                    }
                }
            }
        });
        assert_eq!(data.summary.verdict.kind, VerdictKind::Tune, "{}", finding(&data.summary));
        let page = text(&files, "report.html");
        assert!(page.contains(line), "{}", &page[page.find("To apply").unwrap_or(0)..][..600]);
        assert!(!page.contains("Environment=glibc"), "no process reads that");
        let named = format!("set {}={}", environment.0, environment.1);
        assert!(finding(&data.summary).contains(&named), "{}", finding(&data.summary));
    }
}

#[test]
fn every_column_is_a_metric_of_the_table() {
    for (name, _) in COLUMNS.iter().chain(PURGE_COLUMNS).chain(RATIO_COLUMNS) {
        assert!(metric(name).is_some(), "{name} is not in METRICS");
    }
    let data = fixture::result();
    let Figures { memory, throughput, .. } = Figures::of(&data.manifest.plan);
    assert!(memory.iter().chain([&throughput]).all(|m| metric(m).is_some()));
}

#[test]
fn every_workload_has_every_plot_as_svg_and_png() {
    let files = render(&fixture::result()).unwrap();
    for workload in ["mysql-oltp-read-write", "replay-mariadb-oltp", "replay-mariadb-storm", "replay-mariadb-blobs"] {
        for plot in ["memory-over-time", "rss-and-virt", "rss", "rss-against-throughput", "arenas", "purge", "latency"]
        {
            assert_sound_svg(plot, text(&files, &format!("plots/{workload}.{plot}.svg")));
            let png = &files.iter().find(|f| f.0 == format!("plots/{workload}.{plot}.png")).unwrap().1;
            assert_eq!(&png[1..4], b"PNG");
        }
    }
    let trace = render_trace(&fixture::trace_stat(), "mariadb-oltp").unwrap();
    assert_eq!(trace.iter().filter(|f| f.0.ends_with(".svg")).count(), 3);
}

#[test]
fn the_summary_comes_back_whole_and_the_csv_has_every_figure() {
    let data = fixture::result();
    let files = render(&data).unwrap();
    let back: Summary = serde_json::from_str(text(&files, "summary.json")).unwrap();
    // JSON keeps figures to the last bit but one; names, kinds and counts must be the same.
    assert_eq!(back.cells.len(), data.summary.cells.len());
    for (a, b) in back.cells.iter().zip(&data.summary.cells) {
        assert_eq!((&a.workload, &a.allocator, &a.settings, a.runs), (&b.workload, &b.allocator, &b.settings, b.runs));
        assert!(a.metrics.keys().eq(b.metrics.keys()));
        assert!(
            a.metrics.values().zip(b.metrics.values()).all(|(x, y)| (x.median - y.median).abs() <= 1e-9 * y.median)
        );
    }
    assert_eq!(back.verdict.kind, data.summary.verdict.kind);
    let json: serde_json::Value = serde_json::from_str(text(&files, "summary.json")).unwrap();
    let said: Vec<&str> =
        json["verdict"]["reasons"].as_array().unwrap().iter().map(|reason| reason.as_str().unwrap()).collect();
    assert_eq!(said, reasons(&data.summary.verdict, MoreBy::Blocks));
    assert!(json["verdict"]["leading"].as_u64().unwrap() >= 1 && json["verdict"]["doubts"].is_array());
    let csv = text(&files, "summary.csv");
    let figures: usize = data.summary.cells.iter().map(|c| c.metrics.len().max(1)).sum();
    assert_eq!(csv.lines().count(), figures + 1);
    assert!(csv.contains("replay/mariadb-storm,null,,0,3,,,,,"), "a failed cell is not lost");
    assert!(csv.contains("mysql/oltp-read-write,glibc,MALLOC_ARENA_MAX=2,3,0,arena_count,2,2,2,3"));
}

#[test]
fn a_result_without_samples_or_figures_is_still_a_report() {
    let (_, files) = rendered(|data| data.samples = BTreeMap::new());
    assert!(!files.iter().any(|f| f.0.contains("memory-over-time")));
    let (data, files) = rendered(|data| data.records.clear());
    assert!(finding(&data.summary).starts_with("No recommendation"));
    assert!(files.iter().all(|f| !f.0.starts_with("plots/")));
    assert!(text(&files, "report.md").contains("glibc (not run)"));
    let (_, files) = rendered(|data| {
        for record in &mut data.records {
            let reason = "the worker said nothing".into();
            record.status = RunStatus::Failed(Failure { kind: FailureKind::TimedOut, reason });
        }
    });
    assert!(text(&files, "report.html").contains("Failed runs (106)"));
}

#[test]
fn odd_figures_break_no_plot() {
    let (_, files) = rendered(|data| {
        for (i, record) in data.records.iter_mut().enumerate() {
            match i % 5 {
                0 => record.metrics.values_mut().for_each(|v| *v = 0.0),
                1 => record.metrics.values_mut().for_each(|v| *v *= 1e9),
                2 => record.metrics.clear(),
                3 => record.phases.clear(),
                _ => record.phases.iter_mut().for_each(|p| p.end_ns = p.start_ns),
            }
        }
        let odd = |at_ns, heap_rss_bytes, live_bytes| Sample {
            at_ns,
            vm_bytes: 0,
            rss_bytes: 0,
            heap_rss_bytes,
            live_bytes: Some(live_bytes),
            live_blocks: Some(0),
            ops: Some(0),
            ..Sample::default()
        };
        for (i, series) in data.samples.values_mut().enumerate() {
            match i % 3 {
                0 => series.truncate(1),
                1 => *series = vec![odd(0, 0, -5), odd(0, u64::MAX, i64::MIN), odd(u64::MAX, 1, 1)],
                _ => {}
            }
        }
    });
    let svgs: Vec<_> = files.iter().filter(|f| f.0.ends_with(".svg")).collect();
    assert!(svgs.len() >= 20);
    for (path, bytes) in svgs {
        assert_sound_svg(path, std::str::from_utf8(bytes).unwrap());
    }
}

#[test]
fn a_single_run_claims_nothing() {
    let (data, files) = rendered(|data| data.records.retain(|r| r.repetition == 0));
    assert!(finding(&data.summary).contains("--reps 3"), "{}", finding(&data.summary));
    let page = text(&files, "report.html");
    assert!(page.contains("not enough data"));
    let mut effects = data.summary.comparisons.iter().flat_map(|c| c.effects.values()).peekable();
    assert!(effects.peek().is_some());
    assert!(effects.all(|e| e.standing == Standing::Noise && e.p.is_none() && e.ratio.n == 1));
}

#[test]
fn no_system_font_library_is_linked() {
    // `ttf` anywhere in the build would win over `ab_glyph` by feature unification, and plots would depend on the
    // fonts of the machine.
    let lock = include_str!("../../../Cargo.lock");
    assert!(lock.contains("name = \"ab_glyph\"") && !lock.contains("name = \"font-kit\""));
}

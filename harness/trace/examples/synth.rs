//! Writes traces of programs that never ran, for measuring the replay:
//! `synth producer-consumer PAIRS OUT`, `synth pairs THREADS PAIRS OUT`, `synth storm THREADS OUT`,
//! `synth threads THREADS OUT` (all alive at once); and packs a recorder's spool: `synth pack SPOOL OUT`.

use std::path::Path;

use fragbench_trace::synth::{Shape, producer_consumer, program};
use fragbench_trace::{PackOptions, Totals, TraceError, pack, pack_source};

fn main() -> Result<(), TraceError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse().unwrap_or(1);
    let (options, known) = (PackOptions::default(), Totals { complete: true, ..Totals::default() });
    let report = match arguments[..] {
        ["pack", spool, out] => pack(Path::new(spool), Path::new(out), &options)?,
        ["producer-consumer", pairs, out] => {
            pack_source(&producer_consumer(number(pairs), 1_000, 100), Path::new(out), &options, known)?
        }
        ["pairs", threads, pairs, out] => {
            let threads = number(threads);
            let shape =
                Shape { threads, events: 2 * threads * number(pairs), live: 10_000, ticks: 50, ..Shape::default() };
            pack_source(&program(&shape), Path::new(out), &options, known)?
        }
        ["storm", threads, out] => {
            let shape = Shape {
                threads: number(threads),
                events: 2_000_000,
                live: 200,
                max_size: 4_000,
                cross: 50,
                realloc: 20,
                special: 50,
                large: 2,
                thread_life: 2_000,
                ticks: 400,
                ..Shape::default()
            };
            pack_source(&program(&shape), Path::new(out), &options, known)?
        }
        ["threads", threads, out] => {
            let threads = number(threads);
            let shape = Shape { threads, events: 20 * threads, live: 10, ..Shape::default() };
            pack_source(&program(&shape), Path::new(out), &options, known)?
        }
        _ => {
            eprintln!(
                "usage: synth producer-consumer PAIRS OUT | pairs THREADS PAIRS OUT | storm THREADS OUT | threads THREADS OUT | pack SPOOL OUT"
            );
            std::process::exit(2);
        }
    };
    println!("{report:#?}\n{:.3} bytes an event", report.bytes as f64 / report.totals.events as f64);
    Ok(())
}

//! How fast a trace is gone through: `passes count|stat|leaks|profile TRACE` prints events, seconds of processor time and the
//! process's peak of resident memory. `count` only reads.

use std::hint::black_box;
use std::path::Path;

use fragbench_trace::{Trace, TraceError};
use fragbench_trace_analysis::{leaks, profile, stat};

/// A line of `/proc/self/…` that begins so.
fn of_self(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(Path::new("/proc/self").join(file)).ok()?;
    Some(text.lines().find_map(|line| line.strip_prefix(name))?.trim().to_owned())
}

fn main() -> Result<(), TraceError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, file] = &arguments[..] else { panic!("usage: passes count|stat|leaks|profile TRACE") };
    let trace = Trace::open(Path::new(file))?;
    match what.as_str() {
        "count" => drop(black_box(trace.events_in_order().count())),
        "stat" => drop(black_box(stat(&trace))),
        "leaks" => drop(black_box(leaks(&trace))),
        "profile" => drop(black_box(profile::distil(&trace))),
        _ => panic!("usage: passes count|stat|leaks|profile TRACE"),
    }
    // Nanoseconds on the processor; schedstat of proc(5).
    let ran = of_self("schedstat", "").and_then(|line| line.split(' ').next()?.parse().ok()).unwrap_or(f64::NAN) / 1e9;
    let events = trace.info().events as f64;
    let peak = of_self("status", "VmHWM:").unwrap_or_default();
    println!("{what}: {events} events, {ran:.3} s, {:.1} M events/s, {peak}", events / ran / 1e6);
    Ok(())
}

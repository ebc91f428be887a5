//! Surveys a process, prints its heap in figures and as a map: `survey PID [FILE.svg]`.

use std::time::Instant;

use fragbench_inspect::survey;
use fragbench_proc::LiveTarget;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let pid = arguments.next().ok_or("which process? give its number")?.parse()?;
    let target = LiveTarget::open(pid)?;
    let begin = Instant::now();
    let survey = survey(&target)?;
    let took = begin.elapsed();
    let chunks: usize = survey.segments.iter().map(|s| s.chunks.len()).sum();
    let breaks: u64 = survey.segments.iter().map(|s| s.breaks).sum();
    println!("{:#?}\n{:#?}", survey.libc, survey.settings);
    println!("{} arenas, {} segments, {} tcaches", survey.arenas.len(), survey.segments.len(), survey.tcaches.len());
    println!("{:#?}\n{:#?}", survey.bytes(), survey.trim());
    println!("{chunks} chunks, {breaks} breaks, {took:.1?}, {:.1} ns a chunk", took.as_nanos() as f64 / chunks as f64);
    let map = survey.map(800);
    println!("{}", fragbench_report::heap_map(&map, 80, false));
    if let Some(file) = arguments.next() {
        std::fs::write(file, fragbench_report::heap_plot(&[("now", &map)], &format!("process {pid}")).wide.svg()?)?;
    }
    Ok(())
}

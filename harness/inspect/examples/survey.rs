//! Surveys a process and prints its heap in figures: `survey PID`.

use std::time::Instant;

use fragbench_inspect::survey;
use fragbench_proc::LiveTarget;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pid = std::env::args().nth(1).ok_or("which process? give its number")?.parse()?;
    let target = LiveTarget::open(pid)?;
    let begin = Instant::now();
    let survey = survey(&target)?;
    let took = begin.elapsed();
    let chunks: usize = survey.segments.iter().map(|s| s.chunks.len()).sum();
    println!("{:#?}\n{:#?}", survey.libc, survey.settings);
    println!("{} arenas, {} segments, {} tcaches", survey.arenas.len(), survey.segments.len(), survey.tcaches.len());
    println!("{:#?}\n{:#?}", survey.bytes(), survey.trim());
    let breaks: u64 = survey.segments.iter().map(|s| s.breaks).sum();
    println!("{chunks} chunks, {breaks} breaks, {took:.1?}, {:.1} ns a chunk", took.as_nanos() as f64 / chunks as f64);
    Ok(())
}

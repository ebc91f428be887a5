//! Surveys a process, prints its heap in figures and as a map: `survey PID [FILE.svg]`. For its speed it also copies the
//! same memory without looking at it; both are timed by this process's own processor time too, which other programs
//! on the machine change less.

use std::time::{Duration, Instant};

use fragbench_inspect::{Survey, survey};
use fragbench_proc::{LiveTarget, Part, ProcError, Process, Target};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let pid = arguments.next().ok_or("which process? give its number")?.parse()?;
    let target = LiveTarget::open(pid)?;
    let begin = Instant::now();
    let before = cpu();
    let survey = survey(&target)?;
    let took = (begin.elapsed(), cpu() - before);
    let chunks: usize = survey.segments.iter().map(|s| s.chunks.len()).sum();
    let breaks: u64 = survey.segments.iter().map(|s| s.breaks).sum();
    speed(&target, &survey, took)?;
    figures(&survey, took.0);
    println!("{:#?}\n{:#?}", survey.libc, survey.settings);
    println!("{} arenas, {} segments, {} tcaches", survey.arenas.len(), survey.segments.len(), survey.tcaches.len());
    println!("{:#?}\n{:#?}", survey.bytes(), survey.trim());
    println!(
        "{chunks} chunks, {breaks} breaks, {:.1?}, {:.1} ns a chunk",
        took.0,
        took.1.as_nanos() as f64 / chunks as f64
    );
    let map = survey.map(800);
    println!("{}", fragbench_report::heap_map(&map, 80, false));
    if let Some(file) = arguments.next() {
        std::fs::write(file, fragbench_report::heap_plot(&[("now", &map)], &format!("process {pid}")).wide.svg()?)?;
    }
    Ok(())
}

/// How long everything takes that `fragbench inspect` computes of a survey, beside the survey.
fn figures(survey: &Survey, took: Duration) {
    let begin = Instant::now();
    std::hint::black_box((survey.bytes(), survey.sizes(), survey.trim(), survey.map(800)));
    println!("figures   {:.1} % of the survey's time", 100.0 * begin.elapsed().as_secs_f64() / took.as_secs_f64());
}

/// Processor time of this process, to 10 ms.
fn cpu() -> Duration {
    Process::live(std::process::id()).times().map_or(Duration::ZERO, |times| Duration::from_nanos(times.cpu_ns))
}

/// Copies what is in memory of the heap, a mebibyte at a time, and says how fast that and the survey were.
fn speed(target: &LiveTarget, survey: &Survey, took: (Duration, Duration)) -> Result<(), ProcError> {
    const PIECE: u64 = 1 << 20;
    let mut buffer = vec![1u8; PIECE as usize];
    let (begin, before, mut bytes) = (Instant::now(), cpu(), 0u64);
    for run in survey.segments.iter().flat_map(|segment| segment.resident().iter().collect::<Vec<_>>()) {
        for at in (run.start..run.end).step_by(PIECE as usize) {
            let length = PIECE.min(run.end - at);
            target.read(&mut [Part::new(at, &mut buffer[..length as usize])])?;
            bytes += length;
        }
    }
    let copied = (begin.elapsed(), cpu() - before);
    let rate = |time: Duration| bytes as f64 / 1e9 / time.as_secs_f64();
    println!("{:.1} MB resident", bytes as f64 / 1e6);
    println!("survey    {:.2} GB/s, {:.2} GB a second of processor", rate(took.0), rate(took.1));
    println!("copy only {:.2} GB/s, {:.2} GB a second of processor", rate(copied.0), rate(copied.1));
    Ok(())
}

//! What a malloc/free pair costs: through the crates linked into the program, and through the preload libraries; the
//! difference is the cost of the shim.
//!
//! Each allocator is timed inside a child process that has its library preloaded. The same child also calls the
//! allocator through the crate, so both routes are timed in turns in one process and their ratio is free of drift
//! between processes. The null allocator never reuses, so its pairs include page faults; its own cost is timed
//! apart, on pages made present beforehand.
//!
//! Refuses: to run without the preload libraries (`cargo build --release` makes them).

use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};

/// Request sizes in bytes: two of tcache's, one above it, one that takes whole pages.
const SIZES: [usize; 4] = [16, 64, 2048, 32 << 10];
/// Rounds of each route when the ratio is taken, and pairs a round.
const ROUNDS: usize = 41;
const PAIRS: u64 = 200_000;

/// The way a call takes to the allocator.
#[derive(Clone, Copy, PartialEq)]
enum Route {
    /// `malloc` and `free` as any program calls them.
    Libc,
    /// The crate's own functions, linked into this program.
    Jemalloc,
    Mimalloc,
    /// `malloc` alone on present pages, under the null allocator.
    NullAlone,
}

impl Route {
    const NAMED: [(&str, Route); 4] = [
        ("libc", Route::Libc),
        ("jemalloc", Route::Jemalloc),
        ("mimalloc", Route::Mimalloc),
        ("null-alone", Route::NullAlone),
    ];

    fn name(self) -> &'static str {
        Route::NAMED.iter().find(|(_, route)| *route == self).map_or("", |(name, _)| name)
    }

    /// Time of `pairs` pairs.
    fn time(self, size: usize, pairs: u64) -> Duration {
        type Malloc = unsafe extern "C" fn(usize) -> *mut libc::c_void;
        type Free = unsafe extern "C" fn(*mut libc::c_void);
        #[inline(always)]
        fn pairs_of(pairs: u64, size: usize, malloc: Malloc, free: Free) -> Duration {
            let start = Instant::now();
            for _ in 0..pairs {
                // SAFETY: both functions are of one allocator, and a block holds at least one byte.
                unsafe {
                    let block = black_box(malloc(black_box(size)));
                    block.cast::<u8>().write_volatile(1);
                    free(block);
                }
            }
            start.elapsed()
        }
        match self {
            Route::Libc => pairs_of(pairs, size, libc::malloc, libc::free),
            Route::Jemalloc => pairs_of(pairs, size, tikv_jemalloc_sys::malloc, tikv_jemalloc_sys::free),
            Route::Mimalloc => pairs_of(pairs, size, libmimalloc_sys::mi_malloc, libmimalloc_sys::mi_free),
            Route::NullAlone => null_alone(size, pairs),
        }
    }
}

/// Pairs on pages that are present: each new thread starts a chunk of 64 MiB, of which 60 are faulted in first.
fn null_alone(size: usize, mut pairs: u64) -> Duration {
    const PRESENT: usize = 60 << 20;
    let mut total = Duration::ZERO;
    while pairs > 0 {
        let count = pairs.min((PRESENT / (size + 24)) as u64);
        pairs -= count;
        let piece = std::thread::spawn(move || {
            // SAFETY: the block is among the first of the thread's chunk, which has more than PRESENT bytes after the
            // page it is in. Populating changes no contents, and nothing looks at the blocks once they are timed.
            unsafe {
                let page = (libc::malloc(1) as usize).next_multiple_of(4096) as *mut libc::c_void;
                let done = libc::madvise(page, PRESENT, libc::MADV_POPULATE_WRITE);
                assert_eq!(done, 0, "populating the chunk: {}", std::io::Error::last_os_error());
                let time = Route::Libc.time(size, count);
                libc::madvise(page, PRESENT, libc::MADV_DONTNEED);
                time
            }
        });
        total += piece.join().unwrap_or_else(|_| std::process::exit(1));
    }
    total
}

/// A process with a library preloaded that times what it is told to on its standard input.
struct Timer {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

const CHILD: &str = "FRAGBENCH_RAW_ALLOCATORS_CHILD";

impl Timer {
    fn under(library: Option<&Path>) -> std::io::Result<Timer> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(CHILD, "1").stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(library) = library {
            command.env("LD_PRELOAD", library);
        }
        let mut child = command.spawn()?;
        let missing = || std::io::Error::other("the timing process has no pipes");
        let ask = child.stdin.take().ok_or_else(missing)?;
        let answers = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        Ok(Timer { child, ask, answers })
    }

    fn time(&mut self, route: Route, size: usize, pairs: u64) -> std::io::Result<Duration> {
        writeln!(self.ask, "{} {size} {pairs}", route.name())?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let nanoseconds = line.trim().parse().map_err(std::io::Error::other)?;
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Lowest ns a pair of each route, timed in turns.
    fn lowest<const N: usize>(&mut self, routes: [Route; N], size: usize) -> std::io::Result<[f64; N]> {
        let mut lowest = [f64::INFINITY; N];
        for _ in 0..ROUNDS {
            for (route, lowest) in routes.iter().zip(&mut lowest) {
                *lowest = lowest.min(self.time(*route, size, PAIRS)?.as_secs_f64() * 1e9 / PAIRS as f64);
            }
        }
        Ok(lowest)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // A closed input would end it as well; a benchmark leaves nothing behind either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn child() {
    for line in std::io::stdin().lines() {
        let Ok(line) = line else { return };
        let words: Vec<&str> = line.split(' ').collect();
        let [route, size, pairs] = words[..] else { return };
        let route = Route::NAMED.iter().find(|(name, _)| *name == route).map(|(_, route)| *route);
        let (Some(route), Ok(size), Ok(pairs)) = (route, size.parse(), pairs.parse()) else { return };
        println!("{}", route.time(size, pairs).as_nanos());
    }
}

fn main() -> std::io::Result<()> {
    if std::env::var_os(CHILD).is_some() {
        child();
        return Ok(());
    }
    // The benchmark runs from target/release/deps, the libraries stand one above.
    let executable = std::env::current_exe()?;
    let directory = executable.parent().and_then(Path::parent).map_or_else(PathBuf::new, Path::to_path_buf);
    let library = |name: &str| directory.join(format!("libfragbench_{name}.so"));
    if !library("null").exists() {
        return Err(std::io::Error::other("no preload libraries found: run `cargo build --release` first"));
    }

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("malloc_free_pair");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    for (name, crate_route) in
        [("glibc", None), ("jemalloc", Some(Route::Jemalloc)), ("mimalloc", Some(Route::Mimalloc))]
    {
        let preload = crate_route.map(|_| library(name));
        let mut timer = Timer::under(preload.as_deref())?;
        for size in SIZES {
            let mut bench = |label: String, route: Route| {
                group.bench_function(BenchmarkId::new(label, size), |b| {
                    b.iter_custom(|pairs| timer.time(route, size, pairs).expect("the timing process answers"))
                });
            };
            match crate_route {
                None => bench(format!("{name}/libc"), Route::Libc),
                Some(route) => {
                    bench(format!("{name}/crate"), route);
                    bench(format!("{name}/preload"), Route::Libc);
                }
            }
        }
    }
    group.finish();

    println!("\nCost of the shim, ns a pair (lowest of {ROUNDS} rounds in turns, one process):");
    println!("{:>10} {:>8} {:>8} {:>8} {:>6}", "allocator", "bytes", "crate", "preload", "ratio");
    for (name, route) in [("jemalloc", Route::Jemalloc), ("mimalloc", Route::Mimalloc)] {
        let mut timer = Timer::under(Some(&library(name)))?;
        for size in SIZES {
            let [direct, preload] = timer.lowest([route, Route::Libc], size)?;
            println!("{name:>10} {size:>8} {direct:>8.2} {preload:>8.2} {:>6.2}", preload / direct);
        }
    }
    // Not a Criterion benchmark: making the pages present takes longer than the pairs, which Criterion would take for
    // a slow routine and try too few of.
    let mut timer = Timer::under(Some(&library("null")))?;
    for size in [16, 64] {
        let [alone] = timer.lowest([Route::NullAlone], size)?;
        println!("{:>10} {size:>8} {:>8} {alone:>8.2}   (pages present)", "null", "-");
    }
    Ok(())
}

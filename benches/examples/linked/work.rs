//! A small program's work: two threads replace blocks of 16 to 1024 bytes at random among 10,000 live ones each, and write
//! the first byte of each. Prints nanoseconds a pair and the process's peak of resident memory in KiB.

use std::hint::black_box;
use std::time::Instant;

const SLOTS: usize = 10_000;

fn churn(seed: u64, pairs: u64) {
    let mut live: Vec<Vec<u8>> = vec![Vec::new(); SLOTS];
    let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..pairs {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        let slot = (s >> 32) as usize % SLOTS;
        // Freed before the next one is asked for.
        live[slot] = Vec::new();
        let mut block = Vec::with_capacity(16 + (s as usize & 0xffff) % 1009);
        block.push(s as u8);
        live[slot] = block;
    }
    black_box(live);
}

/// See the file.
pub(crate) fn run() {
    let pairs = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(5_000_000u64);
    let begin = Instant::now();
    let threads = [1, 2].map(|seed| std::thread::spawn(move || churn(seed, pairs)));
    threads.into_iter().for_each(|thread| assert!(thread.join().is_ok(), "a thread panicked"));
    let ns = begin.elapsed().as_nanos() as f64 / pairs as f64;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).and_then(|rest| rest.split_whitespace().next());
    println!("{ns:.2} {}", peak.unwrap_or("0"));
}

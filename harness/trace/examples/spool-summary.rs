//! Prints what a spool holds: events by kind and thread, bytes an event, gaps, damage.
//! `cargo run --release -p fragbench-trace --example spool-summary -- FILE…`

use std::collections::BTreeMap;
use std::path::Path;

use fragbench_trace::spool::{Spool, SpoolError, SpoolKind};

fn name(kind: &SpoolKind) -> String {
    let debug = format!("{kind:?}");
    debug.split([' ', '{']).next().unwrap_or_default().to_owned()
}

fn main() -> Result<(), SpoolError> {
    for path in std::env::args().skip(1) {
        let spool = Spool::open(Path::new(&path))?;
        let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
        let (mut events, mut live, mut unseen) = (0u64, std::collections::HashSet::new(), 0u64);
        let mut merged = Vec::new();
        for t in spool.threads() {
            let mut of_thread = spool.events(t);
            for e in of_thread.by_ref() {
                events += 1;
                if events <= 3_000_000 {
                    merged.push(e);
                }
                *kinds.entry(name(&e.kind)).or_default() += 1;
            }
            for d in of_thread.damage() {
                println!("  {} at offset {}", d.kind, d.offset);
            }
        }
        merged.sort_by_key(|e| e.tsc);
        for e in merged {
            match e.kind {
                SpoolKind::Malloc { addr, .. } | SpoolKind::Calloc { addr, .. } | SpoolKind::Aligned { addr, .. } => {
                    live.insert(addr);
                }
                SpoolKind::Free { addr } | SpoolKind::FreeResident { addr, .. } => unseen += !live.remove(&addr) as u64,
                SpoolKind::Realloc { old, new, .. } => {
                    unseen += !live.remove(&old) as u64;
                    live.insert(new);
                }
                _ => {}
            }
        }
        let bytes = spool.len_bytes();
        println!(
            "{path}: {:?} {} threads, {events} events, {bytes} bytes, {:.2} bytes an event",
            String::from_utf8_lossy(&spool.header().comm).trim_end_matches('\0'),
            spool.threads().count(),
            bytes as f64 / events as f64,
        );
        println!("  {kinds:?}\n  live at end {}, unseen frees {unseen} (in time order, first 3 million)", live.len());
        println!("  {:?}\n  gaps {:?}", spool.closing(), spool.gaps());
        spool.damage().iter().for_each(|d| println!("  {} at offset {}, {} bytes", d.kind, d.offset, d.len));
    }
    Ok(())
}

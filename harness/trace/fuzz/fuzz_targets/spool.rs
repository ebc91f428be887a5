//! Any bytes as a spool: opened, and packed into a trace that is whole.
#![no_main]

use fragbench_trace::spool::Spool;
use fragbench_trace::{PackOptions, Totals, Trace, pack_source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(spool) = Spool::from_bytes(bytes.to_vec()) else { return };
    let path = std::env::temp_dir().join(format!("fragbench-fuzz-{}.fbt", std::process::id()));
    pack_source(&spool, &path, &PackOptions::default(), Totals::default()).expect("a spool that opens can be packed");
    let trace = Trace::open(&path).expect("a trace just packed can be opened");
    assert_eq!(trace.verify().expect("it can be read"), []);
    let mut events = trace.events_in_order();
    events.by_ref().for_each(drop);
    assert_eq!(events.damage(), []);
});

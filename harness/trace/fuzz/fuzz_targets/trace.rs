//! Any bytes as a trace file: opened, verified, read in order, summarised.
#![no_main]

use fragbench_trace::Trace;
use fragbench_trace_analysis::stat;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(trace) = Trace::from_bytes(bytes.to_vec()) {
        let _ = (trace.info(), trace.lane_slots(), trace.verify());
        assert!(stat(&trace).events <= trace.events_in_order().count() as u64);
    }
});

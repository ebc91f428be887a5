//! How true a replay was to its recording, in a sentence: a reader must know before trusting its figures.

use fragbench_model::RunRecord;

/// The sentence for a workload, or `None` when it is no replay: how far the highest live bytes strayed from the
/// recording's, how often threads waited for each other, which frees had to be left out. The worst run counts.
pub(crate) fn replay_note(records: &[RunRecord], workload: &str) -> Option<String> {
    let worst = |fact: &str| {
        records
            .iter()
            .filter(|record| record.is_ok() && record.workload == workload)
            .filter_map(|record| record.done.as_ref()?.facts.get(fact).copied())
            .max_by(|a, b| a.abs().total_cmp(&b.abs()))
    };
    let strayed = worst("live_peak_error_ratio")?;
    let mut text = format!(
        "Replayed from a recording: the highest live bytes strayed from it by {:+.1} % at the most",
        strayed * 100.0
    );
    if let Some(skew_us) = worst("skew_us").filter(|&us| us > 0.0) {
        text.push_str(&format!(" (threads within {} ms of recorded time of each other)", skew_us / 1000.0));
    }
    if let Some(waits) = worst("waits") {
        text.push_str(&format!("; threads waited up to {waits:.0} times a run for a block of another"));
    }
    match worst("skipped_unseen_frees") {
        Some(skipped) if skipped > 0.0 => {
            text.push_str(&format!("; {skipped:.0} frees of blocks from before the recording were left out."));
        }
        _ => text.push_str("; no free had to be left out."),
    }
    if let Some(made) = worst("own_adjusts").filter(|n| *n > 0.0) {
        text.push_str(&format!(
            " Under glibc the program's own {made:.0} calls of malloc_trim and mallopt were made as it made them."
        ));
    }
    if let Some(left) = worst("own_adjusts_left_out").filter(|n| *n > 0.0) {
        text.push_str(&format!(
            " Under other allocators the program's own {left:.0} calls of malloc_trim and mallopt, which are glibc's, were left out."
        ));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(workload: &str, facts: &[(&str, f64)]) -> RunRecord {
        let facts: serde_json::Map<String, serde_json::Value> =
            facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        serde_json::from_value(serde_json::json!({
            "schema": 1, "run": 0, "workload": workload, "allocator": "glibc", "settings": {}, "repetition": 0,
            "aa": false, "status": "ok", "started_unix_s": 0, "attempt": 1, "environment": {}, "proof": null,
            "metrics": {}, "phases": [], "load": {}, "sampler_cpu_ratio": null, "samples": null, "cautions": [],
            "done": { "ops": 1, "live_end_bytes": 0, "checksum": 0, "work_ns": 1, "threads_started": 1,
                "harness_vm_bytes": 0, "latency": {}, "facts": facts }
        }))
        .unwrap()
    }

    #[test]
    fn the_worst_run_is_told_and_other_workloads_are_silent() {
        let records = [
            record("replay/a", &[("live_peak_error_ratio", 0.01), ("skipped_unseen_frees", 0.0), ("waits", 3.0)]),
            record("replay/a", &[("live_peak_error_ratio", -0.06), ("skipped_unseen_frees", 7.0), ("waits", 1.0)]),
            record("mysql/b", &[]),
        ];
        let note = replay_note(&records, "replay/a").unwrap();
        assert!(note.contains("-6.0 %") && note.contains("up to 3 times") && note.contains("7 frees"), "{note}");
        assert_eq!(replay_note(&records, "mysql/b"), None);
    }
}

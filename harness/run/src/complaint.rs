//! What an allocator complains of on standard error while the run goes on: a setting that it ignores fails the run, the rest is
//! kept for the reader.
//!
//! Source: jemalloc src/conf.c (`malloc_conf_error`) and src/malloc_io.c (the prefix); mimalloc src/options.c
//! (`mi_option_init`, `_mi_warning_message`).

use fragbench_model::{Caution, CautionKind};

const MOST_LINES: usize = 5;
/// What lines of an allocator's begin with.
const SPEAKERS: [&str; 3] = ["<jemalloc>:", "mimalloc: warning:", "mimalloc: error:"];
/// What tells of a setting that is ignored.
const IGNORED: [&str; 6] = [
    "Invalid conf",
    "Out-of-range conf",
    "Malformed conf",
    "Conf string ends",
    "Unsupported system page size",
    "has an invalid value",
];

fn spoken(stderr: &str) -> impl Iterator<Item = &str> {
    stderr.lines().map(str::trim).filter(|line| SPEAKERS.iter().any(|speaker| line.starts_with(speaker)))
}

/// The line that says that a setting was ignored, if there is one.
pub(crate) fn ignored_setting(stderr: &str) -> Option<&str> {
    spoken(stderr).find(|line| IGNORED.iter().any(|text| line.contains(text)))
}

/// Everything else the allocator wrote, its first lines.
pub(crate) fn caution(stderr: &str) -> Option<Caution> {
    let lines: Vec<&str> = spoken(stderr).take(MOST_LINES).collect();
    (!lines.is_empty()).then(|| Caution {
        kind: CautionKind::Complaint,
        text: format!("the allocator complained on standard error: {}", lines.join("; ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_setting_is_told_from_another_complaint_and_from_what_others_write() {
        let ignored = "note\n<jemalloc>: Invalid conf pair: nosuch:1\n";
        assert_eq!(ignored_setting(ignored), Some("<jemalloc>: Invalid conf pair: nosuch:1"));
        assert!(
            ignored_setting("mimalloc: warning: environment option mimalloc_purge_delay has an invalid value.")
                .is_some()
        );
        let other = "<jemalloc>: Number of CPUs detected is not deterministic. Per-CPU arena disabled.\n";
        assert_eq!(ignored_setting(other), None);
        assert!(caution(other).is_some_and(|c| c.text.contains("not deterministic")));
        assert_eq!(caution("Invalid conf of something else\n"), None);
    }
}

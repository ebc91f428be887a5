//! Several recordings of one load: repetitions of one workload, by which the blocks go in turn.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use fragbench_model::{WorkloadSpec, stem};
use fragbench_trace::{RecordedOn, Trace};

use crate::usage;

/// Further recordings of a load.
#[derive(Debug, Args)]
pub(crate) struct SameLoadOptions {
    /// Further recordings of the same load: the blocks replay the recordings in turn, so that the intervals contain what runs
    /// of the server scatter, which one recording cannot tell
    #[arg(long, value_name = "FILE", num_args = 1..)]
    same_load: Vec<PathBuf>,
}

impl SameLoadOptions {
    /// Whether there are any.
    pub(crate) fn is_given(&self) -> bool {
        !self.same_load.is_empty()
    }

    /// A replay with these recordings beside its own.
    ///
    /// # Errors
    /// A file that is no trace, two of one name, and recordings that were not made alike: their differences would pass for
    /// scatter.
    pub(crate) fn join(&self, mut workload: WorkloadSpec) -> Result<WorkloadSpec> {
        if let WorkloadSpec::Replay { same_load, .. } = &mut workload {
            for file in &self.same_load {
                same_load.push(file.canonicalize().map_err(|error| {
                    usage(format!("--same-load {}: {error}; give a trace of the same load", file.display()))
                })?);
            }
        }
        let mut seen: BTreeMap<String, Alike> = BTreeMap::new();
        let name = workload.name();
        for recording in workload.recordings() {
            let shown = recording.display();
            let trace = Trace::open(recording).map_err(|error| usage(format!("{shown}: {error}")))?;
            let alike = Alike::of(trace.recorded_on());
            if let Some(difference) = seen.values().find_map(|first| first.differs(&alike)) {
                return Err(usage(format!(
                    "--same-load {shown}: {difference}, so it is no repetition of {name}; replay it as a workload of its own"
                )));
            }
            if seen.insert(stem(recording), alike).is_some() {
                return Err(usage(format!(
                    "--same-load: two recordings have the name {}: rename one",
                    stem(recording)
                )));
            }
        }
        Ok(workload)
    }
}

/// Number of recordings that a plan's blocks must be enough for: of the workload that has most.
pub(crate) fn recordings(workloads: &[WorkloadSpec]) -> u32 {
    workloads.iter().map(|workload| workload.recordings().len() as u32).max().unwrap_or(1).max(1)
}

/// Checks that each of `recordings` has a block among `blocks`, which the user asked for; without a wish there are as many as
/// each has equally often.
///
/// # Errors
/// Fewer blocks than recordings.
pub(crate) fn blocks(wished: Option<u32>, usual: u32, recordings: u32) -> Result<u32> {
    match wished {
        Some(blocks) if blocks < recordings => Err(usage(format!(
            "--reps {blocks}: the {recordings} recordings of a load are replayed in turn, a block each: --reps {recordings} or a \
             multiple of it"
        ))),
        Some(blocks) => Ok(blocks),
        None => Ok(usual.next_multiple_of(recordings)),
    }
}

/// What two recordings of one load have in common, as far as they tell.
struct Alike {
    malloc: Option<String>,
    settings: Option<String>,
    huge_pages: Option<bool>,
}

impl Alike {
    fn of(on: &RecordedOn) -> Self {
        Self {
            malloc: on.malloc.as_ref().map(|provider| provider.name.clone()).or_else(|| on.allocator.clone()),
            settings: on.malloc.as_ref().map(|_| on.settings.clone().unwrap_or_default()),
            huge_pages: on.thp_disabled.map(|disabled| !disabled),
        }
    }

    /// Says in what another was made differently; what one does not tell counts as equal.
    fn differs(&self, other: &Self) -> Option<String> {
        fn unlike<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
            a.as_ref().zip(b.as_ref()).is_some_and(|(a, b)| a != b)
        }
        if unlike(&self.malloc, &other.malloc) {
            return Some("it was recorded with another malloc".to_owned());
        }
        if unlike(&self.settings, &other.settings) {
            return Some("it was recorded with other settings of malloc".to_owned());
        }
        unlike(&self.huge_pages, &other.huge_pages)
            .then(|| "one of them was recorded with huge pages switched off, the other not".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use fragbench_trace::Provider;

    use super::*;

    #[test]
    fn every_recording_has_a_block_and_by_default_as_many_as_the_others() {
        assert_eq!(blocks(None, 2, 1).unwrap(), 2);
        assert_eq!(blocks(None, 2, 3).unwrap(), 3);
        assert_eq!(blocks(None, 15, 4).unwrap(), 16);
        assert_eq!(blocks(Some(4), 15, 3).unwrap(), 4, "the user's word counts");
        let error = blocks(Some(2), 15, 3).unwrap_err().to_string();
        assert!(error.contains("--reps 3"), "{error}");
    }

    #[test]
    fn recordings_that_were_not_made_alike_are_no_repetitions() {
        let on = |malloc: &str, settings: Option<&str>, thp_disabled| RecordedOn {
            malloc: Some(Provider { name: malloc.into(), ..Provider::default() }),
            settings: settings.map(str::to_owned),
            thp_disabled,
            ..RecordedOn::default()
        };
        let differs = |a: &RecordedOn, b: &RecordedOn| Alike::of(a).differs(&Alike::of(b));
        let plain = on("libc.so.6", None, Some(true));
        assert_eq!(differs(&plain, &plain), None);
        assert_eq!(differs(&plain, &RecordedOn::default()), None, "an older recording does not tell");
        for (other, word) in [
            (on("libjemalloc.so.2", None, Some(true)), "another malloc"),
            (on("libc.so.6", Some("MALLOC_ARENA_MAX=2"), Some(true)), "other settings"),
            (on("libc.so.6", None, Some(false)), "huge pages"),
        ] {
            let said = differs(&plain, &other);
            assert!(said.as_ref().is_some_and(|said| said.contains(word)), "{word}: {said:?}");
        }
    }
}

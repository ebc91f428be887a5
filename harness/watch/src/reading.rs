//! One look at a process: what the kernel says of it, and a survey of its heap.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fragbench_inspect::{InspectError, survey};
use fragbench_model::HeapBytes;
use fragbench_proc::{LiveTarget, ProcError, Process};
use serde::{Deserialize, Serialize};

/// An arena at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArenaReading {
    /// Whether it is the main arena.
    pub main: bool,
    /// Threads attached; `None` before glibc 2.23.
    pub threads: Option<u64>,
    /// Its bytes by what they are.
    pub bytes: HeapBytes,
}

/// A process at a moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// When, seconds since 1970.
    pub unix_s: f64,
    /// Address space.
    pub vm_bytes: u64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Swapped memory.
    pub swap_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Minor faults since it started.
    pub minor_faults: u64,
    /// Major faults since it started.
    pub major_faults: u64,
    /// The heap; `None` when there is no glibc heap or its memory may not be read.
    pub heap: Option<HeapBytes>,
    /// What `malloc_trim(0)` would release, bytes.
    pub predicted_release_bytes: Option<u64>,
    /// Arenas, the main one first.
    pub arenas: Vec<ArenaReading>,
    /// Why there is no heap.
    pub lacks: Option<String>,
    /// What the survey took, milliseconds.
    pub survey_ms: f64,
}

/// A process that is watched.
#[derive(Debug)]
pub struct Watched {
    target: LiveTarget,
    process: Process,
    name: String,
}

impl Watched {
    /// Begins to watch.
    ///
    /// # Errors
    /// [`ProcError::Gone`] when there is no such process, [`ProcError::Denied`] when its pages may not be looked at.
    pub fn open(pid: u32) -> Result<Watched, ProcError> {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let target = LiveTarget::open(pid)?;
        Ok(Watched { target, process: Process::live(pid), name: name.trim_end().to_owned() })
    }

    /// Looks at it.
    ///
    /// # Errors
    /// [`ProcError::Gone`] when it has ended. A heap that cannot be read is no error but [`Reading::lacks`].
    pub fn read(&self) -> Result<Reading, ProcError> {
        let status = self.process.status()?;
        let times = self.process.times()?;
        let begun = Instant::now();
        let surveyed = survey(&self.target);
        let survey_ms = begun.elapsed().as_secs_f64() * 1e3;
        let (surveyed, lacks) = match surveyed {
            Ok(surveyed) => (Some(surveyed), None),
            Err(InspectError::Proc(ProcError::Gone(path))) => return Err(ProcError::Gone(path)),
            Err(error) => (None, Some(error.to_string())),
        };
        let arenas = surveyed.iter().flat_map(|survey| {
            survey.arenas.iter().enumerate().map(|(i, arena)| ArenaReading {
                main: arena.main,
                threads: arena.threads,
                bytes: survey.arena_bytes(i),
            })
        });
        Ok(Reading {
            pid: self.target.pid(),
            name: self.name.clone(),
            unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
            vm_bytes: status.vm_bytes,
            rss_bytes: status.rss_bytes,
            swap_bytes: status.swap_bytes,
            threads: status.threads,
            minor_faults: times.minor_faults,
            major_faults: times.major_faults,
            arenas: arenas.collect(),
            predicted_release_bytes: surveyed.as_ref().map(|survey| survey.trim().predicted_release_bytes),
            heap: surveyed.map(|survey| survey.bytes()),
            lacks,
            survey_ms,
        })
    }
}

/// How long to wait after a reading: the interval, or longer, so that surveys take at most a tenth of the time.
pub fn pause(interval: Duration, reading: &Reading) -> Duration {
    let took = Duration::from_secs_f64(reading.survey_ms / 1e3);
    interval.saturating_sub(took).max(took * 9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read_and_a_gone_one_is_an_answer() {
        let reading = Watched::open(std::process::id()).unwrap().read().unwrap();
        let heap = reading.heap.unwrap();
        assert!(reading.rss_bytes > 0 && reading.vm_bytes > reading.rss_bytes && heap.live_bytes > 0, "{reading:?}");
        assert_eq!(reading.arenas.iter().filter(|arena| arena.main).count(), 1);
        assert!(reading.predicted_release_bytes.is_some() && reading.lacks.is_none());
        assert!(matches!(Watched::open(999_999_999), Err(ProcError::Gone(_))));
    }

    #[test]
    fn surveys_take_at_most_a_tenth_of_the_time() {
        let reading = |survey_ms| Reading { survey_ms, ..crate::event::tests::reading() };
        let second = Duration::from_secs(1);
        assert_eq!(pause(second, &reading(10.0)), Duration::from_millis(990));
        assert_eq!(pause(second, &reading(400.0)), Duration::from_millis(3600));
    }
}

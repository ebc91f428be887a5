//! One look at a process: what the kernel says of it, whose malloc it uses, and a survey of its heap.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use std::cell::RefCell;
use std::ffi::OsString;

use fragbench_inspect::{InspectError, mallocs, survey};
use fragbench_model::{ArenaReading, Reading, text_of};
use fragbench_proc::{LiveTarget, ProcError, Process};

/// A process that is watched.
#[derive(Debug)]
pub struct Watched {
    pid: u32,
    process: Process,
    started: u64,
    /// Whose malloc it uses, and of which program that was found out: reading its libraries is slow.
    malloc: RefCell<Option<(OsString, Option<String>)>>,
}

impl Watched {
    /// Begins to watch.
    ///
    /// # Errors
    /// [`ProcError::Gone`] when there is no such process, [`ProcError::Denied`] when its pages may not be looked at.
    pub fn open(pid: u32) -> Result<Watched, ProcError> {
        let process = Process::live(pid);
        LiveTarget::open(pid)?;
        Ok(Watched { pid, started: process.times()?.start_ticks, process, malloc: RefCell::default() })
    }

    /// Looks at it.
    ///
    /// # Errors
    /// [`ProcError::Gone`] when it has ended. A heap that cannot be read is no error but [`Reading::lacks`].
    pub fn read(&self) -> Result<Reading, ProcError> {
        // Opened anew each time: after exec, what was opened before shows the address space that is gone.
        let target = LiveTarget::open(self.pid)?;
        let status = self.process.status()?;
        let times = self.process.times()?;
        if times.start_ticks != self.started {
            return Err(ProcError::Gone(format!("/proc/{}", self.pid).into()));
        }
        let name = name_of(self.pid);
        let malloc = self.malloc(&target);
        let begun = Instant::now();
        let surveyed = survey(&target);
        let survey_ms = begun.elapsed().as_secs_f64() * 1e3;
        let (surveyed, lacks) = match surveyed {
            // glibc is there under another allocator too, with a heap that next to nothing is in.
            Ok(_) if malloc.as_deref().is_some_and(|malloc| malloc != "glibc") => {
                let malloc = malloc.as_deref().unwrap_or_default();
                (
                    None,
                    Some(format!(
                        "its malloc is {malloc}'s, whose heap is not glibc's: fragbench inspect {}",
                        self.pid
                    )),
                )
            }
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
            pid: self.pid,
            name,
            unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
            vm_bytes: status.vm_bytes,
            rss_bytes: status.rss_bytes,
            swap_bytes: status.swap_bytes,
            threads: status.threads,
            minor_faults: times.minor_faults,
            major_faults: times.major_faults,
            malloc,
            arenas: arenas.collect(),
            predicted_release_bytes: surveyed.as_ref().map(|survey| survey.trim().predicted_release_bytes),
            heap: surveyed.map(|survey| survey.bytes()),
            lacks,
            survey_ms,
        })
    }
}

impl Watched {
    /// Whose malloc it uses: found out once for a program, since its libraries are read for it.
    fn malloc(&self, target: &LiveTarget) -> Option<String> {
        let program = std::fs::read_link(format!("/proc/{}/exe", self.pid)).unwrap_or_default().into_os_string();
        let mut known = self.malloc.borrow_mut();
        if let Some((of, malloc)) = known.as_ref()
            && *of == program
        {
            return malloc.clone();
        }
        let found = mallocs(target).ok()?;
        let taker = found.iter().find(|malloc| malloc.fact.takes_malloc);
        let malloc = taker.or(found.first()).map(|malloc| malloc.fact.name.clone());
        // Right after exec its libraries are not there yet; that is no answer to keep.
        if malloc.is_some() {
            *known = Some((program, malloc.clone()));
        }
        malloc
    }
}

/// The name a process has given itself, as text. It is bytes to the kernel.
fn name_of(pid: u32) -> String {
    let mut name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    // The kernel ends it with a line's end; the name may have ones of its own.
    if name.last() == Some(&b'\n') {
        name.pop();
    }
    text_of(&name)
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

//! A target that can be looked at until a deadline and not after it, so that a survey of a process that stands still
//! keeps it no longer than was allowed.

use std::io::{Error, ErrorKind};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use fragbench_proc::{LiveTarget, Mapping, Part, ProcError, ProcessFacts, Residency, Target, TargetKind};

pub(crate) struct Bounded<'a> {
    target: &'a LiveTarget,
    deadline: Instant,
}

impl<'a> Bounded<'a> {
    pub(crate) fn new(target: &'a LiveTarget, limit: Duration) -> Self {
        Bounded { target, deadline: Instant::now() + limit }
    }

    fn in_time(&self) -> Result<&LiveTarget, ProcError> {
        if Instant::now() < self.deadline {
            return Ok(self.target);
        }
        let path = Path::new("/proc").join(self.target.pid().to_string());
        Err(ProcError::Io { path, source: Error::from(ErrorKind::TimedOut) })
    }
}

/// Whether an error says that the deadline has passed.
pub(crate) fn is_late(error: &ProcError) -> bool {
    matches!(error, ProcError::Io { source, .. } if source.kind() == ErrorKind::TimedOut)
}

impl Target for Bounded<'_> {
    fn kind(&self) -> TargetKind {
        self.target.kind()
    }

    fn process(&self) -> Result<ProcessFacts, ProcError> {
        self.in_time()?.process()
    }

    fn mappings(&self) -> Result<Vec<Mapping>, ProcError> {
        self.in_time()?.mappings()
    }

    fn page_bytes(&self) -> u64 {
        self.target.page_bytes()
    }

    fn residency(&self, range: Range<u64>) -> Result<Option<Residency>, ProcError> {
        self.in_time()?.residency(range)
    }

    fn read(&self, parts: &mut [Part<'_>]) -> Result<(), ProcError> {
        self.in_time()?.read(parts)
    }

    fn file(&self, mapping: &Mapping) -> Option<Vec<u8>> {
        self.in_time().ok()?.file(mapping)
    }

    fn check(&self) -> Result<(), ProcError> {
        self.in_time()?.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_deadline_nothing_is_read() {
        let me = LiveTarget::open(std::process::id()).unwrap();
        assert!(!Bounded::new(&me, Duration::from_secs(3600)).mappings().unwrap().is_empty());
        let late = Bounded::new(&me, Duration::ZERO);
        let word = 7u64;
        let mut bytes = [0; 8];
        let mut part = [Part::new(&raw const word as u64, &mut bytes)];
        assert!(is_late(&late.read(&mut part).unwrap_err()));
        assert!(!part[0].done && is_late(&late.check().unwrap_err()));
        assert!(!is_late(&ProcError::KernelThread("2".into())));
    }
}

//! Other versions of glibc as an axis: the options that name them, and the worker that runs on all of them.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use fragbench_model::{Cell, Libc};
use fragbench_run::WorkerBinary;

use crate::usage;

/// Which versions, and the program for them.
#[derive(Debug, Args)]
pub(crate) struct GlibcOptions {
    /// Also run glibc as unpacked in DIR, by its own dynamic loader, beside the system's; may be repeated
    /// (harness/glibc/fetch.sh unpacks some of Debian's)
    #[arg(long, value_delimiter = ',', value_name = "DIR")]
    glibc: Vec<PathBuf>,
    /// The worker's program [default: beside this program; with --glibc the one linked for old versions]
    #[arg(long, value_name = "FILE")]
    worker: Option<PathBuf>,
}

impl GlibcOptions {
    /// The versions named on the command line, each with its name in tables.
    pub(crate) fn versions(&self) -> Result<Vec<(String, Libc)>> {
        fragbench_allocators::find_all(&self.glibc).map_err(|error| usage(format!("--glibc: {error}")))
    }

    /// The worker to ask what it can run.
    pub(crate) fn own_worker(&self) -> Result<WorkerBinary> {
        match &self.worker {
            Some(file) if file.is_file() => Ok(WorkerBinary::at(std::path::absolute(file)?)),
            Some(file) => Err(usage(format!(
                "--worker {}: there is no such file; give the path of a fragbench-worker",
                file.display()
            ))),
            None => WorkerBinary::beside_this_program(),
        }
    }

    /// The worker for all of these cells. With another glibc among them it is one linked for old versions, for the cells
    /// on the system's glibc too: they are to differ in the C library only.
    pub(crate) fn worker_for<'a>(&self, cells: impl IntoIterator<Item = &'a Cell>) -> Result<WorkerBinary> {
        let libcs: Vec<&Libc> = cells.into_iter().filter_map(|cell| cell.allocator.libc.as_ref()).collect();
        let own = self.own_worker()?;
        if libcs.is_empty() {
            return Ok(own);
        }
        if self.worker.is_some() {
            own.check_runs_on(&libcs).map_err(|error| {
                usage(format!("--worker: {error}; harness/glibc/worker.sh builds one for old versions"))
            })?;
            return Ok(own);
        }
        let worker = WorkerBinary::for_libcs(&libcs)?;
        let built = |worker: &WorkerBinary| worker.path().metadata().and_then(|file| file.modified());
        if built(&worker)? < built(&own)? {
            note!(
                "{} is older than {}: if the sources have changed since, build it again with harness/glibc/worker.sh",
                worker.path().display(),
                own.path().display()
            );
        }
        Ok(worker)
    }
}

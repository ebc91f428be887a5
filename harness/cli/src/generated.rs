//! Work generated from profiles for a result: `profile:FILE` becomes a trace in the result directory, which is what is
//! replayed, and what is measured to say how far it is from the recording.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fragbench_model::{Manifest, Pace, Profile, ProfileFact, Shape, WorkloadSpec};

use fragbench_trace::{PackOptions, Totals};
use fragbench_trace_analysis::profile::{Length, from_toml, generate};

use crate::usage;

/// Word before a profile's file on the command line.
pub(crate) const PREFIX: &str = "profile:";

/// The workload of a profile file, checked; where its trace will be is not known yet.
pub(crate) fn workload(file: &Path) -> Result<WorkloadSpec> {
    read(file)?;
    let profile = file.canonicalize().with_context(|| format!("{}", file.display()))?;
    Ok(WorkloadSpec::Profile { profile, trace: PathBuf::new(), pace: Pace::Fast })
}

/// Decides where the trace of each profile will be: in the result directory.
pub(crate) fn place(workloads: &mut [WorkloadSpec], dir: &Path) -> Result<()> {
    let dir = std::path::absolute(dir).with_context(|| format!("{}", dir.display()))?.join("profiles");
    for workload in workloads {
        if let WorkloadSpec::Profile { profile, trace, .. } = workload {
            *trace = dir.join(profile.file_stem().unwrap_or_default()).with_extension("fbt");
        }
    }
    Ok(())
}

/// Generates what the plan asks for and is not there yet, and notes in the manifest what it looks like.
pub(crate) fn generate_all(manifest: &mut Manifest) -> Result<()> {
    let Some(driver) = &manifest.common.driver else { return Ok(()) };
    let length = Length { threads: driver.threads, scale: driver.scale, seed: manifest.common.seed };
    for workload in manifest.plan.cells.iter().map(|cell| &cell.workload) {
        let WorkloadSpec::Profile { profile: file, trace, .. } = workload else { continue };
        let known = manifest.profiles.iter().any(|fact| fact.workload == workload.name());
        if known && trace.exists() {
            continue;
        }
        let profile = read(file)?;
        if let Some(dir) = trace.parent() {
            std::fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
        }
        std::fs::copy(file, trace.with_extension("toml")).with_context(|| format!("{}", file.display()))?;
        let generated = build(&profile, &length, trace)?;
        let recording = profile.recording.shape(profile.duration_us);
        let distances = fragbench_trace_analysis::distances(&generated, &recording);
        manifest.profiles.retain(|fact| fact.workload != workload.name());
        manifest.profiles.push(ProfileFact { workload: workload.name(), recording, generated, distances });
    }
    Ok(())
}

/// Reads a profile; what is wrong with it is an error of usage that names file and line.
pub(crate) fn read(file: &Path) -> Result<Profile> {
    let text = std::fs::read_to_string(file).map_err(|error| usage(format!("{}: {error}", file.display())))?;
    from_toml(&text).map_err(|error| usage(format!("{}, {error}", file.display())))
}

/// Generates work, packs it as a trace at `out` and measures its shape.
pub(crate) fn build(profile: &Profile, length: &Length, out: &Path) -> Result<Shape> {
    let program = generate(profile, length);
    let known = Totals { complete: true, ..Totals::default() };
    fragbench_trace::pack_source(&program, out, &PackOptions::default(), known)
        .with_context(|| format!("{} cannot be written", out.display()))?;
    Ok(fragbench_trace_analysis::shape(&crate::cmd::trace::open(out)?, 0..u64::MAX))
}

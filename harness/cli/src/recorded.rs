//! What a recorded server ran with: its provider of malloc and its settings are what a replay's other environments are
//! compared with.

use std::path::{Path, PathBuf};

use anyhow::Result;
use fragbench_model::{Allocator, RecordingFact, Settings, WorkloadSpec, stem};
use fragbench_trace::{RecordedOn, Trace};

use crate::companions;

/// Directories in which distributions keep libraries, below them those named by architecture.
const DIRECTORIES: [&str; 5] = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64"];
/// What the name of a library tells of its family, and the bundled allocator of it.
const FAMILIES: [(&str, &str); 2] = [("jemalloc", "jemalloc"), ("mimalloc", "mimalloc")];

/// The environment that all recordings among these works were made in; `None` where there is none, where they differ, or where
/// it was glibc with default settings.
pub(crate) fn baseline(workloads: &[WorkloadSpec]) -> Result<Option<Allocator>> {
    let mut of_all: Vec<Option<Allocator>> = Vec::new();
    for workload in workloads {
        let WorkloadSpec::Replay { trace, .. } = workload else { return Ok(None) };
        let Ok(opened) = Trace::open(trace) else { return Ok(None) };
        of_all.push(environment(opened.recorded_on(), &workload.name(), true)?);
    }
    let Some(Some(first)) = of_all.first().cloned() else { return Ok(None) };
    let same = of_all.iter().all(|own| own.as_ref().is_some_and(|own| own.is(&first)));
    if !same {
        note!("the recordings were made with different allocators: glibc with default settings is the baseline");
    }
    Ok(same.then_some(first))
}

/// What the servers held that these works were recorded from, where the traces say so.
pub(crate) fn memory(workloads: &[WorkloadSpec]) -> Result<Vec<RecordingFact>> {
    let mut facts = Vec::new();
    for workload in workloads {
        // Copies side by side hold a multiple.
        if !matches!(workload, WorkloadSpec::Replay { threads_scale: 1, .. }) {
            continue;
        }
        let recordings = workload.recordings();
        for trace in &recordings {
            let own = (recordings.len() > 1).then(|| stem(trace));
            facts.extend(held(workload, own, trace)?);
        }
    }
    Ok(facts)
}

fn held(workload: &WorkloadSpec, recording: Option<String>, trace: &Path) -> Result<Option<RecordingFact>> {
    let Ok(opened) = Trace::open(trace) else { return Ok(None) };
    let Ok(Some(series)) = opened.memory() else { return Ok(None) };
    let Some(summary) = series.summary() else { return Ok(None) };
    let (Some(heap_peak_bytes), Some(heap_mean_bytes), Some(heap_end_bytes)) =
        (summary.heap_peak_bytes, summary.heap_mean_bytes, summary.heap_end_bytes)
    else {
        return Ok(None);
    };
    let (allocator, settings) = match environment(opened.recorded_on(), &workload.name(), false)? {
        Some(allocator) => (allocator.name, allocator.settings),
        None => (fragbench_decide::BASELINE.to_owned(), Settings::new()),
    };
    Ok(Some(RecordingFact {
        workload: workload.name(),
        recording,
        allocator,
        settings,
        heap_peak_bytes,
        heap_mean_bytes,
        heap_end_bytes,
        samples: series.samples.iter().filter_map(|s| Some((s.at_us, s.heap_bytes?))).collect(),
    }))
}

/// What a recording was made with, where it is not glibc with default settings; `aloud`: what had to give way is said.
fn environment(on: &RecordedOn, name: &str, aloud: bool) -> Result<Option<Allocator>> {
    let say = |text: String| {
        if aloud {
            note!("{text}");
        }
    };
    let libraries = companions::libraries()?;
    let settings = on.settings.as_deref().map(parse).unwrap_or_default();
    let Some((request, stand_in)) = request(on) else {
        return Ok(None);
    };
    let resolve = |settings: &Settings| fragbench_allocators::resolve(&request, settings, &libraries);
    let Ok(plain) = resolve(&Settings::new()) else { return Ok(None) };
    let own = settings.into_iter().filter(|(key, _)| fragbench_allocators::accepts(plain.kind, key)).collect();
    let allocator = resolve(&own).unwrap_or_else(|error| {
        say(format!("{name} was recorded with settings that are not understood here ({error}); the baseline has none"));
        plain
    });
    if let Some(missing) = stand_in {
        say(format!(
            "{name} was recorded with {missing}, which is not found here: {} stands in for it",
            allocator.label()
        ));
    }
    let plain_glibc = fragbench_decide::is_plain_glibc(&allocator.name, &allocator.settings);
    Ok((!plain_glibc).then_some(allocator))
}

/// How the provider of a recording is asked for, and its name where another stands in for it; `None` where it is not known.
fn request(on: &RecordedOn) -> Option<(String, Option<String>)> {
    let provider = on.malloc.as_ref().map(|p| p.name.clone()).or_else(|| on.allocator.clone());
    let Some(name) = provider.filter(|name| !is_libc(name)) else {
        return Some((fragbench_decide::BASELINE.to_owned(), None));
    };
    if let Some(path) = find(&name) {
        return Some((format!("{name}={}", path.display()), None));
    }
    let family = FAMILIES.iter().find(|(part, _)| name.contains(part))?.1;
    Some((family.to_owned(), Some(name)))
}

fn is_libc(name: &str) -> bool {
    name == "libc.so.6" || name.starts_with("libc-2.")
}

/// A library of this name where the dynamic linker would look.
fn find(name: &str) -> Option<PathBuf> {
    let below = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    };
    DIRECTORIES
        .iter()
        .map(Path::new)
        .flat_map(|dir| std::iter::once(dir.to_owned()).chain(below(dir)))
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// `NAME=value` separated by blanks. Tunables of other parts of the C library than malloc are left out.
fn parse(text: &str) -> Settings {
    text.split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| match key {
            "GLIBC_TUNABLES" => {
                let own: Vec<&str> = value.split(':').filter(|pair| pair.starts_with("glibc.malloc.")).collect();
                (key.to_owned(), own.join(":"))
            }
            _ => (key.to_owned(), value.to_owned()),
        })
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fragbench_trace::Provider;

    fn recorded_with(name: &str) -> RecordedOn {
        let malloc = Provider { name: name.to_owned(), ..Provider::default() };
        RecordedOn { malloc: Some(malloc), ..RecordedOn::default() }
    }

    #[test]
    fn a_provider_that_is_not_here_has_a_stand_in_of_its_family_or_none() {
        assert_eq!(request(&recorded_with("libc.so.6")), Some(("glibc".into(), None)));
        assert_eq!(request(&RecordedOn::default()), Some(("glibc".into(), None)), "an older recording");
        let missing = "libjemalloc.so.999";
        assert_eq!(request(&recorded_with(missing)), Some(("jemalloc".into(), Some(missing.into()))));
        assert_eq!(request(&recorded_with("libnobody.so.999")), None);
    }

    #[test]
    fn settings_are_parted_at_blanks() {
        let settings = parse("GLIBC_TUNABLES=glibc.malloc.tcache_count=0 MALLOC_ARENA_MAX=2");
        assert_eq!(settings["GLIBC_TUNABLES"], "glibc.malloc.tcache_count=0");
        assert_eq!(settings["MALLOC_ARENA_MAX"], "2");
        let mixed = "GLIBC_TUNABLES=glibc.pthread.stack_cache_size=0:glibc.malloc.mxfast=0";
        assert_eq!(parse(mixed)["GLIBC_TUNABLES"], "glibc.malloc.mxfast=0");
        assert!(parse("GLIBC_TUNABLES=glibc.pthread.stack_cache_size=0").is_empty(), "nothing of malloc's");
    }
}

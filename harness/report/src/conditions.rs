//! Under which conditions the figures of a result were obtained, in a few words for the first screen.

use fragbench_model::{GlibcVersion, Host, RunRecord};

use crate::ResultData;
use crate::server::recordings_note;
use crate::units::bytes;

/// Without the revision that jemalloc adds to its version.
fn short(version: &str) -> &str {
    version.split_once('-').map_or(version, |(version, _)| version)
}

/// What bears on every figure and stands on the first screen: clock, huge pages, versions of the allocators.
pub fn conditions(data: &ResultData) -> Vec<String> {
    let distinct = |mut words: Vec<String>| {
        words.sort();
        words.dedup();
        words.join(", ")
    };
    let m = &data.manifest;
    let mut facts = Vec::new();
    let paces = distinct(m.plan.cells.iter().filter_map(|c| Some(c.workload.pace()?.to_string())).collect());
    if !paces.is_empty() {
        facts.push(format!("pace {paces}"));
    }
    let pages = distinct(m.huge_pages.iter().map(|fact| fact.used.name().to_owned()).collect());
    if !pages.is_empty() {
        facts.push(format!("huge pages {pages}"));
    }
    let version = |r: &RunRecord| Some(format!("{} {}", r.allocator, short(&r.proof.as_ref()?.version)));
    let versions = distinct(data.records.iter().filter(|r| r.allocator != "null").filter_map(version).collect());
    facts.extend((!versions.is_empty()).then_some(versions));
    facts.extend(recordings_note(&m.plan));
    let libc = m.libraries.iter().find(|library| library.name == "libc").and_then(|libc| libc.version.as_ref());
    facts.extend(limits(&m.host, libc.and_then(|version| version.parse().ok())));
    facts
}

/// What the control group allowed, where it limits anything: glibc counts all processors that are online.
fn limits(host: &Host, libc: Option<GlibcVersion>) -> Option<String> {
    let online = host.online_cpus.unwrap_or(host.cpus);
    let arenas = libc.map(|version| version.default_arena_limit(online));
    let quota = host.cgroup_cpu_quota.map(|quota| {
        let arenas = arenas.map(|n| format!(", and makes up to {n} arenas where no limit is set")).unwrap_or_default();
        format!("the time of {quota} processors (glibc counts {online}{arenas})")
    });
    let memory = [("memory.max", host.cgroup_memory_limit_bytes), ("memory.high", host.cgroup_memory_high_bytes)];
    let allowed: Vec<String> = quota
        .into_iter()
        .chain(host.cgroup_cpuset.as_ref().map(|list| format!("processors {list} of {online}")))
        .chain(memory.into_iter().filter_map(|(name, limit)| Some(format!("{name} {}", bytes(limit? as f64)))))
        .collect();
    (!allowed.is_empty()).then(|| format!("the control group allows {}", allowed.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_the_control_group_are_told_and_arenas_set_against_the_quota() {
        let host = Host {
            cpus: 4,
            online_cpus: Some(64),
            cgroup_cpu_quota: Some(2.0),
            cgroup_memory_limit_bytes: Some(4 << 30),
            ..Host::default()
        };
        let of = |host: &Host, version: &str| limits(host, version.parse().ok());
        let text = of(&host, "2.36").unwrap();
        assert!(text.contains("2 processors (glibc counts 64, and makes up to 512 arenas"), "{text}");
        assert!(text.contains("memory.max 4 GiB"), "{text}");
        assert!(of(&host, "2.44").unwrap().contains("up to 64 arenas"));
        assert_eq!(of(&Host { cpus: 64, ..Host::default() }, "2.36"), None, "nothing is limited");
    }
}

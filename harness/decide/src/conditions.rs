//! Under which different conditions two results were obtained, from their manifests. A difference is named with the figures
//! it bears on; whether the work was the same is not asked here but of the runs themselves.

use fragbench_model::{ConditionDiff, Manifest, WorkloadSpec};

/// A condition as it was: what, the value where it is known, what it bears on.
type Fact = (String, Option<String>, &'static str);

/// The conditions that differ, those of the machine first. One that only a single manifest has, such as the library of an
/// allocator that the other did not run, is none.
pub(crate) fn conditions(a: &Manifest, b: &Manifest) -> Vec<ConditionDiff> {
    let of_b = facts(b);
    facts(a)
        .into_iter()
        .filter_map(|(what, value, bears_on)| {
            let (_, other, _) = of_b.iter().find(|(known, ..)| *known == what)?;
            (value != *other).then(|| ConditionDiff { what, a: value, b: other.clone(), bears_on: bears_on.to_owned() })
        })
        .collect()
}

fn facts(m: &Manifest) -> Vec<Fact> {
    const TIME: &str = "time";
    const BOTH: &str = "memory and time";
    const WORK: &str = "the work itself";
    let (host, common) = (&m.host, &m.common);
    let mut facts: Vec<Fact> = vec![
        ("CPU".into(), host.cpu.clone(), TIME),
        ("CPUs".into(), Some(host.cpus.to_string()), "time, and glibc's arena limit"),
        ("processor quota".into(), host.cgroup_cpu_quota.map(|quota| quota.to_string()), TIME),
        ("frequency governor".into(), host.governor.clone(), TIME),
        ("virtual machine".into(), host.virtualised.map(|is| is.to_string()), TIME),
        ("kernel".into(), Some(host.kernel.clone()), BOTH),
        ("operating system".into(), host.os.clone(), BOTH),
        ("transparent huge pages".into(), host.thp.clone(), BOTH),
        ("overcommit".into(), host.overcommit.map(|mode| mode.to_string()), "address space"),
        ("fragbench".into(), Some(version(m)), "how the work is done and measured"),
        ("profile".into(), Some(m.profile.clone()), WORK),
        ("seed".into(), Some(m.plan.seed.to_string()), WORK),
        ("quiet time".into(), Some(format!("{} ms", common.idle_ms)), "idle memory"),
        ("time between samples".into(), Some(format!("{} ms", m.sample_interval_ns as f64 / 1e6)), "peaks"),
    ];
    if let Some(driver) = &common.driver {
        let threads = driver.threads.map_or("the workload's own".into(), |n| n.to_string());
        facts.extend([
            ("scale".into(), Some(driver.scale.to_string()), WORK),
            ("threads".into(), Some(threads), WORK),
            ("huge pages allowed".into(), Some(driver.thp.name().to_owned()), BOTH),
            ("monitor's allocations a second".into(), Some(driver.monitor_calls.to_string()), "idle memory, polled"),
            ("one call in N timed".into(), Some(driver.latency_every.to_string()), "latency and time"),
        ]);
    }
    facts.extend(m.libraries.iter().map(|library| {
        let id = library.build_id.as_ref().map(|id| format!("build id {}", id.get(..12).unwrap_or(id)));
        let parts: Vec<String> = library.version.iter().cloned().chain(id).collect();
        let bears_on = if library.name == "worker" { "how the work is done" } else { BOTH };
        (library.name.clone(), (!parts.is_empty()).then(|| parts.join(", ")), bears_on)
    }));
    for workload in m.plan.cells.iter().map(|cell| &cell.workload) {
        for (what, value) in variable_parts(workload) {
            let what = format!("{what} of {}", workload.name());
            if !facts.iter().any(|(known, ..)| *known == what) {
                facts.push((what, value, WORK));
            }
        }
    }
    facts
}

fn version(m: &Manifest) -> String {
    m.revision.as_ref().map_or(m.version.clone(), |revision| format!("{} ({revision})", m.version))
}

/// What may differ between two works of one name.
fn variable_parts(workload: &WorkloadSpec) -> Vec<(&'static str, Option<String>)> {
    match workload {
        WorkloadSpec::Named { parameters, .. } => {
            let set: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
            vec![("parameters", Some(set.join(" ")))]
        }
        WorkloadSpec::Replay { skew_us, threads_scale, same_load, .. } => vec![
            ("recordings", Some((1 + same_load.len()).to_string())),
            ("skew (0: from the trace)", Some(format!("{skew_us} µs"))),
            ("copies side by side", Some(threads_scale.to_string())),
        ],
        WorkloadSpec::Profile { .. } => Vec::new(),
        WorkloadSpec::Command { command } => vec![
            ("command line", Some(command.words.join(" "))),
            ("preparation", command.prepare.clone()),
            ("load", command.server.as_ref().map(|server| server.load.clone())),
        ],
    }
}

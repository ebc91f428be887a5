//! Transparent huge pages of a measurement: as the server has them that each workload stands for, or as the user says.

use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use fragbench_model::{Allocator, HugePages, HugePagesFact, HugePagesSource, WorkloadSpec};

use crate::usage;

/// Which transparent huge pages the workers get.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ThpChoice {
    /// As the recorded server had them, or as the modelled server has them, as far as this machine can.
    #[default]
    Follow,
    /// None.
    Off,
    /// Where a process asks for them with madvise.
    Madvise,
    /// Anywhere.
    On,
}

/// First Linux on which a process can keep to huge pages it asked for while the system grants them anywhere
/// (`PR_THP_DISABLE_EXCEPT_ADVISED` of prctl(2)).
const EXCEPT_ADVISED_SINCE: (u32, u32) = (6, 18);

/// What this machine can give.
struct Able {
    /// `None`: its word is not known.
    system: Option<HugePages>,
    except_advised: bool,
}

impl Able {
    fn here() -> Self {
        let machine = fragbench_proc::machine_facts(Path::new("/"));
        Self {
            system: machine.thp.as_deref().and_then(HugePages::of_system),
            except_advised: machine
                .kernel
                .as_deref()
                .and_then(release)
                .is_some_and(|release| release >= EXCEPT_ADVISED_SINCE),
        }
    }

    /// The most that is wanted and can be had.
    fn most(&self, wanted: HugePages) -> HugePages {
        let system = self.system.unwrap_or(HugePages::Off);
        match wanted.min(system) {
            // What lies between none and all needs the kernel's help.
            HugePages::Madvise if system == HugePages::On && !self.except_advised => HugePages::On,
            pages => pages,
        }
    }
}

/// Major and minor number in `uname -srm`.
fn release(kernel: &str) -> Option<(u32, u32)> {
    let mut parts = kernel.split_whitespace().nth(1)?.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Huge pages of each workload's runs.
///
/// # Errors
/// When the user asks for what this machine cannot give, or an allocator has a setting that would do nothing.
pub(crate) fn facts(
    choice: ThpChoice,
    workloads: &[WorkloadSpec],
    allocators: &[Allocator],
) -> Result<Vec<HugePagesFact>> {
    let able = Able::here();
    let facts = workloads
        .iter()
        .map(|workload| {
            let (server, source) = match workload {
                WorkloadSpec::Replay { trace, .. } => (of_recording(trace), HugePagesSource::Recording),
                other => (of_model(other, able.system), HugePagesSource::Server),
            };
            Ok(HugePagesFact {
                workload: workload.name(),
                used: decide(choice, server, &able)?,
                server,
                source: server.map(|_| source),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    if let Some(without) = facts.iter().find(|fact| fact.used == HugePages::Off) {
        for allocator in allocators {
            if let Some(setting) = fragbench_allocators::asks_for_huge_pages(allocator) {
                return Err(usage(format!(
                    "{} with {setting}: it would do nothing, because {} runs without transparent huge pages{}; add --thp \
                     madvise, or leave the setting out",
                    allocator.name,
                    without.workload,
                    if without.server == Some(HugePages::Off) { ", as its server does" } else { "" }
                )));
            }
        }
    }
    Ok(facts)
}

fn decide(choice: ThpChoice, server: Option<HugePages>, able: &Able) -> Result<HugePages> {
    let wanted = match choice {
        // Of a recording that does not say, MariaDB's way is assumed: what recordings were made of before they said.
        ThpChoice::Follow => return Ok(able.most(server.unwrap_or(HugePages::Off))),
        ThpChoice::Off => HugePages::Off,
        ThpChoice::Madvise => HugePages::Madvise,
        ThpChoice::On => HugePages::On,
    };
    if able.most(wanted) != wanted {
        let word = if wanted == HugePages::On { "always" } else { "madvise" };
        return Err(usage(format!(
            "--thp {}: this machine does not grant it; as root: echo {word} > {}",
            wanted.name(),
            "/sys/kernel/mm/transparent_hugepage/enabled"
        )));
    }
    Ok(wanted)
}

/// What the recorded process had; `None` where the trace does not say.
fn of_recording(trace: &Path) -> Option<HugePages> {
    let trace = fragbench_trace::Trace::open(trace).ok()?;
    let on = trace.recorded_on();
    match on.thp_disabled? {
        true => Some(HugePages::Off),
        false => HugePages::of_system(on.thp_enabled.as_deref()?),
    }
}

/// What a server of the workload's flavor has on this machine: MariaDB switches them off for itself, MySQL leaves them as they
/// are.
///
/// Source: `sql/mysqld.cc` of MariaDB 10.11, `main`: `prctl(PR_SET_THP_DISABLE, 1, …)`.
fn of_model(workload: &WorkloadSpec, system: Option<HugePages>) -> Option<HugePages> {
    let WorkloadSpec::Named { name, parameters, .. } = workload else { return None };
    if !name.starts_with("mysql/") {
        return None;
    }
    let mysql = parameters.get("flavor").is_some_and(|flavor| flavor.starts_with("mysql"));
    if mysql { system } else { Some(HugePages::Off) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn able(system: HugePages, except_advised: bool) -> Able {
        Able { system: Some(system), except_advised }
    }

    #[test]
    fn a_replay_follows_its_server_as_far_as_the_machine_can() {
        use HugePages::{Madvise, Off, On};
        let follow = |server, able: &Able| decide(ThpChoice::Follow, server, able).unwrap();
        for (server, system, except_advised, used) in [
            (Some(Off), On, true, Off),
            (Some(Madvise), Madvise, false, Madvise),
            (Some(Madvise), On, true, Madvise),
            (Some(Madvise), On, false, On),
            (Some(Madvise), Off, true, Off),
            (Some(On), Madvise, true, Madvise),
            (Some(On), On, false, On),
            (None, On, true, Off),
        ] {
            assert_eq!(follow(server, &able(system, except_advised)), used, "{server:?} on {system:?}");
        }
    }

    #[test]
    fn what_the_user_asks_for_is_given_or_refused() {
        use HugePages::{Madvise, On};
        assert_eq!(decide(ThpChoice::Off, Some(On), &able(On, true)).unwrap(), HugePages::Off);
        assert_eq!(decide(ThpChoice::On, None, &able(On, true)).unwrap(), On);
        for (choice, able) in [
            (ThpChoice::On, able(Madvise, true)),
            (ThpChoice::Madvise, able(HugePages::Off, true)),
            (ThpChoice::Madvise, able(On, false)),
        ] {
            let error = decide(choice, None, &able).unwrap_err().to_string();
            assert!(error.contains("echo ") && error.contains("transparent_hugepage/enabled"), "{error}");
        }
    }

    #[test]
    fn releases() {
        assert_eq!(release("Linux 6.18.44-fc x86_64"), Some((6, 18)));
        assert_eq!(release("Linux 6.1.0-13-amd64 x86_64"), Some((6, 1)));
        assert_eq!(release("Linux"), None);
    }
}

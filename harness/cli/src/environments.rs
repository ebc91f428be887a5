//! Environments as options: allocators, arena limits, settings, and what they become.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Args;
use fragbench_allocators::{Choice, TRIM_EVERY};
use fragbench_model::{Allocator, AllocatorKind, GlibcVersion, Libc, Settings};

use crate::{companions, usage};

/// Which environments.
#[derive(Debug, Args)]
pub(crate) struct EnvironmentOptions {
    /// Allocators: glibc, jemalloc, mimalloc, null, or NAME=/path/lib.so
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    allocator: Vec<String>,
    /// MALLOC_ARENA_MAX values for glibc; `default` leaves it unset [default: default,1,2,4 beside a
    /// fixed trim threshold and trimming every second; of a command default,2]
    #[arg(long, value_delimiter = ',', value_name = "N")]
    arena_max: Vec<String>,
    /// Emulate a server of N cores: where glibc's arena limit is not set, set it to its default there, 8 × N; from glibc
    /// 2.44 on N, and at least 8
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    cores: Option<u32>,
    /// A variable of an allocator's environment (MALLOC_…, glibc.malloc.…, MALLOC_CONF, MIMALLOC_…); adds a cell
    /// with it beside the default. Each --setting
    /// is a cell of its own; 'A=1 + B=2' is one cell with both
    #[arg(long, value_name = "KEY=VALUE")]
    setting: Vec<String>,
}

impl EnvironmentOptions {
    /// Allocators in the order of the tables, `usual` ones where none is named, with the settings of glibc in `sweep` where no
    /// arena limit is given: each with default settings, glibc with each arena limit, then the
    /// variants that `--setting` asks for; after the system's glibc, each other one in the same way.
    pub(crate) fn allocators(
        &self,
        versions: &[(String, Libc)],
        usual: &[&str],
        sweep: &[Choice],
    ) -> Result<Vec<Allocator>> {
        let names: Vec<String> = if self.allocator.is_empty() {
            usual.iter().map(|name| (*name).to_owned()).collect()
        } else {
            self.allocator.clone()
        };
        let sweep = self.of_glibc(sweep)?;
        let settings = self.settings()?;
        let mut used = BTreeSet::new();
        let mut allocators: Vec<Allocator> = Vec::new();
        let mut seen = BTreeSet::new();
        let libraries = companions::libraries()?;
        for name in &names {
            let resolve = |settings: &Settings| {
                let resolved = fragbench_allocators::resolve(name, settings, &libraries);
                resolved.map_err(|error| usage(format!("--allocator {name}: {error}")))
            };
            let plain = resolve(&Settings::new())?;
            if !seen.insert(plain.name.clone()) {
                return Err(usage(format!("--allocator names `{}` twice", plain.name)));
            }
            let mut variants: Vec<Settings> =
                if plain.kind == AllocatorKind::Glibc { sweep.clone() } else { vec![Settings::new()] };
            for chosen in &settings {
                // Of settings that were joined an allocator takes its own.
                let own: Settings = chosen
                    .iter()
                    .filter(|(key, _)| fragbench_allocators::accepts(plain.kind, key))
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect();
                used.extend(own.keys().cloned());
                variants.extend((!own.is_empty() && !variants.contains(&own)).then_some(own));
            }
            for settings in &variants {
                allocators.push(resolve(settings)?);
            }
            for (name, libc) in versions.iter().filter(|_| plain.kind == AllocatorKind::Glibc) {
                // The library that trims is there for the system's glibc only.
                for settings in variants.iter().filter(|settings| !settings.contains_key(TRIM_EVERY)) {
                    allocators.push(fragbench_allocators::resolve_glibc(name, libc, settings).map_err(usage)?);
                }
            }
        }
        if !versions.is_empty() && !allocators.iter().any(|a| a.kind == AllocatorKind::Glibc) {
            return Err(usage("--glibc names versions of glibc, which --allocator leaves out; add glibc to it"));
        }
        if !self.arena_max.is_empty() && !allocators.iter().any(|a| a.kind == AllocatorKind::Glibc) {
            return Err(usage("--arena-max is a setting of glibc, which --allocator leaves out; add glibc to it"));
        }
        if let Some(cores) = self.cores {
            let mut glibc = allocators.iter_mut().filter(|a| a.kind == AllocatorKind::Glibc).peekable();
            if glibc.peek().is_none() {
                return Err(usage("--cores sets glibc's arena limit, and --allocator leaves glibc out; add it"));
            }
            glibc.try_for_each(|allocator| emulate_cores(allocator, cores))?;
        }
        if let Some(key) = settings.iter().flat_map(Settings::keys).find(|key| !used.contains(*key)) {
            return Err(usage(format!(
                "--setting {key}: none of {} has it; glibc takes MALLOC_… and glibc.malloc.…, jemalloc MALLOC_CONF, \
                 mimalloc MIMALLOC_…",
                names.join(", ")
            )));
        }
        Ok(allocators)
    }

    /// The settings of glibc that are tried without `--setting`.
    fn of_glibc(&self, sweep: &[Choice]) -> Result<Vec<Settings>> {
        if self.arena_max.is_empty() {
            return Ok(sweep.iter().map(|choice| fragbench_allocators::settings(choice)).collect());
        }
        Ok(self.arena_limits()?.iter().map(arena_limit_setting).collect())
    }

    fn arena_limits(&self) -> Result<Vec<Option<String>>> {
        let mut limits = Vec::new();
        for text in &self.arena_max {
            let limit = match (text.as_str(), text.parse::<u32>()) {
                ("default", _) => None,
                (_, Ok(n)) if n > 0 => Some(n.to_string()),
                _ => {
                    return Err(usage(format!(
                        "--arena-max {text}: write `default` or a number from 1 to {}",
                        u32::MAX
                    )));
                }
            };
            if limits.contains(&limit) {
                return Err(usage(format!("--arena-max names {text} twice")));
            }
            limits.push(limit);
        }
        Ok(limits)
    }

    /// One set of settings for each `--setting`.
    fn settings(&self) -> Result<Vec<Settings>> {
        let mut all: Vec<Settings> = Vec::new();
        for text in &self.setting {
            let joined = joined(text)?;
            if all.contains(&joined) {
                return Err(usage(format!("--setting {text} is given twice")));
            }
            all.push(joined);
        }
        Ok(all)
    }
}

/// Settings that are joined by ` + `, each `KEY=VALUE`; a value may hold commas and colons.
fn joined(text: &str) -> Result<Settings> {
    let mut settings = Settings::new();
    for part in text.split(" + ") {
        let (key, value) = part.trim().split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
            usage(format!("--setting {text}: write KEY=VALUE, or 'KEY=VALUE + KEY=VALUE' for both in one cell"))
        })?;
        if settings.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(usage(format!("--setting {text}: {key} is given twice")));
        }
    }
    Ok(settings)
}

/// No setting for glibc's default.
fn arena_limit_setting(limit: &Option<String>) -> Settings {
    limit.iter().map(|n| (fragbench_allocators::ARENA_MAX.to_owned(), n.clone())).collect()
}

/// Gives glibc the arena limit it would have on a machine of `cores` cores, unless its settings have one. Not a setting of
/// the cell: it stands for the default of the release that the cell runs on.
fn emulate_cores(allocator: &mut Allocator, cores: u32) -> Result<()> {
    let tuned = allocator.environment.get("GLIBC_TUNABLES").is_some_and(|t| t.contains("glibc.malloc.arena_max"));
    if !tuned && !allocator.environment.contains_key("MALLOC_ARENA_MAX") {
        let version = allocator.libc.as_ref().map_or_else(crate::sys::libc_version, |libc| libc.version.clone());
        let release: GlibcVersion = version.parse().map_err(usage)?;
        let limit = release.default_arena_limit(cores);
        allocator.environment.insert("MALLOC_ARENA_MAX".into(), limit.to_string());
        allocator.notes.push(format!("arena limit {limit}, the default of glibc {release} on {cores} cores"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_machine_has_the_arena_limit_of_the_release() {
        let limit = |version: &str, settings: &[(&str, &str)]| {
            let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let file = std::path::PathBuf::from("/x/libc.so.6");
            let libc = Libc { version: version.into(), build_id: None, loader: file.clone(), file };
            let mut allocator = fragbench_allocators::resolve_glibc("glibc", &libc, &settings).unwrap();
            emulate_cores(&mut allocator, 16).unwrap();
            allocator.environment.get("MALLOC_ARENA_MAX").cloned()
        };
        assert_eq!(limit("2.43", &[]).as_deref(), Some("128"));
        assert_eq!(limit("2.44", &[]).as_deref(), Some("16"));
        assert_eq!(limit("2.44", &[("MALLOC_ARENA_MAX", "2")]).as_deref(), Some("2"));
        assert_eq!(limit("2.44", &[("glibc.malloc.arena_max", "2")]), None);
    }

    #[test]
    fn settings_are_joined_where_the_user_joins_them() {
        let of = |text: &str| joined(text).map_err(|e| e.to_string());
        let both = of("glibc.malloc.tcache_count=0 + MALLOC_ARENA_MAX=2").unwrap();
        assert_eq!((both.len(), both["MALLOC_ARENA_MAX"].as_str()), (2, "2"));
        assert_eq!(of("MALLOC_CONF=a:b,c:d").unwrap()["MALLOC_CONF"], "a:b,c:d");
        for wrong in ["A", "=1", "A=1 + B", "A=1 + A=2"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}

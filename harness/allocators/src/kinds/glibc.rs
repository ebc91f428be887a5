//! glibc's malloc (ptmalloc): nothing is preloaded; settings are its variables and tunables.
//!
//! Takes `MALLOC_*` variables under the exact names glibc reads (most end in an underscore, which is easily
//! forgotten and then silently ignored), single tunables (`glibc.malloc.tcache_count`) and whole `GLIBC_TUNABLES`
//! strings. A tunable and the variable that means the same may not both be given.
//!
//! A glibc other than the system's has a name with its version, and its notes say what that version makes of a setting.
//!
//! Source: `elf/dl-tunables.list` and the manual's "Memory Allocation Tunables" of glibc 2.26 to 2.43; mallopt(3).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use fragbench_model::{AllocatorKind, GlibcVersion, Settings, glibc};

use crate::setting::{Interpreted, nearest};
use crate::{AllocatorError, Builtin};

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "glibc",
    kind: AllocatorKind::Glibc,
    library: None,
    manifest: None,
    summary: "the C library's own malloc, as installed",
    source: "GNU C Library, malloc/malloc.c",
};

/// The setting behind `--arena-max`.
pub const ARENA_MAX: &str = "MALLOC_ARENA_MAX";
/// The setting that has `malloc_trim(0)` called at an interval, in milliseconds: a library of our own is preloaded that does
/// it, malloc stays glibc's.
pub const TRIM_EVERY: &str = "FRAGBENCH_TRIM_EVERY_MS";
/// That library, beside the program.
pub(crate) const TRIM_LIBRARY: &str = "libfragbench_trim.so";
/// A day.
const TRIM_EVERY_MOST_MS: u64 = 86_400_000;
const TUNABLES: &str = "GLIBC_TUNABLES";
const PREFIX: &str = "glibc.malloc.";
/// The name spaces of tunables beside malloc's (elf/dl-tunables.list and those of the architectures).
const SPACES: [&str; 7] =
    ["glibc.cpu.", "glibc.elf.", "glibc.elision.", "glibc.gmon.", "glibc.mem.", "glibc.pthread.", "glibc.rtld."];

/// A tunable of malloc.
struct Knob {
    /// Without `glibc.malloc.`.
    name: &'static str,
    /// The variable that means the same.
    variable: Option<&'static str>,
    /// Whether setting it ends the dynamic adjustment of the mmap and trim thresholds (`do_set_mmap_threshold` and its
    /// neighbours in malloc.c set `mp_.no_dyn_threshold`).
    freezes: bool,
    /// First version that knows it.
    since: GlibcVersion,
    /// First version in which it does nothing any more, and why.
    until: Option<(GlibcVersion, &'static str)>,
    /// The greatest value that each version from the one named takes, ascending; a greater one is ignored in silence.
    most: &'static [(GlibcVersion, u64)],
}

impl Knob {
    /// The greatest value this version takes; where the version is not known the greatest that any does.
    fn most(&self, version: Option<GlibcVersion>) -> Option<u64> {
        let of = |(since, _): &&(GlibcVersion, u64)| version.is_none_or(|version| version >= *since);
        self.most.iter().rev().find(of).or(self.most.first()).map(|(_, most)| *most)
    }
}

/// Versions before this one are not told apart: tunables came with 2.25, the tcache with 2.26.
const OLDEST: GlibcVersion = glibc(26);

/// A greater huge page is not known of any machine.
const HUGE_PAGE_MOST: u64 = 16 << 30;

// Greatest values: malloc.c of each version, `MAX_TCACHE_COUNT`, which came with 2.30 as UINT16_MAX (tag glibc-2.30; in 2.29
// the counter is a signed byte that a greater value overflows, BZ #24531, and its fix as backported takes 127), `MAX_TCACHE_SIZE`,
// `do_set_mmap_threshold` (`HEAP_MAX_SIZE / 2`), `do_set_mxfast` (`MAX_FAST_SIZE`), on 64-bit machines.
const fn knob(name: &'static str, variable: Option<&'static str>) -> Knob {
    Knob { name, variable, freezes: false, since: OLDEST, until: None, most: &[] }
}

const KNOBS: &[Knob] = &[
    knob("arena_max", Some(ARENA_MAX)),
    knob("arena_test", Some("MALLOC_ARENA_TEST")),
    Knob {
        until: Some((glibc(34), " without libc_malloc_debug.so preloaded")),
        ..knob("check", Some("MALLOC_CHECK_"))
    },
    Knob { since: glibc(35), most: &[(glibc(35), HUGE_PAGE_MOST)], ..knob("hugetlb", None) },
    Knob { freezes: true, ..knob("mmap_max", Some("MALLOC_MMAP_MAX_")) },
    Knob { freezes: true, most: &[(OLDEST, 32 << 20)], ..knob("mmap_threshold", Some("MALLOC_MMAP_THRESHOLD_")) },
    Knob {
        since: glibc(31),
        until: Some((glibc(43), ", which has no fastbins")),
        most: &[(OLDEST, 160)],
        ..knob("mxfast", None)
    },
    knob("perturb", Some("MALLOC_PERTURB_")),
    Knob { most: &[(OLDEST, 127), (glibc(30), 65_535)], ..knob("tcache_count", None) },
    Knob { most: &[(OLDEST, 1032), (glibc(42), 4 << 20)], ..knob("tcache_max", None) },
    knob("tcache_unsorted_limit", None),
    Knob { freezes: true, ..knob("top_pad", Some("MALLOC_TOP_PAD_")) },
    Knob { freezes: true, ..knob("trim_threshold", Some("MALLOC_TRIM_THRESHOLD_")) },
];

pub(crate) fn accepts(key: &str) -> bool {
    key == TUNABLES
        || key == TRIM_EVERY
        || key.starts_with("glibc.")
        || (key.starts_with("MALLOC_") && key != super::jemalloc::CONF)
}

/// Interprets settings for the system's glibc.
pub(crate) fn interpret_system(settings: &Settings) -> Result<Interpreted, AllocatorError> {
    static VERSION: OnceLock<Option<GlibcVersion>> = OnceLock::new();
    let version = VERSION.get_or_init(|| crate::find(Path::new("/")).ok()?.version.parse().ok());
    interpret_as(settings, *version, true)
}

/// Interprets settings for another glibc of this version; `None` when the version is not known.
pub(crate) fn interpret(settings: &Settings, version: Option<GlibcVersion>) -> Result<Interpreted, AllocatorError> {
    interpret_as(settings, version, version.is_none())
}

fn interpret_as(
    settings: &Settings,
    version: Option<GlibcVersion>,
    system: bool,
) -> Result<Interpreted, AllocatorError> {
    let mut result = Interpreted::default();
    let mut tunables: BTreeMap<String, String> = BTreeMap::new();
    // Knob → the name it was set by.
    let mut set_by: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |knob: &str, by: &str| match set_by.insert(knob.to_owned(), by.to_owned()) {
        Some(first) => Err(AllocatorError::SetTwice { first, second: by.to_owned() }),
        None => Ok(()),
    };
    for (key, value) in settings {
        if key == TUNABLES {
            for pair in value.split(':') {
                let (name, value) = pair.split_once('=').ok_or_else(|| AllocatorError::BadValue {
                    key: key.clone(),
                    value: pair.to_owned(),
                    reason: "expected name=value pairs separated by colons".to_owned(),
                })?;
                set(&tunable(name, value, version, &mut result.notes)?, name)?;
                tunables.insert(name.to_owned(), value.to_owned());
            }
        } else if key == TRIM_EVERY {
            trim_interval(value, system)?;
            result.environment.insert(key.clone(), value.clone());
            result.notes.push(format!(
                "{key}: a thread of the preloaded {TRIM_LIBRARY} calls malloc_trim(0) {value} ms after its last call ended"
            ));
        } else if key.starts_with("glibc.") {
            set(&tunable(key, value, version, &mut result.notes)?, key)?;
            tunables.insert(key.clone(), value.clone());
        } else {
            let knob = KNOBS.iter().find(|knob| knob.variable == Some(key)).ok_or_else(|| unknown(key))?;
            number(knob, key, value, version)?;
            note(knob, key, version, &mut result.notes);
            set(knob.name, key)?;
            result.environment.insert(key.clone(), value.clone());
        }
    }
    if !tunables.is_empty() {
        let pairs: Vec<String> = tunables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        result.environment.insert(TUNABLES.to_owned(), pairs.join(":"));
    }
    Ok(result)
}

/// What an environment asks of malloc, by the names of the tunables without `glibc.malloc.`.
pub(crate) fn asked(environment: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let variables = environment.iter().filter_map(|(name, value)| {
        let knob = KNOBS.iter().find(|knob| knob.variable == Some(name))?;
        Some((knob.name.to_owned(), value.clone()))
    });
    let tunables = environment.get(TUNABLES).into_iter().flat_map(|all| all.split(':'));
    let tunables = tunables.filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((name.strip_prefix(PREFIX)?.to_owned(), value.to_owned()))
    });
    variables.chain(tunables).collect()
}

/// Whether a value asked for is the one found. From 2.42 on `tcache_max` is kept as the size of the chunk (`do_set_tcache_max`).
pub(crate) fn same(knob: &str, asked: &str, found: &str) -> bool {
    let Some((asked, found)) = as_number(asked).zip(as_number(found)) else { return asked == found };
    let chunk = (asked + 8).next_multiple_of(16).max(32);
    asked == found || knob == "tcache_max" && chunk == found
}

fn as_number(value: &str) -> Option<u64> {
    match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    }
}

fn trim_interval(value: &str, system: bool) -> Result<(), AllocatorError> {
    let reason = match value.parse::<u64>() {
        // The library asks for the symbols of the glibc it was built against.
        _ if !system => "it is there for the system's glibc only",
        Ok(1..=TRIM_EVERY_MOST_MS) => return Ok(()),
        _ => "expected milliseconds, from 1 to a day",
    };
    Err(AllocatorError::BadValue { key: TRIM_EVERY.into(), value: value.to_owned(), reason: reason.to_owned() })
}

/// Checks one tunable and gives the knob it sets. Tunables outside `glibc.malloc` are taken as they are.
fn tunable(
    name: &str,
    value: &str,
    version: Option<GlibcVersion>,
    notes: &mut Vec<String>,
) -> Result<String, AllocatorError> {
    let Some(knob) = name.strip_prefix(PREFIX) else {
        if SPACES.iter().any(|space| name.starts_with(space)) {
            notes.push(format!("{name} is passed on unchecked: it is not a tunable of malloc"));
            return Ok(name.to_owned());
        }
        return Err(unknown(name));
    };
    let knob = KNOBS.iter().find(|known| known.name == knob).ok_or_else(|| unknown(name))?;
    number(knob, name, value, version)?;
    note(knob, name, version, notes);
    Ok(knob.name.to_owned())
}

fn note(knob: &Knob, by: &str, version: Option<GlibcVersion>, notes: &mut Vec<String>) {
    if knob.freezes {
        notes.push(format!(
            "{by} ends glibc's dynamic adjustment of the mmap and trim thresholds for the whole process"
        ));
    }
    let before = knob.since > OLDEST && version.is_none_or(|version| version < knob.since);
    if before {
        notes.push(format!("{by} has no effect before glibc {}, which does not know it", knob.since));
    }
    if let Some((until, why)) = knob.until
        && version.is_none_or(|version| version >= until)
    {
        notes.push(format!("{by} has no effect from glibc {until} on{why}"));
    }
}

/// glibc takes decimal and 0x-hexadecimal numbers of bytes and silently ignores anything else, suffixes included.
fn number(knob: &Knob, key: &str, value: &str, version: Option<GlibcVersion>) -> Result<(), AllocatorError> {
    let reason = match as_number(value) {
        None => "glibc takes a plain number (bytes for sizes, no suffix) and ignores anything else",
        Some(0) if key == ARENA_MAX || key == "glibc.malloc.arena_max" => {
            "the arena limit is at least 1; leave it out for glibc's default"
        }
        Some(size) if knob.name == "hugetlb" && size > 2 && (!size.is_power_of_two() || size < 1 << 16) => {
            "0 asks for no huge pages, 1 for transparent ones, 2 for the system's default of reserved ones; any other value is \
             the size of a reserved huge page in bytes, a power of two"
        }
        Some(given) if knob.most(version).is_some_and(|most| given > most) => {
            let most = knob.most(version).unwrap_or(given);
            let of = version.map_or("glibc".to_owned(), |version| format!("glibc {version}"));
            let reason = format!("{of} takes at most {most} and ignores more in silence");
            return Err(AllocatorError::BadValue { key: key.to_owned(), value: value.to_owned(), reason });
        }
        Some(_) => return Ok(()),
    };
    Err(AllocatorError::BadValue { key: key.to_owned(), value: value.to_owned(), reason: reason.to_owned() })
}

fn unknown(key: &str) -> AllocatorError {
    let names: Vec<String> = KNOBS
        .iter()
        .flat_map(|knob| [knob.variable.map(str::to_owned), Some(format!("{PREFIX}{}", knob.name))])
        .flatten()
        .chain([TRIM_EVERY.to_owned()])
        .collect();
    AllocatorError::UnknownSetting {
        allocator: "glibc".to_owned(),
        key: key.to_owned(),
        nearest: nearest(key, names.iter().map(String::as_str)).map(str::to_owned),
        hint: format!("it takes {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn tunables_from_all_forms_are_joined() {
        let given = settings(&[
            ("MALLOC_ARENA_MAX", "2"),
            ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0:glibc.pthread.stack_cache_size=0"),
            ("glibc.malloc.mxfast", "0"),
        ]);
        let result = interpret(&given, None).unwrap();
        assert_eq!(result.environment["MALLOC_ARENA_MAX"], "2");
        assert_eq!(
            result.environment["GLIBC_TUNABLES"],
            "glibc.malloc.mxfast=0:glibc.malloc.tcache_count=0:glibc.pthread.stack_cache_size=0"
        );
        assert!(!result.notes.iter().any(|n| n.contains("dynamic adjustment")));
    }

    #[test]
    fn each_threshold_freezes_the_dynamic_ones_and_says_so() {
        for key in [
            "MALLOC_MMAP_THRESHOLD_",
            "MALLOC_TRIM_THRESHOLD_",
            "MALLOC_TOP_PAD_",
            "MALLOC_MMAP_MAX_",
            "glibc.malloc.mmap_threshold",
            "glibc.malloc.trim_threshold",
            "glibc.malloc.top_pad",
            "glibc.malloc.mmap_max",
        ] {
            let result = interpret(&settings(&[(key, "131072")]), None).unwrap();
            assert!(result.notes.iter().any(|n| n.contains(key) && n.contains("dynamic adjustment")), "{key}");
        }
    }

    #[test]
    fn a_forgotten_underscore_is_found() {
        let error = interpret(&settings(&[("MALLOC_MMAP_THRESHOLD", "1")]), None).unwrap_err().to_string();
        assert!(error.contains("did you mean MALLOC_MMAP_THRESHOLD_?"), "{error}");
    }

    #[test]
    fn values_glibc_would_ignore_are_refused() {
        for value in ["", "128K", "-1", "two", "0x"] {
            assert!(interpret(&settings(&[("MALLOC_TOP_PAD_", value)]), None).is_err(), "{value:?}");
        }
        assert!(interpret(&settings(&[("MALLOC_TOP_PAD_", "0x20000")]), None).is_ok());
        assert!(interpret(&settings(&[(ARENA_MAX, "0")]), None).is_err());
        assert!(interpret(&settings(&[("GLIBC_TUNABLES", "glibc.malloc.tcache_count")]), None).is_err());
    }

    #[test]
    fn values_beyond_what_the_version_takes_are_refused() {
        let refused = |key: &str, value: &str, version| {
            interpret(&settings(&[(key, value)]), version).err().map(|error| error.to_string())
        };
        let (count, max) = ("glibc.malloc.tcache_count", "glibc.malloc.tcache_max");
        assert!(refused(count, "100000", None).unwrap().contains("at most 65535"));
        assert_eq!(refused(count, "65535", Some(glibc(36))), None);
        assert!(refused(count, "128", Some(glibc(28))).unwrap().contains("glibc 2.28 takes at most 127"));
        assert!(refused(max, "4096", Some(glibc(36))).unwrap().contains("at most 1032"));
        assert_eq!(refused(max, "4096", Some(glibc(42))), None);
        assert_eq!(refused(max, "4096", None), None, "where the version is not known the most generous counts");
        assert!(refused("MALLOC_MMAP_THRESHOLD_", "33554433", None).is_some());
        assert!(refused("glibc.malloc.mxfast", "161", Some(glibc(36))).is_some());
        assert!(refused("glibc.malloc.hugetlb", "7", None).unwrap().contains("power of two"));
        assert_eq!(refused("glibc.malloc.hugetlb", "2097152", None), None);
        let misspelt = refused("GLIBC_TUNABLES", "glibc.malloc.trim_treshold=1", None).unwrap();
        assert!(misspelt.contains("glibc.malloc.trim_threshold"), "{misspelt}");
        assert!(refused("GLIBC_TUNABLES", "glibc.maloc.arena_max=1", None).is_some(), "no such name space");
    }

    #[test]
    fn one_knob_is_set_once() {
        let error = interpret(&settings(&[(ARENA_MAX, "1"), ("glibc.malloc.arena_max", "2")]), None).unwrap_err();
        assert!(matches!(error, AllocatorError::SetTwice { .. }));
    }

    #[test]
    fn a_version_is_told_what_it_ignores() {
        let notes = |knob: &str, version| interpret(&settings(&[(knob, "1")]), version).unwrap().notes.join("; ");
        let (hugetlb, mxfast) = ("glibc.malloc.hugetlb", "glibc.malloc.mxfast");
        assert!(notes(hugetlb, Some(glibc(31))).contains("no effect before glibc 2.35"));
        assert_eq!(notes(hugetlb, Some(glibc(36))), "");
        assert_eq!(notes(mxfast, Some(glibc(41))), "");
        assert!(notes(mxfast, Some(glibc(43))).contains("no effect from glibc 2.43 on"));
        assert_eq!(notes("MALLOC_CHECK_", Some(glibc(31))), "");
        assert!(notes(mxfast, None).contains("2.31") && notes(mxfast, None).contains("2.43"), "not known: both");
        assert_eq!(notes(ARENA_MAX, Some(glibc(17))), "");
    }
}

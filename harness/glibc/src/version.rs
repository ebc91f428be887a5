//! Versions of the GNU C Library, as `gnu_get_libc_version` gives them, and ranges of them. Only major and minor count:
//! what distributions and snapshots append is dropped.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `2.36`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GlibcVersion {
    /// 2 since 1997.
    pub major: u32,
    /// Raised with every release.
    pub minor: u32,
}

/// glibc 2.`minor`.
pub const fn glibc(minor: u32) -> GlibcVersion {
    GlibcVersion { major: 2, minor }
}

impl GlibcVersion {
    /// How many arenas its malloc makes at most where nothing sets a limit, for this many processors that are online, on a
    /// 64-bit machine: eight a processor, from 2.44 one a processor and at least eight. What the process may use of them
    /// (`taskset`, a cpuset, `cpu.max`) counts in releases from 2.34 to 2.38 alone, until they took the fix of bug 30945. Seen on Debian's 2.36 and
    /// 2.44; malloc/arena.c, `arena_get2` (commit 93e6135904ee, libc-alpha of June 2026; not in NEWS).
    pub fn default_arena_limit(self, processors: u32) -> u32 {
        if self >= glibc(44) { processors.max(8) } else { processors.max(1).saturating_mul(8) }
    }

    /// The release before this one.
    fn before(self) -> GlibcVersion {
        GlibcVersion { minor: self.minor.saturating_sub(1), ..self }
    }
}

impl FromStr for GlibcVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no version of glibc: expected for instance 2.36");
        let (major, rest) = text.split_once('.').ok_or_else(wrong)?;
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number = |text: &str| text.parse().map_err(|_| wrong());
        Ok(Self { major: number(major)?, minor: number(&rest[..digits])? })
    }
}

impl TryFrom<String> for GlibcVersion {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<GlibcVersion> for String {
    fn from(version: GlibcVersion) -> String {
        version.to_string()
    }
}

impl fmt::Display for GlibcVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// From the one version, included, to the other, excluded; an end that is missing is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlibcRange {
    /// First version.
    pub from: Option<GlibcVersion>,
    /// First version that is past it.
    pub below: Option<GlibcVersion>,
}

impl GlibcRange {
    /// Every version.
    pub const ALL: GlibcRange = GlibcRange { from: None, below: None };

    /// From 2.`minor` on.
    pub const fn since(minor: u32) -> GlibcRange {
        GlibcRange { from: Some(glibc(minor)), below: None }
    }

    /// Before 2.`minor`.
    pub const fn before(minor: u32) -> GlibcRange {
        GlibcRange { from: None, below: Some(glibc(minor)) }
    }

    /// From 2.`from` on and before 2.`below`.
    pub const fn between(from: u32, below: u32) -> GlibcRange {
        GlibcRange { from: Some(glibc(from)), below: Some(glibc(below)) }
    }

    /// The same versions in as few ranges as can be; `ranges` are in order and do not overlap.
    pub fn joined(ranges: Vec<GlibcRange>) -> Vec<GlibcRange> {
        let mut joined: Vec<GlibcRange> = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(last) if last.below.is_some() && last.below == range.from => last.below = range.below,
                _ => joined.push(range),
            }
        }
        joined
    }

    /// Whether a version lies in it.
    pub fn contains(&self, version: GlibcVersion) -> bool {
        self.from.is_none_or(|from| from <= version) && self.below.is_none_or(|below| version < below)
    }
}

impl fmt::Display for GlibcRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.below) {
            (None, None) => write!(f, "all versions"),
            (Some(from), None) => write!(f, "{from} and later"),
            // As people say it: by the last version that lies in it. Minor numbers of a major follow each other.
            (None, Some(below)) => write!(f, "up to {}", below.before()),
            (Some(from), Some(below)) if from == below.before() => write!(f, "{from}"),
            (Some(from), Some(below)) => write!(f, "{from} to {}", below.before()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_arena_limit_is_the_releases() {
        let of = |minor, processors| glibc(minor).default_arena_limit(processors);
        assert_eq!([of(36, 2), of(43, 16), of(44, 2), of(44, 16), of(45, 128)], [16, 128, 8, 16, 128]);
    }

    #[test]
    fn versions_are_read_as_libc_and_distributions_write_them_and_ordered_by_number() {
        for text in ["2.36", "2.36-9+deb12u14", "2.36.9000"] {
            assert_eq!(text.parse(), Ok(glibc(36)), "{text}");
        }
        assert!("2.9".parse::<GlibcVersion>().unwrap() < glibc(36));
        for text in ["", "2", "2.", "x.36", "musl 1.2"] {
            assert!(text.parse::<GlibcVersion>().is_err(), "{text}");
        }
        assert_eq!(serde_json::to_string(&glibc(36)).unwrap(), "\"2.36\"");
        assert!(serde_json::from_str::<GlibcVersion>("\"new\"").is_err());
    }

    #[test]
    fn a_range_holds_its_first_version_and_not_its_end() {
        let range = GlibcRange::between(26, 42);
        assert!(range.contains(glibc(26)) && range.contains(glibc(41)));
        assert!(!range.contains(glibc(25)) && !range.contains(glibc(42)));
        assert!(GlibcRange::ALL.contains(glibc(0)) && GlibcRange::since(43).contains(glibc(99)));
        assert!(!GlibcRange::before(43).contains(glibc(43)));
        let text = |range: GlibcRange| range.to_string();
        assert_eq!((text(range), text(GlibcRange::before(43))), ("2.26 to 2.41".into(), "up to 2.42".into()));
        assert_eq!(
            (text(GlibcRange::between(37, 38)), text(GlibcRange::since(43))),
            ("2.37".into(), "2.43 and later".into())
        );
    }

    #[test]
    fn ranges_that_meet_are_one() {
        let join = |ranges: &[GlibcRange]| GlibcRange::joined(ranges.to_vec());
        assert_eq!(join(&[GlibcRange::between(26, 43), GlibcRange::since(43)]), [GlibcRange::since(26)]);
        assert_eq!(join(&[GlibcRange::before(26), GlibcRange::since(26)]), [GlibcRange::ALL]);
        let apart = [GlibcRange::before(26), GlibcRange::since(42)];
        assert_eq!(join(&apart), apart);
    }
}

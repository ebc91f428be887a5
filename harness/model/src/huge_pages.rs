//! Transparent huge pages of a process: which it may get, and how a run's compare with those of the server it stands for.
//!
//! Source: Linux, Documentation/admin-guide/mm/transhuge.rst; prctl(2), `PR_SET_THP_DISABLE` (flag
//! `PR_THP_DISABLE_EXCEPT_ADVISED` since Linux 6.18).

use serde::{Deserialize, Serialize};

/// Which transparent huge pages a process may get: what the system's `enabled` and the process's own switch come to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HugePages {
    /// None: switched off for the process, as MariaDB does, or for the system.
    #[default]
    Off,
    /// Where it asks for them with `madvise`.
    Madvise,
    /// Anywhere.
    On,
}

impl HugePages {
    /// What a process gets that leaves things as the system has them; `enabled` is the word chosen there. `None`: the word
    /// is unknown.
    pub fn of_system(enabled: &str) -> Option<Self> {
        match enabled {
            "never" => Some(Self::Off),
            "madvise" => Some(Self::Madvise),
            "always" => Some(Self::On),
            _ => None,
        }
    }

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Madvise => "madvise",
            Self::On => "on",
        }
    }
}

impl<'de> Deserialize<'de> for HugePages {
    /// Results of versions that knew a switch only said `true` for as the system has them, `madvise` on most.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Name {
            Off,
            Madvise,
            On,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Wire {
            Switch(bool),
            Name(Name),
        }
        Ok(match Wire::deserialize(deserializer)? {
            Wire::Switch(false) | Wire::Name(Name::Off) => Self::Off,
            Wire::Switch(true) | Wire::Name(Name::Madvise) => Self::Madvise,
            Wire::Name(Name::On) => Self::On,
        })
    }
}

/// How it is known which huge pages the server has that a workload stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HugePagesSource {
    /// The recording says so.
    Recording,
    /// The server of the workload's flavor does so by default.
    Server,
}

/// Huge pages of a workload's runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugePagesFact {
    /// Workload's name.
    pub workload: String,
    /// What its runs had.
    pub used: HugePages,
    /// What the server has that it stands for; `None` where that is not known.
    pub server: Option<HugePages>,
    /// How that is known.
    pub source: Option<HugePagesSource>,
}

impl HugePagesFact {
    /// What a reader of the memory figures must know; `None` where the runs had what the server has.
    pub fn caution(&self) -> Option<String> {
        let server = self.server?;
        let way = |pages| match pages {
            HugePages::Off => "without transparent huge pages",
            HugePages::Madvise => "with transparent huge pages where madvise asks for them",
            HugePages::On => "with transparent huge pages anywhere",
        };
        (server != self.used).then(|| {
            let who = match self.source {
                Some(HugePagesSource::Recording) => "the recorded server ran",
                _ => "the server runs",
            };
            format!("{} was run {}; {who} {}", self.workload, way(self.used), way(server))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_results_are_read() {
        let read = |text: &str| serde_json::from_str::<HugePages>(text).unwrap();
        assert_eq!((read("false"), read("true")), (HugePages::Off, HugePages::Madvise));
        for pages in [HugePages::Off, HugePages::Madvise, HugePages::On] {
            assert_eq!(read(&serde_json::to_string(&pages).unwrap()), pages);
            assert_eq!(serde_json::to_string(&pages).unwrap(), format!("{:?}", pages.name()));
        }
        assert!(serde_json::from_str::<HugePages>("\"sometimes\"").is_err());
    }

    #[test]
    fn a_caution_stands_where_run_and_server_differ() {
        let fact = |used, server| HugePagesFact {
            workload: "replay/x".into(),
            used,
            server,
            source: Some(HugePagesSource::Recording),
        };
        assert_eq!(fact(HugePages::Off, Some(HugePages::Off)).caution(), None);
        assert_eq!(fact(HugePages::Off, None).caution(), None);
        let caution = fact(HugePages::Off, Some(HugePages::On)).caution().unwrap();
        assert_eq!(
            caution,
            "replay/x was run without transparent huge pages; the recorded server ran with transparent huge pages anywhere"
        );
    }
}

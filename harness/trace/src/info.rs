//! What a trace says of itself: the facts known when recording began, and the totals.

use serde::Serialize;

use crate::memory::MemorySummary;
use crate::spool::provider::Found;
use crate::text::{Facts, Known};

/// A library that answers a function of the allocator's, as the recorded process itself looks it up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Provider {
    /// File name.
    pub name: String,
    /// Version, as the library itself states it.
    pub version: Option<String>,
    /// Build id, hexadecimal.
    pub build_id: Option<String>,
}

impl From<&Found> for Provider {
    fn from(found: &Found) -> Self {
        Self {
            name: found.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            version: (!found.version.is_empty()).then(|| found.version.clone()),
            build_id: (!found.build_id.is_empty())
                .then(|| found.build_id.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }
}

impl Provider {
    /// One line: the name last, since it alone may hold blanks.
    fn to_text(&self) -> String {
        let word = |word: &Option<String>| match word {
            Some(word) if !word.is_empty() => word.replace(char::is_whitespace, "_"),
            _ => "-".to_owned(),
        };
        format!("{} {} {}", word(&self.version), word(&self.build_id), self.name)
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut words = text.splitn(3, ' ');
        let mut word = || words.next().map(|w| (w != "-").then(|| w.to_owned()));
        Some(Self { version: word()?, build_id: word()?, name: words.next()?.to_owned() })
    }
}

macro_rules! recorded_on {
    ($($(#[$doc:meta])* $name:ident: $ty:ty => $write:expr, $read:expr;)*) => {
        /// Where and how a trace was recorded. Anonymous: the command line only if the user asked to keep it. What was not
        /// found out, or not by the version that recorded, is `None`.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
        pub struct RecordedOn { $($(#[$doc])* pub $name: Option<$ty>,)* }

        impl RecordedOn {
            pub(crate) fn to_facts(&self) -> Facts {
                let mut f = Facts::default();
                $(f.put_some(stringify!($name), self.$name.as_ref().map($write));)*
                f
            }

            pub(crate) fn from_facts(bytes: &[u8]) -> Self {
                let k = Known::parse(bytes);
                Self { $($name: $read(&k, stringify!($name)),)* }
            }

            /// Takes over what `later` knows.
            pub fn learn(&mut self, later: Self) {
                $(if later.$name.is_some() {
                    self.$name = later.$name;
                })*
            }
        }
    };
}

recorded_on! {
    /// `uname -srm`.
    kernel: String => String::clone, Known::text;
    /// CPUs the program could use.
    cpus: u32 => u32::clone, Known::number;
    /// CPUs of the machine that were online.
    cpus_online: u32 => u32::clone, Known::number;
    /// CPUs the program could use, as a list of numbers and ranges (`Cpus_allowed_list` of proc(5)).
    cpuset: String => String::clone, Known::text;
    /// glibc's version.
    glibc: String => String::clone, Known::text;
    /// Allocator preloaded into the recorded program, as a path's last part; `None` for the one it is linked with.
    allocator: String => String::clone, Known::text;
    /// What answers `malloc`.
    malloc: Provider => Provider::to_text, |k: &Known, key| Provider::from_text(&k.text(key)?);
    /// What answers C++'s `operator new`; `None` also for a program without C++.
    operator_new: Provider => Provider::to_text, |k: &Known, key| Provider::from_text(&k.text(key)?);
    /// Settings of that allocator in the environment, `NAME=value` separated by blanks.
    settings: String => String::clone, Known::text;
    /// Word chosen in `/sys/kernel/mm/transparent_hugepage/enabled`: `always`, `madvise` or `never`.
    thp_enabled: String => String::clone, Known::text;
    /// Word chosen in `/sys/kernel/mm/transparent_hugepage/defrag`.
    thp_defrag: String => String::clone, Known::text;
    /// Whether the process had switched transparent huge pages off for itself (`PR_GET_THP_DISABLE` of prctl(2)), when it
    /// was last seen.
    thp_disabled: bool => bool::clone, Known::number;
    /// Processor time of the process during the recording, user and system, recorder included, µs.
    cpu_us: u64 => u64::clone, Known::number;
    /// Bytes a page.
    page_size: u32 => u32::clone, Known::number;
    /// `x86_64` or `aarch64`.
    architecture: String => String::clone, Known::text;
    /// Version of fragbench that recorded.
    fragbench: String => String::clone, Known::text;
    /// When the process was attached to, seconds since 1970; `None` for one that was recorded from its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    attached_s: u64 => u64::clone, Known::number;
    /// What there is of the heap at that moment: `complete`, or why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    start: String => String::clone, Known::text;
    /// Time at the trace's begin in which that is built, µs.
    #[serde(skip_serializing_if = "Option::is_none")]
    prologue_us: u64 => u64::clone, Known::number;
    /// Blocks that were live at that moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_blocks: u64 => u64::clone, Known::number;
    /// Bytes that they had room for.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_bytes: u64 => u64::clone, Known::number;
    /// Free chunks between them.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_holes: u64 => u64::clone, Known::number;
    /// Bytes of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_hole_bytes: u64 => u64::clone, Known::number;
    /// Arenas.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_arenas: u64 => u64::clone, Known::number;
    /// RSS of the process at that moment, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_rss_bytes: u64 => u64::clone, Known::number;
    /// Heap of the process in memory at that moment, bytes, without the tops of its arenas.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_heap_bytes: u64 => u64::clone, Known::number;
    /// What calls could not be led to the recorder.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreached: String => String::clone, Known::text;
    /// Command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    cmdline: String => String::clone, Known::text;
}

macro_rules! totals {
    ($($(#[$doc:meta])* $name:ident: $ty:ty,)*) => {
        /// Totals of a whole trace, counted when it was packed.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
        pub struct Totals { $($(#[$doc])* pub $name: $ty,)* }

        crate::pack::state::state!(Totals { $($name),* });

        impl Totals {
            pub(crate) fn to_facts(self) -> Facts {
                let mut f = Facts::default();
                $(f.put(stringify!($name), self.$name);)*
                f
            }

            /// `None` when one is missing.
            pub(crate) fn from_facts(bytes: &[u8]) -> Option<Self> {
                let k = Known::parse(bytes);
                Some(Self { $($name: k.number(stringify!($name))?,)* })
            }
        }
    };
}

totals! {
    /// Events of the malloc API.
    events: u64,
    /// Threads with at least one of them.
    threads: u32,
    /// Most of these at one time.
    threads_peak: u32,
    /// Length of the recording, µs.
    duration_us: u64,
    /// Whether nothing is missing: the recording ended where it was meant to, without damage and without loss.
    complete: bool,
    /// Highest live bytes.
    peak_live_bytes: u64,
    /// When.
    peak_live_at_us: u64,
    /// Most blocks live at one time.
    peak_live_blocks: u64,
    /// Live bytes at the end.
    live_end_bytes: u64,
    /// Live blocks at the end.
    live_end_blocks: u64,
    /// Most bytes that threads shifted between them within 200 µs, near the peak: the changes of their balances
    /// (allocated less freed), all taken as positive, less the change of all together. So far may the peak of a replay
    /// stray whose threads are up to that far apart.
    swing_200us_bytes: u64,
    /// The same within 1 ms.
    swing_1ms_bytes: u64,
    /// The same within 5 ms.
    swing_5ms_bytes: u64,
    /// The same within 25 ms.
    swing_25ms_bytes: u64,
    /// Frees and reallocs of blocks whose allocation was not seen.
    unseen_frees: u64,
    /// Allocations at an address whose free was never found: the free is assumed just before.
    unresolved: u64,
    /// Events that were moved behind a later one of another thread, because they depend on it.
    reordered: u64,
    /// Events the recorder had to drop.
    lost_events: u64,
    /// Calls made before the recorder could begin.
    early_calls: u64,
    /// Stretches of the recorder's file that were damaged.
    damaged_stretches: u64,
    /// Greatest memory of the recorder itself in the recorded program, bytes.
    recorder_peak_bytes: u64,
    /// The program's own system calls on anonymous memory.
    system_calls: u64,
    /// Stretches in which recording was switched off.
    pauses: u64,
}

/// `fragbench trace info`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TraceInfo {
    /// [`fragbench_model::SCHEMA`].
    pub schema: u32,
    /// Version of the file format.
    pub format: u32,
    /// Events of the malloc API.
    pub events: u64,
    /// Threads with at least one.
    pub threads: u64,
    /// Length of the file, bytes.
    pub bytes: u64,
    /// `bytes` over `events`.
    pub bytes_per_event: Option<f64>,
    /// Length of the recording, seconds.
    pub duration_s: f64,
    /// Whether recording and file are whole.
    pub complete: bool,
    /// Highest live bytes; `None` when the index with the totals is lost.
    pub peak_live_bytes: Option<u64>,
    /// Live bytes at the end; `None` likewise.
    pub live_end_bytes: Option<u64>,
    /// All totals; `None` likewise.
    pub totals: Option<Totals>,
    /// Whether it names the functions that made the blocks never freed.
    pub stacks: bool,
    /// What the recorded process held over time; `None` when that was not recorded.
    pub memory: Option<MemorySummary>,
    /// Where it was recorded.
    pub recorded_on: RecordedOn,
    /// What of the file cannot be used, in words with offsets.
    pub damage: Vec<String>,
}

//! What a trace says of itself: the facts known when recording began, and the totals.

use serde::Serialize;

use crate::text::{Facts, Known};

/// Where and how a trace was recorded. Anonymous: the command line only if the user asked to keep it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RecordedOn {
    /// `uname -srm`.
    pub kernel: Option<String>,
    /// CPUs the program could use.
    pub cpus: Option<u32>,
    /// glibc's version.
    pub glibc: Option<String>,
    /// Allocator that served the recorded program, as a path's last part; `None` for libc's own.
    pub allocator: Option<String>,
    /// Settings of that allocator in the environment, `NAME=value` separated by blanks.
    pub settings: Option<String>,
    /// Bytes a page.
    pub page_size: Option<u32>,
    /// `x86_64` or `aarch64`.
    pub architecture: Option<String>,
    /// Version of fragbench that recorded.
    pub fragbench: Option<String>,
    /// Command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
}

impl RecordedOn {
    pub(crate) fn to_facts(&self) -> Facts {
        let mut f = Facts::default();
        f.put_some("kernel", self.kernel.as_ref());
        f.put_some("cpus", self.cpus);
        f.put_some("glibc", self.glibc.as_ref());
        f.put_some("allocator", self.allocator.as_ref());
        f.put_some("settings", self.settings.as_ref());
        f.put_some("page_size", self.page_size);
        f.put_some("architecture", self.architecture.as_ref());
        f.put_some("fragbench", self.fragbench.as_ref());
        f.put_some("cmdline", self.cmdline.as_ref());
        f
    }

    pub(crate) fn from_facts(bytes: &[u8]) -> Self {
        let k = Known::parse(bytes);
        Self {
            kernel: k.text("kernel"),
            cpus: k.number("cpus"),
            glibc: k.text("glibc"),
            allocator: k.text("allocator"),
            settings: k.text("settings"),
            page_size: k.number("page_size"),
            architecture: k.text("architecture"),
            fragbench: k.text("fragbench"),
            cmdline: k.text("cmdline"),
        }
    }
}

macro_rules! totals {
    ($($(#[$doc:meta])* $name:ident: $ty:ty,)*) => {
        /// Totals of a whole trace, counted when it was packed.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
        pub struct Totals { $($(#[$doc])* pub $name: $ty,)* }

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
    /// Where it was recorded.
    pub recorded_on: RecordedOn,
    /// What of the file cannot be used, in words with offsets.
    pub damage: Vec<String>,
}

//! A statistical profile of a recording: what its threads ask of the allocator, by role and phase, without a name, an
//! address or the order of single events. Plain data; `fragbench_trace` distils it from a trace, reads and writes its
//! TOML, and generates work from it.

use serde::{Deserialize, Serialize};

use crate::{Histogram, HistogramBin, Shape};

/// Version written, and the newest that can be read.
pub const PROFILE_VERSION: u32 = 1;

/// A profile; the fields are those of its TOML file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// [`PROFILE_VERSION`] of who wrote it.
    pub version: u32,
    /// Length of the recording, microseconds.
    pub duration_us: u64,
    /// What the recording itself looks like, to compare with.
    pub recording: ShapeRows,
    /// Groups of threads that do alike; the first holds the program's first thread alone.
    pub role: Vec<Role>,
}

/// Threads that do alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Names it for [`Blocks::freed_by`].
    pub name: String,
    /// Most threads at one time.
    pub threads_peak: u32,
    /// Whether `--threads` multiplies it.
    pub scales: bool,
    /// When its threads come, work and go.
    pub waves: Vec<Wave>,
    /// Time from one allocation of a thread to its next, nanoseconds: quantiles; only their ratios matter.
    pub gaps_ns: Vec<u64>,
    /// Where each phase of a thread's life begins, as a share of that life; the first is 0.
    pub phases: Vec<f64>,
    /// What they allocate.
    pub blocks: Vec<Blocks>,
    /// From which size to which a realloc leads.
    #[serde(default)]
    pub growth: Vec<Growth>,
}

impl Role {
    /// Its threads over the whole recording.
    pub fn threads(&self) -> u32 {
        self.waves.iter().map(|w| w.threads).fold(0, u32::saturating_add)
    }
}

/// Threads that come and go at about the same time. A thread's *working life* ends with its last event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wave {
    /// How many.
    pub threads: u32,
    /// First and last start, microseconds since the recording began.
    pub starts_us: [u64; 2],
    /// First and last end of a working life.
    pub ends_us: [u64; 2],
    /// Whether the threads end with their work; the others stay, idle.
    pub exits: bool,
}

/// Blocks that are alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blocks {
    /// Least and largest size asked for, bytes.
    pub size: [u64; 2],
    /// Mean size; left out where all are equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<u64>,
    /// `calloc` instead of `malloc`.
    #[serde(default)]
    pub zeroed: bool,
    /// Alignment asked for, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub align: Option<u64>,
    /// When they are freed.
    pub life: Life,
    /// Mean lifetime, microseconds; kept where it shows in the live curve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_life: Option<u64>,
    /// Role of the thread that frees them, when that is another thread than their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freed_by: Option<String>,
    /// How often each is reallocated: least and most; left out for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reallocs: Option<[u32; 2]>,
    /// Mean time from the allocation to the last realloc, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growing_us: Option<u64>,
    /// Mean size after the last realloc.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grown: Option<u64>,
    /// Mean share of their pages that is touched; known for blocks of 16 KiB and more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touched: Option<f64>,
    /// The first phase in which there are any.
    #[serde(default)]
    pub phase: usize,
    /// How many all threads of the role allocate in that phase and in those that follow.
    pub n: Vec<u64>,
}

/// When a block is freed. In TOML `[least, most]`, `"phase N"`, `"thread"` or `"end"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Life {
    /// After so many microseconds, the second not included.
    Us(u64, u64),
    /// In this phase of the life of the thread that made it, later than the phase it was made in.
    Phase(usize),
    /// As the thread that made it ends its work, by that thread.
    Thread,
    /// Never.
    End,
}

impl Life {
    /// The class of a lifetime: bounds are powers of 4 up to 4 ms, of 2 above.
    pub fn of_us(us: u64) -> Life {
        let (mut least, mut most) = (0, 1u64);
        while us >= most && most < 1 << 50 {
            (least, most) = (most, most * if most < 4096 { 4 } else { 2 });
        }
        Life::Us(least, most)
    }
}

impl Serialize for Life {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Life::Us(least, most) => [least, most].serialize(serializer),
            Life::Phase(phase) => serializer.collect_str(&format_args!("phase {phase}")),
            Life::Thread => serializer.serialize_str("thread"),
            Life::End => serializer.serialize_str("end"),
        }
    }
}

impl<'de> Deserialize<'de> for Life {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Life, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Life;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("[least, most] in microseconds, \"phase N\", \"thread\" or \"end\"")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Life, A::Error> {
                match (seq.next_element()?, seq.next_element()?, seq.next_element::<u64>()?) {
                    (Some(least), Some(most), None) => Ok(Life::Us(least, most)),
                    _ => Err(serde::de::Error::invalid_length(2, &self)),
                }
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Life, E> {
                let phase = || word.strip_prefix("phase ").and_then(|n| n.parse().ok()).map(Life::Phase);
                match word {
                    "thread" => Ok(Life::Thread),
                    "end" => Ok(Life::End),
                    _ => phase().ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(word), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A step of blocks that grow (or shrink) by realloc.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Growth {
    /// Least and largest size before.
    pub from: [u64; 2],
    /// Least and largest size after.
    pub to: [u64; 2],
    /// How often.
    pub n: u64,
}

/// A [`Shape`] in few lines of TOML: histograms by columns, their finest bins joined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields are those of Shape")]
pub struct ShapeRows {
    pub blocks: u64,
    pub callocs: u64,
    pub aligned: u64,
    pub reallocs: u64,
    pub frees: u64,
    pub cross_thread_frees: u64,
    pub threads_peak: u64,
    pub live_growth_bytes: Vec<i64>,
    pub thread_starts: Vec<u64>,
    pub thread_exits: Vec<u64>,
    pub sizes: Columns,
    pub lifetimes_us: Columns,
    pub lifetimes_events: Columns,
}

/// A histogram by columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// Least value of each bin, ascending; a bin ends where the next begins.
    pub from: Vec<u64>,
    /// Objects in each.
    pub count: Vec<u64>,
    /// Their bytes.
    pub bytes: Vec<u64>,
}

/// Bins are joined while together they hold less than this share of the objects and of the bytes: the most that a
/// joined histogram's KS distances can be off by.
const JOINED: f64 = 0.004;

impl Columns {
    fn join(histogram: &Histogram) -> Columns {
        let sum = |of: fn(&HistogramBin) -> u64| histogram.iter().map(|b| of(b) as f64).sum::<f64>().max(1.0);
        let (objects, bytes) = (sum(|b| b.count), sum(|b| b.bytes));
        let mut joined = Columns { from: Vec::new(), count: Vec::new(), bytes: Vec::new() };
        for bin in histogram {
            match (joined.count.last_mut(), joined.bytes.last_mut()) {
                (Some(n), Some(b))
                    if ((*n + bin.count) as f64) < JOINED * objects && ((*b + bin.bytes) as f64) < JOINED * bytes =>
                {
                    *n += bin.count;
                    *b += bin.bytes;
                }
                _ => {
                    joined.from.push(bin.from);
                    joined.count.push(bin.count);
                    joined.bytes.push(bin.bytes);
                }
            }
        }
        joined
    }

    fn histogram(&self) -> Histogram {
        let rows = self.from.iter().zip(&self.count).zip(&self.bytes).enumerate();
        rows.map(|(i, ((&from, &count), &bytes))| HistogramBin {
            from,
            to: self.from.get(i + 1).copied().unwrap_or(from.saturating_add(1)),
            count,
            bytes,
        })
        .collect()
    }
}

impl ShapeRows {
    /// The rows of a shape.
    pub fn new(shape: &Shape) -> ShapeRows {
        ShapeRows {
            blocks: shape.blocks,
            callocs: shape.callocs,
            aligned: shape.aligned,
            reallocs: shape.reallocs,
            frees: shape.frees,
            cross_thread_frees: shape.cross_thread_frees,
            threads_peak: shape.threads_peak,
            live_growth_bytes: shape.live_growth_bytes.iter().map(|b| b.round() as i64).collect(),
            thread_starts: shape.thread_starts.clone(),
            thread_exits: shape.thread_exits.clone(),
            sizes: Columns::join(&shape.sizes),
            lifetimes_us: Columns::join(&shape.lifetimes_us),
            lifetimes_events: Columns::join(&shape.lifetimes_events),
        }
    }

    /// The shape of a whole recording of this length.
    pub fn shape(&self, duration_us: u64) -> Shape {
        Shape {
            from_us: 0,
            to_us: duration_us,
            blocks: self.blocks,
            callocs: self.callocs,
            aligned: self.aligned,
            reallocs: self.reallocs,
            frees: self.frees,
            cross_thread_frees: self.cross_thread_frees,
            sizes: self.sizes.histogram(),
            lifetimes_us: self.lifetimes_us.histogram(),
            lifetimes_events: self.lifetimes_events.histogram(),
            live_start_bytes: 0,
            live_growth_bytes: self.live_growth_bytes.iter().map(|b| *b as f64).collect(),
            live_growth_by_event_bytes: Vec::new(),
            thread_starts: self.thread_starts.clone(),
            thread_exits: self.thread_exits.clone(),
            threads_peak: self.threads_peak,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_lifetimes_meet() {
        for us in (0..10_000).chain([1 << 20, (1 << 30) + 1]) {
            let Life::Us(least, most) = Life::of_us(us) else { panic!("{us}") };
            assert!((least..most).contains(&us), "{us}");
        }
        assert_eq!(
            (Life::of_us(0), Life::of_us(5), Life::of_us(5000)),
            (Life::Us(0, 1), Life::Us(4, 16), Life::Us(4096, 8192))
        );
    }
}

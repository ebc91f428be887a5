//! Recorded calls in figures: by what they are for and which call, by stack, over time.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::call::{Call, Frame, Name};
use crate::regions::{Regions, Use};

/// Bins of the time line.
const BINS: usize = 60;

/// Calls of one kind for one purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What for.
    pub purpose: Use,
    /// Which call.
    pub call: Name,
    /// How many.
    pub calls: u64,
    /// Bytes they concern, summed.
    pub bytes: u64,
    /// Of the largest.
    pub largest_bytes: u64,
    /// How many the kernel refused; `None` where results are not recorded.
    pub failed: Option<u64>,
}

/// Calls made from one stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stack {
    /// What for.
    pub purpose: Use,
    /// Which call.
    pub call: Name,
    /// How many.
    pub calls: u64,
    /// Bytes they concern, summed.
    pub bytes: u64,
    /// Functions, the caller first.
    pub frames: Vec<Frame>,
}

/// Calls over time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Timeline {
    /// Seconds a bin.
    pub bin_s: f64,
    /// Calls in each bin, by what they are for.
    pub calls: BTreeMap<Use, Vec<u64>>,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Calls.
    pub calls: u64,
    /// From the first to the last, seconds.
    pub seconds: f64,
    /// By purpose and call, most bytes first within a purpose.
    pub lines: Vec<Line>,
    /// By stack, most bytes first; empty when stacks were not recorded.
    pub stacks: Vec<Stack>,
    /// Over time.
    pub timeline: Timeline,
}

/// Sums up calls, which are in the order they were made. `regions` holds what was mapped before.
pub fn summarize(calls: &[Call], mut regions: Regions, min_bytes: u64) -> Summary {
    let begin = calls.first().map_or(0.0, |call| call.at_s);
    let seconds = calls.iter().map(|call| call.at_s - begin).fold(0.0, f64::max);
    let bin_s = (seconds / BINS as f64).max(1e-6);
    let mut summary = Summary { seconds, timeline: Timeline { bin_s, ..Timeline::default() }, ..Summary::default() };
    let mut lines: BTreeMap<(Use, Name), Line> = BTreeMap::new();
    let mut stacks: HashMap<(Use, Name, &[Frame]), (u64, u64)> = HashMap::new();
    for call in calls {
        let (purpose, bytes) = regions.classify(call);
        if bytes < min_bytes {
            continue;
        }
        summary.calls += 1;
        let line = lines.entry((purpose, call.name)).or_insert_with(|| Line {
            purpose,
            call: call.name,
            calls: 0,
            bytes: 0,
            largest_bytes: 0,
            failed: None,
        });
        line.calls += 1;
        line.bytes += bytes;
        line.largest_bytes = line.largest_bytes.max(bytes);
        if call.result.is_some() {
            line.failed = Some(line.failed.unwrap_or(0) + u64::from(call.failed()));
        }
        if !call.stack.is_empty() {
            let sum = stacks.entry((purpose, call.name, &call.stack)).or_default();
            *sum = (sum.0 + 1, sum.1 + bytes);
        }
        let bin = (((call.at_s - begin) / bin_s) as usize).min(BINS - 1);
        summary.timeline.calls.entry(purpose).or_insert_with(|| vec![0; BINS])[bin] += 1;
    }
    summary.lines = lines.into_values().collect();
    summary.lines.sort_by_key(|line| (line.purpose, std::cmp::Reverse(line.bytes)));
    let stack = |((purpose, call, frames), (calls, bytes)): ((Use, Name, &[Frame]), (u64, u64))| Stack {
        purpose,
        call,
        calls,
        bytes,
        frames: frames.to_vec(),
    };
    summary.stacks = stacks.into_iter().map(stack).collect();
    summary.stacks.sort_by(|a, b| {
        let names = |s: &Stack| s.frames.iter().map(|f| f.function.clone()).collect::<Vec<_>>();
        b.bytes.cmp(&a.bytes).then(b.calls.cmp(&a.calls)).then_with(|| (a.call, names(a)).cmp(&(b.call, names(b))))
    });
    summary
}

impl Stack {
    /// The functions that are not the C library's own: who wanted it, the nearest first.
    pub fn callers(&self) -> impl Iterator<Item = &Frame> {
        let mut library = true;
        self.frames.iter().filter(move |frame| {
            let inside = ["libc.", "libc-", "ld-"].iter().any(|name| frame.object.starts_with(name));
            // The function that makes the call, wherever perf or a static link puts it.
            let wraps = frame.plain_name().trim_end_matches("64") == self.call.text();
            library &= inside || wraps;
            !library
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(at_s: f64, bytes: u64, stack: &[&str], result: u64) -> Call {
        let object = |f: &str| if f == "mmap" { "libc.so.6" } else { "server" }.to_owned();
        Call {
            at_s,
            pid: 1,
            thread: 1,
            thread_name: String::new(),
            name: Name::Mmap,
            address: 0,
            bytes,
            access: 3,
            flags: (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64,
            result: Some(result),
            stack: stack.iter().map(|f| Frame { function: (*f).to_owned(), object: object(f) }).collect(),
        }
    }

    #[test]
    fn sums_by_purpose_stack_and_time() {
        let refused = u64::MAX - 11;
        let calls = [
            call(10.0, 4096, &["mmap", "pool"], 0x1000),
            call(11.0, 8192, &["mmap", "pool"], 0x10000),
            call(20.0, 100 << 20, &["mmap", "buffer"], refused),
        ];
        let all = summarize(&calls, Regions::default(), 0);
        assert_eq!((all.calls, all.seconds), (3, 10.0));
        assert_eq!(all.lines.len(), 1);
        assert_eq!((all.lines[0].calls, all.lines[0].bytes, all.lines[0].failed), (3, 12288 + (100 << 20), Some(1)));
        assert_eq!(all.stacks.iter().map(|s| s.calls).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(all.stacks[1].callers().map(|f| f.function.as_str()).collect::<Vec<_>>(), ["pool"]);
        let bins = &all.timeline.calls[&Use::Own];
        assert_eq!((bins.len(), bins.iter().sum::<u64>(), bins[0], bins[59]), (60, 3, 1, 1));
        assert_eq!(summarize(&calls, Regions::default(), 1 << 20).calls, 1, "shorter ones are left out");
        assert_eq!(summarize(&[], Regions::default(), 0).calls, 0);
    }
}

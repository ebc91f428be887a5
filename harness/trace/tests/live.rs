//! A spool that is packed while it is written becomes the trace it would have become in the end, also when the packer is
//! killed on the way, and takes no more room than its last piece.

#![allow(clippy::unwrap_used)] // in a test it is an assertion

mod common;

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use common::{first_difference, history, options, payload, quantised, truth};
use fragbench_trace::spool::format::{
    ARCHITECTURE, BLOCK_HEADER_LEN, BlockHeader, BlockKind, Closing, HEADER_LEN, Header, QUANTUM_SHIFT, Status,
};
use fragbench_trace::spool::{Spool, SpoolEvent, SpoolKind};
use fragbench_trace::synth::{Program, Shape, SplitMix64, program};
use fragbench_trace::{LivePack, PackReport, Trace, pack, pack_spool};

/// A recorder that never ran: buffers, blocks and sweeps as `harness/recorder` makes them. A counter tick is a nanosecond.
struct Recorder {
    file: File,
    at: u64,
    buffers: Vec<Buffer>,
    /// Stamp of the last sweep, once there was one.
    asked: Option<u64>,
}

#[derive(Default)]
struct Buffer {
    seq: u32,
    first: u64,
    events: Vec<SpoolEvent>,
    asked: bool,
    swept: usize,
}

fn start() -> Header {
    Header {
        stacks: false,
        swept: true,
        quantum_shift: QUANTUM_SHIFT,
        architecture: ARCHITECTURE,
        page_size: 4096,
        pid: 7,
        ppid: 1,
        start_tsc: 0,
        start_mono_ns: 0,
        start_real_ns: 300,
        comm: *b"program\0\0\0\0\0\0\0\0\0",
    }
}

impl Recorder {
    fn new(path: &Path, threads: usize) -> Self {
        let file = File::create_new(path).unwrap();
        file.write_all_at(&start().to_bytes(), 0).unwrap();
        let mut recorder = Self { file, at: HEADER_LEN as u64, buffers: Vec::new(), asked: None };
        recorder.buffers.resize_with(threads, Buffer::default);
        recorder.close(Status::Running, 0);
        recorder
    }

    fn close(&mut self, status: Status, now: u64) {
        let closing = Closing {
            status,
            errno: 0,
            tsc: now,
            mono_ns: now,
            lost_events: 0,
            early_calls: 0,
            own_bytes_peak: 13,
            bytes: self.at,
            nested_calls: 0,
            passing_loads: 0,
        };
        self.file.write_all_at(&closing.to_bytes(), start().to_bytes().len() as u64).unwrap();
    }

    fn write(&mut self, kind: BlockKind, thread: u32, seq: u32, first_quantum: u64, now: u64, payload: &[u8]) {
        let len = payload.len() as u32;
        let payload_crc = crc32fast::hash(payload);
        let header =
            BlockHeader { len, kind, thread, seq, first_quantum, tsc: now, mono_ns: now, own_bytes: 4096, payload_crc };
        self.file.write_all_at(&[&header.to_bytes()[..], payload].concat(), self.at).unwrap();
        self.at += (BLOCK_HEADER_LEN + payload.len()) as u64;
    }

    fn write_block(&mut self, thread: usize, now: u64) {
        let buffer = &self.buffers[thread];
        let bytes = payload(buffer.first, &buffer.events);
        self.write(BlockKind::Events, thread as u32, buffer.seq, buffer.first, now, &bytes);
    }

    fn flush(&mut self, thread: usize, now: u64) {
        self.write_block(thread, now);
        let seq = self.buffers[thread].seq + 1;
        self.buffers[thread] = Buffer { seq, first: now >> QUANTUM_SHIFT, ..Buffer::default() };
    }

    fn event(&mut self, thread: usize, event: SpoolEvent) {
        let buffer = &mut self.buffers[thread];
        if buffer.events.is_empty() {
            buffer.first = event.tsc >> QUANTUM_SHIFT;
        }
        if buffer.asked || buffer.events.len() >= 700 {
            self.flush(thread, event.tsc);
        }
        self.buffers[thread].events.push(event);
    }

    fn sweep(&mut self, now: u64) {
        for thread in 0..self.buffers.len() {
            let buffer = &mut self.buffers[thread];
            if buffer.events.len() > buffer.swept && std::mem::replace(&mut buffer.asked, true) {
                buffer.swept = buffer.events.len();
                self.write_block(thread, now);
            }
        }
        if let Some(asked) = self.asked.replace(now) {
            self.write(BlockKind::Swept, 0, 0, asked >> QUANTUM_SHIFT, now, &[]);
        }
    }

    fn end(&mut self, now: u64) {
        for thread in 0..self.buffers.len() {
            if !self.buffers[thread].events.is_empty() {
                self.flush(thread, now);
            }
        }
        self.close(Status::Exited, now);
    }
}

/// All events in order of their stamps.
fn in_order(program: &Program) -> Vec<(usize, SpoolEvent)> {
    let threads = program.threads.iter().enumerate();
    let mut all: Vec<_> = threads.flat_map(|(thread, events)| events.iter().map(move |e| (thread, *e))).collect();
    all.sort_by_key(|(_, e)| e.tsc);
    all
}

struct Run {
    whole: PackReport,
    live: PackReport,
    trace: Trace,
    /// Bytes of the spool in use on the disk, at most.
    peak: u64,
    given_back: u64,
    dir: tempfile::TempDir,
}

/// Records a program twice, into a spool that is packed in the end and one that is packed while it grows, by packers that
/// are killed after so many advances.
fn record(program: &Program, life: usize) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (whole, spool, out) = (path("whole.spool"), path("live.spool"), path("live.fbt"));
    let mut recorders = [&whole, &spool].map(|path| Recorder::new(path, program.threads.len()));
    let mut random = SplitMix64(5);
    let (mut packer, mut advances): (Option<LivePack>, _) = (None, 0);
    let (mut swept, mut looked, mut now, mut peak, mut given_back) = (0, 0, 0, 0, 0);
    for (thread, event) in in_order(program) {
        now = event.tsc;
        recorders.iter_mut().for_each(|r| r.event(thread, event));
        if now > swept + 50_000 {
            swept = now;
            recorders.iter_mut().for_each(|r| r.sweep(now));
        }
        if now > looked + 20_000 + random.below(200_000) {
            looked = now;
            if packer.is_none() {
                packer = LivePack::open(&spool, true).unwrap();
            }
            if let Some(live) = &mut packer {
                live.give_back_after(1);
                let before = live.given_back();
                live.advance().unwrap();
                given_back += live.given_back() - before;
                advances += 1;
                if advances % life == 0 {
                    // As a kill does: nothing is finished.
                    std::mem::forget(packer.take());
                }
            }
            peak = peak.max(std::fs::metadata(&spool).unwrap().blocks() * 512);
        }
    }
    recorders.iter_mut().for_each(|r| r.end(now));
    let whole = pack_spool(&Spool::open(&whole).unwrap(), &path("whole.fbt"), &options()).unwrap();
    let packer = packer.or_else(|| LivePack::open(&spool, true).unwrap()).unwrap();
    let live = packer.finish(&out, &options()).unwrap();
    assert!(advances > 20, "{advances}");
    Run { whole, live, trace: Trace::open(&out).unwrap(), peak, given_back, dir }
}

fn shape() -> Shape {
    Shape { threads: 5, events: 60_000, live: 60, cross: 200, realloc: 60, special: 50, large: 4, ..Shape::default() }
}

fn check(program: &Program, run: &Run) {
    assert_eq!(run.trace.verify().unwrap(), vec![]);
    assert_eq!(first_difference(&history(&run.trace), &truth(program)), None);
    assert_eq!(run.live.totals, run.whole.totals);
    assert!(run.live.totals.complete);
    assert_eq!(run.trace.recorded_on().kernel, options().recorded_on.kernel);
}

#[test]
fn packed_while_it_grows_it_becomes_the_same_trace_and_the_spool_stays_small() {
    let p = program(&Shape { events: 300_000, ..shape() });
    let run = record(&quantised(&p, QUANTUM_SHIFT), usize::MAX);
    check(&p, &run);
    let all = run.live.spool_bytes;
    assert!(run.given_back > all * 3 / 4, "{} of {all}", run.given_back);
    assert!(run.peak < all / 4, "{} of {all}", run.peak);
    let left: Vec<_> = std::fs::read_dir(run.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains(".spool.")), "{left:?}");
}

#[test]
fn threads_that_come_and_go_become_the_same_trace() {
    let p = program(&Shape { thread_life: 300, ..shape() });
    assert!(p.threads.len() > 100);
    check(&p, &record(&quantised(&p, QUANTUM_SHIFT), usize::MAX));
}

#[test]
fn packers_that_are_killed_lose_nothing() {
    for (life, thread_life) in [(1, 0), (3, 300), (7, 0)] {
        let p = program(&Shape { thread_life, ..shape() });
        let run = record(&quantised(&p, QUANTUM_SHIFT), life);
        check(&p, &run);
        assert!(run.given_back > 0);
    }
}

#[test]
fn what_a_killed_packer_left_is_packed_by_hand_as_often_as_one_likes() {
    let p = program(&shape());
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("s.spool");
    let mut recorder = Recorder::new(&spool, p.threads.len());
    let (mut packer, mut swept) = (None, 0);
    let cut = quantised(&p, QUANTUM_SHIFT);
    let events = in_order(&cut);
    for (i, (thread, event)) in events.iter().enumerate() {
        recorder.event(*thread, *event);
        if event.tsc > swept + 50_000 {
            swept = event.tsc;
            recorder.sweep(swept);
            // Killed half-way; the program goes on.
            if i < events.len() / 2 {
                packer = packer.or_else(|| LivePack::open(&spool, false).unwrap());
                if let Some(live) = &mut packer {
                    live.give_back_after(1);
                    live.advance().unwrap();
                }
            } else {
                packer = None;
            }
        }
    }
    recorder.end(events.last().unwrap().1.tsc);
    assert!(LivePack::is_begun(&spool));
    for again in ["1.fbt", "2.fbt"] {
        let out = dir.path().join(again);
        let report = pack(&spool, &out, &options()).unwrap();
        assert!(report.totals.complete);
        assert_eq!(first_difference(&history(&Trace::open(&out).unwrap()), &truth(&p)), None);
    }
    // Without its state the spool is what is left of it, and says so.
    std::fs::write(dir.path().join("s.spool.state"), b"FBstate1 nonsense").unwrap();
    let refused = pack(&spool, &dir.path().join("3.fbt"), &options()).unwrap_err().to_string();
    assert!(refused.contains("s.spool.state") && refused.contains("damaged"), "{refused}");
}

#[test]
fn a_spool_that_is_not_swept_is_left_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.spool");
    let mut recorder = Recorder::new(&path, 1);
    recorder.event(0, SpoolEvent { tsc: 64, kind: SpoolKind::Malloc { addr: 64, size: 5 } });
    recorder.sweep(128);
    assert!(LivePack::open(&path, false).unwrap().is_none(), "nothing is known of it yet");
    recorder.sweep(256);
    assert!(LivePack::open(&path, false).unwrap().is_some());
    let header = Header { swept: false, ..start() };
    recorder.file.write_all_at(&header.to_bytes(), 0).unwrap();
    assert!(LivePack::open(&path, false).unwrap().is_none());
}

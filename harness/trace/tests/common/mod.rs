//! Packing in a temporary directory, and a history of a trace that can be compared with the program's.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test file uses its part

use std::collections::HashMap;

use fragbench_trace::spool::format::QUANTUM_SHIFT;
use fragbench_trace::spool::writer::{Coder, GENERAL_MAX};
use fragbench_trace::spool::{SpoolEvent, SpoolKind};
use fragbench_trace::synth::Program;
use fragbench_trace::{EventKind, PackOptions, PackReport, RecordedOn, Source, Trace, pack_source};

/// Packs a program; the trace's bytes.
pub fn packed(source: &impl Source, options: &PackOptions) -> (Vec<u8>, PackReport) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.fbt");
    let known = fragbench_trace::Totals { complete: true, ..Default::default() };
    let report = pack_source(source, &path, options, known).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len() as u64, report.bytes);
    (bytes, report)
}

pub fn options() -> PackOptions {
    let recorded_on = RecordedOn { kernel: Some("Linux 6.1 x86_64".into()), cpus: Some(2), ..Default::default() };
    PackOptions { recorded_on, ..PackOptions::default() }
}

/// A block's name that does not depend on how threads interleave: its thread and its place among that thread's
/// allocations.
pub type Name = (usize, usize);

/// One step of a thread: what, size, block, block before, resident pages.
pub type Step = (&'static str, u64, u64, Option<Name>, Option<u32>);

/// What each thread of a program does. The stamps must be distinct, so that they give the one true order.
pub fn truth(program: &Program) -> Vec<Vec<Step>> {
    let mut order: Vec<(u64, usize, &SpoolEvent)> = Vec::new();
    for (t, events) in program.threads.iter().enumerate() {
        order.extend(events.iter().map(|e| (e.tsc, t, e)));
    }
    order.sort_by_key(|(tsc, _, _)| *tsc);
    let mut live: HashMap<u64, (Name, u64)> = HashMap::new();
    let mut made = vec![0; program.threads.len()];
    let mut steps = vec![Vec::new(); program.threads.len()];
    // What is known of a block's pages is known when it is freed.
    let mut pages: HashMap<Name, u32> = HashMap::new();
    let mut owners: Vec<(usize, usize, Name)> = Vec::new();
    for (_, t, e) in order {
        let mut allocate = |addr: u64, size: u64| {
            let name = (t, made[t]);
            made[t] += 1;
            assert!(live.insert(addr, (name, size)).is_none());
            name
        };
        let step = match e.kind {
            SpoolKind::Malloc { addr, size } => ("malloc", size, 0, allocate(addr, size), None),
            SpoolKind::Calloc { addr, size } => ("calloc", size, 0, allocate(addr, size), None),
            SpoolKind::Aligned { addr, size, align } => ("aligned", size, align, allocate(addr, size), None),
            SpoolKind::Free { addr } => {
                let (name, size) = live.remove(&addr).unwrap();
                steps[t].push(("free", size, 0, Some(name), None));
                continue;
            }
            SpoolKind::FreeResident { addr, resident_pages } => {
                let (name, size) = live.remove(&addr).unwrap();
                pages.insert(name, resident_pages);
                steps[t].push(("free", size, 0, Some(name), None));
                continue;
            }
            SpoolKind::Realloc { old, new, size, resident_pages, .. } => {
                let (before, _) = live.remove(&old).unwrap();
                if let Some(p) = resident_pages {
                    pages.insert(before, p);
                }
                let name = (t, made[t]);
                made[t] += 1;
                assert!(live.insert(new, (name, size)).is_none());
                ("realloc", size, u64::from(old != new), name, Some(before))
            }
            _ => continue,
        };
        let (what, size, detail, name, before) = step;
        owners.push((t, steps[t].len(), name));
        steps[t].push((what, size, detail, before, None));
    }
    for (t, at, name) in owners {
        steps[t][at].4 = pages.get(&name).copied();
    }
    steps.retain(|s| !s.is_empty());
    steps
}

/// The same from a trace.
pub fn history(trace: &Trace) -> Vec<Vec<Step>> {
    let mut steps: Vec<Vec<Step>> = Vec::new();
    let mut made: Vec<usize> = Vec::new();
    let mut names: HashMap<u64, Name> = HashMap::new();
    let mut last_us = 0;
    let mut events = trace.events_in_order();
    for e in &mut events {
        assert!(e.at_us >= last_us);
        last_us = e.at_us;
        let t = e.thread as usize;
        if steps.len() <= t {
            steps.resize_with(t + 1, Vec::new);
            made.resize(t + 1, 0);
        }
        let before = e.object.filter(|_| e.before.is_some()).map(|o| names[&o]);
        let (what, detail) = match e.kind {
            EventKind::Malloc => ("malloc", 0),
            EventKind::Calloc => ("calloc", 0),
            EventKind::Aligned(align) => ("aligned", align),
            EventKind::Realloc { moved } => ("realloc", u64::from(moved)),
            EventKind::Free => ("free", 0),
            EventKind::ThreadStart | EventKind::ThreadExit | EventKind::System { .. } => continue,
        };
        if what != "free" {
            names.insert(e.object.unwrap(), (t, made[t]));
            made[t] += 1;
        }
        steps[t].push((what, e.size, detail, before, e.resident_pages));
    }
    assert_eq!(events.damage(), []);
    steps.retain(|s| !s.is_empty());
    steps
}

/// Where two histories part: thread, place, both steps.
pub fn first_difference(a: &[Vec<Step>], b: &[Vec<Step>]) -> Option<(usize, usize, Option<Step>, Option<Step>)> {
    for t in 0..a.len().max(b.len()) {
        let (x, y) = (a.get(t).map_or(&[][..], |v| v), b.get(t).map_or(&[][..], |v| v));
        for i in 0..x.len().max(y.len()) {
            if x.get(i) != y.get(i) {
                return Some((t, i, x.get(i).copied(), y.get(i).copied()));
            }
        }
    }
    None
}

/// The same program with its stamps cut to multiples of `1 << shift`: ties and, over threads, inversions.
pub fn quantised(program: &Program, shift: u8) -> Program {
    let cut = |v: u64| v >> shift << shift;
    let event = |e: &SpoolEvent| {
        let mut e = *e;
        e.tsc = cut(e.tsc);
        if let SpoolKind::Realloc { began, .. } = &mut e.kind {
            *began = cut(*began);
        }
        e
    };
    Program { threads: program.threads.iter().map(|t| t.iter().map(event).collect()).collect() }
}

/// Encodes as the recorder does: short when there is a short form.
pub fn payload(first: u64, events: &[SpoolEvent]) -> Vec<u8> {
    let mut coder = Coder::new(first);
    let mut out = Vec::new();
    for e in events {
        let q = e.tsc / (1 << QUANTUM_SHIFT);
        let short = match e.kind {
            SpoolKind::Malloc { addr, size } => coder.malloc(q, addr, size),
            SpoolKind::Free { addr } => coder.free(q, addr),
            _ => None,
        };
        match short {
            Some(s) => out.extend_from_slice(&s.bits.to_le_bytes()[..s.len]),
            None => {
                let kind = match e.kind {
                    SpoolKind::Realloc { old, new, size, began, resident_pages } => {
                        SpoolKind::Realloc { old, new, size, began: began / (1 << QUANTUM_SHIFT), resident_pages }
                    }
                    k => k,
                };
                let mut buf = [0; GENERAL_MAX];
                let n = coder.general(q, &kind, &mut buf);
                out.extend_from_slice(&buf[..n]);
            }
        }
    }
    out
}

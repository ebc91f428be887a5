//! Call stacks from spool to table: which blocks keep theirs, what is named, and what damage costs.

#![allow(clippy::unwrap_used)] // in a test it is an assertion

use fragbench_trace::spool::SpoolKind;
use fragbench_trace::spool::format::{ARCHITECTURE, BlockHeader, BlockKind, Closing, Header, Status};
use fragbench_trace::spool::stacks::{STACK_MAX, put_frames};
use fragbench_trace::spool::writer::{Coder, GENERAL_MAX};
use fragbench_trace::stacks::{Module, Symbol};
use fragbench_trace::{PackOptions, Trace, pack};
use fragbench_trace_analysis::{LeakStack, leaks};

const MS: u64 = 1_000_000;

fn block(kind: BlockKind, seq: u32, payload: &[u8]) -> Vec<u8> {
    let header = BlockHeader {
        len: payload.len() as u32,
        kind,
        thread: 0,
        seq,
        first_quantum: 0,
        tsc: 10 * MS,
        mono_ns: 10 * MS,
        own_bytes: 0,
        payload_crc: crc32fast::hash(payload),
    };
    [&header.to_bytes()[..], payload].concat()
}

fn stack(id: u32, frames: &[(Option<u32>, u64)]) -> Vec<u8> {
    let mut out = [0; STACK_MAX];
    let n = put_frames(frames, &mut out);
    block(BlockKind::Stack, id, &out[..n])
}

/// Stack 5 is `f` called from code outside all files, stack 6 `main`, reached by way of a file that was loaded twice. One
/// tick is a nanosecond.
fn spool() -> Vec<u8> {
    let kinds = [
        (0, SpoolKind::ThreadStart),
        (1, SpoolKind::Stack { id: 5 }),
        (1, SpoolKind::Malloc { addr: 0x1000, size: 100 }),
        (2, SpoolKind::Stack { id: 6 }),
        (2, SpoolKind::Calloc { addr: 0x2000, size: 200 }),
        (3, SpoolKind::Stack { id: 5 }),
        (3, SpoolKind::Malloc { addr: 0x3000, size: 300 }),
        (4, SpoolKind::Stack { id: 6 }),
        (4, SpoolKind::Realloc { old: 0x3000, new: 0x4000, size: 400, began: 0, resident_pages: None }),
        (5, SpoolKind::Malloc { addr: 0x5000, size: 500 }),
        (5, SpoolKind::Stack { id: 77 }),
        (5, SpoolKind::Malloc { addr: 0x6000, size: 600 }),
        (8, SpoolKind::Free { addr: 0x1000 }),
    ];
    let mut coder = Coder::new(0);
    let mut events = Vec::new();
    for (ms, kind) in kinds {
        let quantum = (ms * MS) >> fragbench_trace::spool::format::QUANTUM_SHIFT;
        let kind = match kind {
            SpoolKind::Realloc { old, new, size, resident_pages, .. } => {
                SpoolKind::Realloc { old, new, size, began: quantum, resident_pages }
            }
            kind => kind,
        };
        let mut out = [0; GENERAL_MAX];
        let n = coder.general(quantum, &kind, &mut out);
        events.extend_from_slice(&out[..n]);
    }
    let header = Header {
        stacks: true,
        swept: false,
        quantum_shift: fragbench_trace::spool::format::QUANTUM_SHIFT,
        architecture: ARCHITECTURE,
        page_size: 4096,
        pid: 7,
        ppid: 1,
        start_tsc: 0,
        start_mono_ns: 0,
        start_real_ns: 0,
        comm: [0; 16],
    };
    let closing = Closing {
        status: Status::Exited,
        errno: 0,
        tsc: 10 * MS,
        mono_ns: 10 * MS,
        lost_events: 0,
        early_calls: 0,
        own_bytes_peak: 0,
        bytes: 0,
        nested_calls: 0,
        passing_loads: 0,
    };
    let blocks = [
        block(BlockKind::Module, 0, b"\x02\xab\xcd/bin/p"),
        block(BlockKind::Module, 1, b"\x02\xab\xcd/bin/p"),
        stack(5, &[(Some(0), 0x10), (None, 0x99)]),
        stack(6, &[(Some(1), 0x10), (Some(0), 0x20), (Some(0), 0x30)]),
        block(BlockKind::Events, 0, &events),
    ];
    [&header.to_bytes()[..], &closing.to_bytes()[..], &blocks.concat()].concat()
}

fn symbols(module: &Module, offsets: &[u64]) -> Vec<Vec<Symbol>> {
    assert_eq!((module.path.to_str().unwrap(), &module.build_id[..]), ("/bin/p", &[0xab, 0xcd][..]));
    let name = |offset: &u64| match offset {
        0x10 => "f",
        0x20 => "main",
        _ => "outside",
    };
    offsets.iter().map(|o| vec![Symbol { function: Some(name(o).into()), ..Symbol::default() }]).collect()
}

fn packed(end_us: Option<u64>) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("spool"), dir.path().join("trace"));
    std::fs::write(&from, spool()).unwrap();
    let options = PackOptions { end_us, symbols: Some(symbols), ..PackOptions::default() };
    let report = pack(&from, &to, &options).unwrap();
    assert_eq!(report.stacks, Some(if end_us.is_some() { 2 } else { 1 }));
    std::fs::read(&to).unwrap()
}

/// Bytes, blocks and functions, most bytes first.
fn lines(stacks: &[LeakStack]) -> Vec<(u64, u64, Vec<&str>)> {
    let name = |frame| -> &str { Option::as_deref(frame).unwrap_or("?") };
    stacks.iter().map(|s| (s.bytes, s.blocks, s.frames.iter().map(|f| name(&f.function)).collect())).collect()
}

#[test]
fn blocks_that_stay_have_the_stack_that_last_sized_them() {
    let trace = Trace::from_bytes(packed(None)).unwrap();
    assert!(trace.info().stacks);
    let stacks = leaks(&trace).stacks.unwrap();
    // Without a stack, and with one that the spool does not know: not known who made them.
    assert_eq!(lines(&stacks), [(1100, 2, vec![]), (600, 2, vec!["f", "main"])]);
    let frame = &stacks[1].frames[0];
    assert_eq!((frame.module.as_deref(), frame.offset, frame.line), (Some("/bin/p"), 0x10, None));
    let ms = |s: f64| (s * 1e3).round() as u64;
    let ages = (ms(stacks[1].oldest_s), ms(stacks[1].youngest_s));
    assert_eq!(ages, (8, 7), "a realloc does not make a block younger");
}

#[test]
fn blocks_freed_after_the_traces_end_have_not_been() {
    let trace = Trace::from_bytes(packed(Some(6000))).unwrap();
    let stacks = leaks(&trace).stacks.unwrap();
    assert_eq!(lines(&stacks)[2], (100, 1, vec!["f", "?"]));
    assert_eq!((stacks[2].frames[1].module.as_deref(), stacks[2].frames[1].offset), (None, 0x99));
}

#[test]
fn damage_costs_the_stacks_alone_and_a_lost_index_nothing() {
    let whole = packed(None);
    let expected = leaks(&Trace::from_bytes(whole.clone()).unwrap());
    let cut = Trace::from_bytes(whole[..whole.len() - 24].to_vec()).unwrap();
    assert_eq!(lines(&leaks(&cut).stacks.unwrap()), lines(expected.stacks.as_ref().unwrap()));
    let at = whole.windows(4).rposition(|w| w == b"main").unwrap();
    let mut damaged = whole;
    damaged[at] ^= 1;
    let trace = Trace::from_bytes(damaged).unwrap();
    assert!(trace.stacks().is_err());
    assert!(trace.verify().unwrap().iter().any(|d| d.to_string().contains("checksum")));
    let found = leaks(&trace);
    assert_eq!((found.stacks, found.sizes), (None, expected.sizes));
}

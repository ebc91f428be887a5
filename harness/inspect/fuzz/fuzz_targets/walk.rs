//! Any bytes as damage done to a heap: the first chooses the heap, one built by hand or one captured, the rest say where
//! and how. The survey ends and accounts for every byte.
#![no_main]

#[path = "../../tests/support/damage.rs"]
mod damage;
#[allow(dead_code, reason = "the tests of layouts use the rest")]
#[path = "../../tests/support/synthetic.rs"]
mod synthetic;

use std::path::Path;
use std::sync::LazyLock;

use damage::Base;
use fragbench_proc::CaptureTarget;
use libfuzzer_sys::fuzz_target;
use synthetic::{FAMILIES, Made, PAGE, build};

static BASES: LazyLock<Vec<Base>> = LazyLock::new(|| {
    let chunks = [
        (0x40, Made::Live),
        (0x40, Made::Tcache),
        (0x410, Made::Tcache),
        (0x60, Made::Fast),
        (0x60, Made::Fast),
        (0x90, Made::Free),
        (0x20, Made::Live),
        (6 * PAGE, Made::Free),
    ];
    let built = FAMILIES.iter().map(|family| Base::new(Box::new(build(family, &chunks).memory)));
    let captures = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/captures"));
    let mut paths: Vec<_> = captures.expect("captures").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let captured = paths.iter().map(|path| Base::new(Box::new(CaptureTarget::open(path).expect("a whole capture"))));
    built.chain(captured).collect()
});

fuzz_target!(|bytes: &[u8]| {
    let Some((which, damage)) = bytes.split_first() else { return };
    let base = &BASES[usize::from(*which) % BASES.len()];
    let damaged = base.damaged(damage);
    damaged.inspect();
    assert!(damaged.bytes_read() <= 64 * base.bytes(), "{} bytes read of {}", damaged.bytes_read(), base.bytes());
});

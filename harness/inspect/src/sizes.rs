//! Chunks by size, live and free: every size of its own below 128 bytes, four classes an octave above.

use fragbench_model::SizeClass;

use crate::chunk::Kind;
use crate::survey::Survey;

/// Sizes below this have a class each: chunks differ by 16 bytes.
const EXACT: u64 = 128;

/// The class of a size: its least and its greatest.
pub(crate) fn class_of(size: u64) -> (u64, u64) {
    if size < EXACT {
        return (size, size);
    }
    // From one step above a quarter of an octave to the next, so that a power of two ends its class.
    let quarter = 1 << ((size - 1).ilog2() - 2);
    let from = (size - 1) / quarter * quarter + 1;
    (from, from + quarter - 1)
}

/// Where its class stands among all, ascending.
fn place(size: u64) -> usize {
    let octave = size.saturating_sub(1).max(1).ilog2();
    let place = if size < EXACT { size / 16 } else { u64::from(octave) * 4 + ((size - 1) >> (octave - 2) & 3) };
    place as usize
}

fn class(classes: &mut [SizeClass], size: u64) -> &mut SizeClass {
    let class = &mut classes[place(size)];
    // Once a class: it takes two divisions.
    if class.to_bytes == 0 {
        (class.from_bytes, class.to_bytes) = class_of(size);
    }
    class
}

impl Survey {
    /// Chunks by size, ascending; tops, malloc's own and what was not understood left out.
    pub fn sizes(&self) -> Vec<SizeClass> {
        let mut classes = [SizeClass::default(); 4 * u64::BITS as usize];
        for (_, size, kind) in self.segments.iter().flat_map(|segment| segment.chunks()) {
            if !matches!(kind, Kind::Live | Kind::Tcache) && !kind.is_free() {
                continue;
            }
            let class = class(&mut classes, size);
            let (count, bytes) = match kind {
                Kind::Live => (&mut class.live_count, &mut class.live_bytes),
                Kind::Tcache => (&mut class.tcache_count, &mut class.tcache_bytes),
                _ => (&mut class.free_count, &mut class.free_bytes),
            };
            *count += 1;
            *bytes += size;
        }
        for chunk in &self.mmapped {
            let class = class(&mut classes, chunk.bytes);
            class.live_count += 1;
            class.live_bytes += chunk.bytes;
        }
        classes.into_iter().filter(|class| class.to_bytes > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_meet_and_hold_their_sizes() {
        assert_eq!(class_of(32), (32, 32));
        assert_eq!(class_of(112), (112, 112));
        assert_eq!(class_of(128), (113, 128));
        assert_eq!(class_of(1024), (897, 1024));
        assert_eq!(class_of(1040), (1025, 1280));
        let mut last = class_of(112).1;
        for size in (128..1 << 20).step_by(16) {
            let (from, to) = class_of(size);
            assert!((from..=to).contains(&size), "{size}");
            assert!(to == last || from == last + 1, "{size}: {from} after {last}");
            assert!(place(size) > place(from - 1) && place(size) == place(to), "{size}");
            last = to;
        }
    }
}

//! Who made the blocks that were never freed: call stacks, with the names of functions and files, as a trace keeps them.
//!
//! Only stacks of blocks that live when the recording ends are kept, each once. Names are found when the trace is packed,
//! on the machine and with the files of the recording; a trace with stacks is therefore not anonymous. Frames outside
//! `main` are left out.
//!
//! The payload is a sequence of LEB128 numbers and texts (length, bytes): modules (count; path, build id), frames (count;
//! module plus one or 0, offset, function, file, line, whether inlined into the frame that follows), stacks (count; number
//! of frames, numbers of frames, innermost first), blocks (count; lane less the lane before, slot less the slot before in
//! that lane, stack). An empty text and line 0 stand for what is not known.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::spool::Spool;
pub use crate::spool::stacks::Module;
use crate::spool::stacks::RawFrame;
use crate::varint::{get, put};

/// What is known of an address: a function's name and place in the source. Several are functions inlined into each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Symbol {
    /// Name of the function.
    pub function: Option<String>,
    /// Source file.
    pub file: Option<String>,
    /// Line in it, from 1.
    pub line: Option<u32>,
}

/// Finds the symbols of offsets in a module, for each offset innermost first; none where nothing is known.
pub type Symbols = fn(&Module, &[u64]) -> Vec<Vec<Symbol>>;

/// A frame of a call stack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Number of its module in [`Stacks::modules`]; none outside all files.
    pub module: Option<u32>,
    /// Offset in the module as its symbols count, of the call; without a module the address. Of several calls in one line
    /// that of the first met.
    pub offset: u64,
    /// Name of the function.
    pub function: Option<String>,
    /// Source file.
    pub file: Option<String>,
    /// Line in it, from 1.
    pub line: Option<u32>,
    /// Whether the compiler put it into the frame that follows.
    pub inlined: bool,
}

/// The stacks of blocks never freed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stacks {
    /// Loaded files.
    pub modules: Vec<Module>,
    /// Frames, each once.
    pub frames: Vec<Frame>,
    /// Stacks: numbers of frames, innermost first.
    pub stacks: Vec<Vec<u32>>,
    /// Lane, slot and number of the stack, by lane and slot.
    pub blocks: Vec<(u32, u32, u32)>,
}

impl Stacks {
    /// Of blocks by lane, slot and the spool's number of the stack. Stacks the spool does not know are left out.
    pub(crate) fn resolve(spool: &Spool, mut held: Vec<(u32, u32, u32)>, symbols: Option<Symbols>) -> Self {
        held.sort_unstable();
        let ids: BTreeSet<u32> = held.iter().map(|(_, _, id)| *id).collect();
        let known: Vec<(u32, &[RawFrame])> = ids.iter().filter_map(|id| Some((*id, spool.stack(*id)?))).collect();
        let mut offsets: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
        for (module, offset) in known.iter().flat_map(|(_, frames)| *frames) {
            if let Some(module) = module {
                offsets.entry(*module).or_default().insert(*offset);
            }
        }
        let mut modules = Vec::new();
        let mut found: HashMap<(u32, u64), (u32, Vec<Symbol>)> = HashMap::new();
        for (number, offsets) in offsets {
            let Some(module) = spool.modules().get(&number) else { continue };
            let offsets: Vec<u64> = offsets.into_iter().collect();
            let mut all = symbols.map_or_else(Vec::new, |symbols| symbols(module, &offsets));
            all.resize(offsets.len(), Vec::new());
            // A library that was unloaded and loaded again is the same file.
            let index = modules.iter().position(|m| m == module).unwrap_or_else(|| {
                modules.push(module.clone());
                modules.len() - 1
            });
            found.extend(offsets.iter().zip(all).map(|(at, symbols)| ((number, *at), (index as u32, symbols))));
        }
        let (mut frames, mut stacks) = (Vec::new(), Vec::new());
        let (mut frame_numbers, mut stack_numbers, mut numbers) = (HashMap::new(), HashMap::new(), HashMap::new());
        for (id, raw) in known {
            let mut stack = Vec::new();
            'stack: for (module, offset) in raw {
                let found = module.and_then(|module| found.get(&(module, *offset)));
                for frame in named(found, *offset) {
                    let is_main = frame.function.as_deref() == Some("main");
                    let number = *frame_numbers.entry(place_of(&frame)).or_insert(frames.len() as u32);
                    if number as usize == frames.len() {
                        frames.push(frame);
                    }
                    stack.push(number);
                    if is_main {
                        break 'stack;
                    }
                }
            }
            let number = *stack_numbers.entry(stack.clone()).or_insert(stacks.len() as u32);
            if number as usize == stacks.len() {
                stacks.push(stack);
            }
            numbers.insert(id, number);
        }
        let blocks = held.iter().filter_map(|(lane, slot, id)| Some((*lane, *slot, *numbers.get(id)?))).collect();
        Self { modules, frames, stacks, blocks }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let text = |out: &mut Vec<u8>, bytes: &[u8]| {
            put(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        };
        put(&mut out, self.modules.len() as u64);
        for module in &self.modules {
            text(&mut out, module.path.as_os_str().as_bytes());
            text(&mut out, &module.build_id);
        }
        put(&mut out, self.frames.len() as u64);
        for frame in &self.frames {
            put(&mut out, frame.module.map_or(0, |m| u64::from(m) + 1));
            put(&mut out, frame.offset);
            text(&mut out, frame.function.as_deref().unwrap_or_default().as_bytes());
            text(&mut out, frame.file.as_deref().unwrap_or_default().as_bytes());
            put(&mut out, frame.line.unwrap_or(0).into());
            put(&mut out, frame.inlined.into());
        }
        put(&mut out, self.stacks.len() as u64);
        for stack in &self.stacks {
            put(&mut out, stack.len() as u64);
            stack.iter().for_each(|frame| put(&mut out, u64::from(*frame)));
        }
        put(&mut out, self.blocks.len() as u64);
        let (mut last_lane, mut last_slot) = (0, 0);
        for (lane, slot, stack) in &self.blocks {
            if *lane != last_lane {
                last_slot = 0;
            }
            put(&mut out, u64::from(lane - last_lane));
            put(&mut out, u64::from(slot - last_slot));
            put(&mut out, u64::from(*stack));
            (last_lane, last_slot) = (*lane, *slot);
        }
        out
    }

    /// Reads what `to_bytes` wrote; `None` when it is not that, or names what is not there.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut in_ = Input { bytes, at: 0 };
        let modules = in_.list(|i| {
            let path = OsString::from_vec(i.bytes()?.to_vec()).into();
            Some(Module { path, build_id: i.bytes()?.to_vec() })
        })?;
        let frames = in_.list(|i| {
            let module = match i.int()? {
                0 => None,
                n => Some(i.index(n - 1, modules.len())?),
            };
            Some(Frame {
                module,
                offset: i.int()?,
                function: i.text()?,
                file: i.text()?,
                line: Some(u32::try_from(i.int()?).ok()?).filter(|line| *line != 0),
                inlined: i.int()? != 0,
            })
        })?;
        let stacks = in_.list(|i| {
            i.list(|i| {
                let n = i.int()?;
                i.index(n, frames.len())
            })
        })?;
        let (mut lane, mut slot) = (0u32, 0u32);
        let blocks = in_.list(|i| {
            let further = u32::try_from(i.int()?).ok()?;
            lane = lane.checked_add(further)?;
            slot = if further == 0 { slot } else { 0 }.checked_add(u32::try_from(i.int()?).ok()?)?;
            let stack = i.int()?;
            Some((lane, slot, i.index(stack, stacks.len())?))
        })?;
        (in_.at == bytes.len()).then_some(Self { modules, frames, stacks, blocks })
    }
}

/// What tells a frame from others: one line of one function is one place, though a compiler may have made several calls
/// of it.
fn place_of(frame: &Frame) -> Frame {
    let known = frame.function.is_some() && frame.file.is_some() && frame.line.is_some();
    Frame { offset: if known { 0 } else { frame.offset }, ..frame.clone() }
}

/// An address's frames, inlined ones first.
fn named(found: Option<&(u32, Vec<Symbol>)>, offset: u64) -> Vec<Frame> {
    let Some((module, symbols)) = found else { return vec![Frame { offset, ..Frame::default() }] };
    let bare = Frame { module: Some(*module), offset, ..Frame::default() };
    let mut frames: Vec<Frame> = symbols
        .iter()
        .map(|s| Frame {
            function: s.function.clone(),
            file: s.file.clone(),
            line: s.line,
            inlined: true,
            ..bare.clone()
        })
        .collect();
    match frames.last_mut() {
        Some(outermost) => outermost.inlined = false,
        None => frames.push(bare),
    }
    frames
}

struct Input<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Input<'b> {
    fn int(&mut self) -> Option<u64> {
        get(self.bytes, &mut self.at)
    }

    fn index(&self, n: u64, len: usize) -> Option<u32> {
        u32::try_from(n).ok().filter(|n| (*n as usize) < len)
    }

    fn bytes(&mut self) -> Option<&'b [u8]> {
        let len = usize::try_from(self.int()?).ok()?;
        let bytes = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(bytes)
    }

    /// `Some(None)` for an empty one.
    #[allow(clippy::option_option, reason = "whether it could be read, and whether there is one")]
    fn text(&mut self) -> Option<Option<String>> {
        let text = String::from_utf8(self.bytes()?.to_vec()).ok()?;
        Some(Some(text).filter(|text| !text.is_empty()))
    }

    fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        // Every entry takes a byte at least, so a damaged count ends at the payload's end.
        (0..self.int()?).map(|_| each(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Stacks {
        let module = |path: &str, id: &[u8]| Module { path: path.into(), build_id: id.to_vec() };
        let named = Frame {
            module: Some(1),
            offset: 0x1234,
            function: Some("f".into()),
            file: Some("f.c".into()),
            line: Some(7),
            inlined: true,
        };
        Stacks {
            modules: vec![module("/bin/a", b""), module("/lib/b.so", &[1, 2, 3])],
            frames: vec![named, Frame { offset: 9, ..Frame::default() }],
            stacks: vec![vec![0, 1, 1], vec![], vec![1]],
            blocks: vec![(0, 3, 0), (0, 4, 2), (2, 1, 1), (2, 5, 0)],
        }
    }

    #[test]
    fn stacks_come_back_as_they_were() {
        let bytes = sample().to_bytes();
        assert_eq!(Stacks::from_bytes(&bytes), Some(sample()));
    }

    #[test]
    fn damaged_bytes_are_refused_or_name_only_what_is_there() {
        let bytes = sample().to_bytes();
        for cut in 0..bytes.len() {
            assert_eq!(Stacks::from_bytes(&bytes[..cut]), None, "{cut} bytes");
        }
        for at in 0..bytes.len() {
            for flip in [1, 0x40, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                let Some(read) = Stacks::from_bytes(&damaged) else { continue };
                assert!(read.frames.iter().all(|f| f.module.is_none_or(|m| (m as usize) < read.modules.len())));
                assert!(read.stacks.iter().flatten().all(|f| (*f as usize) < read.frames.len()));
                assert!(read.blocks.iter().all(|(_, _, s)| (*s as usize) < read.stacks.len()));
            }
        }
    }
}

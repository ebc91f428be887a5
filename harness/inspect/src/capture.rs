//! A capture of a live process that can be surveyed again elsewhere: which pages are where, and of their contents only
//! what malloc wrote: arenas, headers, links of free chunks, tcaches. What the program wrote is left out, unless contents
//! were asked for. Of a live block its first word is kept where it is the address of read-only memory of a file: it may
//! be a vtable's, which names the block's type.

use std::path::Path;

use fragbench_proc::{CaptureWriter, LiveTarget, Mapping, ProcError, Source, Target};

use crate::chunk::Kind;
use crate::layout::{ARENAS, CHUNK_FD, PARS};
use crate::pages::Pages;
use crate::stacks::control_blocks;
use crate::survey::{InspectError, Survey};

/// malloc's own chunks are kept whole up to this size: the largest is a tcache or the head of an arena.
const OWN_MAX: u64 = 4096;
/// Bytes of `mp_` that are kept: all of any family's.
const PAR_BYTES: u64 = 0x90;
/// Bytes of contents written at a time.
const PIECE: u64 = 1 << 20;

/// Captures a process, of which `survey` was made, into a new directory.
///
/// # Errors
/// When the process cannot be read any more, or the files cannot be written.
pub fn capture(target: &LiveTarget, survey: &Survey, dir: &Path, with_contents: bool) -> Result<(), InspectError> {
    let mut writer = CaptureWriter::create(dir, target)?;
    let mappings = target.mappings()?;
    if with_contents {
        whole(target, &mappings, &mut writer)?;
    } else {
        bones(target, &mappings, survey, &mut writer)?;
    }
    writer.finish()?;
    target.check()?;
    Ok(())
}

/// All of the process's own memory.
fn whole(target: &LiveTarget, mappings: &[Mapping], writer: &mut CaptureWriter) -> Result<(), ProcError> {
    let own = |m: &&Mapping| m.private && m.readable && m.writable;
    for mapping in mappings.iter().filter(own) {
        let Some(residency) = target.residency(mapping.start..mapping.end)? else { continue };
        for run in residency.present {
            let mut at = run.start;
            while at < run.end {
                let mut bytes = vec![0u8; PIECE.min(run.end - at) as usize];
                let mut part = [fragbench_proc::Part::new(at, &mut bytes)];
                target.read(&mut part)?;
                if part[0].done {
                    writer.keep(at, &bytes)?;
                }
                at += bytes.len() as u64;
            }
        }
    }
    Ok(())
}

/// Only what malloc wrote.
fn bones(
    target: &LiveTarget,
    mappings: &[Mapping],
    survey: &Survey,
    writer: &mut CaptureWriter,
) -> Result<(), InspectError> {
    let mut pages = Pages::new(target);
    let mut kept = Kept { words: Vec::new() };
    let read_only = |word: u64| {
        let place = mappings.partition_point(|m| m.end <= word);
        mappings.get(place).is_some_and(|m| m.holds(word) && !m.writable && matches!(m.source, Source::File(_)))
    };
    let state = ARENAS.iter().find(|layout| layout.releases == survey.libc.arena_layout).map_or(0, |l| l.size);
    kept.range(&mut pages, survey.libc.main_arena, state);
    if let Some(par) =
        survey.libc.par.filter(|_| PARS.iter().any(|p| Some(p.releases) == survey.libc.par_layout.as_deref()))
    {
        kept.range(&mut pages, par, PAR_BYTES);
    }
    for segment in &survey.segments {
        let mut before = Kind::Own;
        for (at, size, kind) in segment.chunks() {
            match kind {
                Kind::Own => kept.range(&mut pages, at, size.min(OWN_MAX)),
                Kind::Foreign | Kind::Unknown => {}
                _ => {
                    // The copy of its size that a free chunk leaves behind its end; of a live one these are its last bytes.
                    if matches!(before, Kind::Small | Kind::Large | Kind::Unsorted) {
                        kept.range(&mut pages, at, 8);
                    }
                    kept.range(&mut pages, at + 8, 8);
                    match kind {
                        Kind::Top => {}
                        Kind::Live => {
                            if let Some(word) = pages.word(at + CHUNK_FD).filter(|word| read_only(*word)) {
                                kept.words.push((at + CHUNK_FD, word));
                            }
                        }
                        _ => kept.range(&mut pages, at + CHUNK_FD, 16),
                    }
                }
            }
            before = kind;
        }
        // The fencepost of a full heap is shown by the header behind it.
        kept.range(&mut pages, segment.end - 8, 8);
    }
    for chunk in &survey.mmapped {
        kept.range(&mut pages, chunk.start, 16);
        kept.range(&mut pages, chunk.chunk, 16);
    }
    for at in control_blocks(&mut pages, mappings, survey) {
        kept.range(&mut pages, at, 8);
        kept.range(&mut pages, at + 16, 8);
    }
    kept.write(writer)?;
    Ok(())
}

/// Words to be kept.
struct Kept {
    words: Vec<(u64, u64)>,
}

impl Kept {
    fn range(&mut self, pages: &mut Pages<'_>, start: u64, bytes: u64) {
        let words = (start..start.saturating_add(bytes)).step_by(8);
        self.words.extend(words.filter_map(|at| Some((at, pages.word(at)?))));
    }

    /// Words that follow each other in one record; zeros need no keeping.
    fn write(mut self, writer: &mut CaptureWriter) -> Result<(), ProcError> {
        self.words.retain(|(_, word)| *word != 0);
        self.words.sort_unstable();
        self.words.dedup_by_key(|(at, _)| *at);
        for run in self.words.chunk_by(|a, b| a.0 + 8 == b.0) {
            let bytes: Vec<u8> = run.iter().flat_map(|(_, word)| word.to_le_bytes()).collect();
            writer.keep(run[0].0, &bytes)?;
        }
        Ok(())
    }
}

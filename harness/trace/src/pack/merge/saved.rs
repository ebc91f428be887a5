//! The state of a merge that is held, as bytes.

use std::collections::HashMap;
use std::fs::File;

use super::{Blocks, Clock, Cursor, Head, Held, Merge};
use crate::error::TraceError;
use crate::pack::state::State;
use crate::spool::tail::{Place, Tail};

/// A realloc's second half: stamp, the block before, address and size of the new one.
type Second = ((u64, Option<Held>), (u64, u64));

impl Merge<'static, Tail> {
    /// Appends it. To be called between two runs.
    pub(in crate::pack) fn save(&self, out: &mut Vec<u8>) {
        self.clock.save(out);
        (self.cursors.len() as u64).save(out);
        (self.by_thread.len() as u64).save(out);
        for (thread, cursor) in &self.by_thread {
            let c = &self.cursors[*cursor];
            (*thread, *cursor as u64).save(out);
            let place: Option<Place> = c.events.as_ref().and_then(|events| {
                let (block, taken) = events.place()?;
                Some((block, taken - (c.ready.len() - c.at.min(c.ready.len())) as u64))
            });
            place.save(out);
            let second: Option<Second> = c.second.and_then(|head| match head {
                Head::ReallocEnd { tsc, old, new, size } => Some(((tsc, old), (new, size))),
                Head::Event(_) => None,
            });
            second.save(out);
            (c.stack, c.exited).save(out);
        }
        self.ended.save(out);
        self.now_us.save(out);
        self.blocks.save(out);
    }

    /// What [`Self::save`] appended, of a trace that goes on in `file`; `None` when it is not that.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(in crate::pack) fn load(source: Tail, file: File, from: &mut &[u8]) -> Result<Option<Self>, TraceError> {
        let Some((clock, cursors, (ended, now_us))) = parse(from) else { return Ok(None) };
        let Some(blocks) = Blocks::load(file, from)? else { return Ok(None) };
        let mut merge = Self::new(source, clock, blocks);
        (merge.ended, merge.now_us) = (ended, now_us);
        merge.grow();
        for (cursor, place) in cursors {
            match place {
                Some(place) => merge.open(cursor, place),
                // Of a thread that has ended.
                None => merge.cursors.push(cursor),
            }
        }
        Ok(Some(merge))
    }
}

/// A cursor, and where it goes on; none where it has ended.
type Saved = (Cursor<'static>, Option<Option<Place>>);

/// The clock, the cursors, how far ended threads were taken, and the time.
type Parsed = (Clock, Vec<Saved>, (HashMap<u32, Place>, u64));

fn parse(from: &mut &[u8]) -> Option<Parsed> {
    let clock = State::load(from)?;
    let all = u64::load(from)?;
    let mut cursors: Vec<Saved> = Vec::new();
    let count = u64::load(from)?;
    cursors.resize_with(usize::try_from(all).ok()?, || (Cursor::new(0), None));
    for _ in 0..count {
        let (thread, at) = <(u32, u64)>::load(from)?;
        let (cursor, place) = cursors.get_mut(usize::try_from(at).ok()?)?;
        cursor.thread = thread;
        *place = Some(State::load(from)?);
        cursor.second =
            Option::<Second>::load(from)?.map(|((tsc, old), (new, size))| Head::ReallocEnd { tsc, old, new, size });
        (cursor.stack, cursor.exited) = State::load(from)?;
    }
    Some((clock, cursors, State::load(from)?))
}

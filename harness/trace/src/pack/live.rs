//! Packs a spool while the recorder writes it, and gives back what has been packed, so that a recording needs no more room
//! than its trace and a bounded piece of spool, however long it lasts.
//!
//! The recorder sweeps the spool now and then ([`crate::spool::format`]): up to a sweep's stamp the spool is whole, and is
//! merged as far as that. Before any of it is given back the packer's state is written beside it. Whoever kills the packer
//! loses nothing: [`LivePack::open`] goes on from the state, with the same trace as a result.
//!
//! Beside a spool `S` lie `S.part`, the trace so far, and `S.state`.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::blocks::Blocks;
use super::clock::Clock;
use super::merge::Merge;
use super::state::State;
use super::{PackOptions, PackReport, known, learn_from, sys};
use crate::error::TraceError;
use crate::info::RecordedOn;
use crate::spool::tail::Tail;
use crate::spool::{ClockPair, Spool};

/// First bytes of a state, with its version.
const MAGIC: [u8; 8] = *b"FBstate1";
/// So much spool is packed before it is given back.
const GIVE_BACK: u64 = 16 << 20;

/// See the module.
pub struct LivePack {
    spool: PathBuf,
    /// The trace so far.
    part: PathBuf,
    /// For giving back: needs the right to write.
    file: File,
    tail: Tail,
    merge: Merge<'static, Tail>,
    /// Stamp up to which events have been merged.
    merged: u64,
    /// Bytes packed before they are given back.
    after: u64,
    /// The same: what has to be written for it.
    state_len: u64,
    given_back: u64,
}

fn beside(spool: &Path, what: &str) -> PathBuf {
    let mut name = spool.as_os_str().to_owned();
    name.push(what);
    name.into()
}

impl LivePack {
    /// Begins with a spool, or goes on where an earlier packer was. None where there is nothing to go by yet: the recorder
    /// was not told to sweep, or has not done so. `private`: only the owner may read the trace.
    ///
    /// # Errors
    /// The spool is none, files beside it cannot be written, or what an earlier packer left is not sound.
    pub fn open(spool: &Path, private: bool) -> Result<Option<Self>, TraceError> {
        let part = beside(spool, ".part");
        if Self::is_begun(spool) {
            let trace = File::options().read(true).write(true).open(&part)?;
            return Self::go_on(spool, part, trace).map(Some);
        }
        let tail = Tail::open(spool)?;
        if !tail.header().swept {
            return Ok(None);
        }
        tail.poll(false)?;
        let Some(swept) = tail.swept() else { return Ok(None) };
        // Without a state nothing was given back yet: what is there is begun anew.
        let _ = std::fs::remove_file(&part);
        let trace = create(&part, private)?;
        let header = tail.header();
        let start = ClockPair { tsc: header.start_tsc, mono_ns: header.start_mono_ns };
        let blocks = Blocks::new(trace, &RecordedOn::default())?;
        let mut merge = Merge::new(tail.clone(), Clock::new((start, swept.clock)), blocks);
        merge.grow();
        let file = File::options().read(true).write(true).open(spool)?;
        Ok(Some(Self {
            spool: spool.to_owned(),
            part,
            file,
            tail,
            merge,
            merged: 0,
            after: GIVE_BACK,
            state_len: 0,
            given_back: 0,
        }))
    }

    /// Whether a part of a spool has been packed and given back.
    pub fn is_begun(spool: &Path) -> bool {
        beside(spool, ".state").exists()
    }

    fn go_on(spool: &Path, part: PathBuf, trace: File) -> Result<Self, TraceError> {
        let state = beside(spool, ".state");
        let bytes = std::fs::read(&state)?;
        let tail = Tail::open(spool)?;
        let Some((merge, merged)) = resume(&tail, trace, &bytes)? else { return Err(TraceError::State(state)) };
        let file = File::options().read(true).write(true).open(spool)?;
        let state_len = bytes.len() as u64;
        Ok(Self {
            spool: spool.to_owned(),
            part,
            file,
            tail,
            merge,
            merged,
            after: GIVE_BACK,
            state_len,
            given_back: 0,
        })
    }

    /// Packs a spool that an earlier packer was killed over, as far as it is there, and leaves all it needs to do so again.
    ///
    /// # Errors
    /// As [`Self::open`] and [`Self::finish`].
    pub(super) fn pack_again(spool: &Path, out: &Path, options: &PackOptions) -> Result<PackReport, TraceError> {
        let part = super::part_of(out)?;
        let mut trace = create(&part, options.private)?;
        let done = (|| {
            std::io::copy(&mut File::open(beside(spool, ".part"))?, &mut trace)?;
            Self::go_on(spool, part.clone(), trace)?.end(out, options)
        })();
        if done.is_err() {
            // Its end is the error's.
            let _ = std::fs::remove_file(&part);
        }
        done
    }

    /// Packs what has come since and is whole, and gives back what is packed when that is worth it.
    ///
    /// # Errors
    /// The spool cannot be read, or the trace not be written.
    pub fn advance(&mut self) -> Result<(), TraceError> {
        self.tail.poll(false)?;
        let Some(swept) = self.tail.swept().filter(|swept| swept.until > self.merged) else { return Ok(()) };
        self.merge.clock().turn(swept.clock);
        self.merge.take_in(&self.tail.threads(swept.until));
        self.merge.run(Some(swept.until))?;
        self.merge.clock().go_on_from(swept.until);
        self.merged = swept.until;
        if self.tail.done_bytes() >= self.after.max(self.state_len) {
            self.give_back()?;
        }
        Ok(())
    }

    /// Gives back whenever so many bytes have been packed, 16 MiB otherwise; never fewer than must be written for it.
    pub fn give_back_after(&mut self, bytes: u64) {
        self.after = bytes;
    }

    /// What the recording tells of itself at its end; the spool's events are not in it.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub fn recording<R>(&self, read: impl FnOnce(&Spool) -> R) -> Result<R, TraceError> {
        self.tail.poll(true)?;
        Ok(self.tail.with_spool(|spool, _| read(spool)))
    }

    /// Bytes of the spool given back so far.
    pub fn given_back(&self) -> u64 {
        self.given_back
    }

    fn give_back(&mut self) -> Result<(), TraceError> {
        // Here, so that neither the state nor what is kept names them any more.
        let parts = self.tail.take_done();
        let state = self.state();
        let new = beside(&self.spool, ".state.new");
        std::fs::write(&new, &state)?;
        std::fs::rename(new, beside(&self.spool, ".state"))?;
        self.state_len = state.len() as u64;
        for (at, len) in parts {
            // A file system that cannot do it keeps the spool whole, as it would be without.
            if sys::punch(&self.file, at, len).is_err() {
                break;
            }
            self.given_back += len;
        }
        Ok(())
    }

    fn state(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let header = self.tail.header();
        (header.pid, header.start_tsc).save(&mut out);
        let (at, needed, damaged) = self.tail.position();
        (at, (needed, (damaged, self.merged))).save(&mut out);
        self.merge.save(&mut out);
        crc32fast::hash(&out).save(&mut out);
        out
    }

    /// The recording has ended: packs the rest and puts the trace at `out`, in place of what is there.
    ///
    /// # Errors
    /// As [`Self::advance`], or `out` cannot be written. What was packed stays where it is, to go on from.
    pub fn finish(self, out: &Path, options: &PackOptions) -> Result<PackReport, TraceError> {
        let state = beside(&self.spool, ".state");
        let report = self.end(out, options)?;
        // What is left of it is of no use, and harms nobody.
        let _ = std::fs::remove_file(state);
        Ok(report)
    }

    fn end(mut self, out: &Path, options: &PackOptions) -> Result<PackReport, TraceError> {
        self.tail.poll(true)?;
        let (mut known, last, options) = self.tail.with_spool(|spool, damaged| {
            let mut known = known(spool);
            known.damaged_stretches += damaged;
            (known, spool.clocks().1, learn_from(spool, options))
        });
        self.merge.clock().turn(last);
        self.merge.end_at(options.end_us);
        self.merge.take_in(&self.tail.threads(u64::MAX));
        self.merge.run(None)?;
        // Damage may show only when events are read.
        self.tail.with_spool(|spool, damaged| known.damaged_stretches = spool.damage().len() as u64 + damaged);
        known.complete &= known.damaged_stretches == 0;
        let (merge, tail) = (self.merge, self.tail);
        let mut report = tail
            .with_spool(|spool, _| merge.finish(&options, known, last.tsc, spool.header().stacks.then_some(spool)))?;
        report.spool_bytes = self.file.metadata()?.len();
        move_to(&self.part, out)?;
        Ok(report)
    }
}

fn create(path: &Path, private: bool) -> std::io::Result<File> {
    // Made new, so that no link is followed that somebody else has put there.
    let mode = if private { 0o600 } else { 0o666 };
    File::options().read(true).write(true).create_new(true).mode(mode).open(path)
}

/// Moves a file, also to another file system.
fn move_to(from: &Path, to: &Path) -> Result<(), TraceError> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
            std::fs::copy(from, to)?;
            std::fs::remove_file(from)?;
        }
        other => other?,
    }
    Ok(())
}

/// The merge and the stamp it had come to; `None` when this is no sound state of this spool.
fn resume(tail: &Tail, trace: File, bytes: &[u8]) -> Result<Option<(Merge<'static, Tail>, u64)>, TraceError> {
    let Some((body, crc)) = bytes.split_last_chunk() else { return Ok(None) };
    let header = tail.header();
    let Some(mut from) = body.strip_prefix(&MAGIC).filter(|_| crc32fast::hash(body) == u32::from_le_bytes(*crc)) else {
        return Ok(None);
    };
    if <(u32, u64)>::load(&mut from) != Some((header.pid, header.start_tsc)) {
        return Ok(None);
    }
    let Some((at, (needed, (damaged, merged)))) = State::load(&mut from) else { return Ok(None) };
    if !tail.seek((at, needed, damaged))? {
        return Ok(None);
    }
    Ok(Merge::load(tail.clone(), trace, &mut from)?.map(|merge| (merge, merged)))
}

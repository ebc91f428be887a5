//! Walks the calling thread's stack by rules that are looked up once for each place in the code and then remembered.
//!
//! Almost all compiled code is unwound by three numbers: the caller's frame begins at a distance from the stack or the
//! frame pointer, the return address is the word below it, and the frame pointer may be saved at another distance. They
//! come from the unwinding tables that exceptions use, whose interpreting costs a thousand times what they cost
//! remembered. Code that needs more (signal frames, realigned stacks, code of a program's own making) is left to libgcc.
//! Remembered rules are never changed; past `RULES` of them libgcc unwinds what is new.
//!
//! Refuses aarch64, where return addresses have no fixed place: there libgcc unwinds everything.
//!
//! Source: System V ABI, AMD64 supplement, 3.7 and figure 3.36 (register numbers); LSB 5.0 core, 10.6 (`.eh_frame_hdr`);
//! the method is that of libunwind's fast trace (src/x86_64/Gtrace.c).

use core::sync::atomic::AtomicU64;

/// Places that are remembered.
pub(crate) const RULES: usize = 1 << 17;

/// A place in the code and what is known of it. All zero when empty.
#[repr(C)]
pub(crate) struct Known {
    /// Address and, in the highest bits, how often code was unloaded.
    at: AtomicU64,
    rule: AtomicU64,
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn walk(_: &[Known; RULES], _: u64, _: impl FnMut(u64) -> bool) -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::walk;

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use core::arch::asm;
    use core::sync::atomic::Ordering;

    use gimli::{
        BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, LittleEndian, Pointer, Register, RegisterRule,
        UnwindContext, UnwindContextStorage, UnwindSection, UnwindTableRow, X86_64,
    };

    use super::{Known, RULES};
    use crate::raw::Quiet;
    use crate::stacks::{each_code, segments};

    /// Places looked at for a rule.
    const PROBES: usize = 16;
    /// No frame is larger than what fits the numbers.
    const DISTANCE_MAX: i64 = 1 << 28;

    /// How a frame leads to its caller's.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Rule {
        /// Distance of the caller's frame from the frame pointer (or the stack pointer), and of the saved frame pointer
        /// from the caller's frame.
        Simple { from_bp: bool, caller: i64, saved_bp: Option<i64> },
        /// There is no caller.
        Outermost,
        /// Not to be told by these numbers.
        Other,
    }

    impl Rule {
        /// Never 0. Kind in two bits, then two flags, then the two distances in thirty bits each.
        fn pack(self) -> u64 {
            match self {
                Self::Outermost => 2,
                Self::Other => 3,
                Self::Simple { from_bp, caller, saved_bp } => {
                    let bits = |distance: i64| (distance & 0x3fff_ffff) as u64;
                    let flags = u64::from(from_bp) << 2 | u64::from(saved_bp.is_some()) << 3;
                    1 | flags | bits(caller) << 4 | bits(saved_bp.unwrap_or(0)) << 34
                }
            }
        }

        #[inline]
        fn unpack(bits: u64) -> Self {
            match bits & 3 {
                1 => {
                    let distance = |shift: u32| ((bits >> shift) as i64) << 34 >> 34;
                    let saved_bp = (bits & 8 != 0).then(|| distance(34));
                    Self::Simple { from_bp: bits & 4 != 0, caller: distance(4), saved_bp }
                }
                2 => Self::Outermost,
                _ => Self::Other,
            }
        }
    }

    /// Shows the address of the call in each frame, this function's caller's first, until told that it is enough. False
    /// when the stack cannot be walked to its end: then what was shown may be no stack.
    #[inline(always)]
    pub(crate) fn walk(known: &[Known; RULES], unloaded: u64, mut show: impl FnMut(u64) -> bool) -> bool {
        let (mut ip, mut sp, mut bp): (u64, u64, u64);
        // SAFETY: reads registers.
        unsafe {
            asm!("lea {}, [rip]", "mov {}, rsp", "mov {}, rbp", out(reg) ip, out(reg) sp, out(reg) bp, options(nomem, nostack));
        }
        loop {
            // A return address belongs to the call before it, which may be the last instruction of its function.
            let at = ip.wrapping_sub(1);
            match rule(known, unloaded, at) {
                Rule::Simple { from_bp, caller, saved_bp } => {
                    let frame = if from_bp { bp } else { sp }.wrapping_add_signed(caller);
                    if frame <= sp || !frame.is_multiple_of(8) || frame - sp > DISTANCE_MAX as u64 {
                        return false;
                    }
                    // SAFETY: the tables say that the return address and the saved register are there, within the
                    // part of the stack that is in use.
                    unsafe {
                        ip = ((frame - 8) as *const u64).read();
                        if let Some(distance) = saved_bp {
                            bp = (frame.wrapping_add_signed(distance) as *const u64).read();
                        }
                    }
                    sp = frame;
                }
                Rule::Outermost => return true,
                Rule::Other => return false,
            }
            if ip == 0 {
                return true;
            }
            if show(ip - 1) {
                return true;
            }
        }
    }

    #[inline]
    fn rule(known: &[Known; RULES], unloaded: u64, at: u64) -> Rule {
        let key = at & 0xffff_ffff_ffff | unloaded << 48;
        let first = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 47) as usize;
        for place in first..first + PROBES {
            let slot = &known[place % RULES];
            let found = slot.at.load(Ordering::Relaxed);
            if found == key {
                return match slot.rule.load(Ordering::Relaxed) {
                    // Being found out by another thread.
                    0 => find(at),
                    bits => Rule::unpack(bits),
                };
            }
            if found == 0 {
                let rule = find(at);
                if slot.at.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                    slot.rule.store(rule.pack(), Ordering::Relaxed);
                }
                return rule;
            }
        }
        Rule::Other
    }

    /// Rules of a row of the tables: seven registers may be saved. Rows are put aside within each other once at most.
    struct Small;
    impl UnwindContextStorage<usize> for Small {
        type Rules = [(Register, RegisterRule<usize>); 18];
        type Stack = [UnwindTableRow<usize, Self>; 4];
    }

    /// Looks a place up in the tables of the file it lies in.
    #[cold]
    #[inline(never)]
    fn find(at: u64) -> Rule {
        let _quiet = Quiet::new();
        let mut rule = None;
        each_code(&mut |object, code| {
            if (code[0]..code[1]).contains(&at) {
                rule = in_tables(object, at);
            }
            rule.is_some()
        });
        rule.unwrap_or(Rule::Other)
    }

    fn in_tables(object: &libc::dl_phdr_info, at: u64) -> Option<Rule> {
        let index = segments(object).iter().find(|s| s.p_type == libc::PT_GNU_EH_FRAME)?;
        let hdr_at = object.dlpi_addr.wrapping_add(index.p_vaddr);
        // SAFETY: a readable segment of the file, mapped while the loader's lock is held.
        let hdr = unsafe { core::slice::from_raw_parts(hdr_at as *const u8, index.p_memsz as usize) };
        let bases = BaseAddresses::default().set_eh_frame_hdr(hdr_at);
        let hdr = EhFrameHdr::new(hdr, LittleEndian).parse(&bases, 8).ok()?;
        let Pointer::Direct(frames_at) = hdr.eh_frame_ptr() else { return None };
        let of_frames = |s: &&libc::Elf64_Phdr| {
            let from = object.dlpi_addr.wrapping_add(s.p_vaddr);
            s.p_type == libc::PT_LOAD && (from..from.wrapping_add(s.p_memsz)).contains(&frames_at)
        };
        let segment = segments(object).iter().find(of_frames)?;
        let len = object.dlpi_addr.wrapping_add(segment.p_vaddr).wrapping_add(segment.p_memsz) - frames_at;
        // SAFETY: within a readable segment of the file, mapped while the loader's lock is held.
        let frames = unsafe { core::slice::from_raw_parts(frames_at as *const u8, len as usize) };
        let frames: EhFrame<EndianSlice<'_, LittleEndian>> = EhFrame::new(frames, LittleEndian);
        let bases = bases.set_eh_frame(frames_at);
        let fde = hdr.table()?.fde_for_address(&frames, &bases, at, EhFrame::cie_from_offset).ok()?;
        if fde.is_signal_trampoline() {
            return None;
        }
        let mut context: UnwindContext<usize, Small> = UnwindContext::new_in();
        let row = fde.unwind_info_for_address(&frames, &bases, &mut context, at).ok()?;
        let within = |distance: i64| (distance.abs() < DISTANCE_MAX).then_some(distance);
        match row.register(X86_64::RA) {
            Some(RegisterRule::Undefined) => return Some(Rule::Outermost),
            Some(RegisterRule::Offset(-8)) => {}
            _ => return None,
        }
        if !matches!(row.register(X86_64::RSP), None | Some(RegisterRule::ValOffset(0))) {
            return None;
        }
        let saved_bp = match row.register(X86_64::RBP) {
            None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => None,
            Some(RegisterRule::Offset(distance)) => Some(within(distance)?),
            Some(_) => return None,
        };
        match *row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } if register == X86_64::RSP || register == X86_64::RBP => {
                Some(Rule::Simple { from_bp: register == X86_64::RBP, caller: within(offset)?, saved_bp })
            }
            _ => None,
        }
    }
}

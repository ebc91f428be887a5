//! Whether a seccomp filter that the program is about to install would end it for a system call that the recorder makes.
//! The filter is run here, on each of those calls, as the kernel would run it.
//!
//! Refuses: to see filters that were there before the program began, or that are installed without libc.
//!
//! Source: seccomp(2) (`struct seccomp_data`, actions), linux/bpf_common.h and linux/filter.h (classic BPF), the kernel's
//! Documentation/networking/filter.rst.

/// `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    k: u32,
}

/// `struct sock_fprog`.
#[repr(C)]
pub(crate) struct Filter {
    len: u16,
    instructions: *const Instruction,
}

/// `AUDIT_ARCH_X86_64`, `AUDIT_ARCH_AARCH64` of linux/audit.h.
const ARCHITECTURE: u32 = if cfg!(target_arch = "aarch64") { 0xc000_00b7 } else { 0xc000_003e };

/// Words of `struct seccomp_data`: number, architecture, two of the instruction pointer, six arguments of two words.
type Data = [u32; 16];

/// The calls that the recorder makes once the program runs, with arguments as it passes them.
const CALLS: [(libc::c_long, [u64; 4]); 10] = [
    (libc::SYS_pwrite64, [900, 0x7f00_0000_0000, 4096, 4096]),
    (libc::SYS_fstat, [900, 0x7f00_0000_0000, 0, 0]),
    (libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK as u64, 0x7f00_0000_0000, 0x7f00_0000_0000, 8]),
    (libc::SYS_mincore, [0x7f00_0000_0000, 4096, 0x7f00_0000_0000, 0]),
    (libc::SYS_futex, [0x7f00_0000_0000, libc::FUTEX_WAIT as u64, 2, 0]),
    (libc::SYS_futex, [0x7f00_0000_0000, libc::FUTEX_WAKE as u64, 1, 0]),
    (libc::SYS_mmap, [0, 65_536, 3, (libc::MAP_SHARED | libc::MAP_ANONYMOUS) as u64]),
    (libc::SYS_munmap, [0x7f00_0000_0000, 65_536, 0, 0]),
    (libc::SYS_madvise, [0x7f00_0000_0000, 65_536, libc::MADV_DONTFORK as u64, 0]),
    (libc::SYS_getpid, [0; 4]),
];

/// Whether any of the recorder's calls would end the program, or reach a signal handler of its.
///
/// # Safety
/// `filter` is null or as the kernel would be given it.
pub(crate) unsafe fn would_kill(filter: *const Filter) -> bool {
    // SAFETY: by the caller.
    let Some(filter) = (unsafe { filter.as_ref() }) else { return false };
    if filter.instructions.is_null() {
        return false;
    }
    // SAFETY: by the caller.
    let instructions = unsafe { core::slice::from_raw_parts(filter.instructions, filter.len.into()) };
    CALLS.iter().any(|(number, arguments)| is_deadly(run(instructions, &data(*number, arguments))))
}

fn data(number: libc::c_long, arguments: &[u64; 4]) -> Data {
    let mut data = [0; 16];
    data[0] = number as u32;
    data[1] = ARCHITECTURE;
    for (i, argument) in arguments.iter().enumerate() {
        data[4 + 2 * i] = *argument as u32;
        data[5 + 2 * i] = (*argument >> 32) as u32;
    }
    data
}

/// `SECCOMP_RET_KILL_PROCESS`, `_KILL_THREAD` and `_TRAP`; a filter that cannot be run is taken for one of them.
fn is_deadly(action: Option<u32>) -> bool {
    action.is_none_or(|action| matches!(action & 0xffff_0000, 0x8000_0000 | 0 | 0x0003_0000))
}

/// What a filter answers; none when it is not one the kernel would take.
fn run(program: &[Instruction], data: &Data) -> Option<u32> {
    let (mut a, mut x, mut memory, mut at) = (0u32, 0u32, [0u32; 16], 0usize);
    // Jumps only go forward, so it ends.
    loop {
        let i = *program.get(at)?;
        at += 1;
        let operand = if i.code & 0x08 != 0 { x } else { i.k };
        match i.code & 0x07 {
            // BPF_LD, BPF_LDX: word of the data, immediate, scratch memory, length.
            class @ (0x00 | 0x01) => {
                let value = match i.code & 0xe0 {
                    0x20 if i.k % 4 == 0 => *data.get(i.k as usize / 4)?,
                    0x00 => i.k,
                    0x60 => *memory.get(i.k as usize)?,
                    0x80 => size_of::<Data>() as u32,
                    _ => return None,
                };
                *(if class == 0 { &mut a } else { &mut x }) = value;
            }
            0x02 => *memory.get_mut(i.k as usize)? = a,
            0x03 => *memory.get_mut(i.k as usize)? = x,
            0x04 => {
                a = match i.code & 0xf0 {
                    0x00 => a.wrapping_add(operand),
                    0x10 => a.wrapping_sub(operand),
                    0x20 => a.wrapping_mul(operand),
                    0x30 => a.checked_div(operand)?,
                    0x40 => a | operand,
                    0x50 => a & operand,
                    0x60 => a.checked_shl(operand)?,
                    0x70 => a.checked_shr(operand)?,
                    0x80 => a.wrapping_neg(),
                    0xa0 => a ^ operand,
                    _ => return None,
                }
            }
            0x05 => {
                let holds = match i.code & 0xf0 {
                    0x00 => {
                        at += i.k as usize;
                        continue;
                    }
                    0x10 => a == operand,
                    0x20 => a > operand,
                    0x30 => a >= operand,
                    0x40 => a & operand != 0,
                    _ => return None,
                };
                at += usize::from(if holds { i.if_true } else { i.if_false });
            }
            0x06 => return Some(if i.code & 0x18 == 0x10 { a } else { i.k }),
            _ if i.code & 0xf8 == 0x80 => a = x,
            _ => x = a,
        }
    }
}

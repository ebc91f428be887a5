//! The counter events are stamped with.

use fragbench_trace::spool::format::QUANTUM_SHIFT;

/// The time-stamp counter, now.
#[inline(always)]
pub(crate) fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: rdtsc is allowed to user programs unless they asked for the contrary (PR_SET_TSC).
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(target_arch = "aarch64")]
    {
        let t: u64;
        // SAFETY: Linux allows user programs to read the virtual counter.
        unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) t, options(nostack, nomem, preserves_flags)) };
        t
    }
}

/// The counter in quanta.
#[inline(always)]
pub(crate) fn quantum() -> u64 {
    ticks() >> QUANTUM_SHIFT
}

/// A rate no machine's counter falls below, in ticks a millisecond: 1 GHz, or what the generic timer states.
pub(crate) fn least_ticks_per_ms() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        1_000_000
    }
    #[cfg(target_arch = "aarch64")]
    {
        let hz: u64;
        // SAFETY: Linux allows user programs to read the counter's frequency.
        unsafe { core::arch::asm!("mrs {}, cntfrq_el0", out(reg) hz, options(nostack, nomem, preserves_flags)) };
        hz / 1000
    }
}

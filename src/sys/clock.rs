// SPDX-License-Identifier: GPL-2.0-or-later
//! Clocks.

/// Milliseconds since 1970 at the origin of [`monotonic`], as the clock of the host has it now.
pub fn monotonic_origin() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = since_1970.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    now.saturating_sub(monotonic() / 1_000_000)
}

/// CLOCK_MONOTONIC in nanoseconds.
pub fn monotonic() -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: ts is valid for writing; the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut ts) };
    ts.tv_sec.cast_unsigned() * 1_000_000_000 + ts.tv_nsec.cast_unsigned()
}

/// The processor's own counter: cycles of constant rate on x86-64 (TSC), nanoseconds elsewhere ([`TICKS_ARE_CYCLES`]).
#[inline]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: each x86-64 processor has the counter.
    return unsafe { core::arch::x86_64::_rdtsc() };
    #[cfg(not(target_arch = "x86_64"))]
    monotonic()
}

/// Whether [`ticks`] counts cycles.
pub const TICKS_ARE_CYCLES: bool = cfg!(target_arch = "x86_64");

//! Whether the matrix unit may be used.

use std::arch::x86_64::__cpuid_count;

/// Whether the processor multiplies tiles of 8-bit integers (AMX-TILE, AMX-INT8) and the system lets this process use them: Linux gives a
/// thread room for the registers only in a process that asked for it (`ARCH_REQ_XCOMP_PERM`; Linux, Documentation/arch/x86/xstate.rst).
pub(super) fn is_available() -> bool {
    #[cfg(target_os = "linux")]
    {
        use std::sync::OnceLock;
        static PERMITTED: OnceLock<bool> = OnceLock::new();
        *PERMITTED.get_or_init(|| present() && permitted())
    }
    #[cfg(not(target_os = "linux"))]
    false
}

#[cfg(target_os = "linux")]
fn present() -> bool {
    const TILE: u32 = 1 << 24;
    const INT8: u32 = 1 << 25;
    let features = __cpuid_count(7, 0).edx;
    features & TILE != 0 && features & INT8 != 0
}

#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: a system call on two numbers; a system that does not know it says so.
    unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        ) == 0
    }
}

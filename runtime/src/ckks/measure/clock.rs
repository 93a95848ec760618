//! Processor time, which other processes on the machine disturb less than wall time.

/// Processor time of all threads of this process so far, in seconds; `None` where the system is not asked.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(super) fn processor_seconds() -> Option<f64> {
    const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
    extern "C" {
        fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
    }
    let mut time = [0i64; 2];
    // SAFETY: `time` has the layout of a timespec on 64-bit Linux.
    let result = unsafe { clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    let [seconds, nanoseconds] = time;
    (result == 0).then_some(seconds as f64 + nanoseconds as f64 / 1e9)
}

/// As above: not asked here.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
pub(super) fn processor_seconds() -> Option<f64> {
    None
}

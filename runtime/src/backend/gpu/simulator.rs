//! The kernels on the host: compiled by its C++ compiler, threads of a block as fibers, barriers as yields, orders shuffled from a seed,
//! memory poisoned. Slow; for tests.

use super::device::{Address, Device, DeviceError, KernelTime, Launch, Times};
use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::Instant;

#[repr(C)]
struct Kernels {
    _opaque: [u8; 0],
}

extern "C" {
    fn heron_kernels_plain() -> *const Kernels;
    fn heron_kernels_without_barriers() -> *const Kernels;
    fn heron_kernels_shorter_quotient() -> *const Kernels;
    fn heron_kernels_mixed_batch() -> *const Kernels;
    fn heron_simulator_allocate(bytes: usize) -> *mut c_void;
    fn heron_simulator_free(memory: *mut c_void);
    fn heron_simulator_launch(
        kernels: *const Kernels,
        name: *const c_char,
        grid: *const u32,
        threads: u32,
        shared: usize,
        arguments: *const c_void,
        arguments_size: usize,
        seed: u64,
        message: *mut c_char,
        message_size: usize,
    ) -> c_int;
}

/// Which kernels run: the real ones, or ones altered on purpose, which tests must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// As they are.
    Plain,
    /// `__syncthreads` does nothing.
    WithoutBarriers,
    /// The quotient of a basis extension has 56 fraction bits where its reciprocals have 57.
    ShorterQuotient,
    /// Every other ciphertext of a batch is given the operands of the one before it.
    MixedBatch,
}

/// A device made of the host's memory and one of its threads at a time.
pub struct Simulator {
    kernels: *const Kernels,
    seed: u64,
    launches: AtomicU64,
    live: Mutex<Live>,
    limit: u64,
    timed: AtomicBool,
    times: Times,
}

/// Allocations by address, and the sum of their bytes.
#[derive(Default)]
struct Live {
    bytes: BTreeMap<u64, u64>,
    total: u64,
}

// SAFETY: the kernel list is read-only, and a launch keeps its state to the thread that made it.
unsafe impl Send for Simulator {}
// SAFETY: as above.
unsafe impl Sync for Simulator {}

impl Simulator {
    /// The real kernels, in the orders that this seed gives.
    pub fn new(seed: u64) -> Self {
        Self::with(Build::Plain, seed, 1 << 40)
    }

    /// A build of the kernels, and how many bytes the device has.
    pub fn with(build: Build, seed: u64, limit: u64) -> Self {
        // SAFETY: the functions return lists that were made before `main`.
        let kernels = unsafe {
            match build {
                Build::Plain => heron_kernels_plain(),
                Build::WithoutBarriers => heron_kernels_without_barriers(),
                Build::ShorterQuotient => heron_kernels_shorter_quotient(),
                Build::MixedBatch => heron_kernels_mixed_batch(),
            }
        };
        Self {
            kernels,
            seed,
            launches: AtomicU64::new(0),
            live: Mutex::default(),
            limit,
            timed: AtomicBool::new(false),
            times: Times::default(),
        }
    }

    /// Launches so far.
    pub fn launches(&self) -> u64 {
        self.launches.load(Ordering::Relaxed)
    }
}

impl Device for Simulator {
    fn name(&self) -> String {
        format!("simulator, seed {}", self.seed)
    }

    fn total_bytes(&self) -> u64 {
        self.limit
    }

    /// As on an H200.
    fn shared_bytes(&self) -> u32 {
        227 << 10
    }

    /// Every buffer is a new allocation, so that a sanitizer sees uses after the end of its life.
    fn recycles(&self) -> bool {
        false
    }

    fn allocate(&self, words: usize) -> Result<Option<Address>, DeviceError> {
        let bytes = 4 * words as u64;
        let Ok(mut live) = self.live.lock() else {
            return Ok(None);
        };
        if live.total + bytes > self.limit {
            return Ok(None);
        }
        // SAFETY: plain allocation.
        let memory = unsafe { heron_simulator_allocate(4 * words) } as u64;
        if memory == 0 {
            return Ok(None);
        }
        live.bytes.insert(memory, bytes);
        live.total += bytes;
        Ok(Some(Address(memory)))
    }

    unsafe fn free(&self, address: Address) {
        if let Ok(mut live) = self.live.lock() {
            live.total -= live.bytes.remove(&address.0).unwrap_or(0);
        }
        // SAFETY: the caller vouches for the address.
        unsafe { heron_simulator_free(address.0 as *mut c_void) }
    }

    unsafe fn upload(&self, words: &[u32], to: Address) -> Result<(), DeviceError> {
        // SAFETY: the caller vouches for the room.
        unsafe { std::ptr::copy_nonoverlapping(words.as_ptr(), to.0 as *mut u32, words.len()) };
        Ok(())
    }

    unsafe fn download(&self, from: Address, words: &mut [u32]) -> Result<(), DeviceError> {
        let (from, to) = (from.0 as *const u32, words.as_mut_ptr());
        // SAFETY: the caller vouches for the source.
        unsafe { std::ptr::copy_nonoverlapping(from, to, words.len()) };
        Ok(())
    }

    fn synchronise(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn take_times(&self, on: bool) {
        self.timed.store(on, Ordering::Relaxed);
    }

    fn times(&self) -> Result<Vec<KernelTime>, DeviceError> {
        Ok(self.times.take())
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
        let failed = |what: String| DeviceError::Launch {
            kernel: launch.kernel.into(),
            what,
        };
        let number = self.launches.fetch_add(1, Ordering::Relaxed);
        let seed = (self.seed << 32) ^ number;
        let name = CString::new(launch.kernel).map_err(|e| failed(e.to_string()))?;
        let mut message = [0 as c_char; 256];
        // Kernels read 64-bit words of it.
        let mut arguments: Vec<u64> = vec![0; launch.arguments.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut arguments)[..launch.arguments.len()]
            .copy_from_slice(launch.arguments);
        let started = Instant::now();
        // SAFETY: the caller vouches for the arguments; the message has room.
        let failure = unsafe {
            heron_simulator_launch(
                self.kernels,
                name.as_ptr(),
                launch.grid.as_ptr(),
                launch.threads,
                launch.shared as usize,
                arguments.as_ptr().cast(),
                launch.arguments.len(),
                seed,
                message.as_mut_ptr(),
                message.len(),
            )
        };
        if self.timed.load(Ordering::Relaxed) {
            let seconds = started.elapsed().as_secs_f64();
            self.times.add(launch.kernel, launch.moves, seconds);
        }
        if failure == 0 {
            return Ok(());
        }
        // SAFETY: the launcher ends what it writes with a zero.
        let message = unsafe { CStr::from_ptr(message.as_ptr()) };
        Err(failed(message.to_string_lossy().into_owned()))
    }
}

//! The kernels on the host: compiled by its C++ compiler, threads of a block as fibers, barriers as yields, orders shuffled from a seed,
//! memory poisoned. Slow; for tests.

use super::device::{Address, Device, DeviceError, KernelTime, Launch, RecordingId, Step, Times};
use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
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
    recordings: Mutex<BTreeMap<RecordingId, Arc<Vec<Recorded>>>>,
    replays: AtomicU64,
    waits: bool,
}

/// A step of a recording.
struct Recorded {
    kernel: String,
    grid: [u32; 3],
    threads: u32,
    shared: u32,
    arguments: Vec<u8>,
    moves: u64,
    after: Vec<usize>,
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

    /// The real kernels; steps of a recording wait for nothing, which tests must notice.
    pub fn without_waits(seed: u64) -> Self {
        Simulator {
            waits: false,
            ..Self::new(seed)
        }
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
            recordings: Mutex::default(),
            replays: AtomicU64::new(0),
            waits: true,
        }
    }

    /// Recordings started so far.
    pub fn replays(&self) -> u64 {
        self.replays.load(Ordering::Relaxed)
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

    unsafe fn record(&self, steps: &[Step<'_>]) -> Result<RecordingId, DeviceError> {
        let Ok(mut recordings) = self.recordings.lock() else {
            return Err(DeviceError::Lost);
        };
        let id = RecordingId(recordings.keys().last().map_or(0, |last| last.0 + 1));
        let each = steps.iter().map(|Step { launch, after }| Recorded {
            kernel: launch.kernel.into(),
            grid: launch.grid,
            threads: launch.threads,
            shared: launch.shared,
            arguments: launch.arguments.to_vec(),
            moves: launch.moves,
            after: after.to_vec(),
        });
        recordings.insert(id, Arc::new(each.collect()));
        Ok(id)
    }

    /// In any order that the steps allow, another one every time.
    unsafe fn replay(&self, recording: RecordingId) -> Result<(), DeviceError> {
        let steps = match self.recordings.lock() {
            Ok(recordings) => recordings.get(&recording).map(Arc::clone),
            Err(_) => None,
        };
        let steps = steps.ok_or(DeviceError::Lost)?;
        let number = self.replays.fetch_add(1, Ordering::Relaxed);
        let mut state = (self.seed << 32) ^ number ^ 0x9e37_79b9_7f4a_7c15;
        let waits = |step: &Recorded| if self.waits { step.after.len() } else { 0 };
        let mut waiting: Vec<usize> = steps.iter().map(waits).collect();
        let mut next: Vec<Vec<usize>> = vec![Vec::new(); steps.len()];
        for (number, step) in steps.iter().enumerate() {
            let after = step.after.iter().filter(|_| self.waits);
            after.for_each(|&before| next[before].push(number));
        }
        let ready = waiting.iter().enumerate().filter(|(_, &count)| count == 0);
        let mut ready: Vec<usize> = ready.map(|(number, _)| number).collect();
        while !ready.is_empty() {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let number = ready.swap_remove((state >> 33) as usize % ready.len());
            let step = &steps[number];
            // SAFETY: the caller's.
            unsafe {
                self.launch(&Launch {
                    kernel: &step.kernel,
                    grid: step.grid,
                    threads: step.threads,
                    shared: step.shared,
                    arguments: &step.arguments,
                    moves: step.moves,
                })?;
            }
            for &after in &next[number] {
                waiting[after] -= 1;
                if waiting[after] == 0 {
                    ready.push(after);
                }
            }
        }
        Ok(())
    }

    fn forget(&self, recording: RecordingId) {
        if let Ok(mut recordings) = self.recordings.lock() {
            recordings.remove(&recording);
        }
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

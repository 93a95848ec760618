//! What the backend asks of a device: memory, copies, launches in order. Nothing here knows residues.

use std::collections::BTreeMap;
use std::sync::Mutex;
use thiserror::Error;

/// A place in a device's memory, in bytes; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Address(pub u64);

impl Address {
    /// So many words further.
    pub fn plus(self, words: usize) -> Address {
        Address(self.0 + 4 * words as u64)
    }
}

/// A kernel over a grid of blocks.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The kernel, as `kernels/heron.cu` names it.
    pub kernel: &'a str,
    /// Blocks in each direction.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of dynamic shared memory of a block.
    pub shared: u32,
    /// The kernel's one argument.
    pub arguments: &'a [u8],
    /// Bytes of polynomials and keys that it reads and writes, each once: over the memory's bandwidth they are the least time it can take. Tables
    /// are not counted.
    pub moves: u64,
}

/// A launch of a recording.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// What is started.
    pub launch: Launch<'a>,
    /// Numbers of earlier steps that have to be done before. Others may run at the same time.
    pub after: &'a [usize],
}

/// A recording, as its device knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordingId(pub u64);

/// What the launches of one kernel took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KernelTime {
    /// Its name.
    pub kernel: String,
    /// How many there were.
    pub launches: u64,
    /// Sum of their times on the device.
    pub seconds: f64,
    /// Sum of [`Launch::moves`].
    pub moves: u64,
}

/// [`KernelTime`]s so far.
#[derive(Default)]
pub(super) struct Times(Mutex<BTreeMap<String, KernelTime>>);

impl Times {
    /// One launch more.
    pub(super) fn add(&self, kernel: &str, moves: u64, seconds: f64) {
        let Ok(mut all) = self.0.lock() else { return };
        if !all.contains_key(kernel) {
            let new = KernelTime {
                kernel: kernel.into(),
                ..KernelTime::default()
            };
            all.insert(kernel.into(), new);
        }
        if let Some(time) = all.get_mut(kernel) {
            time.launches += 1;
            time.seconds += seconds;
            time.moves += moves;
        }
    }

    /// All of them, in the order of their names; from now on there are none.
    pub(super) fn take(&self) -> Vec<KernelTime> {
        let taken = self.0.lock().map(|mut all| std::mem::take(&mut *all));
        taken.unwrap_or_default().into_values().collect()
    }
}

/// A refusal of the device. The first one ends a computation: what it would have made is lost.
#[derive(Clone, Debug, Error)]
pub enum DeviceError {
    /// No device of this kind can be used here.
    #[error("no GPU was found: {0}")]
    Absent(String),
    /// Memory is exhausted.
    #[error("the device has no {needed} bytes left: {used} are in use and {total} are all there is; use fewer inputs per run, a smaller ring, or --backend cpu")]
    Memory {
        /// Bytes asked for.
        needed: u64,
        /// Bytes that live polynomials, keys and tables take.
        used: u64,
        /// Bytes of the device.
        total: u64,
    },
    /// A run that a rehearsal found too large.
    #[error("a run needs {needs}; the device has {:.3} GiB: compile with a smaller --batch or --max-memory, or use --backend cpu", *total as f64 / 2f64.powi(30))]
    Plan {
        /// What it needs, where.
        needs: String,
        /// Bytes of the device.
        total: u64,
    },
    /// The kernels did not compile.
    #[error("the kernels do not compile for {target}: {log}")]
    Compile {
        /// The architecture.
        target: String,
        /// What the compiler said, in one line.
        log: String,
    },
    /// A launch was refused or failed.
    #[error("kernel {kernel}: {what}")]
    Launch {
        /// The kernel.
        kernel: String,
        /// What the device said.
        what: String,
    },
    /// Another call of the driver failed.
    #[error("{call}: {what}")]
    Driver {
        /// The call.
        call: &'static str,
        /// What the driver said.
        what: String,
    },
    /// A shape beyond what the kernels take.
    #[error("{what}: {found} where kernels take at most {most}")]
    Shape {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// An operand was never made, because of an earlier failure.
    #[error("an operand was lost to an earlier failure of the device")]
    Lost,
}

/// A device. All work happens in the order of the calls, as on one stream; a copy to the host waits for what was launched before it.
pub trait Device: Send + Sync {
    /// Its name, for reports.
    fn name(&self) -> String;

    /// Bytes of memory it has for this process.
    fn total_bytes(&self) -> u64;

    /// Bytes of shared memory that a block may have.
    fn shared_bytes(&self) -> u32;

    /// Whether freed memory should be kept and handed out again. Not where a tool watches allocations.
    fn recycles(&self) -> bool {
        true
    }

    /// Memory for so many words, with arbitrary contents, aligned to 64 bytes. `None` when there is none left.
    ///
    /// # Errors
    /// A driver failure other than exhausted memory.
    fn allocate(&self, words: usize) -> Result<Option<Address>, DeviceError>;

    /// Gives memory back.
    ///
    /// # Safety
    /// `address` came from [`Device::allocate`] of this device and is not used again.
    unsafe fn free(&self, address: Address);

    /// Copies words to the device.
    ///
    /// # Errors
    /// A driver failure.
    ///
    /// # Safety
    /// The words fit into one allocation from `to` on.
    unsafe fn upload(&self, words: &[u32], to: Address) -> Result<(), DeviceError>;

    /// Copies words from the device, after all work launched so far.
    ///
    /// # Errors
    /// A driver failure, or the failure of an earlier launch.
    ///
    /// # Safety
    /// The words lie within one allocation from `from` on.
    unsafe fn download(&self, from: Address, words: &mut [u32]) -> Result<(), DeviceError>;

    /// Waits for everything that was started.
    ///
    /// # Errors
    /// The failure of an earlier launch.
    fn synchronise(&self) -> Result<(), DeviceError>;

    /// From now on takes the time of every launch, or no longer. It costs a little of each.
    fn take_times(&self, on: bool);

    /// The times taken so far, by kernel, and forgets them. Waits for what runs.
    ///
    /// # Errors
    /// The failure of an earlier launch.
    fn times(&self) -> Result<Vec<KernelTime>, DeviceError>;

    /// Keeps launches, with their arguments as they are now, to be started together. Nothing is started yet.
    ///
    /// # Errors
    /// A failure of the driver, or a device that keeps no launches.
    ///
    /// # Safety
    /// As [`Device::launch`], whenever the recording is replayed.
    unsafe fn record(&self, steps: &[Step<'_>]) -> Result<RecordingId, DeviceError>;

    /// Starts everything of a recording, after what was started before and before what comes next.
    ///
    /// # Errors
    /// A recording that is not there, or as [`Device::launch`].
    ///
    /// # Safety
    /// The addresses in the arguments are still what they were when it was recorded.
    unsafe fn replay(&self, recording: RecordingId) -> Result<(), DeviceError>;

    /// Gives a recording up. What runs of it ends first.
    fn forget(&self, recording: RecordingId);

    /// Starts a kernel.
    ///
    /// # Errors
    /// A launch that the device refuses, at once or, on a GPU, at a later call.
    ///
    /// # Safety
    /// The arguments are the kernel's own structure, and every address in it lies within an allocation as large as the kernel needs.
    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError>;
}

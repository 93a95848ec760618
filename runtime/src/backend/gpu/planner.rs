//! A device that computes nothing: it only keeps account of memory and counts launches. A run rehearsed on it takes and gives back exactly the
//! buffers that the run itself will, so what that needs is known before it starts.

use super::device::{Address, Device, DeviceError, KernelTime, Launch, RecordingId, Step, Times};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Where addresses start, so that none is nothing.
const FIRST: u64 = 1 << 20;

/// Memory without content.
pub struct Planner {
    total: u64,
    shared: u32,
    live: Mutex<Live>,
    times: Times,
    recordings: Mutex<BTreeMap<RecordingId, Vec<(String, u64)>>>,
}

#[derive(Default)]
struct Live {
    next: u64,
    used: u64,
    bytes: BTreeMap<u64, u64>,
}

impl Planner {
    /// A device with so many bytes of memory, and of shared memory for each block.
    pub fn new(total: u64, shared: u32) -> Self {
        Planner {
            total,
            shared,
            live: Mutex::default(),
            times: Times::default(),
            recordings: Mutex::default(),
        }
    }
}

impl Device for Planner {
    fn name(&self) -> String {
        "a rehearsal".into()
    }
    fn total_bytes(&self) -> u64 {
        self.total
    }
    fn shared_bytes(&self) -> u32 {
        self.shared
    }

    /// Freed memory is free: what other devices keep for the next taker they give up before they fail.
    fn recycles(&self) -> bool {
        false
    }

    fn allocate(&self, words: usize) -> Result<Option<Address>, DeviceError> {
        let bytes = 4 * words as u64;
        let Ok(mut live) = self.live.lock() else {
            return Ok(None);
        };
        if live.used + bytes > self.total {
            return Ok(None);
        }
        let address = FIRST + live.next;
        live.next += bytes.next_multiple_of(64);
        live.used += bytes;
        live.bytes.insert(address, bytes);
        Ok(Some(Address(address)))
    }

    unsafe fn free(&self, address: Address) {
        if let Ok(mut live) = self.live.lock() {
            live.used -= live.bytes.remove(&address.0).unwrap_or(0);
        }
    }

    unsafe fn upload(&self, _: &[u32], _: Address) -> Result<(), DeviceError> {
        Ok(())
    }

    unsafe fn download(&self, _: Address, words: &mut [u32]) -> Result<(), DeviceError> {
        words.fill(0);
        Ok(())
    }

    fn synchronise(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Kernels and what they move.
    unsafe fn record(&self, steps: &[Step<'_>]) -> Result<RecordingId, DeviceError> {
        let Ok(mut recordings) = self.recordings.lock() else {
            return Err(DeviceError::Lost);
        };
        let id = RecordingId(recordings.keys().last().map_or(0, |last| last.0 + 1));
        let each = steps.iter();
        let steps = each.map(|s| (s.launch.kernel.to_string(), s.launch.moves));
        recordings.insert(id, steps.collect());
        Ok(id)
    }

    unsafe fn replay(&self, recording: RecordingId) -> Result<(), DeviceError> {
        if let Ok(recordings) = self.recordings.lock() {
            for (kernel, moves) in recordings.get(&recording).into_iter().flatten() {
                self.times.add(kernel, *moves, 0.0);
            }
        }
        Ok(())
    }

    fn forget(&self, recording: RecordingId) {
        if let Ok(mut recordings) = self.recordings.lock() {
            recordings.remove(&recording);
        }
    }

    /// They are counted whether asked for or not.
    fn take_times(&self, _: bool) {}

    fn times(&self) -> Result<Vec<KernelTime>, DeviceError> {
        Ok(self.times.take())
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
        self.times.add(launch.kernel, launch.moves, 0.0);
        Ok(())
    }
}

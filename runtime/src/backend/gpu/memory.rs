//! Buffers on a device: given back when dropped, and kept for the next taker, as allocation on a GPU waits for everything that runs.

use super::device::{Address, Device, DeviceError};
use super::recording::Followed;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The memory of a device.
pub(super) struct Memory {
    device: Arc<dyn Device>,
    /// Freed buffers by words. All work is on one stream, so what used one of these is done before its next use starts.
    kept: Mutex<BTreeMap<usize, Vec<Address>>>,
    /// Bytes of live buffers.
    used: AtomicU64,
    most: AtomicU64,
}

/// Words on the device, at least as many as were asked for.
pub(super) struct Buffer {
    memory: Arc<Memory>,
    address: Address,
    words: usize,
    /// What it is a part of, and is given back with.
    whole: Option<Arc<Buffer>>,
    _followed: Option<Followed>,
}

impl Memory {
    pub(super) fn new(device: Arc<dyn Device>) -> Arc<Memory> {
        Arc::new(Memory {
            device,
            kept: Mutex::default(),
            used: AtomicU64::new(0),
            most: AtomicU64::new(0),
        })
    }

    pub(super) fn device(&self) -> &dyn Device {
        &*self.device
    }

    /// Bytes that are live.
    pub(super) fn used_bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Most bytes that were live together.
    pub(super) fn most_bytes(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// A buffer with arbitrary contents.
    pub(super) fn take(self: &Arc<Self>, words: usize) -> Result<Buffer, DeviceError> {
        let words = class(words);
        let address = match self.recycled(words) {
            Some(address) => address,
            None => self.allocate(words)?,
        };
        let used = self.used.fetch_add(bytes(words), Ordering::Relaxed) + bytes(words);
        self.most.fetch_max(used, Ordering::Relaxed);
        Ok(Buffer {
            memory: Arc::clone(self),
            address,
            words,
            whole: None,
            _followed: None,
        })
    }

    /// A buffer with these words.
    pub(super) fn filled(self: &Arc<Self>, words: &[u32]) -> Result<Buffer, DeviceError> {
        let buffer = self.take(words.len())?;
        // SAFETY: the buffer is at least as long as the words.
        unsafe { self.device.upload(words, buffer.address)? };
        Ok(buffer)
    }

    fn recycled(&self, words: usize) -> Option<Address> {
        self.kept.lock().ok()?.get_mut(&words)?.pop()
    }

    fn allocate(&self, words: usize) -> Result<Address, DeviceError> {
        if let Some(address) = self.device.allocate(words)? {
            return Ok(address);
        }
        self.release();
        let exhausted = DeviceError::Memory {
            needed: bytes(words),
            used: self.used.load(Ordering::Relaxed),
            total: self.device.total_bytes(),
        };
        self.device.allocate(words)?.ok_or(exhausted)
    }

    /// Gives what is kept back to the device.
    fn release(&self) {
        let kept = self.kept.lock().map(|mut kept| std::mem::take(&mut *kept));
        for address in kept.into_iter().flat_map(BTreeMap::into_values).flatten() {
            // SAFETY: kept buffers were allocated here and nobody holds them.
            unsafe { self.device.free(address) };
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.release();
    }
}

impl Buffer {
    /// Some words of another buffer, which live as long.
    pub(super) fn part(whole: Arc<Buffer>, first: usize, words: usize) -> Buffer {
        Buffer {
            memory: Arc::clone(&whole.memory),
            address: whole.address.plus(first),
            words,
            whole: Some(whole),
            _followed: None,
        }
    }

    /// Tells a recorder when this is given back.
    pub(super) fn follow(self, followed: Followed) -> Buffer {
        let mut buffer = self;
        buffer._followed = Some(followed);
        buffer
    }

    pub(super) fn bytes(&self) -> u64 {
        bytes(self.words)
    }

    pub(super) fn address(&self) -> Address {
        self.address
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.whole.is_some() {
            return;
        }
        let memory = &self.memory;
        memory.used.fetch_sub(bytes(self.words), Ordering::Relaxed);
        if memory.device.recycles() {
            if let Ok(mut kept) = memory.kept.lock() {
                return kept.entry(self.words).or_default().push(self.address);
            }
        }
        // SAFETY: allocated here, and the only holder is going.
        unsafe { memory.device.free(self.address) };
    }
}

/// Sizes are rounded up by at most an eighth, so that neighbouring levels share buffers.
fn class(words: usize) -> usize {
    let step = (words.next_power_of_two() / 16).max(16);
    words.max(1).div_ceil(step) * step
}

fn bytes(words: usize) -> u64 {
    4 * words as u64
}

#[cfg(test)]
mod tests {
    use super::class;

    #[test]
    fn sizes_grow_by_an_eighth_at_most_above_small_ones() {
        for words in (300..100_000).step_by(77) {
            let rounded = class(words);
            assert!(
                rounded >= words && rounded <= words + words / 8 + 1,
                "{words}"
            );
            assert_eq!(class(rounded), rounded);
        }
    }
}

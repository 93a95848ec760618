//! Recycled limb buffers.
//!
//! A fresh buffer of some megabytes costs more in page faults than the arithmetic done in it, so dropped buffers are kept, by
//! size, for the next taker. Recycled contents are arbitrary residues: a holder of secrets zeroizes before dropping.

use super::words::Words;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// Bytes kept for reuse; above this, buffers of the sizes that were not in use for longest go back to the allocator. Less than a bootstrap
/// works on at N = 2^16 costs time in page faults, more only memory.
pub const KEPT_BYTES: usize = 1 << 30;

/// Kept buffers of one size, and when that size was last asked for or given back.
#[derive(Default)]
struct Shelf {
    buffers: Vec<Words>,
    used: u64,
}

struct Shelves {
    by_length: BTreeMap<usize, Shelf>,
    bytes: usize,
    clock: u64,
}

static SHELVES: Mutex<Shelves> = Mutex::new(Shelves {
    by_length: BTreeMap::new(),
    bytes: 0,
    clock: 0,
});

impl Shelves {
    /// A kept buffer of `class` words, or the smallest that is at most half as large again: what an earlier level left serves the next one.
    fn take(&mut self, class: usize) -> Option<Words> {
        self.clock += 1;
        let fitting = self.by_length.range_mut(class..=class + class / 2);
        let (length, shelf) = fitting
            .into_iter()
            .find(|(_, shelf)| !shelf.buffers.is_empty())?;
        shelf.used = self.clock;
        self.bytes -= 4 * length;
        shelf.buffers.pop()
    }

    /// Keeps a buffer. Returns what is too much now: buffers of the sizes that nobody has used for longest.
    fn put(&mut self, words: Words) -> Vec<Words> {
        self.clock += 1;
        self.bytes += 4 * words.len();
        let shelf = self.by_length.entry(words.len()).or_default();
        shelf.used = self.clock;
        shelf.buffers.push(words);
        let mut dropped = Vec::new();
        while self.bytes > KEPT_BYTES {
            let filled = self.by_length.values_mut();
            let oldest = filled
                .filter(|s| !s.buffers.is_empty())
                .min_by_key(|s| s.used);
            let Some(words) = oldest.and_then(|s| s.buffers.pop()) else {
                break;
            };
            self.bytes -= 4 * words.len();
            dropped.push(words);
        }
        dropped
    }
}

/// A vector of words that returns to the pool when dropped.
pub struct Buffer {
    /// At least `length` words.
    words: Words,
    length: usize,
}

/// Buffers are allocated in sizes of at most an eighth more than asked for, so that polynomials of neighbouring levels share them: with
/// exact sizes a walk through the level table leaves the shelves full of what the next level cannot use.
fn size_class(length: usize) -> usize {
    let step = (length.next_power_of_two() / 16).max(1);
    length.div_ceil(step) * step
}

impl Buffer {
    /// A buffer of `length` words with *arbitrary* contents (zero or leftovers of earlier polynomials); the caller overwrites all of it.
    pub fn scratch(length: usize) -> Self {
        let class = size_class(length);
        let recycled = SHELVES.lock().ok();
        let recycled = recycled.and_then(|mut shelves| shelves.take(class));
        Self {
            words: recycled.unwrap_or_else(|| Words::zeroed(class)),
            length,
        }
    }

    /// A buffer of `length` zeros.
    pub fn zeroed(length: usize) -> Self {
        let mut buffer = Self::scratch(length);
        buffer.fill(0);
        buffer
    }

    /// Shortens to `length` words.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }
}

/// Gives all kept buffers back to the allocator; for tests and before memory-hungry phases.
pub fn release_all() {
    if let Ok(mut shelves) = SHELVES.lock() {
        shelves.by_length.clear();
        shelves.bytes = 0;
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let words = std::mem::take(&mut self.words);
        if words.is_empty() {
            return;
        }
        // Outside the lock: giving pages back takes the system a while.
        let dropped = SHELVES.lock().map(|mut shelves| shelves.put(words));
        drop(dropped);
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Self::scratch(self.len());
        copy.copy_from_slice(self);
        copy
    }
}

impl Deref for Buffer {
    type Target = [u32];
    fn deref(&self) -> &[u32] {
        &self.words[..self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u32] {
        &mut self.words[..self.length]
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Buffer {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_buffers_are_taken_again() {
        let length = 12_347;
        let mut first = Buffer::zeroed(length);
        first[5] = 77;
        let address = first.as_ptr();
        drop(first);
        let second = Buffer::scratch(length);
        assert_eq!(second.as_ptr(), address);
        drop(second);
        let third = Buffer::zeroed(length);
        assert!(third.iter().all(|&w| w == 0));
    }

    fn shelves() -> Shelves {
        Shelves {
            by_length: BTreeMap::new(),
            bytes: 0,
            clock: 0,
        }
    }

    #[test]
    fn a_kept_buffer_serves_sizes_down_to_two_thirds_of_its_own() {
        let mut shelves = shelves();
        assert!(shelves.put(Words::zeroed(1500)).is_empty());
        assert!(shelves.take(1501).is_none());
        assert!(shelves.take(999).is_none());
        assert_eq!(shelves.take(1000).map(|w| w.len()), Some(1500));
        assert!(shelves.take(1000).is_none());
        assert_eq!(shelves.bytes, 0);
    }

    #[test]
    fn sizes_unused_for_longest_go_first_when_too_much_is_kept() {
        let mut shelves = shelves();
        // Zeroed pages that nobody touches take no memory.
        let half = KEPT_BYTES / 8;
        let old = half + 16;
        assert!(shelves.put(Words::zeroed(old)).is_empty());
        assert!(shelves.put(Words::zeroed(half - 16)).is_empty());
        let dropped = shelves.put(Words::zeroed(half - 16));
        assert_eq!(dropped.iter().map(|w| w.len()).collect::<Vec<_>>(), [old]);
        assert_eq!(shelves.bytes, 8 * (half - 16));
    }
}

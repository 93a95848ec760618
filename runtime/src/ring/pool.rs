//! Recycled limb buffers.
//!
//! A fresh buffer of some megabytes costs more in page faults than the arithmetic done in it, so dropped buffers are kept, by
//! size, for the next taker. Recycled contents are arbitrary residues: a holder of secrets zeroizes before dropping.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// Bytes kept for reuse; above this, dropped buffers go back to the allocator.
const KEPT_BYTES: usize = 1 << 31;

struct Shelves {
    by_length: BTreeMap<usize, Vec<Vec<u32>>>,
    bytes: usize,
}

static SHELVES: Mutex<Shelves> = Mutex::new(Shelves {
    by_length: BTreeMap::new(),
    bytes: 0,
});

/// A vector of words that returns to the pool when dropped.
pub struct Buffer {
    /// At least `length` words.
    words: Vec<u32>,
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
        let recycled = SHELVES.lock().ok().and_then(|mut shelves| {
            let words = shelves.by_length.get_mut(&class)?.pop()?;
            shelves.bytes -= 4 * class;
            Some(words)
        });
        Self {
            words: recycled.unwrap_or_else(|| vec![0; class]),
            length,
        }
    }

    /// A buffer of `length` zeros.
    pub fn zeroed(length: usize) -> Self {
        let mut buffer = Self::scratch(length);
        buffer.fill(0);
        buffer
    }

    /// Takes over an existing vector, which joins the pool on drop if its size is one of the pool's.
    pub fn from_vec(words: Vec<u32>) -> Self {
        let length = words.len();
        Self { words, length }
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
        let bytes = 4 * words.len();
        // A vector from elsewhere may have spare capacity, which the shelf would strand, or a size that nobody asks for.
        let ours = words.capacity() == words.len() && size_class(words.len()) == words.len();
        if words.is_empty() || !ours {
            return;
        }
        if let Ok(mut shelves) = SHELVES.lock() {
            if shelves.bytes + bytes <= KEPT_BYTES {
                shelves.bytes += bytes;
                shelves
                    .by_length
                    .entry(words.len())
                    .or_default()
                    .push(words);
            }
        }
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
}

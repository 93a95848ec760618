//! Words that start on a cache line.
//!
//! Vector kernels load whole lines. The allocator places large blocks 16 bytes after a page, where every load would straddle two lines.

use std::ops::{Deref, DerefMut};

/// Words of a cache line.
const LINE: usize = 16;

/// A slice of words of its own whose first word starts a cache line.
#[derive(Default)]
pub struct Words {
    /// The words, after fewer than a line of others.
    held: Vec<u32>,
    start: usize,
    length: usize,
}

impl Words {
    /// So many zeros; memory that nobody touches takes no pages.
    pub fn zeroed(length: usize) -> Self {
        let held = vec![0u32; length + LINE - 1];
        // In the unlikely case that the offset cannot be told, loads are slower and nothing else changes.
        let start = held.as_ptr().align_offset(4 * LINE).min(LINE - 1);
        Self {
            held,
            start,
            length,
        }
    }
}

impl From<&[u32]> for Words {
    fn from(words: &[u32]) -> Self {
        let mut copy = Self::zeroed(words.len());
        copy.copy_from_slice(words);
        copy
    }
}

impl Deref for Words {
    type Target = [u32];
    fn deref(&self) -> &[u32] {
        &self.held[self.start..self.start + self.length]
    }
}

impl DerefMut for Words {
    fn deref_mut(&mut self) -> &mut [u32] {
        &mut self.held[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_start_on_a_line_and_are_zero() {
        for length in [0, 1, 15, 16, 17, 4096, 1 << 18] {
            let words = Words::zeroed(length);
            assert_eq!(words.len(), length);
            assert_eq!(words.as_ptr() as usize % 64, 0, "{length} words");
            assert!(words.iter().all(|&w| w == 0));
        }
        assert_eq!(*Words::from(&[3, 4][..]), [3, 4]);
    }
}

//! Words that start on a cache line, many of them on large pages.
//!
//! Vector kernels load whole lines. The allocator places large blocks 16 bytes after a page, where every load would straddle two lines. Keys
//! and polynomials are read once and in order, some streams at a time: with pages of 4 KiB, each of which the hardware's prefetching stops
//! at, a sum over a key runs at four fifths of the pace that pages of 2 MiB allow.
//!
//! Limbs are powers of two long. Were polynomials to start at powers of two as well, the same word of all of them would fall into one set of
//! each cache, which holds eight lines: a sum over twenty would find none of them there again. So each starts some lines after the last.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Words of a cache line.
pub(crate) const LINE: usize = 16;
/// Bytes of a large page.
const PAGE: usize = 2 << 20;
/// Bytes from which on large pages are asked for.
const MANY: usize = 2 * PAGE;
/// Words that whole limbs are set apart from each other: neighbours differ by four sets of a first-level cache, so that a pass from one limb to
/// another does not write to the sets it is about to read, and sixteen of them cover the sets of a second-level cache.
pub(crate) const APART: usize = 68 * LINE;
/// Different starts, the first after none: 68 KiB in all.
const STARTS: usize = 16;
/// Words from which on starts differ.
const LONG: usize = 1 << 14;

/// Words that cover all sets of a first-level cache, of 64 lines.
pub(crate) const SETS: usize = 64 * LINE;

/// As many words of a buffer as `other` has, half the sets of a first-level cache from it: a pass of a transform that reads eight rows of
/// one and writes eight of the other, rows a power of two apart, finds both in the cache. The buffer is longer by [`SETS`].
pub(crate) fn opposite<'a>(buffer: &'a mut [u32], other: &[u32]) -> &'a mut [u32] {
    let place = |words: &[u32]| words.as_ptr() as usize / size_of::<u32>();
    let skipped = (place(other) + SETS / 2).wrapping_sub(place(buffer)) % SETS;
    &mut buffer[skipped..][..other.len()]
}

/// Words before the first one.
fn next_start(length: usize) -> usize {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    match length < LONG {
        true => 0,
        false => MADE.fetch_add(1, Ordering::Relaxed) % STARTS * APART,
    }
}

/// A slice of words of its own whose first word starts a cache line.
#[derive(Default)]
pub struct Words {
    held: Held,
    /// The words come after fewer than a line, or a large page, of others, and those that set them apart.
    start: usize,
    length: usize,
}

/// Zeroed memory of whoever holds it alone.
enum Held {
    Allocated(Vec<u32>),
    #[cfg(target_os = "linux")]
    Mapped(memmap2::MmapMut),
}

impl Default for Held {
    fn default() -> Self {
        Held::Allocated(Vec::new())
    }
}

impl Held {
    fn words(&self) -> &[u32] {
        match self {
            Held::Allocated(words) => words,
            #[cfg(target_os = "linux")]
            Held::Mapped(map) => bytemuck::cast_slice(whole_words(map)),
        }
    }

    fn words_mut(&mut self) -> &mut [u32] {
        match self {
            Held::Allocated(words) => words,
            #[cfg(target_os = "linux")]
            Held::Mapped(map) => {
                let length = whole_words(map).len();
                bytemuck::cast_slice_mut(&mut map[..length])
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn whole_words(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len() / 4 * 4]
}

/// A mapping that holds `bytes` bytes from the start of a large page on, if the system gives one: the mapping, and that start. The large
/// pages that the bytes fill are asked for as such; the rest, less than one, stays on small pages, so that no memory is taken in vain.
#[cfg(target_os = "linux")]
fn map(bytes: usize) -> Option<(memmap2::MmapMut, usize)> {
    let map = memmap2::MmapMut::map_anon(bytes.checked_add(PAGE)?).ok()?;
    let start = map.as_ptr().align_offset(PAGE);
    if start > PAGE {
        return None;
    }
    // A system without large pages says no: then small ones serve.
    let _ = map.advise_range(memmap2::Advice::HugePage, start, bytes / PAGE * PAGE);
    Some((map, start))
}

impl Words {
    /// So many zeros; memory that nobody touches takes no pages.
    pub fn zeroed(length: usize) -> Self {
        let before = next_start(length);
        #[cfg(target_os = "linux")]
        if let Some((map, start)) = (length >= MANY / 4)
            .then(|| map(4 * (before + length)))
            .flatten()
        {
            let (held, start) = (Held::Mapped(map), start / 4 + before);
            return Self {
                held,
                start,
                length,
            };
        }
        let held = vec![0u32; before + length + LINE - 1];
        // In the unlikely case that the offset cannot be told, loads are slower and nothing else changes.
        let start = before + held.as_ptr().align_offset(4 * LINE).min(LINE - 1);
        Self {
            held: Held::Allocated(held),
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
        &self.held.words()[self.start..self.start + self.length]
    }
}

impl DerefMut for Words {
    fn deref_mut(&mut self) -> &mut [u32] {
        &mut self.held.words_mut()[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_start_on_a_line_and_are_zero() {
        for length in [
            0,
            1,
            15,
            16,
            17,
            4096,
            1 << 18,
            MANY / 4 - 1,
            MANY / 4,
            (3 << 20) + 5,
        ] {
            let words = Words::zeroed(length);
            assert_eq!(words.len(), length);
            assert_eq!(words.as_ptr() as usize % 64, 0, "{length} words");
            assert!(words.iter().all(|&w| w == 0));
        }
        assert_eq!(*Words::from(&[3, 4][..]), [3, 4]);
    }

    #[test]
    fn what_is_opposite_is_half_the_sets_away_wherever_both_begin() {
        let (other, mut buffer) = (Words::zeroed(4096), Words::zeroed(4096 + SETS));
        for begin in [0, LINE, 5 * LINE, 40 * LINE, 63 * LINE] {
            let other = &other[begin..][..1024];
            let found = opposite(&mut buffer, other);
            assert_eq!(found.len(), other.len());
            let apart = (found.as_ptr() as usize).wrapping_sub(other.as_ptr() as usize) / 4;
            assert_eq!(apart % SETS, SETS / 2, "{begin}");
        }
    }

    /// Other tests make words meanwhile, so that no two need to be neighbours.
    #[test]
    fn whole_limbs_do_not_all_fall_into_one_set_of_a_cache() {
        for length in [LONG, MANY] {
            let made: Vec<Words> = (0..STARTS).map(|_| Words::zeroed(length)).collect();
            let set = |w: &Words| w.as_ptr() as usize / (4 * LINE) % 64;
            assert!(made.iter().any(|w| set(w) != set(&made[0])));
        }
    }
}

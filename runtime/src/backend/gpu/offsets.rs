//! Places in one run of memory for buffers whose lifetimes are known beforehand.

use std::ops::Range;

/// Words to which buffers are aligned: 256 bytes, as CUDA's own allocations are.
const ALIGNMENT: usize = 64;

/// A buffer: its words, and the moments from which and until which it is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub words: usize,
    pub moments: Range<usize>,
}

impl Life {
    fn meets(&self, other: &Life) -> bool {
        self.moments.start < other.moments.end && other.moments.start < self.moments.end
    }
}

/// The first word of each buffer, and how many words that takes in all. Large buffers choose first, each the lowest gap between those that live
/// at the same time (first fit decreasing).
pub(super) fn offsets(lives: &[Life]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(lives[i].words), lives[i].moments.start));
    let mut places: Vec<usize> = vec![0; lives.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 0;
    for i in order {
        let life = &lives[i];
        let mut taken: Vec<Range<usize>> = placed
            .iter()
            .filter(|&&p| lives[p].meets(life))
            .map(|&p| places[p]..places[p] + lives[p].words)
            .collect();
        taken.sort_by_key(|range| range.start);
        let mut place = 0usize;
        for range in taken {
            if place + life.words <= range.start {
                break;
            }
            place = place.max(range.end.next_multiple_of(ALIGNMENT));
        }
        places[i] = place;
        total = total.max(place + life.words);
        placed.push(i);
    }
    (places, total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_that_live_together_are_apart_and_memory_is_used_again() {
        let mut state = 1u64;
        let mut draw = |below: usize| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(99);
            (state >> 33) as usize % below
        };
        for _ in 0..50 {
            let lives: Vec<Life> = (0..60)
                .map(|_| {
                    let start = draw(100);
                    Life {
                        words: 64 * (1 + draw(40)),
                        moments: start..start + 1 + draw(20),
                    }
                })
                .collect();
            let (places, total) = offsets(&lives);
            for (i, a) in lives.iter().enumerate() {
                assert!(places[i] % ALIGNMENT == 0 && places[i] + a.words <= total);
                for (j, b) in lives.iter().enumerate().skip(i + 1) {
                    let apart =
                        places[i] + a.words <= places[j] || places[j] + b.words <= places[i];
                    assert!(
                        apart || !a.meets(b),
                        "{a:?} at {}, {b:?} at {}",
                        places[i],
                        places[j]
                    );
                }
            }
            // The least that any plan takes: what lives together.
            let at = |moment: usize| -> usize {
                let live = lives.iter().filter(|l| l.moments.contains(&moment));
                live.map(|l| l.words).sum()
            };
            let least = (0..120).map(at).max().unwrap_or(0);
            let all: usize = lives.iter().map(|l| l.words).sum();
            assert!(
                least <= total && total < least * 3 / 2 && total < all,
                "{least} {total} {all}"
            );
        }
    }

    #[test]
    fn nothing_takes_no_memory() {
        assert_eq!(offsets(&[]), (vec![], 0));
    }
}

//! Which launches of a recording have to wait for which.

use super::touches::Touched;
use std::ops::Range;

/// What one launch reads and writes, in bytes of the device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Footprint {
    reads: Vec<Range<u64>>,
    writes: Vec<Range<u64>>,
}

impl Footprint {
    /// From addresses, each within one of the live buffers, which are given by their first bytes in ascending order. What is in none of them is
    /// written by no launch.
    pub(super) fn new(touched: &Touched, live: &[Range<u64>]) -> Footprint {
        let buffer = |address: &u64| {
            let after = live.partition_point(|range| range.start <= *address);
            let range = live.get(after.checked_sub(1)?)?;
            range.contains(address).then(|| range.clone())
        };
        Footprint {
            reads: touched.reads.iter().filter_map(buffer).collect(),
            writes: touched.writes.iter().filter_map(buffer).collect(),
        }
    }

    /// Whether the order of two launches matters.
    fn meets(&self, other: &Footprint) -> bool {
        let overlap = |a: &[Range<u64>], b: &[Range<u64>]| {
            let meets = |a: &Range<u64>, b: &Range<u64>| a.start < b.end && b.start < a.end;
            a.iter().any(|a| b.iter().any(|b| meets(a, b)))
        };
        overlap(&self.writes, &other.writes)
            || overlap(&self.writes, &other.reads)
            || overlap(&self.reads, &other.writes)
    }
}

/// For each launch those before it that it has to wait for, without those that these wait for already.
pub(super) fn dependencies(footprints: &[Footprint]) -> Vec<Vec<usize>> {
    // Bit i of row j: launch j comes after launch i in any order.
    let words = footprints.len().div_ceil(64);
    let mut before: Vec<Vec<u64>> = Vec::with_capacity(footprints.len());
    let mut all = Vec::with_capacity(footprints.len());
    for (j, footprint) in footprints.iter().enumerate() {
        let mut known = vec![0u64; words];
        let mut after = Vec::new();
        for i in (0..j).rev() {
            if known[i / 64] >> (i % 64) & 1 == 0 && footprints[i].meets(footprint) {
                after.push(i);
                known[i / 64] |= 1 << (i % 64);
                known.iter_mut().zip(&before[i]).for_each(|(k, b)| *k |= b);
            }
        }
        before.push(known);
        all.push(after);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footprint(reads: &[u64], writes: &[u64]) -> Footprint {
        let live = [100..200, 200..300, 300..400].map(|r: Range<u64>| r);
        let touched = Touched {
            reads: reads.to_vec(),
            writes: writes.to_vec(),
        };
        Footprint::new(&touched, &live)
    }

    #[test]
    fn a_launch_waits_for_those_that_write_what_it_reads_and_read_what_it_writes() {
        let steps = [
            footprint(&[], &[100]),
            footprint(&[], &[250]),
            // Another place of the same buffer; a table, which nobody writes.
            footprint(&[150, 9000], &[300]),
            footprint(&[200], &[320]),
            footprint(&[200], &[]),
            footprint(&[], &[200]),
        ];
        let found = dependencies(&steps);
        assert_eq!(
            found,
            [vec![], vec![], vec![0], vec![2, 1], vec![1], vec![4, 3]]
        );
    }
}

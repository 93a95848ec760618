//! CoeffsToSlots and SlotsToCoeffs as products of few sparse matrices (eprint 2018/1073): butterflies of the special transform multiplied
//! together in groups. Bit reversal is left out on both sides; EvalMod acts on each slot alone, so it cancels.

use super::diagonals::Diagonals;
use crate::ckks::encoding::SlotTransform;

/// Sizes of groups of butterfly stages, from the smallest stride (1) to the largest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups(Vec<u32>);

impl Groups {
    /// `count` groups for the whole vector of 2^log_slots: as equal as possible, larger ones at larger strides (the largest stride wraps, so
    /// its group has about half the diagonals), as 3, 3, 4, 5 rather than 3, 4, 4, 4 where four groups make 15 because the strides then
    /// coincide with those of 5, 5, 5 and the two share keys.
    pub fn whole(log_slots: u32, count: u32) -> Groups {
        if (log_slots, count) == (15, 4) {
            return Groups(vec![3, 3, 4, 5]);
        }
        let (size, larger) = (log_slots / count, log_slots % count);
        let sizes = (0..count).map(|i| size + u32::from(i >= count - larger));
        Groups(sizes.collect())
    }

    /// The groups for 2^log_slots slots that repeat: those of the whole vector, cut off at the top, so that all rotations are shared.
    pub fn truncated(&self, log_slots: u32) -> Groups {
        let mut left = log_slots;
        let sizes = self.0.iter().map(|&size| {
            let kept = size.min(left);
            left -= kept;
            kept
        });
        Groups(sizes.collect())
    }

    /// Number of groups.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Number of butterfly stages in all.
    pub fn stages(&self) -> u32 {
        self.0.iter().sum()
    }

    /// For each group from the smallest stride up, its first and last stage as log2 of the block length; empty groups have first > last.
    pub fn ranges(&self) -> Vec<(u32, u32)> {
        let mut next = 1;
        let ranges = self.0.iter().map(|&size| {
            let first = next;
            next += size;
            (first, next - 1)
        });
        ranges.collect()
    }
}

/// Stages `first`..=`last` of the special transform on 2^log_slots slots as one matrix: forward with the smallest stride first, or inverse
/// with the largest first. The matrix has 2^min(last + 1, log_slots) slots, the period with which it repeats (doubled where that keeps the
/// two directions of its rotations apart), and entries of size 1 or 0: inverse stages are taken times 2.
pub fn group(
    transform: &SlotTransform,
    first: u32,
    last: u32,
    log_slots: u32,
    inverse: bool,
) -> Diagonals {
    let size = log_slots.min(last + 1);
    let factor = if inverse { 2.0 } else { 1.0 };
    let stage = |log_len| {
        Diagonals::from_stage(
            size,
            &transform.stage_diagonals(log_len, size, inverse),
            factor,
        )
    };
    let start = Diagonals::identity(size);
    if inverse {
        (first..=last)
            .rev()
            .fold(start, |map, l| stage(l).after(&map))
    } else {
        (first..=last).fold(start, |map, l| stage(l).after(&map))
    }
}

/// The matrices of 2^groups.stages() · bit reversal ∘ special_ifft in the order of application: slots to (bit-reversed) coefficients,
/// unnormalised. An empty group is the identity.
pub fn coeffs_to_slots(transform: &SlotTransform, groups: &Groups) -> Vec<Diagonals> {
    let ranges = groups.ranges().into_iter().rev();
    ranges
        .map(|(first, last)| group(transform, first, last, groups.stages(), true))
        .collect()
}

/// The matrices of special_fft ∘ bit reversal in the order of application: (bit-reversed) coefficients to slots.
pub fn slots_to_coeffs(transform: &SlotTransform, groups: &Groups) -> Vec<Diagonals> {
    let ranges = groups.ranges().into_iter();
    ranges
        .map(|(first, last)| group(transform, first, last, groups.stages(), false))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ckks::encoding::Complex;

    fn sample(n: usize) -> Vec<Complex> {
        let mut state = 7u64;
        let mut next = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        };
        (0..n).map(|_| Complex::new(next(), next())).collect()
    }

    fn reversed(x: &[Complex]) -> Vec<Complex> {
        let bits = x.len().trailing_zeros();
        (0..x.len())
            .map(|i| x[i.reverse_bits() >> (usize::BITS - bits)])
            .collect()
    }

    fn distance(a: &[Complex], b: &[Complex]) -> f64 {
        let d = a
            .iter()
            .zip(b)
            .map(|(a, b)| (a.re - b.re).hypot(a.im - b.im));
        d.fold(0.0, f64::max)
    }

    fn apply_all(maps: &[Diagonals], input: &[Complex]) -> Vec<Complex> {
        let bits = input.len().trailing_zeros();
        maps.iter()
            .fold(input.to_vec(), |x, map| map.repeated(bits).apply(&x))
    }

    #[test]
    fn grouped_stages_multiply_to_the_special_transform() {
        for (log_slots, whole) in [(5, 5), (9, 9), (10, 10), (11, 11), (6, 11), (3, 10)] {
            let n = 1usize << log_slots;
            let transform = SlotTransform::new(whole).unwrap();
            let coefficients = sample(n);
            let mut slots = coefficients.clone();
            transform.special_fft(&mut slots).unwrap();
            let to_coeffs = Groups::whole(whole, 3).truncated(log_slots);
            let got = apply_all(
                &slots_to_coeffs(&transform, &to_coeffs),
                &reversed(&coefficients),
            );
            // Each of log n stages rounds values up to sqrt(n) times the inputs' size twice.
            let bound = f64::from(log_slots) * 2.0 * f64::EPSILON * n as f64;
            let error = distance(&got, &slots);
            assert!(
                error <= bound,
                "SlotsToCoeffs 2^{log_slots}: {error:e}, bound {bound:e}"
            );
            let to_slots = Groups::whole(whole, 4).truncated(log_slots);
            let got = apply_all(&coeffs_to_slots(&transform, &to_slots), &slots);
            let expected: Vec<Complex> = reversed(&coefficients)
                .iter()
                .map(|v| Complex::new(v.re * n as f64, v.im * n as f64))
                .collect();
            let error = distance(&got, &expected);
            let bound = bound * n as f64;
            assert!(
                error <= bound,
                "CoeffsToSlots 2^{log_slots}: {error:e}, bound {bound:e}"
            );
        }
    }

    #[test]
    fn diagonals_number_as_in_the_parameter_sheet_and_have_entries_of_size_one() {
        let count =
            |maps: Vec<Diagonals>| -> Vec<usize> { maps.iter().map(Diagonals::len).collect() };
        let transform = SlotTransform::new(15).unwrap();
        let to_slots = coeffs_to_slots(&transform, &Groups::whole(15, 4));
        for (_, diagonal) in to_slots.iter().flat_map(Diagonals::iter) {
            for v in diagonal.iter().step_by(37) {
                let size = v.re.hypot(v.im);
                assert!(
                    size == 0.0 || (size - 1.0).abs() < 1e-14,
                    "entry of size {size}"
                );
            }
        }
        assert_eq!(count(to_slots), [32, 31, 15, 15]);
        let transform = SlotTransform::new(11).unwrap();
        assert_eq!(
            count(slots_to_coeffs(&transform, &Groups::whole(11, 3))),
            [15, 31, 16]
        );
        assert_eq!(Groups::whole(11, 4), Groups(vec![2, 3, 3, 3]));
        assert_eq!(Groups::whole(15, 4).truncated(9), Groups(vec![3, 3, 3, 0]));
    }
}

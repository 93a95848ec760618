//! Launches of the first half of linear maps: rotations that are multiplied and summed as they are made.

use super::arguments::{Baby, RotatedSumsArgs, MAX_BABIES, MAX_GIANTS, MAX_MAPPED};
use super::core::Gpu;
use super::device::DeviceError;
use super::poly::GpuPoly;
use super::product::Layouts;
use super::switch::{half_places, DigitPlaces, Factor};
use crate::backend::{Pairs, Rotation};
use crate::ring::Form;
use crate::rlwe::{RlweError, RowLimbs};
use bytemuck::Zeroable;

/// Threads of a block, and words of each.
const THREADS: u32 = 256;
const WORDS: u32 = 2;

/// What is summed for each giant step: diagonals, and the numbers of the babies they are multiplied by.
pub(super) type Sums<'a> = [Vec<(&'a GpuPoly, usize)>];

/// The maps that one launch can do: no more babies and giant steps than it has room for, each pair of them at most once.
pub(super) fn fits(babies: usize, sums: &Sums<'_>) -> bool {
    let once = |sum: &Vec<(&GpuPoly, usize)>| {
        let mut numbers: Vec<usize> = sum.iter().map(|(_, b)| *b).collect();
        numbers.sort_unstable();
        numbers.windows(2).all(|w| w[0] < w[1]) && numbers.iter().all(|&b| b < babies)
    };
    babies <= MAX_BABIES && sums.len() <= MAX_GIANTS && sums.iter().all(once)
}

impl Gpu {
    /// See [`crate::backend::Backend::rotated_sums_each`]: for maps that [`fits`].
    pub(super) fn sums_of_rotations(
        &self,
        ciphertexts: &[Factor<'_>],
        babies: &[Option<Rotation<'_>>],
        sums: &Sums<'_>,
        row: &RowLimbs,
    ) -> Result<Vec<Pairs<GpuPoly>>, RlweError> {
        let one = || self.scratch(&row.extended, Form::Evaluation);
        let each = ciphertexts.iter().map(|_| {
            let pairs = sums.iter().map(|_| Ok((one()?, one()?)));
            pairs.collect::<Result<Pairs<GpuPoly>, DeviceError>>()
        });
        let results = each.collect::<Result<Vec<_>, DeviceError>>()?;
        let mut start = 0;
        for alike in ciphertexts.chunk_by(Factor::is_like) {
            for ciphertexts in alike.chunks(MAX_MAPPED) {
                let end = start + ciphertexts.len();
                self.launch_rotated_sums(ciphertexts, babies, sums, row, &results[start..end])?;
                start = end;
            }
        }
        Ok(results)
    }

    fn launch_rotated_sums(
        &self,
        ciphertexts: &[Factor<'_>],
        babies: &[Option<Rotation<'_>>],
        sums: &Sums<'_>,
        row: &RowLimbs,
        results: &[Pairs<GpuPoly>],
    ) -> Result<(), RlweError> {
        let ring = self.ring_context();
        let (n, limbs, batch) = (ring.degree(), &row.extended, ciphertexts.len());
        self.check_key_shape(row)?;
        let Some(first) = ciphertexts.first() else {
            return Ok(());
        };
        let mut args = RotatedSumsArgs {
            ring: self.tables().ring(),
            babies: babies.len() as u32,
            digits: row.digits.len() as u32,
            limbs: limbs.len() as u32,
            batch: batch as u32,
            ..RotatedSumsArgs::zeroed()
        };
        for (c, (ciphertext, results)) in ciphertexts.iter().zip(results).enumerate() {
            args.original[c] = self.place(ciphertext.digits.original)?.0;
            if let Some(digit) = ciphertext.digits.digits.first() {
                args.digits_at[c] = self.place(digit)?.0;
            }
            if let Some(c0) = ciphertext.addends[0] {
                args.first[c] = self.place(c0)?.0;
            }
            for (s, (low, high)) in results.iter().enumerate() {
                args.low[c][s] = self.place(low)?.0;
                args.high[c][s] = self.place(high)?.0;
            }
        }
        let DigitPlaces(places) = self.digit_places(first.digits, row)?;
        args.digit_places = self.tables().list(&places)?.0;
        let halves = [first.addends[0], Some(first.digits.original)];
        args.half_places = self.tables().list(&half_places(halves, limbs))?.0;
        let factors = (&mut args.factor, &mut args.quotient);
        self.write_factors(limbs, &row.special_product, &mut args.prime, factors);
        // Held until the launch is under way.
        let mut keys = Vec::with_capacity(babies.len());
        for (to, baby) in args.baby.iter_mut().zip(babies) {
            to.element = 1;
            let Some(Rotation { element, key }) = baby else {
                continue;
            };
            let words = self.keys().get(self, key)?;
            *to = Baby {
                key: words.address().0,
                places: self.tables().list(&super::keys::places(key, row)?)?.0,
                stored_limbs: (key.limbs().len() + key.special().len()) as u32,
                element: element.value(),
            };
            keys.push(words);
        }
        let mut layouts = Layouts {
            limbs,
            rows: Vec::new(),
        };
        let mut read = 0;
        for (s, sum) in sums.iter().enumerate() {
            for &(diagonal, baby) in sum {
                read += diagonal.degree;
                args.diagonal[baby][s] = self.place(diagonal)?.0;
                args.layout[baby][s] = layouts.of(diagonal) as u8;
                args.run[baby][s] = (n / diagonal.degree).ilog2() as u8;
            }
        }
        args.layouts = self.tables().list(&layouts.list())?.0;
        let share = (batch as u32).next_power_of_two();
        let threads = (THREADS / share).min(n as u32 / WORDS);
        let grid = [n as u32 / WORDS / threads, limbs.len() as u32, 1];
        let all = threads * batch as u32;
        // Diagonals and both halves of keys once; digits, both halves of the ciphertext and of the sums for each ciphertext.
        let digits = row.digits.len();
        read += n * (2 * digits * keys.len() + batch * (digits + 2));
        let moves = limbs.len() * (read + n * 2 * batch * sums.len());
        // SAFETY: the places name limbs that digits, ciphertexts, keys and diagonals have; the results are on the row's QP.
        unsafe { self.launch("heron_rotated_sums", grid, all, 0, moves, &args)? };
        Ok(())
    }
}

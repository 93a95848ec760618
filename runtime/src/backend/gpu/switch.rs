//! Key switching: digits, their products with keys, and what is fused with those.

use super::arguments::{
    KeyProductArgs, KeyUse, ABSENT, IN_ORIGINAL, MAX_BATCH, MAX_DIGITS, MAX_LIMBS, MAX_PRODUCTS,
};
use super::core::Gpu;
use super::device::{Address, DeviceError};
use super::divide::{Extended, Sources};
use super::keys::places;
use super::poly::{GpuPoly, Pending, Progress};
use super::transform::Limb;
use crate::backend::{Decomposition, Pairs};
use crate::ring::{Form, GaloisElement, LimbId};
use crate::rlwe::{KeySwitchingKey, RlweError, RowLimbs};
use bytemuck::Zeroable;
use std::sync::{Arc, Mutex};

/// Threads of a block, at most.
const THREADS: u32 = 256;

/// A key, and the automorphism applied to its products.
#[derive(Clone, Copy)]
pub(super) struct Use<'a> {
    pub key: &'a KeySwitchingKey,
    pub element: Option<GaloisElement>,
}

/// A ciphertext of a key product: its digits, and what is added to the products before the automorphism, times a factor per limb of QP.
#[derive(Clone, Copy)]
pub(super) struct Factor<'a> {
    pub digits: &'a Decomposition<'a, GpuPoly>,
    pub addends: [Option<&'a GpuPoly>; 2],
}

impl Factor<'_> {
    /// Whether limbs lie at the same places in both, so that one launch can do both.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let addends = self.addends.iter().zip(&other.addends);
        let same = |(a, b): (&Option<&GpuPoly>, &Option<&GpuPoly>)| match (a, b) {
            (Some(a), Some(b)) => a.limbs == b.limbs,
            (None, None) => true,
            _ => false,
        };
        self.digits.original.limbs == other.digits.original.limbs
            && addends.into_iter().all(same)
            && self.digits.digits.len() == other.digits.digits.len()
    }
}

/// `[live digit][limb of QP]`: the limb's number among all the digits' limbs, or, marked, among the original's.
pub(super) struct DigitPlaces(pub Vec<u16>);

/// What a key product is taken with.
pub(super) struct Keyed<'a> {
    pub uses: &'a [Use<'a>],
    /// What addends are multiplied by, per limb of QP.
    pub factors: &'a [u32],
    pub row: &'a RowLimbs,
}

impl Gpu {
    /// See [`crate::backend::Backend::decompose_each`]. All digits of one polynomial share one buffer; the rows of their transforms are
    /// done by the first key product in passing, or when they are read otherwise.
    pub(super) fn digits<'a>(
        &self,
        polys: &[&'a GpuPoly],
        row: &RowLimbs,
    ) -> Result<Vec<Decomposition<'a, GpuPoly>>, RlweError> {
        let ring = self.ring_context();
        let n = ring.degree();
        let (mut limbs, mut factors) = (Vec::new(), Vec::new());
        let mut tables = Vec::with_capacity(row.digits.len());
        for digit in &row.digits {
            let extension = ring.extension(&digit.limbs, &digit.others)?;
            factors.extend(extension.source_factors(ring, None));
            limbs.extend_from_slice(&digit.limbs);
            tables.push(extension);
        }
        for a in polys {
            assert_eq!(a.form, Form::Evaluation, "values become coefficients");
            assert!(
                limbs.iter().all(|&l| a.position_of(l).is_some()),
                "a polynomial on the limbs of the row"
            );
        }
        let (mut from, mut to) = (0, 0);
        let mut pieces = Vec::with_capacity(tables.len());
        let mut targets = Vec::new();
        for (digit, extension) in row.digits.iter().zip(&tables) {
            pieces.push(Extended {
                tables: extension,
                target: &digit.others,
                divided: false,
                from,
                to,
            });
            from += digit.limbs.len();
            to += digit.others.len();
            targets.extend_from_slice(&digit.others);
        }
        let made = targets.iter().enumerate();
        let made: Vec<Limb> = made.map(|(i, &id)| Limb::at(i, id)).collect();
        let buffers = self.several(to * n, polys.len())?;
        let mut start = 0;
        // Those that follow one another with their limbs at the same places go together.
        for alike in polys.chunk_by(|a, b| a.limbs == b.limbs) {
            let sources = Sources {
                polys: alike,
                limbs: &limbs,
                factors: &factors,
            };
            let end = start + alike.len();
            let places: Vec<Address> = buffers[start..end].iter().map(|b| b.address()).collect();
            // SAFETY: the sources are the digits' limbs one after the other, and the buffers have room for all targets.
            unsafe { self.extend_columns(&sources, &places, &pieces, &made)? };
            start = end;
        }
        let decompositions = polys.iter().zip(&buffers).map(|(&original, buffer)| {
            let pending = Arc::new(Pending {
                address: buffer.address(),
                limbs: targets.clone(),
                state: Mutex::new(Progress::Fresh),
            });
            let digits = pieces.iter().map(|piece| GpuPoly {
                buffer: Some(Arc::clone(buffer)),
                offset: piece.to * n,
                limbs: piece.target.into(),
                form: Form::Evaluation,
                degree: n,
                pending: Some(Arc::clone(&pending)),
            });
            Decomposition {
                original,
                digits: digits.collect(),
            }
        });
        Ok(decompositions.collect())
    }

    /// For each ciphertext the products of its digits with each key, on the row's QP.
    pub(super) fn key_products(
        &self,
        ciphertexts: &[Factor<'_>],
        keyed: &Keyed<'_>,
    ) -> Result<Vec<Pairs<GpuPoly>>, RlweError> {
        let one = || self.scratch(&keyed.row.extended, Form::Evaluation);
        let each = |_: &Factor<'_>| {
            let pairs = keyed.uses.iter().map(|_| Ok((one()?, one()?)));
            pairs.collect::<Result<Pairs<GpuPoly>, DeviceError>>()
        };
        let results = ciphertexts.iter().map(each);
        let results = results.collect::<Result<Vec<_>, DeviceError>>()?;
        let mut start = 0;
        for alike in ciphertexts.chunk_by(Factor::is_like) {
            for ciphertexts in alike.chunks(self.most_alike(keyed.uses.len() == 1)) {
                let end = start + ciphertexts.len();
                let most = MAX_PRODUCTS / ciphertexts.len();
                for (number, uses) in keyed.uses.chunks(most).enumerate() {
                    let first = number * most;
                    let results = results[start..end]
                        .iter()
                        .map(|pairs| &pairs[first..first + uses.len()]);
                    let results: Vec<&[(GpuPoly, GpuPoly)]> = results.collect();
                    let keyed = Keyed { uses, ..*keyed };
                    self.launch_key_products(ciphertexts, &keyed, &results, false)?;
                }
                start = end;
            }
        }
        Ok(results)
    }

    /// Most ciphertexts side by side in a block: where digits are finished in passing, a row of each.
    fn most_alike(&self, in_passing: bool) -> usize {
        let (together, _, _) = self.row_shape();
        match in_passing {
            true => MAX_BATCH.min(together as usize),
            false => MAX_BATCH,
        }
    }

    /// Adds for each ciphertext the products of its digits with one key to its sum, on the row's QP. `numbers`: which sum that is, another one
    /// for each.
    pub(super) fn add_key_products(
        &self,
        ciphertexts: &[Factor<'_>],
        keyed: &Keyed<'_>,
        sums: &mut [(GpuPoly, GpuPoly)],
        numbers: &[usize],
    ) -> Result<(), RlweError> {
        for &number in numbers {
            let (low, high) = &mut sums[number];
            for poly in [low, high] {
                assert_eq!(*poly.limbs, *keyed.row.extended, "a sum on the row's QP");
                if !poly.is_alone() {
                    // Others keep what they hold.
                    let mut own = self.scratch(&poly.limbs, poly.form)?;
                    std::mem::swap(poly, &mut own);
                    self.copy_into(poly, &own)?;
                }
            }
        }
        let mut start = 0;
        for alike in ciphertexts.chunk_by(Factor::is_like) {
            for ciphertexts in alike.chunks(self.most_alike(true)) {
                let end = start + ciphertexts.len();
                let results = numbers[start..end].iter();
                let results = results.map(|&number| std::slice::from_ref(&sums[number]));
                let results: Vec<&[(GpuPoly, GpuPoly)]> = results.collect();
                self.launch_key_products(ciphertexts, keyed, &results, true)?;
                start = end;
            }
        }
        Ok(())
    }

    pub(super) fn copy_into(&self, to: &GpuPoly, from: &GpuPoly) -> Result<(), DeviceError> {
        let operands = super::pointwise::Operands {
            to: self.place(to)?,
            a: self.place(from)?,
            ..Default::default()
        };
        let limbs = from.limbs.iter().enumerate();
        let words = limbs.map(|(i, &id)| super::pointwise::Word::at(i, id));
        // SAFETY: both hold the same limbs.
        unsafe { self.pointwise("heron_copy", operands, words) }
    }

    /// Refuses what no launch with keys takes.
    pub(super) fn check_key_shape(&self, row: &RowLimbs) -> Result<(), DeviceError> {
        for (what, found, most) in [
            ("digits of a key", row.digits.len(), MAX_DIGITS),
            ("limbs of a key", row.extended.len(), MAX_LIMBS),
        ] {
            if found > most {
                return Err(DeviceError::Shape { what, found, most });
            }
        }
        Ok(())
    }

    /// Where each limb of QP is, for each digit: all digits lie in one buffer, one after the other.
    pub(super) fn digit_places(
        &self,
        digits: &Decomposition<'_, GpuPoly>,
        row: &RowLimbs,
    ) -> Result<DigitPlaces, DeviceError> {
        let words = self.ring_context().degree() as u64;
        let mut places = Vec::with_capacity(row.digits.len() * row.extended.len());
        let mut start = None;
        for (live, extended) in row.digits.iter().zip(&digits.digits) {
            let address = extended.address()?.0;
            let before = (address - *start.get_or_insert(address)) / (4 * words);
            places.extend(
                row.extended
                    .iter()
                    .map(|&id| match live.limbs.contains(&id) {
                        true => digits.original.require(id) as u16 | IN_ORIGINAL,
                        false => before as u16 + extended.require(id) as u16,
                    }),
            );
        }
        Ok(DigitPlaces(places))
    }

    /// The primes of the limbs, and for each its factor with its Shoup quotient; 0 where there is none.
    pub(super) fn write_factors(
        &self,
        limbs: &[LimbId],
        factors: &[u32],
        primes: &mut [u16; MAX_LIMBS],
        (values, quotients): (&mut [u32; MAX_LIMBS], &mut [u32; MAX_LIMBS]),
    ) {
        let ring = self.ring_context();
        for (i, &id) in limbs.iter().enumerate() {
            let factor = factors.get(i).copied().unwrap_or(0);
            let factor = ring.modulus(id).shoup(factor);
            primes[i] = id.0;
            values[i] = factor.value;
            quotients[i] = factor.quotient;
        }
    }

    /// `results`: for each ciphertext a pair for each use.
    fn launch_key_products(
        &self,
        ciphertexts: &[Factor<'_>],
        keyed: &Keyed<'_>,
        results: &[&[(GpuPoly, GpuPoly)]],
        accumulate: bool,
    ) -> Result<(), RlweError> {
        let ring = self.ring_context();
        let (n, row, uses) = (ring.degree(), keyed.row, keyed.uses);
        let limbs = &row.extended;
        self.check_key_shape(row)?;
        let Some(first) = ciphertexts.first() else {
            return Ok(());
        };
        let in_passing = uses.len() == 1 && self.is_fused() && passes(ciphertexts);
        let batch = ciphertexts.len();
        let mut args = KeyProductArgs {
            ring: self.tables().ring(),
            accumulate: u32::from(accumulate),
            digits: row.digits.len() as u32,
            limbs: limbs.len() as u32,
            batch: batch as u32,
            ..KeyProductArgs::zeroed()
        };
        for (c, ciphertext) in ciphertexts.iter().enumerate() {
            args.original[c] = self.place(ciphertext.digits.original)?.0;
            if let Some(digit) = ciphertext.digits.digits.first() {
                args.digits_at[c] = match in_passing {
                    true => digit.address()?.0,
                    false => self.place(digit)?.0,
                };
            }
            for (to, addend) in args.addend[c].iter_mut().zip(ciphertext.addends) {
                *to = match addend {
                    Some(addend) => self.place(addend)?.0,
                    None => Address::default().0,
                };
            }
        }
        let DigitPlaces(digit_places) = self.digit_places(first.digits, row)?;
        args.digit_places = self.tables().list(&digit_places)?.0;
        let addend_places = half_places(first.addends, limbs);
        args.addend_places = self.tables().list(&addend_places)?.0;
        let factors = (&mut args.factor, &mut args.quotient);
        self.write_factors(limbs, keyed.factors, &mut args.prime, factors);
        // Held until the launch is under way.
        let mut keys = Vec::with_capacity(uses.len());
        for (i, used) in uses.iter().enumerate() {
            let words = self.keys().get(self, used.key)?;
            let turn = used.element.map(|g| g.inverse(ring.log_n()).value());
            args.uses[i] = KeyUse {
                key: words.address().0,
                places: self.tables().list(&places(used.key, row)?)?.0,
                stored_limbs: (used.key.limbs().len() + used.key.special().len()) as u32,
                turn: turn.unwrap_or(1),
            };
            keys.push(words);
            for (c, results) in results.iter().enumerate() {
                let (low, high) = &results[i];
                args.low[i * batch + c] = self.place(low)?.0;
                args.high[i * batch + c] = self.place(high)?.0;
            }
        }
        let share = (batch as u32).next_power_of_two();
        let (kernel, blocks, threads, shared) = match in_passing {
            true => {
                let args = self.tables().ring();
                let (together, each, bytes) = self.row_shape();
                let rows = together / share;
                let kernel = format!("heron_rows_key_product_{}", args.log_n - args.log_rows);
                let blocks = (1 << args.log_rows) / rows;
                let bytes = bytes / together * rows * batch as u32;
                (kernel, blocks, rows * each * batch as u32, bytes)
            }
            false => {
                let threads = (THREADS / share).min(n as u32 / 4);
                let kernel = String::from("heron_key_product");
                let all = threads * batch as u32;
                // Both halves of the words.
                (kernel, n as u32 / 4 / threads, all, 32 * all)
            }
        };
        let grid = [blocks, limbs.len() as u32, uses.len() as u32];
        // Digits of each ciphertext and both halves of each key on every limb of QP; the addends; both halves of each product.
        let added = addend_places.iter().filter(|&&p| p != ABSENT).count() * batch;
        let read = row.digits.len() * (batch + 2 * uses.len());
        let written = 2 * batch * uses.len() * (1 + usize::from(accumulate));
        let moves = n * (limbs.len() * (read + written) + added);
        // SAFETY: the places name limbs that digits, addends and keys have; the results are on the row's QP.
        unsafe { self.launch(&kernel, grid, threads, shared, moves, &args)? };
        Ok(())
    }
}

/// Where each of the limbs is in both halves of a ciphertext.
pub(super) fn half_places(halves: [Option<&GpuPoly>; 2], limbs: &[LimbId]) -> Vec<u16> {
    let places = halves.into_iter().flat_map(|half| {
        let place = move |&id: &LimbId| half.and_then(|h| h.position_of(id));
        let places = limbs.iter().map(place);
        places.map(|place| place.map_or(ABSENT, |p| p as u16))
    });
    places.collect()
}

/// Whether a key product should do the rows of these digits in passing: the first one, if those of each ciphertext are all of one
/// decomposition.
fn passes(ciphertexts: &[Factor<'_>]) -> bool {
    let fresh = ciphertexts.iter().map(|c| unread(c.digits));
    let Some(fresh) = fresh.collect::<Option<Vec<_>>>() else {
        return false;
    };
    for pending in fresh {
        if let Ok(mut state) = pending.state.lock() {
            *state = Progress::Passed;
        }
    }
    true
}

/// What is pending of digits that nothing has read.
fn unread<'a>(digits: &'a Decomposition<'_, GpuPoly>) -> Option<&'a Pending> {
    let mut each = digits.digits.iter().map(|d| d.pending.as_ref());
    let first = each.next()??;
    let together = each.all(|p| p.is_some_and(|p| Arc::ptr_eq(p, first)));
    let state = *first.state.lock().ok()?;
    (together && state == Progress::Fresh).then_some(first)
}

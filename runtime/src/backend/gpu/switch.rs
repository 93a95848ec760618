//! Key switching: digits, their products with keys, and what is fused with those.

use super::arguments::{
    KeyProductArgs, KeyUse, ABSENT, IN_ORIGINAL, MAX_DIGITS, MAX_LIMBS, MAX_ROTATIONS,
};
use super::core::Gpu;
use super::device::{Address, DeviceError};
use super::divide::{Extended, Sources};
use super::keys::places;
use super::poly::{GpuPoly, Pending, Progress};
use super::transform::Limb;
use crate::backend::{Decomposition, Pairs};
use crate::ring::{Form, GaloisElement};
use crate::rlwe::{KeySwitchingKey, RlweError, RowLimbs};
use bytemuck::Zeroable;
use std::sync::{Arc, Mutex};

/// Threads of a block, at most.
const THREADS: u32 = 256;

/// A key, and the automorphism applied to its products.
pub(super) struct Use<'a> {
    pub key: &'a KeySwitchingKey,
    pub element: Option<GaloisElement>,
}

/// What is added to the products before the automorphism: polynomials, and a factor per limb of QP.
pub(super) struct Addends<'a> {
    pub polys: [Option<&'a GpuPoly>; 2],
    pub factors: &'a [u32],
}

impl Gpu {
    /// See [`crate::backend::Backend::decompose`]. All digits share one buffer; the rows of their transforms are done by
    /// the first key product in passing, or when they are read otherwise.
    pub(super) fn digits<'a>(
        &self,
        a: &'a GpuPoly,
        row: &RowLimbs,
    ) -> Result<Decomposition<'a, GpuPoly>, RlweError> {
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
        assert_eq!(a.form, Form::Evaluation, "values become coefficients");
        assert!(
            limbs.iter().all(|&l| a.position_of(l).is_some()),
            "a polynomial on the limbs of the row"
        );
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
        let buffer = Arc::new(self.take(to * n)?);
        let sources = Sources {
            polys: &[a],
            limbs: &limbs,
            factors: &factors,
        };
        let made = targets.iter().enumerate();
        let made: Vec<Limb> = made.map(|(i, &id)| Limb::at(i, id)).collect();
        let place = buffer.address();
        // SAFETY: the sources are the digits' limbs one after the other, and the buffer has room for all targets.
        unsafe { self.extend_columns(&sources, &[place], &pieces, &made)? };
        let pending = Arc::new(Pending {
            address: place,
            limbs: targets,
            state: Mutex::new(Progress::Fresh),
        });
        let digits = pieces.iter().map(|piece| GpuPoly {
            buffer: Some(Arc::clone(&buffer)),
            offset: piece.to * n,
            limbs: piece.target.into(),
            form: Form::Evaluation,
            degree: n,
            pending: Some(Arc::clone(&pending)),
        });
        Ok(Decomposition {
            original: a,
            digits: digits.collect(),
        })
    }

    /// Products of the digits with each key, on the row's QP.
    pub(super) fn key_products(
        &self,
        digits: &Decomposition<'_, GpuPoly>,
        uses: &[Use<'_>],
        addends: &Addends<'_>,
        row: &RowLimbs,
    ) -> Result<Pairs<GpuPoly>, RlweError> {
        let one = || self.scratch(&row.extended, Form::Evaluation);
        let results = uses.iter().map(|_| Ok((one()?, one()?)));
        let results = results.collect::<Result<Pairs<GpuPoly>, DeviceError>>()?;
        for (uses, results) in uses
            .chunks(MAX_ROTATIONS)
            .zip(results.chunks(MAX_ROTATIONS))
        {
            self.launch_key_products(digits, uses, addends, row, results, false)?;
        }
        Ok(results)
    }

    /// Adds the products of the digits with one key to `sum`, on the row's QP.
    pub(super) fn add_key_product(
        &self,
        digits: &Decomposition<'_, GpuPoly>,
        key: Use<'_>,
        addends: &Addends<'_>,
        row: &RowLimbs,
        sum: &mut (GpuPoly, GpuPoly),
    ) -> Result<(), RlweError> {
        for poly in [&mut sum.0, &mut sum.1] {
            assert_eq!(*poly.limbs, *row.extended, "a sum on the row's QP");
            if !poly.is_alone() {
                // Others keep what they hold.
                let mut own = self.scratch(&poly.limbs, poly.form)?;
                std::mem::swap(poly, &mut own);
                self.copy_into(poly, &own)?;
            }
        }
        let pair = [sum.clone()];
        self.launch_key_products(digits, &[key], addends, row, &pair, true)
    }

    fn copy_into(&self, to: &GpuPoly, from: &GpuPoly) -> Result<(), DeviceError> {
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

    fn launch_key_products(
        &self,
        digits: &Decomposition<'_, GpuPoly>,
        uses: &[Use<'_>],
        addends: &Addends<'_>,
        row: &RowLimbs,
        results: &[(GpuPoly, GpuPoly)],
        accumulate: bool,
    ) -> Result<(), RlweError> {
        let ring = self.ring_context();
        let n = ring.degree();
        let limbs = &row.extended;
        for (what, found, most) in [
            ("digits of a key", row.digits.len(), MAX_DIGITS),
            ("limbs of a key", limbs.len(), MAX_LIMBS),
        ] {
            if found > most {
                return Err(DeviceError::Shape { what, found, most }.into());
            }
        }
        let in_passing = uses.len() == 1 && self.is_fused() && passes(digits);
        let mut args = KeyProductArgs {
            ring: self.tables().ring(),
            original: self.place(digits.original)?.0,
            accumulate: u32::from(accumulate),
            digits: row.digits.len() as u32,
            limbs: limbs.len() as u32,
            ..KeyProductArgs::zeroed()
        };
        let mut digit_places = Vec::with_capacity(row.digits.len() * limbs.len());
        for (i, (live, extended)) in row.digits.iter().zip(&digits.digits).enumerate() {
            args.digit[i] = match in_passing {
                true => extended.address()?.0,
                false => self.place(extended)?.0,
            };
            digit_places.extend(limbs.iter().map(|&id| match live.limbs.contains(&id) {
                true => digits.original.require(id) as u16 | IN_ORIGINAL,
                false => extended.require(id) as u16,
            }));
        }
        args.digit_places = self.tables().list(&digit_places)?.0;
        let mut addend_places = Vec::with_capacity(2 * limbs.len());
        for (to, addend) in args.addend.iter_mut().zip(addends.polys) {
            *to = match addend {
                Some(addend) => self.place(addend)?.0,
                None => Address::default().0,
            };
            let place = |id| addend.and_then(|a| a.position_of(id));
            let places = limbs
                .iter()
                .map(|&id| place(id).map_or(ABSENT, |p| p as u16));
            addend_places.extend(places);
        }
        args.addend_places = self.tables().list(&addend_places)?.0;
        for (i, &id) in limbs.iter().enumerate() {
            let factor = addends.factors.get(i).copied().unwrap_or(0);
            let factor = ring.modulus(id).shoup(factor);
            args.prime[i] = id.0;
            args.factor[i] = factor.value;
            args.quotient[i] = factor.quotient;
        }
        // Held until the launch is under way.
        let mut keys = Vec::with_capacity(uses.len());
        for (i, (used, (low, high))) in uses.iter().zip(results).enumerate() {
            let words = self.keys().get(self, used.key)?;
            let turn = used.element.map(|g| g.inverse(ring.log_n()).value());
            args.uses[i] = KeyUse {
                key: words.address().0,
                low: self.place(low)?.0,
                high: self.place(high)?.0,
                places: self.tables().list(&places(used.key, row)?)?.0,
                stored_limbs: (used.key.limbs().len() + used.key.special().len()) as u32,
                turn: turn.unwrap_or(1),
            };
            keys.push(words);
        }
        let (kernel, blocks, threads, shared) = match in_passing {
            true => {
                let args = self.tables().ring();
                let (together, each, shared) = self.row_shape();
                let kernel = format!("heron_rows_key_product_{}", args.log_n - args.log_rows);
                let blocks = (1 << args.log_rows) / together;
                (kernel, blocks, together * each, shared)
            }
            false => {
                let threads = THREADS.min(n as u32 / 4);
                let kernel = String::from("heron_key_product");
                // Both halves of the block's words.
                (kernel, n as u32 / 4 / threads, threads, 32 * threads)
            }
        };
        let grid = [blocks, limbs.len() as u32, uses.len() as u32];
        // SAFETY: the places name limbs that digits, addends and keys have; the results are on the row's QP.
        unsafe { self.launch(&kernel, grid, threads, shared, &args)? };
        Ok(())
    }
}

/// Whether a key product should do the rows of these digits in passing: the first one, if they are all of one decomposition.
fn passes(digits: &Decomposition<'_, GpuPoly>) -> bool {
    let mut each = digits.digits.iter().map(|d| d.pending.as_ref());
    let Some(Some(first)) = each.next() else {
        return false;
    };
    let together = each.all(|p| p.is_some_and(|p| Arc::ptr_eq(p, first)));
    match first.state.lock() {
        Ok(mut state) if together && *state == Progress::Fresh => {
            *state = Progress::Passed;
            true
        }
        _ => false,
    }
}

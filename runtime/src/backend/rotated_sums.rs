//! The sums of a linear map on the CPU, one limb after the other.
//!
//! All rotations of all sources exist for one limb at a time, made from the digits as in [`super::fused`], and are read block by block for all
//! sums ([`crate::ring::DiagonalSum`]): held in QP, those of a wide map take gigabytes, and every sum would read them all from memory.

use super::fused::KeyShape;
use super::{Backend, Cpu, Decomposition, LinearProduct, LinearSource, Pairs, Rotation};
use crate::ring::{
    limb_columns, Buffer, DiagonalSum, Form, LimbId, LimbSwitch, RingContext, RnsPoly, APART,
};
use crate::rlwe::{RlweError, RowLimbs};
use rayon::prelude::*;
use std::sync::Arc;

/// One rotation of one source.
enum Factor<'a> {
    /// As it is.
    Still((&'a RnsPoly, &'a RnsPoly)),
    Moved {
        c0: &'a RnsPoly,
        digits: usize,
        rotation: Rotation<'a>,
        shape: KeyShape,
        turn: Arc<crate::ring::automorphism::BlockPermutation>,
    },
}

impl Cpu {
    pub(super) fn limbwise_rotated_sums(
        &self,
        sources: &[LinearSource<'_, RnsPoly>],
        sums: &[Vec<LinearProduct<'_, RnsPoly>>],
        row: &RowLimbs,
    ) -> Result<Pairs<RnsPoly>, RlweError> {
        let ring = self.context.ring();
        let n = ring.degree();
        // Digits that the caller did not make.
        let mut made = Vec::new();
        for source in sources {
            let moves = source.rotations.iter().any(Option::is_some);
            made.push(match (&source.digits, moves) {
                (None, true) => Some(self.decompose(source.pair.1, row)?),
                _ => None,
            });
        }
        let digits: Vec<Option<&Decomposition<'_, RnsPoly>>> = sources
            .iter()
            .zip(&made)
            .map(|(source, made)| source.digits.as_ref().or(made.as_ref()))
            .collect();
        let (mut factors, mut first) = (Vec::new(), Vec::new());
        for (index, source) in sources.iter().enumerate() {
            first.push(factors.len());
            for rotation in &source.rotations {
                factors.push(match rotation {
                    None => Factor::Still(source.pair),
                    Some(rotation) => Factor::Moved {
                        c0: source.pair.0,
                        digits: index,
                        rotation: *rotation,
                        shape: KeyShape::new(rotation.key, row)?,
                        turn: ring.block_permutation(rotation.element),
                    },
                });
            }
        }
        let scratch = || RnsPoly::scratch(ring, &row.extended, Form::Evaluation);
        let mut results: Vec<_> = sums.iter().map(|_| (scratch(), scratch())).collect();
        limb_columns(&mut results, n, row.extended.len())
            .into_par_iter()
            .enumerate()
            .for_each(|(e, column)| {
                let id = row.extended[e];
                let each = n + APART;
                let mut words = Buffer::scratch(2 * each * factors.len());
                for (factor, place) in factors.iter().zip(words.chunks_mut(2 * each)) {
                    let (low, high) = place.split_at_mut(each);
                    factor.write(ring, &digits, row, (e, id), (&mut low[..n], &mut high[..n]));
                }
                let factors: Vec<(&[u32], &[u32])> = words
                    .chunks(2 * each)
                    .map(|c| (&c[..n], &c[each..each + n]))
                    .collect();
                let mut all: Vec<DiagonalSum<'_>> = sums
                    .iter()
                    .zip(column)
                    .map(|(sum, to)| DiagonalSum {
                        terms: sum
                            .iter()
                            .map(|p| {
                                let plaintext = p.plaintext.limb(p.plaintext.require(id));
                                (first[p.source] + p.rotation, plaintext)
                            })
                            .collect(),
                        to,
                    })
                    .collect();
                ring.limb_diagonal_sums(id, &factors, &mut all);
            });
        Ok(results)
    }
}

impl Factor<'_> {
    /// Both halves on limb number `e` of the row's QP.
    fn write(
        &self,
        ring: &RingContext,
        digits: &[Option<&Decomposition<'_, RnsPoly>>],
        row: &RowLimbs,
        (e, id): (usize, LimbId),
        to: (&mut [u32], &mut [u32]),
    ) {
        match self {
            Factor::Still((c0, c1)) => {
                for (half, to) in [(c0, to.0), (c1, to.1)] {
                    // P times it is 0 on the special limbs.
                    to.fill(0);
                    if let Some(limb) = half.limb_of(id) {
                        ring.limb_add_scaled(id, to, limb, row.special_product[e]);
                    }
                }
            }
            Factor::Moved {
                c0,
                digits: index,
                rotation,
                shape,
                turn,
            } => {
                let terms = digits[*index].map(|d| shape.terms(e, d, rotation.key, row));
                let switch = LimbSwitch {
                    terms: &terms.unwrap_or_default(),
                    addends: [c0.limb_of(id).map(|c| (c, row.special_product[e])), None],
                    factor: 1,
                    corrections: None,
                    turn: Some(turn),
                    accumulate: false,
                };
                ring.limb_switch(id, &switch, to);
            }
        }
    }
}

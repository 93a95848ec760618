//! Runs of operations on the CPU that pass over memory once: limb by limb, what one step leaves in the second-level cache the next one reads.
//!
//! A key switch at the top row touches some hundred megabytes, far more than any cache holds, and its arithmetic is cheap: the memory bus sets
//! its pace. Residues are canonical after each step, so results are bit for bit those of the single operations
//! ([`super::compose`], which tests hold against these).

use super::{Backend, Cpu, Decomposition, Pairs, Rotation, Switch};
use crate::ring::{limb_columns, Form, Kept, LimbId, LimbSwitch, RnsPoly};
use crate::rlwe::{KeySwitchingKey, RlweError, RowLimbs};
use rayon::prelude::*;

/// Where the limbs and digits of a row are in a key.
pub(super) struct KeyShape {
    /// Storage position of each limb of the row's QP.
    positions: Vec<usize>,
    /// Stored digit of each live digit.
    digits: Vec<usize>,
}

impl KeyShape {
    pub(super) fn new(key: &KeySwitchingKey, row: &RowLimbs) -> Result<Self, RlweError> {
        let positions: Vec<usize> = row
            .extended
            .iter()
            .filter_map(|&l| key.position_of(l))
            .collect();
        let digits: Vec<usize> = row
            .digits
            .iter()
            .filter_map(|d| d.limbs.first().and_then(|&l| key.digit_of(l)))
            .collect();
        // The special limbs a key was made with decide what it divides by: they must be the row's, not merely contain them.
        let special = row.extended.len() - row.limbs.len();
        if positions.len() != row.extended.len()
            || digits.len() != row.digits.len()
            || key.special().len() != special
        {
            return Err(RlweError::KeyRow {
                kind: key.kind(),
                row: row.level,
                missing: row.extended.len() - positions.len(),
            });
        }
        Ok(Self { positions, digits })
    }

    /// (digit, key, key) on limb number `e` of the row's QP.
    pub(super) fn terms<'a>(
        &self,
        e: usize,
        digits: &'a Decomposition<'_, RnsPoly>,
        key: &'a KeySwitchingKey,
        row: &RowLimbs,
    ) -> Vec<(&'a [u32], &'a [u32], &'a [u32])> {
        let id = row.extended[e];
        let live = row.digits.iter().zip(&digits.digits).zip(&self.digits);
        live.filter_map(|((live, extended), &stored)| {
            // A digit's own limbs are the polynomial itself.
            let digit = extended.limb_of(id).or_else(|| {
                live.limbs
                    .contains(&id)
                    .then(|| digits.original.limb_of(id))?
            })?;
            let position = self.positions[e];
            Some((
                digit,
                key.limb(stored, 0, position),
                key.limb(stored, 1, position),
            ))
        })
        .collect()
    }
}

impl Cpu {
    pub(super) fn fused_rotated_products(
        &self,
        digits: &Decomposition<'_, RnsPoly>,
        c0: &RnsPoly,
        rotations: &[Rotation<'_>],
        row: &RowLimbs,
    ) -> Result<Pairs<RnsPoly>, RlweError> {
        let ring = self.context.ring();
        let n = ring.degree();
        let shapes = rotations
            .iter()
            .map(|r| KeyShape::new(r.key, row))
            .collect::<Result<Vec<_>, _>>()?;
        let turns: Vec<_> = rotations
            .iter()
            .map(|r| ring.block_permutation(r.element))
            .collect();
        let scratch = || RnsPoly::scratch(ring, &row.extended, Form::Evaluation);
        let mut results: Vec<_> = rotations.iter().map(|_| (scratch(), scratch())).collect();
        limb_columns(&mut results, n, row.extended.len())
            .into_par_iter()
            .enumerate()
            .for_each(|(e, column)| {
                let id = row.extended[e];
                let all = rotations.iter().zip(&shapes).zip(&turns);
                for (((rotation, shape), turn), to) in all.zip(column) {
                    let switch = LimbSwitch {
                        terms: &shape.terms(e, digits, rotation.key, row),
                        addends: [c0.limb_of(id).map(|c| (c, row.special_product[e])), None],
                        factor: 1,
                        corrections: None,
                        turn: Some(turn),
                        accumulate: false,
                    };
                    ring.limb_switch(id, &switch, to);
                }
            });
        Ok(results)
    }

    pub(super) fn fused_switch_and_divide(
        &self,
        digits: &Decomposition<'_, RnsPoly>,
        switch: Switch<'_, RnsPoly>,
        row: &RowLimbs,
    ) -> Result<(RnsPoly, RnsPoly), RlweError> {
        let ring = self.context.ring();
        let shape = KeyShape::new(switch.key, row)?;
        let turn = switch.element.map(|g| ring.block_permutation(g));
        let addends = |id: LimbId, e: usize| {
            switch
                .addends
                .map(|a| Some((a?.limb_of(id)?, row.special_product[e])))
        };
        let leave = |e: usize, low: &mut [u32], high: &mut [u32]| {
            let switch = LimbSwitch {
                terms: &shape.terms(e, digits, switch.key, row),
                addends: addends(row.extended[e], e),
                factor: 1,
                corrections: None,
                turn: None,
                accumulate: false,
            };
            ring.limb_switch(row.extended[e], &switch, (low, high));
        };
        let keep = |id: LimbId, kept: Kept<'_>, to: (&mut [u32], &mut [u32])| {
            let terms = kept
                .from
                .map(|(e, _)| shape.terms(e, digits, switch.key, row));
            let switch = LimbSwitch {
                terms: &terms.unwrap_or_default(),
                addends: kept.from.map_or([None; 2], |(e, _)| addends(id, e)),
                factor: kept.from.map_or(1, |(_, factor)| factor),
                corrections: kept.corrections,
                turn: turn.as_deref(),
                accumulate: kept.corrections.is_none(),
            };
            ring.limb_switch(id, &switch, to);
        };
        let rows = (&row.extended[..], switch.lo);
        Ok(ring.divide_and_round_made(rows, turn.is_some(), leave, keep)?)
    }

    pub(super) fn fused_switch_and_add(
        &self,
        (low, high): (&RnsPoly, &RnsPoly),
        rotation: Rotation<'_>,
        row: &RowLimbs,
        sum: &mut (RnsPoly, RnsPoly),
    ) -> Result<(), RlweError> {
        let ring = self.context.ring();
        let n = ring.degree();
        let key = rotation.key;
        let shape = KeyShape::new(key, row)?;
        let digits = self.decompose(high, row)?;
        let turn = ring.block_permutation(rotation.element);
        sum.0
            .data_mut()
            .par_chunks_mut(n)
            .zip(sum.1.data_mut().par_chunks_mut(n))
            .enumerate()
            .for_each(|(e, to)| {
                let id = row.extended[e];
                let switch = LimbSwitch {
                    terms: &shape.terms(e, &digits, key, row),
                    addends: [Some((low.limb(low.require(id)), 1)), None],
                    factor: 1,
                    corrections: None,
                    turn: Some(&turn),
                    accumulate: true,
                };
                ring.limb_switch(id, &switch, to);
            });
        Ok(())
    }
}

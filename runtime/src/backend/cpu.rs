//! The CPU: thin calls to `ring`, parallel over limbs.

use super::fused::KeyShape;
use super::{Backend, Decomposition, LinearProduct, LinearSource, Pairs, Rotation, Switch, Triple};
use crate::ring::{Form, GaloisElement, LimbId, RingContext, RnsPoly};
use crate::rlwe::{KeySwitchingKey, RlweContext, RlweError, RowLimbs};
use num_bigint::BigInt;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Residues in memory, arithmetic by `ring`.
#[derive(Clone, Debug)]
pub struct Cpu {
    pub(super) context: Arc<RlweContext>,
}

impl Cpu {
    /// A backend for this ring.
    pub fn new(context: Arc<RlweContext>) -> Self {
        Self { context }
    }
}

impl Backend for Cpu {
    type Poly = RnsPoly;
    type Recordings = ();

    fn ring(&self) -> &RingContext {
        self.context.ring()
    }
    fn upload(&self, poly: &RnsPoly) -> RnsPoly {
        poly.clone()
    }
    fn download(&self, poly: &RnsPoly) -> RnsPoly {
        poly.clone()
    }
    fn limbs<'a>(&self, poly: &'a RnsPoly) -> &'a [LimbId] {
        poly.limbs()
    }
    fn zero(&self, limbs: &[LimbId], form: Form) -> RnsPoly {
        RnsPoly::zero(self.ring(), limbs, form)
    }
    fn select(&self, poly: &RnsPoly, limbs: &[LimbId]) -> RnsPoly {
        poly.select(limbs)
    }
    fn to_evaluation(&self, poly: &mut RnsPoly) {
        self.ring().to_evaluation(poly);
    }
    fn to_coefficient(&self, poly: &mut RnsPoly) {
        self.ring().to_coefficient(poly);
    }
    fn add_assign(&self, a: &mut RnsPoly, b: &RnsPoly) {
        self.ring().add_assign(a, b);
    }
    fn sub_assign(&self, a: &mut RnsPoly, b: &RnsPoly) {
        self.ring().sub_assign(a, b);
    }
    fn neg_assign(&self, a: &mut RnsPoly) {
        self.ring().neg_assign(a);
    }
    fn mul_assign(&self, a: &mut RnsPoly, b: &RnsPoly) {
        self.ring().mul_assign(a, b);
    }
    fn inner_product(&self, pairs: &[(&RnsPoly, &RnsPoly)], limbs: &[LimbId]) -> RnsPoly {
        self.ring().inner_product(pairs, limbs)
    }
    fn inner_products(&self, sums: &[&[(&RnsPoly, &RnsPoly)]], limbs: &[LimbId]) -> Vec<RnsPoly> {
        self.ring().inner_products(sums, limbs)
    }
    fn inner_product_pair(
        &self,
        triples: &[(&RnsPoly, &RnsPoly, &RnsPoly)],
        limbs: &[LimbId],
    ) -> (RnsPoly, RnsPoly) {
        self.ring().inner_product_pair(triples, limbs)
    }
    fn mul_scalars(&self, a: &mut RnsPoly, constants: &[u32]) {
        self.ring().mul_scalar_assign(a, constants);
    }
    fn add_scalars(&self, a: &mut RnsPoly, constants: &[u32]) {
        self.ring().add_scalar_assign(a, constants);
    }

    fn mul_imaginary(&self, a: &mut RnsPoly, roots: &[u32]) {
        let (n, limbs) = (self.ring().degree(), a.limbs().to_vec());
        let limbs = limbs.iter().zip(roots);
        let limbs: Vec<_> = limbs.collect();
        a.data_mut()
            .par_chunks_mut(n)
            .zip(limbs)
            .for_each(|(limb, (&id, &root))| {
                let q = *self.ring().modulus(id);
                // Word i is the value at psi^(2 bitrev(i) + 1): bitrev(i) is even in the first half, odd in the second, where X^(N/2) is
                // the root and its negative.
                let (even, odd) = limb.split_at_mut(n / 2);
                for (half, factor) in [(even, q.shoup(root)), (odd, q.shoup(q.neg(root)))] {
                    half.iter_mut().for_each(|x| *x = q.mul_shoup(*x, factor));
                }
            });
    }

    fn automorphism(&self, a: &RnsPoly, g: GaloisElement) -> RnsPoly {
        self.ring().automorphism(a, g)
    }

    fn extend(&self, a: &RnsPoly, target: &[LimbId]) -> Result<RnsPoly, RlweError> {
        Ok(self.ring().extend(a, target)?)
    }

    fn divide_and_round(
        &self,
        a: &RnsPoly,
        lo: &[LimbId],
        factor: Option<&BigInt>,
    ) -> Result<RnsPoly, RlweError> {
        Ok(self.ring().divide_and_round(a, lo, factor)?)
    }

    fn divide_and_round_pair(
        &self,
        (a, b): (&RnsPoly, &RnsPoly),
        lo: &[LimbId],
        factor: Option<&BigInt>,
    ) -> Result<(RnsPoly, RnsPoly), RlweError> {
        let both = self.ring().divide_and_round_all([a, b], lo, factor)?;
        Ok(both.into())
    }

    fn decompose<'a>(
        &self,
        a: &'a RnsPoly,
        row: &RowLimbs,
    ) -> Result<Decomposition<'a, RnsPoly>, RlweError> {
        let ring = self.ring();
        let (mut limbs, mut factors) = (Vec::new(), Vec::new());
        for digit in &row.digits {
            let tables = ring.extension(&digit.limbs, &digit.others)?;
            factors.extend(tables.source_factors(ring, None));
            limbs.extend_from_slice(&digit.limbs);
        }
        let scaled = ring.scaled_coefficients(a, &limbs, &factors);
        let extended = row
            .digits
            .iter()
            .map(|digit| ring.extend_scaled(&scaled, &digit.limbs, &digit.others));
        let mut digits = extended.collect::<Result<Vec<RnsPoly>, _>>()?;
        drop(scaled);
        // One prime after the other, for all digits: they share its table.
        let mut columns: BTreeMap<LimbId, Vec<&mut [u32]>> = BTreeMap::new();
        for (digit, extended) in row.digits.iter().zip(&mut digits) {
            extended.set_form(Form::Evaluation);
            let limbs = extended.data_mut().chunks_mut(ring.degree());
            for (&id, limb) in digit.others.iter().zip(limbs) {
                columns.entry(id).or_default().push(limb);
            }
        }
        columns.into_par_iter().for_each(|(id, column)| {
            column
                .into_iter()
                .for_each(|limb| ring.limb_to_evaluation(id, limb));
        });
        Ok(Decomposition {
            original: a,
            digits,
        })
    }

    fn key_product(
        &self,
        digits: &Decomposition<'_, RnsPoly>,
        key: &KeySwitchingKey,
        row: &RowLimbs,
    ) -> Result<(RnsPoly, RnsPoly), RlweError> {
        let shape = KeyShape::new(key, row)?;
        let ring = self.ring();
        let mut low = RnsPoly::scratch(ring, &row.extended, Form::Evaluation);
        let mut high = RnsPoly::scratch(ring, &row.extended, Form::Evaluation);
        let n = ring.degree();
        low.data_mut()
            .par_chunks_mut(n)
            .zip(high.data_mut().par_chunks_mut(n))
            .enumerate()
            .for_each(|(e, (low, high))| {
                let id = row.extended[e];
                let terms = shape.terms(e, digits, key, row);
                ring.limb_inner_product_pair(id, (low, high), &terms);
            });
        Ok((low, high))
    }

    fn add_scaled(&self, acc: &mut RnsPoly, a: &RnsPoly, factor: &[u32]) {
        let (n, limbs) = (self.ring().degree(), acc.limbs().to_vec());
        acc.data_mut()
            .par_chunks_mut(n)
            .zip(limbs)
            .for_each(|(sum, id)| {
                if let Some(position) = a.position_of(id) {
                    let limb = a.limb(position);
                    self.ring().limb_add_scaled(id, sum, limb, factor[position]);
                }
            });
    }

    fn rotated_products(
        &self,
        digits: &Decomposition<'_, RnsPoly>,
        c0: &RnsPoly,
        rotations: &[Rotation<'_>],
        row: &RowLimbs,
    ) -> Result<Pairs<RnsPoly>, RlweError> {
        self.fused_rotated_products(digits, c0, rotations, row)
    }

    fn switch_and_add(
        &self,
        pair: (&RnsPoly, &RnsPoly),
        rotation: Rotation<'_>,
        row: &RowLimbs,
        sum: &mut (RnsPoly, RnsPoly),
    ) -> Result<(), RlweError> {
        self.fused_switch_and_add(pair, rotation, row, sum)
    }

    fn switch_and_divide(
        &self,
        digits: &Decomposition<'_, RnsPoly>,
        switch: Switch<'_, RnsPoly>,
        row: &RowLimbs,
    ) -> Result<(RnsPoly, RnsPoly), RlweError> {
        self.fused_switch_and_divide(digits, switch, row)
    }

    fn rotated_sums(
        &self,
        sources: &[LinearSource<'_, RnsPoly>],
        sums: &[Vec<LinearProduct<'_, RnsPoly>>],
        row: &RowLimbs,
    ) -> Result<Pairs<RnsPoly>, RlweError> {
        self.limbwise_rotated_sums(sources, sums, row)
    }

    fn sums(&self, sums: &[Vec<Triple<'_, RnsPoly>>], row: &RowLimbs) -> Pairs<RnsPoly> {
        let sums: Vec<&[Triple<'_, RnsPoly>]> = sums.iter().map(Vec::as_slice).collect();
        self.ring().inner_product_pairs(&sums, &row.extended)
    }
}

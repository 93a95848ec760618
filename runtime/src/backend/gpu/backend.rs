//! The contract at limb height, by launches.

use super::core::Gpu;
use super::device::DeviceError;
use super::linear_sums::alike;
use super::poly::GpuPoly;
use super::recording::Recordings;
use super::rotated_sums::fits;
use super::switch::{Factor, Keyed, Use};
use crate::backend::{
    compose, Backend, Decomposition, LinearProduct, LinearSource, MapTerm, Pairs, PassBytes,
    Rotation, Switch, Switched, Triple, Turned,
};
use crate::ring::{Form, GaloisElement, LimbId, RingContext, RnsPoly};
use crate::rlwe::{KeySwitchingKey, RlweError, RowLimbs};
use num_bigint::BigInt;
use std::sync::Arc;

impl Gpu {
    /// An error of the ring is the caller's and changes nothing; one of the device ends the computation, and the first is the one to tell.
    fn noted<T>(&self, result: Result<T, RlweError>) -> Result<T, RlweError> {
        let Err(RlweError::Device(what)) = result else {
            return result;
        };
        self.note(DeviceError::Driver {
            call: "device",
            what,
        });
        Err(self.failure().cloned().unwrap_or(DeviceError::Lost).into())
    }
}

impl Backend for Gpu {
    type Poly = GpuPoly;
    type Recordings = Recordings;

    fn repeat<E: From<RlweError>>(
        &self,
        recordings: &Recordings,
        key: Vec<u64>,
        inputs: Vec<GpuPoly>,
        work: &mut dyn FnMut(Vec<GpuPoly>) -> Result<Vec<GpuPoly>, E>,
    ) -> Result<Vec<GpuPoly>, E> {
        self.repeated(recordings, key, inputs, work)
    }

    fn ring(&self) -> &RingContext {
        self.ring_context()
    }

    fn wait(&self) {
        // The first failure is kept and returned by everything after it.
        let _ = self.settle();
    }

    fn upload(&self, poly: &RnsPoly) -> GpuPoly {
        self.spoil_recording();
        let filled = self.filled(poly.data()).map(|buffer| GpuPoly {
            buffer: Some(Arc::new(buffer)),
            offset: 0,
            limbs: poly.limbs().into(),
            form: poly.form(),
            degree: poly.degree(),
            pending: None,
        });
        self.or_lost(filled, poly.limbs(), poly.form())
    }

    /// # Panics
    /// If the device has failed; [`Gpu::fetch`] returns the failure instead.
    fn download(&self, poly: &GpuPoly) -> RnsPoly {
        match self.fetch(poly) {
            Ok(found) => found,
            Err(error) => panic!("{error}"),
        }
    }

    fn limbs<'a>(&self, poly: &'a GpuPoly) -> &'a [LimbId] {
        &poly.limbs
    }
    fn zero(&self, limbs: &[LimbId], form: Form) -> GpuPoly {
        self.or_lost(self.zeros(limbs, form), limbs, form)
    }
    fn select(&self, poly: &GpuPoly, limbs: &[LimbId]) -> GpuPoly {
        self.or_lost(self.selected(poly, limbs), limbs, poly.form)
    }
    fn to_evaluation(&self, poly: &mut GpuPoly) {
        self.change(poly, |gpu, p| gpu.transformed(p, Form::Evaluation));
    }
    fn to_coefficient(&self, poly: &mut GpuPoly) {
        self.change(poly, |gpu, p| gpu.transformed(p, Form::Coefficient));
    }
    fn add_assign(&self, a: &mut GpuPoly, b: &GpuPoly) {
        self.change(a, |gpu, a| gpu.zip("heron_add", a, b));
    }
    fn sub_assign(&self, a: &mut GpuPoly, b: &GpuPoly) {
        self.change(a, |gpu, a| gpu.zip("heron_subtract", a, b));
    }
    fn neg_assign(&self, a: &mut GpuPoly) {
        self.change(a, |gpu, a| gpu.map("heron_negate", a, &[]));
    }

    fn mul_assign(&self, a: &mut GpuPoly, b: &GpuPoly) {
        assert_eq!(
            a.form,
            Form::Evaluation,
            "products are taken in evaluation form"
        );
        self.change(a, |gpu, a| gpu.zip("heron_multiply", a, b));
    }

    fn inner_product(&self, pairs: &[(&GpuPoly, &GpuPoly)], limbs: &[LimbId]) -> GpuPoly {
        let terms: Vec<_> = pairs.iter().map(|&(a, b)| (a, b, None)).collect();
        let result = self.scratch(limbs, Form::Evaluation).and_then(|low| {
            self.products(&terms, limbs, &low, None)?;
            Ok(low)
        });
        self.or_lost(result, limbs, Form::Evaluation)
    }

    fn inner_product_pair(
        &self,
        triples: &[(&GpuPoly, &GpuPoly, &GpuPoly)],
        limbs: &[LimbId],
    ) -> (GpuPoly, GpuPoly) {
        let one = || {
            self.or_lost(
                self.scratch(limbs, Form::Evaluation),
                limbs,
                Form::Evaluation,
            )
        };
        let (mut low, high) = (one(), one());
        let terms: Vec<_> = triples.iter().map(|&(a, b, c)| (a, b, Some(c))).collect();
        self.change(&mut low, |gpu, low| {
            gpu.products(&terms, limbs, low, Some(&high))
        });
        (low, high)
    }

    fn mul_scalars(&self, a: &mut GpuPoly, constants: &[u32]) {
        assert_eq!(constants.len(), a.limbs.len(), "one constant per limb");
        self.change(a, |gpu, a| gpu.map("heron_scale", a, constants));
    }

    fn add_scalars(&self, a: &mut GpuPoly, constants: &[u32]) {
        assert_eq!(constants.len(), a.limbs.len(), "one constant per limb");
        self.change(a, |gpu, a| gpu.map("heron_add_constant", a, constants));
    }

    fn mul_imaginary(&self, a: &mut GpuPoly, roots: &[u32]) {
        assert_eq!(roots.len(), a.limbs.len(), "one root per limb");
        self.change(a, |gpu, a| gpu.map("heron_multiply_imaginary", a, roots));
    }

    fn automorphism(&self, a: &GpuPoly, g: GaloisElement) -> GpuPoly {
        self.or_lost(self.turned(a, g), &a.limbs, a.form)
    }

    fn extend(&self, a: &GpuPoly, target: &[LimbId]) -> Result<GpuPoly, RlweError> {
        self.noted(self.lifted(a, target))
    }

    fn divide_and_round(
        &self,
        a: &GpuPoly,
        lo: &[LimbId],
        factor: Option<&BigInt>,
    ) -> Result<GpuPoly, RlweError> {
        Ok(only(self.divide_and_round_each(&[a], lo, factor)?))
    }

    fn divide_and_round_pair(
        &self,
        (a, b): (&GpuPoly, &GpuPoly),
        lo: &[LimbId],
        factor: Option<&BigInt>,
    ) -> Result<(GpuPoly, GpuPoly), RlweError> {
        let both = self.divide_and_round_each(&[a, b], lo, factor)?;
        Ok(only(pairs(both)))
    }

    fn decompose<'a>(
        &self,
        a: &'a GpuPoly,
        row: &RowLimbs,
    ) -> Result<Decomposition<'a, GpuPoly>, RlweError> {
        Ok(only(self.decompose_each(&[a], row)?))
    }

    fn key_product(
        &self,
        digits: &Decomposition<'_, GpuPoly>,
        key: &KeySwitchingKey,
        row: &RowLimbs,
    ) -> Result<(GpuPoly, GpuPoly), RlweError> {
        let factor = Factor {
            digits,
            addends: [None, None],
        };
        let keyed = Keyed {
            uses: &[Use { key, element: None }],
            factors: &[],
            row,
        };
        let products = self.noted(self.key_products(&[factor], &keyed))?;
        Ok(only(only(products)))
    }

    fn add_scaled(&self, acc: &mut GpuPoly, a: &GpuPoly, factor: &[u32]) {
        self.change(acc, |gpu, acc| gpu.add_multiple(acc, a, factor));
    }

    fn rotated_products(
        &self,
        digits: &Decomposition<'_, GpuPoly>,
        c0: &GpuPoly,
        rotations: &[Rotation<'_>],
        row: &RowLimbs,
    ) -> Result<Pairs<GpuPoly>, RlweError> {
        Ok(only(self.rotated_products_each(
            &[(digits, c0)],
            rotations,
            row,
        )?))
    }

    fn switch_and_add(
        &self,
        pair: (&GpuPoly, &GpuPoly),
        rotation: Rotation<'_>,
        row: &RowLimbs,
        sum: &mut (GpuPoly, GpuPoly),
    ) -> Result<(), RlweError> {
        let turned = Turned {
            pair,
            rotation,
            sum: 0,
        };
        self.switch_and_add_each(&[turned], row, std::slice::from_mut(sum))
    }

    fn switch_and_divide(
        &self,
        digits: &Decomposition<'_, GpuPoly>,
        switch: Switch<'_, GpuPoly>,
        row: &RowLimbs,
    ) -> Result<(GpuPoly, GpuPoly), RlweError> {
        Ok(only(self.switch_and_divide_each(&[(digits, switch)], row)?))
    }

    fn sums(&self, sums: &[Vec<Triple<'_, GpuPoly>>], row: &RowLimbs) -> Pairs<GpuPoly> {
        only(self.sums_each(&[sums.to_vec()], row))
    }

    fn together(&self) -> usize {
        self.most_together()
    }

    /// Rotated sources are made again for every pass, which costs less than to hold them and read them for every sum. What a pass takes is
    /// small beside an H200's memory, and smaller where that is short.
    fn pass_bytes(&self) -> PassBytes {
        let together = self.most_together();
        PassBytes {
            plaintexts: together << 29,
            sums: together << 28,
            terms: together << 5,
            holds: false,
        }
    }

    fn divide_and_round_each(
        &self,
        polys: &[&GpuPoly],
        lo: &[LimbId],
        factor: Option<&BigInt>,
    ) -> Result<Vec<GpuPoly>, RlweError> {
        self.noted(self.divided(polys, lo, factor, None))
    }

    fn decompose_each<'a>(
        &self,
        polys: &[&'a GpuPoly],
        row: &RowLimbs,
    ) -> Result<Vec<Decomposition<'a, GpuPoly>>, RlweError> {
        self.noted(self.digits(polys, row))
    }

    fn rotated_products_each(
        &self,
        ciphertexts: &[(&Decomposition<'_, GpuPoly>, &GpuPoly)],
        rotations: &[Rotation<'_>],
        row: &RowLimbs,
    ) -> Result<Vec<Pairs<GpuPoly>>, RlweError> {
        let uses = rotations.iter().map(|r| Use {
            key: r.key,
            element: Some(r.element),
        });
        let keyed = Keyed {
            uses: &uses.collect::<Vec<_>>(),
            factors: &row.special_product,
            row,
        };
        let factors = ciphertexts.iter().map(|&(digits, c0)| Factor {
            digits,
            addends: [Some(c0), None],
        });
        self.noted(self.key_products(&factors.collect::<Vec<_>>(), &keyed))
    }

    fn switch_and_add_each(
        &self,
        turned: &[Turned<'_, GpuPoly>],
        row: &RowLimbs,
        sums: &mut [(GpuPoly, GpuPoly)],
    ) -> Result<(), RlweError> {
        let high: Vec<&GpuPoly> = turned.iter().map(|t| t.pair.1).collect();
        let digits = self.decompose_each(&high, row)?;
        let mut left: Vec<_> = turned.iter().zip(&digits).collect();
        // Those of one rotation go together, each to its own sum.
        while let Some(&(Turned { rotation, .. }, _)) = left.first() {
            let (mut factors, mut numbers, mut others) = (Vec::new(), Vec::new(), Vec::new());
            for (t, digits) in left {
                let same = (t.rotation.element, t.rotation.key.serial())
                    == (rotation.element, rotation.key.serial());
                if !same || numbers.contains(&t.sum) {
                    others.push((t, digits));
                    continue;
                }
                numbers.push(t.sum);
                factors.push(Factor {
                    digits,
                    addends: [Some(t.pair.0), None],
                });
            }
            let keyed = Keyed {
                uses: &[Use {
                    key: rotation.key,
                    element: Some(rotation.element),
                }],
                factors: &vec![1; row.extended.len()],
                row,
            };
            self.noted(self.add_key_products(&factors, &keyed, sums, &numbers))?;
            left = others;
        }
        Ok(())
    }

    fn switch_and_divide_each(
        &self,
        switches: &[Switched<'_, GpuPoly>],
        row: &RowLimbs,
    ) -> Result<Pairs<GpuPoly>, RlweError> {
        let mut results = Vec::with_capacity(switches.len());
        // Those that follow one another under one key go together.
        for alike in switches.chunk_by(|(_, a), (_, b)| {
            a.key.serial() == b.key.serial() && a.element == b.element && a.lo == b.lo
        }) {
            let Some((
                _,
                Switch {
                    key, element, lo, ..
                },
            )) = alike.first()
            else {
                continue;
            };
            let factors = alike.iter().map(|(digits, switch)| Factor {
                digits,
                addends: switch.addends,
            });
            let keyed = Keyed {
                uses: &[Use { key, element: None }],
                factors: &row.special_product,
                row,
            };
            let products = self.key_products(&factors.collect::<Vec<_>>(), &keyed);
            let products: Pairs<GpuPoly> = self.noted(products)?.into_iter().map(only).collect();
            let both: Vec<&GpuPoly> = products.iter().flat_map(|(a, b)| [a, b]).collect();
            results.extend(pairs(self.noted(self.divided(&both, lo, None, *element))?));
        }
        Ok(results)
    }

    fn rotated_sums_each(
        &self,
        ciphertexts: Vec<(Decomposition<'_, GpuPoly>, &GpuPoly)>,
        babies: &[Option<Rotation<'_>>],
        giants: &[Vec<MapTerm<'_, GpuPoly>>],
        row: &RowLimbs,
    ) -> Result<Vec<Pairs<GpuPoly>>, RlweError> {
        if !self.is_fused() || !fits(babies.len(), giants) {
            return compose::rotated_sums_each(self, ciphertexts, babies, giants, row);
        }
        let factors = ciphertexts.iter().map(|(digits, c0)| Factor {
            digits,
            addends: [Some(c0), None],
        });
        let factors: Vec<_> = factors.collect();
        self.noted(self.sums_of_rotations(&factors, babies, giants, row))
    }

    fn rotated_sums(
        &self,
        sources: &[LinearSource<'_, GpuPoly>],
        sums: &[Vec<LinearProduct<'_, GpuPoly>>],
        row: &RowLimbs,
    ) -> Result<Pairs<GpuPoly>, RlweError> {
        if !self.is_fused() || !alike(sources) {
            return compose::rotated_sums(self, sources, sums, row);
        }
        self.noted(self.linear_sums(sources, sums, row))
    }

    fn sums_each(
        &self,
        ciphertexts: &[Vec<Vec<Triple<'_, GpuPoly>>>],
        row: &RowLimbs,
    ) -> Vec<Pairs<GpuPoly>> {
        let (limbs, form) = (&row.extended, Form::Evaluation);
        let made = self.shared_products(ciphertexts, limbs);
        made.unwrap_or_else(|error| {
            let lost = || self.or_lost(Err(error.clone()), limbs, form);
            let each = |sums: &Vec<_>| sums.iter().map(|_| (lost(), lost())).collect();
            ciphertexts.iter().map(each).collect()
        })
    }
}

/// The one result for one operand.
fn only<T>(results: Vec<T>) -> T {
    match <[T; 1]>::try_from(results) {
        Ok([result]) => result,
        Err(results) => panic!("{} results for one operand", results.len()),
    }
}

/// Neighbours, two by two.
fn pairs(polys: Vec<GpuPoly>) -> Pairs<GpuPoly> {
    let mut polys = polys.into_iter();
    let two = || Some((polys.next()?, polys.next()?));
    std::iter::from_fn(two).collect()
}

//! The contract at limb height, by launches.

use super::core::Gpu;
use super::device::DeviceError;
use super::poly::GpuPoly;
use super::switch::{Addends, Use};
use crate::backend::{Backend, Decomposition, Pairs, Rotation, Switch, Triple};
use crate::ring::{Form, GaloisElement, LimbId, RingContext, RnsPoly};
use crate::rlwe::{KeySwitchingKey, RlweError, RowLimbs};
use num_bigint::BigInt;
use std::sync::Arc;

const NOTHING: Addends<'_> = Addends {
    polys: [None, None],
    factors: &[],
};

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

    fn ring(&self) -> &RingContext {
        self.ring_context()
    }

    fn wait(&self) {
        // The first failure is kept and returned by everything after it.
        let _ = self.settle();
    }

    fn upload(&self, poly: &RnsPoly) -> GpuPoly {
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
        let [result] = self.noted(self.divided([a], lo, factor, None))?;
        Ok(result)
    }

    fn divide_and_round_pair(
        &self,
        (a, b): (&GpuPoly, &GpuPoly),
        lo: &[LimbId],
        factor: Option<&BigInt>,
    ) -> Result<(GpuPoly, GpuPoly), RlweError> {
        let both = self.noted(self.divided([a, b], lo, factor, None))?;
        Ok(both.into())
    }

    fn decompose<'a>(
        &self,
        a: &'a GpuPoly,
        row: &RowLimbs,
    ) -> Result<Decomposition<'a, GpuPoly>, RlweError> {
        self.noted(self.digits(a, row))
    }

    fn key_product(
        &self,
        digits: &Decomposition<'_, GpuPoly>,
        key: &KeySwitchingKey,
        row: &RowLimbs,
    ) -> Result<(GpuPoly, GpuPoly), RlweError> {
        let element = None;
        let products = self.key_products(digits, &[Use { key, element }], &NOTHING, row);
        Ok(only(self.noted(products)?))
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
        let uses = rotations.iter().map(|r| Use {
            key: r.key,
            element: Some(r.element),
        });
        let addends = Addends {
            polys: [Some(c0), None],
            factors: &row.special_product,
        };
        self.noted(self.key_products(digits, &uses.collect::<Vec<_>>(), &addends, row))
    }

    fn switch_and_add(
        &self,
        (low, high): (&GpuPoly, &GpuPoly),
        rotation: Rotation<'_>,
        row: &RowLimbs,
        sum: &mut (GpuPoly, GpuPoly),
    ) -> Result<(), RlweError> {
        let digits = self.decompose(high, row)?;
        let ones = vec![1; row.extended.len()];
        let addends = Addends {
            polys: [Some(low), None],
            factors: &ones,
        };
        let key = Use {
            key: rotation.key,
            element: Some(rotation.element),
        };
        self.noted(self.add_key_product(&digits, key, &addends, row, sum))
    }

    fn switch_and_divide(
        &self,
        digits: &Decomposition<'_, GpuPoly>,
        switch: Switch<'_, GpuPoly>,
        row: &RowLimbs,
    ) -> Result<(GpuPoly, GpuPoly), RlweError> {
        let addends = Addends {
            polys: switch.addends,
            factors: &row.special_product,
        };
        let key = Use {
            key: switch.key,
            element: None,
        };
        let products = self.noted(self.key_products(digits, &[key], &addends, row))?;
        let (low, high) = only(products);
        let both = self.divided([&low, &high], switch.lo, None, switch.element);
        Ok(self.noted(both)?.into())
    }

    fn sums(&self, sums: &[Vec<Triple<'_, GpuPoly>>], row: &RowLimbs) -> Pairs<GpuPoly> {
        let (limbs, form) = (&row.extended, Form::Evaluation);
        self.shared_products(sums, limbs).unwrap_or_else(|error| {
            let lost = || self.or_lost(Err(error.clone()), limbs, form);
            sums.iter().map(|_| (lost(), lost())).collect()
        })
    }
}

/// The one pair of one use.
fn only(pairs: Pairs<GpuPoly>) -> (GpuPoly, GpuPoly) {
    match <[(GpuPoly, GpuPoly); 1]>::try_from(pairs) {
        Ok([pair]) => pair,
        Err(pairs) => panic!("{} pairs for one key", pairs.len()),
    }
}

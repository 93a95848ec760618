//! EvalMod: sin(2πt) from y = (t - 1/4)/half_width, slot by slot, at the least depth (see `split` for the order of products).

use super::cosine::Cosine;
use super::split::{Leaf, Split};
use super::BootstrapError;
use crate::backend::Backend;
use crate::ckks::{Ciphertext, Evaluator};
use crate::ring::Form;
use heron_schedule::params::{Level, Scale};

/// The polynomial and its rows, prepared.
#[derive(Clone, Debug)]
pub struct EvalMod {
    split: Split,
    cosine: Cosine,
    /// Scale the polynomial's value is to have.
    value: Scale,
}

type Ct<B> = Ciphertext<<B as Backend>::Poly>;

const RANGE: BootstrapError = BootstrapError::Circuit {
    what: "a scale leaves its bounds in EvalMod",
};

impl EvalMod {
    /// Prepares the polynomial; its value comes at scale `value`.
    pub fn new(cosine: Cosine, value: Scale) -> Result<EvalMod, BootstrapError> {
        let split = Split::new(&cosine.coefficients()).ok_or(BootstrapError::Circuit {
            what: "EvalMod's polynomial needs a half degree of 16 to 28",
        })?;
        Ok(EvalMod {
            split,
            cosine,
            value,
        })
    }

    /// sin(2πt) for every slot, 6 + doublings rows below `y`, from y without its shift: the ciphertext holds t/half_width.
    ///
    /// # Errors
    /// No relinearisation key at one of the rows.
    pub fn evaluate<B: Backend>(
        &self,
        evaluator: &Evaluator<B>,
        t: &Ct<B>,
    ) -> Result<Ct<B>, BootstrapError> {
        let mut y = t.clone();
        evaluator.add_constant_assign(&mut y, -0.25 / self.cosine.half_width())?;
        let double = |x: &Ct<B>| evaluator.mul_sum(&[(x, x)], 2, -1.0);
        let u = double(&y)?;
        drop(y);
        let mut value = self.polynomial(evaluator, &u)?;
        for _ in 0..self.cosine.doublings {
            value = double(&value)?;
        }
        Ok(value)
    }

    /// Σ c_k T_k(u), five rows below u.
    fn polynomial<B: Backend>(
        &self,
        ev: &Evaluator<B>,
        u: &Ct<B>,
    ) -> Result<Ct<B>, BootstrapError> {
        let double = |x: &Ct<B>| ev.mul_sum(&[(x, x)], 2, -1.0);
        let low = |ct: &Ct<B>, by: u8| drop_rows(ev, ct, by);
        let t2 = double(u)?;
        let t1 = low(u, 1)?;
        // T_3 = 2·T_1·T_2 - T_1, the subtraction before the division.
        let mut t3 = ev.tensor_sum(&[(&t1, &t2)])?;
        ev.mul_integer_assign(&mut t3, 2);
        let mut shifted = t1.clone();
        ev.mul_constant_assign(&mut shifted, 1.0, t2.scale())?;
        ev.sub_assign(&mut t3, &shifted)?;
        drop(shifted);
        let t3 = ev.relinearise_and_rescale(t3)?;
        let t4 = double(&t2)?;
        let t8 = double(&t4)?;
        let t16 = double(&t8)?;

        // Scales of products and factors, from the value's backwards.
        let row = |ct: &Ct<B>| ct.level();
        let before = |level: Level, after: Scale| -> Result<Scale, BootstrapError> {
            let ratio = ev.context().params().rescaled(level, Scale::ONE)?;
            after.over(ratio).ok_or(RANGE)
        };
        let over = |a: Scale, b: &Ct<B>| a.over(b.scale()).ok_or(RANGE);
        let last = before(row(&t16), self.value)?;
        let q_product = before(row(&t8), over(last, &t16)?)?;
        let r_product = before(row(&t8), over(last, &t8)?)?;

        let leaf_row = row(&t4);
        let powers = [u, &t2, &t3, &t4];
        let factor = |leaf: &Leaf, scale: Scale| -> Result<Ct<B>, BootstrapError> {
            let limbs = &ev.context().row(leaf_row)?.limbs;
            let zero = || ev.backend().zero(limbs, Form::Evaluation);
            let scale = before(leaf_row, scale)?;
            let mut sum = Ciphertext::from_parts(vec![zero(), zero()], leaf_row, scale);
            add_combination(ev, &mut sum, leaf, &powers)?;
            Ok(ev.rescale(&sum)?)
        };
        let q1 = factor(&self.split.q1, over(q_product, &t8)?)?;
        let qa = factor(&self.split.qa, over(q_product, &t4)?)?;
        let sa = factor(&self.split.sa, over(r_product, &t4)?)?;
        let ra = factor(&self.split.ra, over(last, &t4)?)?;

        let lower = low(&t4, 1)?;
        let mut q = ev.tensor_sum(&[(&q1, &t8), (&qa, &lower)])?;
        drop((q1, qa));
        add_combination(ev, &mut q, &self.split.qb, &powers)?;
        let q = ev.relinearise_and_rescale(q)?;
        let mut r1 = ev.tensor_sum(&[(&sa, &lower)])?;
        drop((sa, lower));
        add_combination(ev, &mut r1, &self.split.sb, &powers)?;
        let r1 = ev.relinearise_and_rescale(r1)?;

        let (ra, t8, lower) = (low(&ra, 1)?, low(&t8, 1)?, low(&t4, 2)?);
        let mut p = ev.tensor_sum(&[(&q, &t16), (&r1, &t8), (&ra, &lower)])?;
        drop((q, t16, r1, t8, ra, lower));
        add_combination(ev, &mut p, &self.split.rb, &powers)?;
        Ok(ev.relinearise_and_rescale(p)?)
    }
}

/// Forgets the limbs that the row `by` rows down lacks; message and scale stay.
///
/// # Errors
/// If that row has a limb that `ct`'s row lacks: then it takes a rescaling to get there.
pub(crate) fn drop_rows<B: Backend>(
    ev: &Evaluator<B>,
    ct: &Ct<B>,
    by: u8,
) -> Result<Ct<B>, BootstrapError> {
    let level = Level(ct.level().0.saturating_sub(by));
    let limbs = &ev.context().row(level)?.limbs;
    if limbs.iter().any(|l| {
        !ev.context()
            .row(ct.level())
            .is_ok_and(|r| r.limbs.contains(l))
    }) {
        return Err(BootstrapError::Circuit {
            what: "EvalMod's rows are not nested",
        });
    }
    let polys = ct.polys().iter().map(|p| ev.backend().select(p, limbs));
    Ok(Ciphertext::from_parts(polys.collect(), level, ct.scale()))
}

/// Adds Σ_k c_k T_k to `sum` at its scale, with no level used: T_k times the integer nearest c_k · scale / its scale. The powers may be
/// higher up the table: their other limbs are not read.
fn add_combination<B: Backend>(
    ev: &Evaluator<B>,
    sum: &mut Ct<B>,
    leaf: &Leaf,
    powers: &[&Ct<B>],
) -> Result<(), BootstrapError> {
    let scale = sum.scale();
    let level = sum.level();
    let mut polys =
        std::mem::replace(sum, Ciphertext::from_parts(Vec::new(), level, scale)).into_polys();
    for (&c, power) in leaf.iter().skip(1).zip(powers) {
        let integer = scale
            .over(power.scale())
            .and_then(|s| s.scaled_integer(c))
            .ok_or(RANGE)?;
        let backend = ev.backend();
        for (sum, poly) in polys.iter_mut().zip(power.polys()) {
            let residues = backend.ring().residues(&integer, backend.limbs(poly));
            backend.add_scaled(sum, poly, &residues);
        }
    }
    *sum = Ciphertext::from_parts(polys, level, scale);
    ev.add_constant_assign(sum, leaf.first().copied().unwrap_or(0.0))?;
    Ok(())
}

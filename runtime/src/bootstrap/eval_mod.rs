//! EvalMod: sin(2πt) from y = (t - 1/4)/half_width, slot by slot, at the least depth (see `split` for the order of products).

use super::cosine::Cosine;
use super::split::{Leaf, Split};
use super::BootstrapError;
use crate::backend::Backend;
use crate::ckks::{Ciphertext, Evaluator, ProductSum};
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
type Cts<B> = Vec<Ct<B>>;

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

    /// sin(2πt) for every slot of each ciphertext, 6 + doublings rows below `y`, from y without its shift: the ciphertexts, all at one level
    /// and scale, hold t/half_width.
    ///
    /// # Errors
    /// No relinearisation key at one of the rows.
    pub fn evaluate_each<B: Backend>(
        &self,
        evaluator: &Evaluator<B>,
        t: &[Ct<B>],
    ) -> Result<Cts<B>, BootstrapError> {
        let mut y = t.to_vec();
        for y in &mut y {
            evaluator.add_constant_assign(y, -0.25 / self.cosine.half_width())?;
        }
        let u = doubled(evaluator, &y)?;
        drop(y);
        let mut values = self.polynomial(evaluator, &u)?;
        for _ in 0..self.cosine.doublings {
            values = doubled(evaluator, &values)?;
        }
        Ok(values)
    }

    /// Σ c_k T_k(u), five rows below u.
    fn polynomial<B: Backend>(
        &self,
        ev: &Evaluator<B>,
        u: &[Ct<B>],
    ) -> Result<Cts<B>, BootstrapError> {
        let t2 = doubled(ev, u)?;
        let t1 = lowered(ev, u, 1)?;
        // T_3 = 2·T_1·T_2 - T_1, the subtraction before the division.
        let t3 = t1.iter().zip(&t2).map(|(t1, t2)| {
            let mut t3 = ev.tensor_sum(&[(t1, t2)])?;
            ev.mul_integer_assign(&mut t3, 2);
            let mut shifted = t1.clone();
            ev.mul_constant_assign(&mut shifted, 1.0, t2.scale())?;
            ev.sub_assign(&mut t3, &shifted)?;
            Ok(t3)
        });
        let t3 = t3.collect::<Result<Cts<B>, BootstrapError>>()?;
        drop(t1);
        let t3 = ev.relinearise_and_rescale_each(t3)?;
        let t4 = doubled(ev, &t2)?;
        let t8 = doubled(ev, &t4)?;
        let t16 = doubled(ev, &t8)?;

        let mut products = Vec::with_capacity(u.len());
        let mut firsts = Vec::with_capacity(u.len());
        for i in 0..u.len() {
            let powers = Powers {
                low: [&u[i], &t2[i], &t3[i], &t4[i]],
                t8: &t8[i],
                t16: &t16[i],
            };
            let (q, r) = self.quotient_and_rest(ev, &powers)?;
            products.push(q);
            firsts.push(r);
        }
        let q = ev.relinearise_and_rescale_each(products)?;
        let r1 = ev.relinearise_and_rescale_each(firsts)?;
        let mut sums = Vec::with_capacity(u.len());
        for (i, (q, r1)) in q.into_iter().zip(r1).enumerate() {
            let powers = Powers {
                low: [&u[i], &t2[i], &t3[i], &t4[i]],
                t8: &t8[i],
                t16: &t16[i],
            };
            sums.push(self.last_sum(ev, &powers, &q, &r1)?);
        }
        drop((t2, t3, t4, t8, t16));
        Ok(ev.relinearise_and_rescale_each(sums)?)
    }

    /// q1·T_8 + qa·T_4 + qb and sa·T_4 + sb, before relinearisation.
    fn quotient_and_rest<B: Backend>(
        &self,
        ev: &Evaluator<B>,
        powers: &Powers<'_, B>,
    ) -> Result<(Ct<B>, Ct<B>), BootstrapError> {
        let (t4, t8) = (powers.low[3], powers.t8);
        let scales = self.scales(ev, powers)?;
        let q1 = factor(ev, &self.split.q1, powers, over(scales.q_product, t8)?)?;
        let qa = factor(ev, &self.split.qa, powers, over(scales.q_product, t4)?)?;
        let sa = factor(ev, &self.split.sa, powers, over(scales.r_product, t4)?)?;
        let lower = drop_rows(ev, t4, 1)?;
        let mut q = ev.tensor_sum(&[(&q1, t8), (&qa, &lower)])?;
        drop((q1, qa));
        add_combination(ev, &mut q, &self.split.qb, &powers.low)?;
        let mut r1 = ev.tensor_sum(&[(&sa, &lower)])?;
        drop((sa, lower));
        add_combination(ev, &mut r1, &self.split.sb, &powers.low)?;
        Ok((q, r1))
    }

    /// q·T_16 + r1·T_8 + ra·T_4 + rb, before relinearisation.
    fn last_sum<B: Backend>(
        &self,
        ev: &Evaluator<B>,
        powers: &Powers<'_, B>,
        q: &Ct<B>,
        r1: &Ct<B>,
    ) -> Result<Ct<B>, BootstrapError> {
        let t4 = powers.low[3];
        let scales = self.scales(ev, powers)?;
        let ra = factor(ev, &self.split.ra, powers, over(scales.last, t4)?)?;
        let ra = drop_rows(ev, &ra, 1)?;
        let (t8, lower) = (drop_rows(ev, powers.t8, 1)?, drop_rows(ev, t4, 2)?);
        let mut p = ev.tensor_sum(&[(q, powers.t16), (r1, &t8), (&ra, &lower)])?;
        drop((ra, t8, lower));
        add_combination(ev, &mut p, &self.split.rb, &powers.low)?;
        Ok(p)
    }

    /// Scales of products, from the value's backwards.
    fn scales<B: Backend>(
        &self,
        ev: &Evaluator<B>,
        powers: &Powers<'_, B>,
    ) -> Result<Scales, BootstrapError> {
        let last = before(ev, powers.t16.level(), self.value)?;
        let level = powers.t8.level();
        Ok(Scales {
            last,
            q_product: before(ev, level, over(last, powers.t16)?)?,
            r_product: before(ev, level, over(last, powers.t8)?)?,
        })
    }
}

/// T_1 to T_4, T_8 and T_16 of one ciphertext.
struct Powers<'a, B: Backend> {
    low: [&'a Ct<B>; 4],
    t8: &'a Ct<B>,
    t16: &'a Ct<B>,
}

/// Scales that products have before their rescaling.
struct Scales {
    last: Scale,
    q_product: Scale,
    r_product: Scale,
}

/// 2·x² - 1.
fn doubled<B: Backend>(ev: &Evaluator<B>, x: &[Ct<B>]) -> Result<Cts<B>, BootstrapError> {
    let sums = x.iter().map(|x| ProductSum {
        pairs: vec![(x, x)],
        factor: 2,
        constant: -1.0,
    });
    Ok(ev.mul_sum_each(&sums.collect::<Vec<_>>())?)
}

fn lowered<B: Backend>(ev: &Evaluator<B>, cts: &[Ct<B>], by: u8) -> Result<Cts<B>, BootstrapError> {
    cts.iter().map(|ct| drop_rows(ev, ct, by)).collect()
}

/// The scale before the rescaling from `level` that has it become `after`.
fn before<B: Backend>(
    ev: &Evaluator<B>,
    level: Level,
    after: Scale,
) -> Result<Scale, BootstrapError> {
    let ratio = ev.context().params().rescaled(level, Scale::ONE)?;
    after.over(ratio).ok_or(RANGE)
}

fn over<P>(a: Scale, b: &Ciphertext<P>) -> Result<Scale, BootstrapError> {
    a.over(b.scale()).ok_or(RANGE)
}

/// A leaf of the split as a ciphertext one row below T_4, at a scale.
fn factor<B: Backend>(
    ev: &Evaluator<B>,
    leaf: &Leaf,
    powers: &Powers<'_, B>,
    scale: Scale,
) -> Result<Ct<B>, BootstrapError> {
    let row = powers.low[3].level();
    let limbs = &ev.context().row(row)?.limbs;
    let zero = || ev.backend().zero(limbs, Form::Evaluation);
    let scale = before(ev, row, scale)?;
    let mut sum = Ciphertext::from_parts(vec![zero(), zero()], row, scale);
    add_combination(ev, &mut sum, leaf, &powers.low)?;
    Ok(ev.rescale(&sum)?)
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

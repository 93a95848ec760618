//! The evaluator: linear operations and going down the level table. Products are in `multiply`, rotations in `rotate`.

use super::{Ciphertext, CkksError, Plaintext};
use crate::backend::{Backend, Cpu};
use crate::ring::LimbId;
use crate::rlwe::{KeySet, RlweContext, RowLimbs};
use heron_schedule::params::{Level, Scale};
use num_bigint::BigInt;
use std::sync::Arc;

/// Computes on ciphertexts. Holds the evaluation keys; sees no secret. Every result is a function of the operands' residues and of exact
/// integers alone: no floating point but the constants it is given.
#[derive(Clone)]
pub struct Evaluator<B: Backend = Cpu> {
    pub(crate) context: Arc<RlweContext>,
    pub(crate) backend: B,
    pub(crate) keys: Arc<KeySet>,
}

impl Evaluator<Cpu> {
    /// An evaluator on the CPU.
    pub fn new(context: Arc<RlweContext>, keys: Arc<KeySet>) -> Self {
        let backend = Cpu::new(Arc::clone(&context));
        Self::on(backend, context, keys)
    }
}

impl<B: Backend> Evaluator<B> {
    /// An evaluator on a backend.
    pub fn on(backend: B, context: Arc<RlweContext>, keys: Arc<KeySet>) -> Self {
        Self {
            context,
            backend,
            keys,
        }
    }

    /// Parameters, ring and rows.
    pub fn context(&self) -> &Arc<RlweContext> {
        &self.context
    }

    /// The backend.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The evaluation keys.
    pub fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// The evaluation keys, to be shared with another evaluator.
    pub fn shared_keys(&self) -> &Arc<KeySet> {
        &self.keys
    }

    pub(crate) fn row(&self, level: Level) -> Result<&RowLimbs, CkksError> {
        Ok(self.context.row(level)?)
    }

    /// `a += b`. Levels must be equal and scales agree (2^-45). The error is the sum of the errors.
    ///
    /// # Errors
    /// Operands at different levels or scales.
    pub fn add_assign(
        &self,
        a: &mut Ciphertext<B::Poly>,
        b: &Ciphertext<B::Poly>,
    ) -> Result<(), CkksError> {
        same_level("add", a.level, b.level)?;
        same_scale("add", a.scale, b.scale)?;
        for (i, y) in b.polys.iter().enumerate() {
            match a.polys.get_mut(i) {
                Some(x) => self.backend.add_assign(x, y),
                None => a.polys.push(y.clone()),
            }
        }
        Ok(())
    }

    /// `a -= b`; see [`Evaluator::add_assign`].
    ///
    /// # Errors
    /// Operands at different levels or scales.
    pub fn sub_assign(
        &self,
        a: &mut Ciphertext<B::Poly>,
        b: &Ciphertext<B::Poly>,
    ) -> Result<(), CkksError> {
        same_level("subtract", a.level, b.level)?;
        same_scale("subtract", a.scale, b.scale)?;
        for (i, y) in b.polys.iter().enumerate() {
            match a.polys.get_mut(i) {
                Some(x) => self.backend.sub_assign(x, y),
                None => {
                    let mut negative = y.clone();
                    self.backend.neg_assign(&mut negative);
                    a.polys.push(negative);
                }
            }
        }
        Ok(())
    }

    /// a + b; see [`Evaluator::add_assign`].
    ///
    /// # Errors
    /// Operands at different levels or scales.
    pub fn add(
        &self,
        a: &Ciphertext<B::Poly>,
        b: &Ciphertext<B::Poly>,
    ) -> Result<Ciphertext<B::Poly>, CkksError> {
        let mut sum = a.clone();
        self.add_assign(&mut sum, b)?;
        Ok(sum)
    }

    /// a - b; see [`Evaluator::add_assign`].
    ///
    /// # Errors
    /// Operands at different levels or scales.
    pub fn sub(
        &self,
        a: &Ciphertext<B::Poly>,
        b: &Ciphertext<B::Poly>,
    ) -> Result<Ciphertext<B::Poly>, CkksError> {
        let mut difference = a.clone();
        self.sub_assign(&mut difference, b)?;
        Ok(difference)
    }

    /// `a = -a`. Exact.
    pub fn neg_assign(&self, a: &mut Ciphertext<B::Poly>) {
        a.polys.iter_mut().for_each(|p| self.backend.neg_assign(p));
    }

    /// `a *= factor`: message and noise are multiplied, the scale stays.
    pub fn mul_integer_assign(&self, a: &mut Ciphertext<B::Poly>, factor: i64) {
        self.mul_big_integer(a, &BigInt::from(factor));
    }

    fn mul_big_integer(&self, a: &mut Ciphertext<B::Poly>, factor: &BigInt) {
        for poly in &mut a.polys {
            let residues = self
                .backend
                .ring()
                .residues(factor, self.backend.limbs(poly));
            self.backend.mul_scalars(poly, &residues);
        }
    }

    /// `a *= value`, as the integer nearest value · scale; the scale of `a` is multiplied by `scale`. No level is used.
    ///
    /// Error: |message| · 2^-1 / scale, besides the noise times value.
    ///
    /// # Errors
    /// A value that is not finite, or a scale out of bounds.
    pub fn mul_constant_assign(
        &self,
        a: &mut Ciphertext<B::Poly>,
        value: f64,
        scale: Scale,
    ) -> Result<(), CkksError> {
        let integer = scaled("multiply by a constant", value, scale)?;
        let product = a.scale.times(scale).ok_or(CkksError::ScaleRange {
            op: "multiply by a constant",
        })?;
        self.mul_big_integer(a, &integer);
        a.scale = product;
        Ok(())
    }

    /// Adds the same real number to every slot, rounded to a multiple of 1 / scale.
    ///
    /// # Errors
    /// A value that is not finite.
    pub fn add_constant_assign(
        &self,
        a: &mut Ciphertext<B::Poly>,
        value: f64,
    ) -> Result<(), CkksError> {
        let integer = scaled("add a constant", value, a.scale)?;
        if let Some(poly) = a.polys.first_mut() {
            let residues = self
                .backend
                .ring()
                .residues(&integer, self.backend.limbs(poly));
            self.backend.add_scalars(poly, &residues);
        }
        Ok(())
    }

    /// Adds an encoded vector of the same level and scale.
    ///
    /// # Errors
    /// Operands at different levels or scales.
    pub fn add_plain_assign(
        &self,
        a: &mut Ciphertext<B::Poly>,
        b: &Plaintext<B::Poly>,
    ) -> Result<(), CkksError> {
        same_level("add a plaintext", a.level, b.level)?;
        same_scale("add a plaintext", a.scale, b.scale)?;
        if let Some(poly) = a.polys.first_mut() {
            self.backend.add_assign(poly, &b.poly);
        }
        Ok(())
    }

    /// Multiplies slot by slot with an encoded vector of the same level; the scales are multiplied.
    ///
    /// # Errors
    /// Operands at different levels, or a scale out of bounds.
    pub fn mul_plain_assign(
        &self,
        a: &mut Ciphertext<B::Poly>,
        b: &Plaintext<B::Poly>,
    ) -> Result<(), CkksError> {
        same_level("multiply by a plaintext", a.level, b.level)?;
        let op = "multiply by a plaintext";
        let product = a.scale.times(b.scale).ok_or(CkksError::ScaleRange { op })?;
        a.polys
            .iter_mut()
            .for_each(|p| self.backend.mul_assign(p, &b.poly));
        a.scale = product;
        Ok(())
    }

    /// Multiplies every slot by the imaginary unit. Exact: a product with X^(N/2).
    ///
    /// # Errors
    /// None on a ciphertext of this context.
    pub fn mul_imaginary_assign(&self, a: &mut Ciphertext<B::Poly>) -> Result<(), CkksError> {
        let roots = self.context.imaginary_roots(&self.row(a.level)?.limbs);
        a.polys
            .iter_mut()
            .for_each(|p| self.backend.mul_imaginary(p, &roots));
        Ok(())
    }

    /// [`Backend::divide_and_round`] of all parts of a ciphertext.
    fn divided(
        &self,
        polys: &[B::Poly],
        target: &[LimbId],
        factor: Option<&BigInt>,
    ) -> Result<Vec<B::Poly>, CkksError> {
        if let [a, b] = polys {
            let (a, b) = self.backend.divide_and_round_pair((a, b), target, factor)?;
            return Ok(vec![a, b]);
        }
        let each = polys.iter();
        let each = each.map(|p| self.backend.divide_and_round(p, target, factor));
        Ok(each.collect::<Result<_, _>>()?)
    }

    /// Goes down one row of the level table: scale · Q(level - 1) / Q(level), which is the row's canonical scale when the operand is a
    /// product of two canonical ones.
    /// Adds an error of at most (1 + |s|_1)/2 to each coefficient, about sqrt((h+1)/12).
    ///
    /// # Errors
    /// At level 0.    Source: eprint 2018/931, rational steps: arXiv 2407.13055.
    pub fn rescale(&self, a: &Ciphertext<B::Poly>) -> Result<Ciphertext<B::Poly>, CkksError> {
        let (level, scale) = self.rescaled("rescale", a.level, a.scale)?;
        let target = &self.row(level)?.limbs;
        Ok(Ciphertext {
            polys: self.divided(&a.polys, target, None)?,
            level,
            scale,
        })
    }

    /// Level and scale after a rescaling; a scale within 2^-45 of the row's canonical one is taken to be that one.
    pub(crate) fn rescaled(
        &self,
        op: &'static str,
        level: Level,
        scale: Scale,
    ) -> Result<(Level, Scale), CkksError> {
        let below = level
            .0
            .checked_sub(1)
            .map(Level)
            .ok_or(CkksError::NoLevelLeft { op, found: level })?;
        let params = self.context.params();
        let scale = params.rescaled(level, scale)?;
        let canonical = params.scale(below).ok().filter(|c| c.agrees_with(scale));
        Ok((below, canonical.unwrap_or(scale)))
    }

    /// factor · a at a lower level and its canonical scale, in one pass: an integer product and a division. Source: eprint 2020/1118.
    /// The factor realised is within 2^-40.75 of the one asked for.
    ///
    /// # Errors
    /// A target that is not below, or a factor that does not fit.
    pub fn adjust(
        &self,
        a: &Ciphertext<B::Poly>,
        to: Level,
        factor: f64,
    ) -> Result<Ciphertext<B::Poly>, CkksError> {
        let scale = self.context.params().scale(to)?;
        self.adjust_to_scale(a, to, scale, factor)
    }

    /// As [`Evaluator::adjust`], to a scale of the caller's choice.
    ///
    /// # Errors
    /// A target that is not below, or a factor that does not fit.
    pub fn adjust_to_scale(
        &self,
        a: &Ciphertext<B::Poly>,
        to: Level,
        scale: Scale,
        factor: f64,
    ) -> Result<Ciphertext<B::Poly>, CkksError> {
        let params = self.context.params();
        let adjustment = params.adjust_between(a.level, a.scale, to, scale, factor)?;
        let working = crate::rlwe::context::ring_limbs(&adjustment.working);
        let target = &self.row(to)?.limbs;
        let kept = a.polys.iter().map(|p| self.backend.select(p, &working));
        let kept: Vec<B::Poly> = kept.collect();
        Ok(Ciphertext {
            polys: self.divided(&kept, target, Some(&adjustment.constant))?,
            level: to,
            scale,
        })
    }

    /// Σ coefficient · source + constant at `level_out` and its canonical scale. Sources at `level_out` take integer coefficients of at
    /// most 256 in size; higher ones are adjusted, sources of one level together.
    ///
    /// # Errors
    /// No source, a source below `level_out`, or a coefficient that is no small integer where it must be.
    pub fn combine(
        &self,
        terms: &[(&Ciphertext<B::Poly>, f64)],
        level_out: Level,
        constant: f64,
    ) -> Result<Ciphertext<B::Poly>, CkksError> {
        let op = "combine";
        let mut levels: Vec<Level> = terms.iter().map(|(c, _)| c.level).collect();
        levels.sort_unstable();
        levels.dedup();
        let mut sum: Option<Ciphertext<B::Poly>> = None;
        for level in levels {
            let group: Vec<_> = terms.iter().filter(|(c, _)| c.level == level).collect();
            let part = if level == level_out {
                self.combine_integers(&group)?
            } else {
                self.combine_adjusted(&group, level_out)?
            };
            match &mut sum {
                None => sum = Some(part),
                Some(sum) => self.add_assign(sum, &part)?,
            }
        }
        let mut sum = sum.ok_or(CkksError::Shape {
            op,
            what: "number of sources",
            expected: 1,
            found: 0,
        })?;
        if constant != 0.0 {
            self.add_constant_assign(&mut sum, constant)?;
        }
        Ok(sum)
    }

    fn combine_integers(
        &self,
        group: &[&(&Ciphertext<B::Poly>, f64)],
    ) -> Result<Ciphertext<B::Poly>, CkksError> {
        let mut sum: Option<Ciphertext<B::Poly>> = None;
        for (source, coefficient) in group {
            if coefficient.fract() != 0.0 || coefficient.abs() > 256.0 {
                return Err(CkksError::Constant {
                    op: "combine at the level of the result (integers up to 256 only)",
                    value: *coefficient,
                    scale: 0.0,
                });
            }
            let mut term = (*source).clone();
            if *coefficient != 1.0 {
                self.mul_integer_assign(&mut term, *coefficient as i64);
            }
            match &mut sum {
                None => sum = Some(term),
                Some(sum) => self.add_assign(sum, &term)?,
            }
        }
        sum.ok_or(CkksError::Shape {
            op: "combine",
            what: "number of sources",
            expected: 1,
            found: 0,
        })
    }

    /// Sources of one level: integer products summed first, then one division.
    fn combine_adjusted(
        &self,
        group: &[&(&Ciphertext<B::Poly>, f64)],
        to: Level,
    ) -> Result<Ciphertext<B::Poly>, CkksError> {
        let params = self.context.params();
        let Some(((first, factor), rest)) = group.split_first() else {
            return Err(CkksError::Shape {
                op: "combine",
                what: "number of sources",
                expected: 1,
                found: 0,
            });
        };
        if rest.is_empty() {
            return self.adjust(first, to, *factor);
        }
        let scale = params.scale(to)?;
        let mut sum: Option<(Vec<B::Poly>, Vec<crate::ring::LimbId>)> = None;
        for (source, factor) in group {
            same_scale("combine", first.scale, source.scale)?;
            let adjustment = params.adjust_between(first.level, first.scale, to, scale, *factor)?;
            let working = crate::rlwe::context::ring_limbs(&adjustment.working);
            let residues = self.backend.ring().residues(&adjustment.constant, &working);
            match &mut sum {
                // The limbs an adjustment works on depend on levels and scales only, so one division serves all.
                Some((polys, limbs)) if *limbs == working => {
                    for (sum, poly) in polys.iter_mut().zip(&source.polys) {
                        let mut kept = self.backend.select(poly, &working);
                        self.backend.mul_scalars(&mut kept, &residues);
                        self.backend.add_assign(sum, &kept);
                    }
                }
                _ => {
                    let polys = source
                        .polys
                        .iter()
                        .map(|poly| {
                            let mut kept = self.backend.select(poly, &working);
                            self.backend.mul_scalars(&mut kept, &residues);
                            kept
                        })
                        .collect();
                    sum = Some((polys, working));
                }
            }
        }
        let target = &self.row(to)?.limbs;
        let polys = sum.map(|(polys, _)| polys).unwrap_or_default();
        Ok(Ciphertext {
            polys: self.divided(&polys, target, None)?,
            level: to,
            scale,
        })
    }
}

/// The integer nearest value · scale.
pub(crate) fn scaled(op: &'static str, value: f64, scale: Scale) -> Result<BigInt, CkksError> {
    scale.scaled_integer(value).ok_or(CkksError::Constant {
        op,
        value,
        scale: scale.log2(),
    })
}

pub(crate) fn same_level(op: &'static str, lhs: Level, rhs: Level) -> Result<(), CkksError> {
    if lhs == rhs {
        Ok(())
    } else {
        Err(CkksError::LevelMismatch { op, lhs, rhs })
    }
}

pub(crate) fn same_scale(op: &'static str, lhs: Scale, rhs: Scale) -> Result<(), CkksError> {
    if lhs.agrees_with(rhs) {
        Ok(())
    } else {
        Err(CkksError::ScaleMismatch {
            op,
            lhs: lhs.log2(),
            rhs: rhs.log2(),
        })
    }
}

//! A polynomial as residues modulo a set of limbs.

use super::context::{LimbId, RingContext};
use super::pool::Buffer;
use rayon::prelude::*;
use zeroize::Zeroize;

/// How the residues of a limb are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Word `j` is the coefficient of `X^j`.
    Coefficient,
    /// Word `i` is the value at `psi^(2 bitrev(i) + 1)`, `psi` the limb's primitive 2N-th root.
    Evaluation,
}

/// Residues of one polynomial, `[limb][N]` contiguous, canonical in `[0, q)`. The limbs are distinct, in any order.
#[derive(Clone, PartialEq, Eq)]
pub struct RnsPoly {
    limbs: Vec<LimbId>,
    form: Form,
    degree: usize,
    data: Buffer,
}

// Residues of a secret may not reach a log, so only the shape is printed.
impl std::fmt::Debug for RnsPoly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "RnsPoly(N = {}, {:?}, limbs {:?})",
            self.degree, self.form, self.limbs
        )
    }
}

impl RnsPoly {
    /// A polynomial over `data`, which must hold `limbs.len() * degree` canonical residues.
    ///
    /// # Panics
    /// If the length differs.
    pub fn from_parts(limbs: Vec<LimbId>, form: Form, degree: usize, data: Buffer) -> Self {
        assert_eq!(
            data.len(),
            limbs.len() * degree,
            "data does not fill the limbs"
        );
        Self {
            limbs,
            form,
            degree,
            data,
        }
    }

    /// The zero polynomial on `limbs`.
    pub fn zero(context: &RingContext, limbs: &[LimbId], form: Form) -> Self {
        let degree = context.degree();
        Self {
            limbs: limbs.to_vec(),
            form,
            degree,
            data: Buffer::zeroed(limbs.len() * degree),
        }
    }

    /// A polynomial with arbitrary contents, for a caller that overwrites every residue.
    pub fn scratch(context: &RingContext, limbs: &[LimbId], form: Form) -> Self {
        let degree = context.degree();
        Self {
            limbs: limbs.to_vec(),
            form,
            degree,
            data: Buffer::scratch(limbs.len() * degree),
        }
    }

    /// The polynomial with the given signed coefficients, in coefficient form; missing high coefficients are zero.
    ///
    /// # Panics
    /// If there are more than N coefficients.
    pub fn from_signed<T: Copy + Sync + Into<i64>>(
        context: &RingContext,
        limbs: &[LimbId],
        coefficients: &[T],
    ) -> Self {
        Self::from_words(context, limbs, coefficients, |modulus, c| {
            modulus.reduce_i64(c.into())
        })
    }

    /// As [`RnsPoly::from_signed`], for coefficients beyond 64 bits (plaintexts at large scales).
    ///
    /// # Panics
    /// If there are more than N coefficients.
    pub fn from_wide(context: &RingContext, limbs: &[LimbId], coefficients: &[i128]) -> Self {
        Self::from_words(
            context,
            limbs,
            coefficients,
            |modulus, c| match i64::try_from(c) {
                Ok(small) => modulus.reduce_i64(small),
                Err(_) => modulus.reduce_i128(c),
            },
        )
    }

    fn from_words<T: Copy + Sync>(
        context: &RingContext,
        limbs: &[LimbId],
        coefficients: &[T],
        reduce: impl Fn(&crate::arith::Modulus, T) -> u32 + Sync,
    ) -> Self {
        let degree = context.degree();
        assert!(
            coefficients.len() <= degree,
            "{} coefficients for N = {degree}",
            coefficients.len()
        );
        let mut poly = Self::scratch(context, limbs, Form::Coefficient);
        poly.data
            .par_chunks_mut(degree)
            .zip(limbs)
            .for_each(|(limb, &id)| {
                let modulus = context.modulus(id);
                for (word, &c) in limb.iter_mut().zip(coefficients) {
                    *word = reduce(modulus, c);
                }
                limb[coefficients.len()..].fill(0);
            });
        poly
    }

    /// The limbs, in storage order.
    pub fn limbs(&self) -> &[LimbId] {
        &self.limbs
    }

    /// Number of limbs.
    pub fn limb_count(&self) -> usize {
        self.limbs.len()
    }

    /// Coefficient or evaluation form.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Declares the residues to be in `form` after the caller has transformed them itself.
    pub fn set_form(&mut self, form: Form) {
        self.form = form;
    }

    /// N.
    pub fn degree(&self) -> usize {
        self.degree
    }

    /// All residues, `[limb][N]`.
    pub fn data(&self) -> &[u32] {
        &self.data
    }

    /// All residues, `[limb][N]`; writers keep them canonical.
    pub fn data_mut(&mut self) -> &mut [u32] {
        &mut self.data
    }

    /// Residues of the limb at storage position `position`.
    ///
    /// # Panics
    /// If `position` is not below [`RnsPoly::limb_count`].
    pub fn limb(&self, position: usize) -> &[u32] {
        &self.data[position * self.degree..(position + 1) * self.degree]
    }

    /// Mutable residues of the limb at storage position `position`.
    ///
    /// # Panics
    /// If `position` is not below [`RnsPoly::limb_count`].
    pub fn limb_mut(&mut self, position: usize) -> &mut [u32] {
        &mut self.data[position * self.degree..(position + 1) * self.degree]
    }

    /// Storage position of a limb.
    pub fn position_of(&self, limb: LimbId) -> Option<usize> {
        self.limbs.iter().position(|&l| l == limb)
    }

    /// Residues of the limb named `limb`.
    pub fn limb_of(&self, limb: LimbId) -> Option<&[u32]> {
        self.position_of(limb).map(|position| self.limb(position))
    }

    /// A copy restricted to `limbs`, in that order.
    ///
    /// # Panics
    /// If a limb is missing.
    pub fn select(&self, limbs: &[LimbId]) -> Self {
        let mut data = Buffer::scratch(limbs.len() * self.degree);
        data.par_chunks_mut(self.degree)
            .zip(limbs)
            .for_each(|(target, &id)| {
                target.copy_from_slice(self.limb(self.require(id)));
            });
        Self {
            limbs: limbs.to_vec(),
            form: self.form,
            degree: self.degree,
            data,
        }
    }

    /// A polynomial in `X^(2^log_run)` in evaluation form, one word per run of `2^log_run` equal ones: `degree()` shrinks by that factor.
    /// Such values repeat because the values at neighbouring words differ by a root of unity that `X^(2^log_run)` does not see.
    /// Only [`RingContext::inner_product_pair`] takes the result. `None` if the values do not repeat.
    pub fn compressed(&self, log_run: u32) -> Option<Self> {
        let run = 1usize << log_run;
        let repeats = |r: &[u32]| r.iter().all(|w| *w == r[0]);
        if self.form != Form::Evaluation
            || run > self.degree
            || !self.data.par_chunks(run).all(repeats)
        {
            return None;
        }
        let mut data = Buffer::scratch(self.data.len() / run);
        data.par_iter_mut()
            .zip(self.data.par_chunks(run))
            .for_each(|(to, from)| *to = from[0]);
        Some(Self {
            limbs: self.limbs.clone(),
            form: self.form,
            degree: self.degree / run,
            data,
        })
    }

    /// Words `start..start + to.len()` of a compressed limb at its full length `n`.
    pub(crate) fn expand_limb(&self, position: usize, n: usize, start: usize, to: &mut [u32]) {
        let run = n / self.degree;
        let words = self.limb(position);
        if run >= to.len() {
            to.fill(words[start / run]);
            return;
        }
        for (to, &word) in to.chunks_mut(run).zip(&words[start / run..]) {
            to.fill(word);
        }
    }

    /// Drops every limb that `keep` refuses; the others keep their order. Residues do not change.
    pub fn retain(&mut self, keep: impl Fn(LimbId) -> bool) {
        let kept: Vec<LimbId> = self.limbs.iter().copied().filter(|&l| keep(l)).collect();
        if kept.len() != self.limbs.len() {
            *self = self.select(&kept);
        }
    }

    /// Keeps the first `count` limbs.
    pub fn truncate(&mut self, count: usize) {
        if count < self.limbs.len() {
            self.limbs.truncate(count);
            self.data.truncate(count * self.degree);
        }
    }

    /// Position of a limb that must be there.
    pub(crate) fn require(&self, limb: LimbId) -> usize {
        match self.position_of(limb) {
            Some(position) => position,
            None => panic!("limb {limb:?} is not among {:?}", self.limbs),
        }
    }
}

/// Overwrites the residues with zeros; for secrets, whose buffers would otherwise be recycled with their contents.
impl Zeroize for RnsPoly {
    fn zeroize(&mut self) {
        self.data.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{random_poly, small_context};
    use super::*;

    #[test]
    fn compressed_factors_multiply_like_whole_ones() {
        let (log_n, log_run) = (13, 6);
        let context = small_context(log_n, 3);
        let limbs = context.all_limbs();
        let sparse = |seed: i64| {
            let mut coefficients = vec![0i64; 1 << log_n];
            for (k, c) in coefficients.iter_mut().step_by(1 << log_run).enumerate() {
                *c = (k as i64 * 7919 + seed) % 1_000_003 - 500_000;
            }
            let mut poly = RnsPoly::from_signed(&context, &limbs, &coefficients);
            context.to_evaluation(&mut poly);
            poly
        };
        let random = |seed| random_poly(&context, &limbs, Form::Evaluation, seed);
        let (a, b, c) = (
            [sparse(1), sparse(2)],
            [random(3), random(4)],
            [random(5), random(6)],
        );
        let small = a.each_ref().map(|a| a.compressed(log_run).unwrap());
        assert_eq!(small[0].data().len(), a[0].data().len() >> log_run);
        let whole =
            context.inner_product_pair(&[(&a[0], &b[0], &c[0]), (&a[1], &b[1], &c[1])], &limbs);
        // One factor compressed, one not: both kinds of rows meet in a block.
        let mixed =
            context.inner_product_pair(&[(&small[0], &b[0], &c[0]), (&a[1], &b[1], &c[1])], &limbs);
        let both = context.inner_product_pair(
            &[(&small[0], &b[0], &c[0]), (&small[1], &b[1], &c[1])],
            &limbs,
        );
        assert!(whole == mixed && whole == both);
        assert!(b[0].compressed(log_run).is_none());
    }
}

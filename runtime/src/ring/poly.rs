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

//! The contract at limb height: everything the evaluator does to residues. `cpu` is the readable truth; another backend computes the
//! same residues, bit for bit. Polynomials are handles that move and are never copied silently between machines.

pub mod compose;
pub mod cpu;
mod fused;
#[cfg(test)]
mod fused_tests;
pub mod gpu;
mod rotated_sums;

use crate::ring::{Form, GaloisElement, LimbId, RingContext, RnsPoly};
use crate::rlwe::{KeySwitchingKey, RlweError, RowLimbs};
use num_bigint::BigInt;

pub use cpu::Cpu;

/// A polynomial cut into key-switching digits, each extended to the whole basis QP of a row, in evaluation form.
/// A digit's own limbs are those of the polynomial itself, so only the others are stored.
#[derive(Clone)]
pub struct Decomposition<'a, P> {
    /// The polynomial, in evaluation form, on the row's limbs.
    pub original: &'a P,
    /// For each live digit of the row, its extension to [`crate::rlwe::LiveDigit::others`], in evaluation form.
    pub digits: Vec<P>,
}

/// A rotation: its automorphism and the key that switches back afterwards.
#[derive(Clone, Copy)]
pub struct Rotation<'a> {
    /// X → X^g.
    pub element: GaloisElement,
    /// From the rotated secret.
    pub key: &'a KeySwitchingKey,
}

/// A key switch down to other limbs.
pub struct Switch<'a, P> {
    /// The key.
    pub key: &'a KeySwitchingKey,
    /// Added to the two results, before the automorphism.
    pub addends: [Option<&'a P>; 2],
    /// X → X^g, applied last.
    pub element: Option<GaloisElement>,
    /// The limbs of the result: those of the row or of one below it.
    pub lo: &'a [LimbId],
}

/// A ciphertext of which a linear map multiplies rotations.
pub struct LinearSource<'a, P> {
    /// Both halves, on the row's limbs.
    pub pair: (&'a P, &'a P),
    /// The digits of the second half, where something is rotated.
    pub digits: Option<Decomposition<'a, P>>,
    /// The rotations that are multiplied; `None` is the ciphertext as it is.
    pub rotations: Vec<Option<Rotation<'a>>>,
}

/// One product of a linear map.
pub struct LinearProduct<'a, P> {
    /// Number of the source.
    pub source: usize,
    /// Number of the rotation among those of its source.
    pub rotation: usize,
    /// What it is multiplied by, on the row's QP; may be compressed ([`RnsPoly::compressed`]).
    pub plaintext: &'a P,
}

/// A pair whose second half is switched, and which is then rotated and added to a sum.
pub struct Turned<'a, P> {
    /// The first half on the row's QP, the second on the row's limbs.
    pub pair: (&'a P, &'a P),
    /// The rotation.
    pub rotation: Rotation<'a>,
    /// Number of the sum.
    pub sum: usize,
}

/// What one pass of a linear map over its rotated sources may take.
#[derive(Clone, Copy, Debug)]
pub struct PassBytes {
    /// Bytes of plaintexts made for it.
    pub plaintexts: usize,
    /// Bytes of its sums.
    pub sums: usize,
    /// Plaintexts alive together where they are not made for a pass.
    pub terms: usize,
    /// Whether rotated sources are held instead where plaintexts are large and do not fit one pass.
    pub holds: bool,
}

impl PassBytes {
    /// Less than what bootstrapping takes on a server.
    pub const DEFAULT: PassBytes = PassBytes {
        plaintexts: 256 << 20,
        sums: 512 << 20,
        terms: 16,
        holds: true,
    };
}

// By hand: a derived one would ask for polynomials that can be copied.
impl<P> Clone for Switch<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P> Copy for Switch<'_, P> {}

/// (a, b, c), of which a·b and a·c are summed; a may be compressed ([`RnsPoly::compressed`]).
pub type Triple<'a, P> = (&'a P, &'a P, &'a P);

/// The digits of what is switched, and how.
pub type Switched<'a, P> = (&'a Decomposition<'a, P>, Switch<'a, P>);

/// A diagonal, which may be compressed, and the number of the baby it is multiplied by.
pub type MapTerm<'a, P> = (&'a P, usize);

/// Both halves of some ciphertexts.
pub type Pairs<P> = Vec<(P, P)>;

/// Operations on residues. Unless said otherwise operands are in evaluation form, operands are matched by limb, a right-hand operand may
/// hold more limbs than the left one, and a missing limb or a wrong form is a bug of the caller and panics.
pub trait Backend: Send + Sync {
    /// A polynomial on this backend.
    type Poly: Clone + Send + Sync;
    /// What is kept of work that is done again and again: [`Backend::repeat`].
    type Recordings: Clone + Default + Send + Sync;

    /// `work` on some polynomials. A backend may keep what it starts meanwhile and start that again, without `work`, wherever `key` is the same:
    /// the key must decide everything that is done, and what the work reads besides the inputs must stay as it is for as long as `recordings`
    /// lives.
    ///
    /// # Errors
    /// Those of `work`, or a device's.
    fn repeat<E: From<RlweError>>(
        &self,
        recordings: &Self::Recordings,
        key: Vec<u64>,
        inputs: Vec<Self::Poly>,
        work: &mut dyn FnMut(Vec<Self::Poly>) -> Result<Vec<Self::Poly>, E>,
    ) -> Result<Vec<Self::Poly>, E>
    where
        Self: Sized,
    {
        let _ = (recordings, key);
        work(inputs)
    }

    /// The ring.
    fn ring(&self) -> &RingContext;
    /// Waits for what was started, so that time is counted where it is spent. Failures are told by whatever comes next.
    fn wait(&self) {}
    /// Brings a polynomial here.
    fn upload(&self, poly: &RnsPoly) -> Self::Poly;
    /// Brings a polynomial back.
    fn download(&self, poly: &Self::Poly) -> RnsPoly;
    /// Its limbs, in storage order.
    fn limbs<'a>(&self, poly: &'a Self::Poly) -> &'a [LimbId];
    /// The zero polynomial.
    fn zero(&self, limbs: &[LimbId], form: Form) -> Self::Poly;
    /// A copy restricted to some of its limbs, in the order given.
    fn select(&self, poly: &Self::Poly, limbs: &[LimbId]) -> Self::Poly;
    /// Coefficients to values, in place.
    fn to_evaluation(&self, poly: &mut Self::Poly);
    /// Values to coefficients, in place.
    fn to_coefficient(&self, poly: &mut Self::Poly);
    /// `a += b`.
    fn add_assign(&self, a: &mut Self::Poly, b: &Self::Poly);
    /// `a -= b`.
    fn sub_assign(&self, a: &mut Self::Poly, b: &Self::Poly);
    /// `a = -a`.
    fn neg_assign(&self, a: &mut Self::Poly);
    /// `a *= b`.
    fn mul_assign(&self, a: &mut Self::Poly, b: &Self::Poly);
    /// Σ a·b over the pairs, on `limbs`.
    fn inner_product(&self, pairs: &[(&Self::Poly, &Self::Poly)], limbs: &[LimbId]) -> Self::Poly;
    /// Several [`Backend::inner_product`], which may share factors.
    fn inner_products(
        &self,
        sums: &[&[(&Self::Poly, &Self::Poly)]],
        limbs: &[LimbId],
    ) -> Vec<Self::Poly> {
        let sums = sums.iter();
        sums.map(|pairs| self.inner_product(pairs, limbs)).collect()
    }
    /// (Σ a·b, Σ a·c) over triples (a, b, c), on `limbs`. The left factors may be compressed ([`RnsPoly::compressed`]).
    fn inner_product_pair(
        &self,
        triples: &[(&Self::Poly, &Self::Poly, &Self::Poly)],
        limbs: &[LimbId],
    ) -> (Self::Poly, Self::Poly);
    /// Multiplies each limb, by storage position, by its constant.
    fn mul_scalars(&self, a: &mut Self::Poly, constants: &[u32]);
    /// Adds to each limb, by storage position, its constant.
    fn add_scalars(&self, a: &mut Self::Poly, constants: &[u32]);
    /// `a *= X^(N/2)`, the imaginary unit in every slot. `roots`: a primitive 4th root of unity per limb position, the value of X^(N/2)
    /// at the first evaluation point.
    fn mul_imaginary(&self, a: &mut Self::Poly, roots: &[u32]);
    /// `a(X^g)`.
    fn automorphism(&self, a: &Self::Poly, g: GaloisElement) -> Self::Poly;
    /// The centred lift of `a` (coefficient form) on `target`, in coefficient form.
    fn extend(&self, a: &Self::Poly, target: &[LimbId]) -> Result<Self::Poly, RlweError>;
    /// round(a · factor · Π(lo ∖ hi) / Π(hi ∖ lo)) on `lo`, where `hi` are the limbs of `a`.
    fn divide_and_round(
        &self,
        a: &Self::Poly,
        lo: &[LimbId],
        factor: Option<&BigInt>,
    ) -> Result<Self::Poly, RlweError>;
    /// [`Backend::divide_and_round`] of two polynomials on the same limbs.
    fn divide_and_round_pair(
        &self,
        (a, b): (&Self::Poly, &Self::Poly),
        lo: &[LimbId],
        factor: Option<&BigInt>,
    ) -> Result<(Self::Poly, Self::Poly), RlweError> {
        Ok((
            self.divide_and_round(a, lo, factor)?,
            self.divide_and_round(b, lo, factor)?,
        ))
    }
    /// ModUp: the digits of `a` (on the row's limbs), extended to QP.
    fn decompose<'a>(
        &self,
        a: &'a Self::Poly,
        row: &RowLimbs,
    ) -> Result<Decomposition<'a, Self::Poly>, RlweError>;
    /// Σ_j digit_j · key_j for both halves of the key, on the row's QP.
    fn key_product(
        &self,
        digits: &Decomposition<'_, Self::Poly>,
        key: &KeySwitchingKey,
        row: &RowLimbs,
    ) -> Result<(Self::Poly, Self::Poly), RlweError>;
    /// `acc += factor · a` on the limbs of `a`, with one constant per storage position of `a`. Limbs of `acc` that `a` lacks stay.
    fn add_scaled(&self, acc: &mut Self::Poly, a: &Self::Poly, factor: &[u32]);
    /// For each rotation g of (c0, c1), with `digits` those of c1: P · (c0, c1)(X^g) under the main secret, on the row's QP.
    fn rotated_products(
        &self,
        digits: &Decomposition<'_, Self::Poly>,
        c0: &Self::Poly,
        rotations: &[Rotation<'_>],
        row: &RowLimbs,
    ) -> Result<Pairs<Self::Poly>, RlweError>
    where
        Self: Sized,
    {
        compose::rotated_products(self, digits, c0, rotations, row)
    }
    /// `sum += ((low, 0) + k)(X^g)`, k the key product of the digits of `high`; `high` is on the row's limbs, all else on its QP.
    fn switch_and_add(
        &self,
        pair: (&Self::Poly, &Self::Poly),
        rotation: Rotation<'_>,
        row: &RowLimbs,
        sum: &mut (Self::Poly, Self::Poly),
    ) -> Result<(), RlweError>
    where
        Self: Sized,
    {
        compose::switch_and_add(self, pair, rotation, row, sum)
    }
    /// The key product of `digits` divided by P, and by what else `switch.lo` lacks of the row, with the addends divided by that too.
    fn switch_and_divide(
        &self,
        digits: &Decomposition<'_, Self::Poly>,
        switch: Switch<'_, Self::Poly>,
        row: &RowLimbs,
    ) -> Result<(Self::Poly, Self::Poly), RlweError>
    where
        Self: Sized,
    {
        compose::switch_and_divide(self, digits, switch, row)
    }
    /// Each sum of plaintext · P · rotation (source) under the main secret, on the row's QP.
    fn rotated_sums(
        &self,
        sources: &[LinearSource<'_, Self::Poly>],
        sums: &[Vec<LinearProduct<'_, Self::Poly>>],
        row: &RowLimbs,
    ) -> Result<Pairs<Self::Poly>, RlweError>
    where
        Self: Sized,
    {
        compose::rotated_sums(self, sources, sums, row)
    }
    /// Several [`Backend::inner_product_pair`] on the row's QP, which may share factors.
    fn sums(&self, sums: &[Vec<Triple<'_, Self::Poly>>], row: &RowLimbs) -> Pairs<Self::Poly>
    where
        Self: Sized,
    {
        compose::sums(self, sums, row)
    }

    /// Most ciphertexts that are worth working on together: 1 where that gains nothing.
    fn together(&self) -> usize {
        1
    }

    /// What a pass of a linear map may take.
    fn pass_bytes(&self) -> PassBytes {
        PassBytes::DEFAULT
    }

    /// [`Backend::divide_and_round`] of several polynomials, to the same limbs.
    fn divide_and_round_each(
        &self,
        polys: &[&Self::Poly],
        lo: &[LimbId],
        factor: Option<&BigInt>,
    ) -> Result<Vec<Self::Poly>, RlweError>
    where
        Self: Sized,
    {
        compose::divide_and_round_each(self, polys, lo, factor)
    }

    /// [`Backend::decompose`] of several polynomials.
    fn decompose_each<'a>(
        &self,
        polys: &[&'a Self::Poly],
        row: &RowLimbs,
    ) -> Result<Vec<Decomposition<'a, Self::Poly>>, RlweError>
    where
        Self: Sized,
    {
        polys.iter().map(|a| self.decompose(a, row)).collect()
    }

    /// [`Backend::rotated_products`] of several ciphertexts by the same rotations.
    fn rotated_products_each(
        &self,
        ciphertexts: &[(&Decomposition<'_, Self::Poly>, &Self::Poly)],
        rotations: &[Rotation<'_>],
        row: &RowLimbs,
    ) -> Result<Vec<Pairs<Self::Poly>>, RlweError>
    where
        Self: Sized,
    {
        let each = ciphertexts.iter();
        each.map(|(digits, c0)| self.rotated_products(digits, c0, rotations, row))
            .collect()
    }

    /// [`Backend::switch_and_add`] of several pairs: a backend may read a key once for those that share it.
    fn switch_and_add_each(
        &self,
        turned: &[Turned<'_, Self::Poly>],
        row: &RowLimbs,
        sums: &mut [(Self::Poly, Self::Poly)],
    ) -> Result<(), RlweError>
    where
        Self: Sized,
    {
        let mut each = turned.iter();
        each.try_for_each(|t| self.switch_and_add(t.pair, t.rotation, row, &mut sums[t.sum]))
    }

    /// [`Backend::switch_and_divide`] of several ciphertexts: a backend may read a key once for those that share it.
    fn switch_and_divide_each(
        &self,
        switches: &[Switched<'_, Self::Poly>],
        row: &RowLimbs,
    ) -> Result<Pairs<Self::Poly>, RlweError>
    where
        Self: Sized,
    {
        let each = switches.iter();
        each.map(|(digits, switch)| self.switch_and_divide(digits, *switch, row))
            .collect()
    }

    /// [`Backend::sums`] of several ciphertexts: a backend may read left factors once for those that share them.
    fn sums_each(
        &self,
        ciphertexts: &[Vec<Vec<Triple<'_, Self::Poly>>>],
        row: &RowLimbs,
    ) -> Vec<Pairs<Self::Poly>>
    where
        Self: Sized,
    {
        let each = ciphertexts.iter();
        each.map(|sums| self.sums(sums, row)).collect()
    }

    /// The first half of a linear map, for several ciphertexts (c0, c1) given as the digits of c1, and c0: for each giant step
    /// Σ diagonal · P · rotation(c0, c1) over its terms, on the row's QP. A baby without a rotation is the ciphertext itself.
    fn rotated_sums_each(
        &self,
        ciphertexts: Vec<(Decomposition<'_, Self::Poly>, &Self::Poly)>,
        babies: &[Option<Rotation<'_>>],
        giants: &[Vec<MapTerm<'_, Self::Poly>>],
        row: &RowLimbs,
    ) -> Result<Vec<Pairs<Self::Poly>>, RlweError>
    where
        Self: Sized,
    {
        compose::rotated_sums_each(self, ciphertexts, babies, giants, row)
    }
}

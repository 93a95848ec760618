//! Slots ↔ polynomials, specified to the bit.
//!
//! # The map
//! N = 2^log_n, n = N/2, ζ = exp(iπ/N). Slot j of a polynomial m with real coefficients is m(ζ^(5^j)), j < n. Because ζ^(n·5^j) = i, the
//! polynomial folds into n complex numbers c_k = m_k + i·m_(k+n) and slot j is Σ_k c_k ζ^(5^j·k): a complex transform of length n,
//! [`SlotTransform::special_fft`]. With 2^k < n slots the same transform of length 2^k serves the subring of polynomials in X^(n/2^k); the slots
//! of such a polynomial, seen in the whole ring, repeat with period 2^k. X → X^(5^r) turns slot j into slot j + r.
//!
//! # The transform
//! For len = 2, 4, …, n let w_j = exp(2πi·5^j/(4·len)), j < len/2, and R the bit reversal of n positions.
//! ```text
//! special_fft  = S_n ∘ … ∘ S_4 ∘ S_2 ∘ R          S_len on each block of len: (x, y) → (x + w_j·y, x - w_j·y)
//! special_ifft = 1/n · R ∘ T_2 ∘ T_4 ∘ … ∘ T_n     T_len on each block of len: (x, y) → (x + y, (x - y)·conj(w_j))
//! ```
//! with x at position j and y at position j + len/2 of the block; T_len = 2·S_len⁻¹. Bootstrapping builds its linear maps from these factors
//! ([`SlotTransform::stage`]): as an n×n matrix each has the diagonals 0, +len/2, -len/2. Leaving R out gives coefficients in bit-reversed
//! order, which costs bootstrapping nothing.
//!
//! # What is fixed
//! - Twiddles are the f64 nearest to the true value up to 2^-40 of an ulp around ties: double-double arithmetic from additions and products alone
//!   (no libm, no fused operation), see `twiddles.rs`. Multiplication is (ac - bd, ad + bc), each operation rounded, in this order.
//! - Encoding multiplies the output of special_ifft (1/n is exact) by the scale rounded to f64, and rounds half to even to an integer.
//! - Decoding takes the centred integer exactly, rounds it to f64, divides by the scale rounded to f64, then applies special_fft.
//!
//! No operation is contracted or reordered, so all instruction sets and thread counts give the same bits: passes that fuse stages or run on
//! wide registers perform the same operations per value (a test compares them, and a hash of known encodings).

mod crt;
mod dispatch;
mod encoder;
mod fft;
mod integers;
mod stages;
#[cfg(test)]
mod tests;
mod transform;
mod twiddles;

pub use encoder::Encoder;
pub use integers::{Coefficients, EncodedPolynomial};
pub use transform::{SlotTransform, StageDiagonal};

/// A complex slot value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Complex {
    /// Real part.
    pub re: f64,
    /// Imaginary part.
    pub im: f64,
}

impl Complex {
    /// re + i·im.
    pub const fn new(re: f64, im: f64) -> Complex {
        Complex { re, im }
    }
}

/// A vector that cannot be encoded, or residues that cannot be decoded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EncodingError {
    /// Ring sizes without tables.
    #[error("cannot encode for a ring of dimension 2^{found}: expected 2^3 to 2^17")]
    RingSize {
        /// Base-two logarithm asked for.
        found: u32,
    },
    /// The number of slots is no power of two up to N/2.
    #[error("cannot encode {found} slots: expected a power of two, at most {most}; pad or repeat the vector")]
    SlotCount {
        /// Values given.
        found: usize,
        /// N/2.
        most: usize,
    },
    /// NaN or infinity among the values.
    #[error("cannot encode slot {slot}: expected a finite value, found {found}")]
    NotFinite {
        /// Position of the first such value.
        slot: usize,
        /// The value.
        found: f64,
    },
    /// value · scale leaves the range of integers kept.
    #[error("cannot encode values at scale 2^{scale_log2:.1}: a coefficient reaches 2^{coefficient_log2:.1}, expected below 2^126")]
    TooLarge {
        /// The scale asked for.
        scale_log2: f64,
        /// Size of the largest coefficient.
        coefficient_log2: f64,
    },
    /// Residues do not fit each other or the ring.
    #[error("cannot decode: {what}; expected {expected}, found {found}")]
    Residues {
        /// Which count is wrong.
        what: &'static str,
        /// What it should be.
        expected: usize,
        /// What it is.
        found: usize,
    },
    /// Too many limbs to make numbers of.
    #[error("cannot decode from {found} limbs: expected 1 to {most}; drop the ciphertext to a lower level first")]
    TooManyLimbs {
        /// Limbs given.
        found: usize,
        /// Most supported.
        most: usize,
    },
    /// The polynomial is in evaluation form.
    #[error("cannot decode a polynomial in evaluation form; transform it to coefficients first")]
    EvaluationForm,
    /// The limbs or the ring do not fit.
    #[error(transparent)]
    Ring(#[from] crate::ring::RingError),
    /// A limb's modulus is unusable.
    #[error("cannot decode modulo {found}: expected distinct odd primes below 2^28, and residues below them")]
    Modulus {
        /// The modulus given.
        found: u32,
    },
}

//! Negacyclic number-theoretic transform of one limb.
//!
//! Forward: Cooley-Tukey butterflies with twiddles `psi^bitrev(k)`, natural order in, bit-reversed out, so word `i` of the
//! result is the value at `psi^(2 bitrev(i) + 1)` (Longa, Naehrig 2016/504). Inverse: Gentleman-Sande with the same table read
//! backwards, because `psi^-bitrev(m + i) = -psi^bitrev(2m - 1 - i)` for `i < m`.
//!
//! Canonical residues in and out on every path. The vector paths keep 8 bytes per twiddle of all but the last stages (Shoup), and 4 for most of
//! those (Montgomery form, by lane), the latter once for each direction: 720 KB (256-bit vectors) or 620 KB per prime at N = 2^16, of which a
//! transform reads somewhat more than half, and 64 KB more where 52-bit multiply-adds do forward transforms.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod codelets;
#[cfg(target_arch = "x86_64")]
mod ifma;
mod portable;
#[cfg(test)]
mod tests;

use super::simd::{InstructionSet, Reducer};
use crate::arith::{primes, Modulus, ShoupFactor};

/// Twiddles of one prime, laid out for one instruction set.
pub(crate) struct NttTable {
    modulus: Modulus,
    /// 1/N.
    n_inverse: u32,
    /// `-psi^(-N/2)`, the last inverse twiddle.
    last_twiddle: u32,
    kind: Kind,
}

enum Kind {
    /// Entry `k` is `psi^bitrev(k)`, `bitrev` over log2 N bits.
    Portable(Vec<ShoupFactor>),
    /// 256-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Narrow(codelets::Twiddles),
    /// 512-bit vectors; and where 52-bit multiply-adds do the outer stages of forward transforms, their twiddles.
    #[cfg(target_arch = "x86_64")]
    Wide(codelets::Twiddles, Option<ifma::Twiddles>),
}

impl Kind {
    /// The tables of the set, or of a lesser one where N is too short for its vectors.
    fn new(modulus: &Modulus, powers: &[u32], set: InstructionSet) -> Self {
        #[cfg(target_arch = "x86_64")]
        if set.is_avx512() {
            if let Some(twiddles) = codelets::Twiddles::new::<avx512::Wide>(modulus, powers) {
                let fused = set.has_ifma().then(|| ifma::Twiddles::new(modulus, powers));
                return Self::Wide(twiddles, fused.flatten());
            }
        }
        #[cfg(target_arch = "x86_64")]
        if set != InstructionSet::Portable {
            if let Some(twiddles) = codelets::Twiddles::new::<avx2::Narrow>(modulus, powers) {
                return Self::Narrow(twiddles);
            }
        }
        Self::Portable(powers.iter().map(|&w| modulus.shoup(w)).collect())
    }
}

/// What the last stage of an inverse transform multiplies sums and differences by: a factor times 1/N, and that times the last twiddle.
#[cfg(target_arch = "x86_64")]
struct Last {
    sum: ShoupFactor,
    difference: ShoupFactor,
}

impl NttTable {
    /// Tables for degree `2^log_n`, or `None` unless `2N` divides `q - 1`.
    pub fn new(log_n: u32, modulus: &Modulus, set: InstructionSet) -> Option<Self> {
        let n = 1usize << log_n;
        let psi = primes::primitive_root(modulus, 2 << log_n)?;
        let mut powers = vec![0u32; n];
        let step = modulus.shoup(psi);
        let mut power = 1;
        for k in 0..n {
            powers[k.reverse_bits() >> (usize::BITS - log_n)] = power;
            power = modulus.mul_shoup(power, step);
        }
        Some(Self {
            modulus: *modulus,
            n_inverse: modulus.inv(n as u32)?,
            last_twiddle: powers[1],
            kind: Kind::new(modulus, &powers, set),
        })
    }

    /// Coefficients to values, in place, canonical to canonical.
    pub fn forward(&self, a: &mut [u32]) {
        match &self.kind {
            Kind::Portable(twiddles) => {
                assert_eq!(a.len(), twiddles.len());
                portable::forward(self.modulus, twiddles, a);
            }
            #[cfg(target_arch = "x86_64")]
            _ => {
                let (a, length) = (a.as_mut_ptr(), a.len());
                // SAFETY: one buffer of that length, read before it is written.
                unsafe { self.forward_vectors(a, a, length) }
            }
        }
    }

    /// Coefficients to values, from one buffer to another.
    pub fn forward_from(&self, from: &[u32], to: &mut [u32]) {
        assert_eq!(from.len(), to.len());
        match &self.kind {
            Kind::Portable(_) => {
                to.copy_from_slice(from);
                self.forward(to);
            }
            #[cfg(target_arch = "x86_64")]
            _ => {
                let (from, to, length) = (from.as_ptr(), to.as_mut_ptr(), to.len());
                // SAFETY: two buffers of that length.
                unsafe { self.forward_vectors(from, to, length) }
            }
        }
    }

    /// Values to coefficients, in place, canonical to canonical, 1/N included.
    pub fn inverse(&self, a: &mut [u32]) {
        match &self.kind {
            Kind::Portable(twiddles) => {
                assert_eq!(a.len(), twiddles.len());
                let n_inverse = self.modulus.shoup(self.n_inverse);
                portable::inverse(self.modulus, twiddles, n_inverse, a);
            }
            #[cfg(target_arch = "x86_64")]
            _ => {
                let (a, length) = (a.as_mut_ptr(), a.len());
                // SAFETY: one buffer of that length, read before it is written.
                unsafe { self.inverse_vectors(a, a, length, 1) }
            }
        }
    }

    /// `factor` times the coefficients, from one buffer to another: the factor costs nothing, it replaces 1/N.
    pub fn inverse_scaled(&self, from: &[u32], to: &mut [u32], factor: u32) {
        assert_eq!(from.len(), to.len());
        match &self.kind {
            Kind::Portable(twiddles) => {
                assert_eq!(to.len(), twiddles.len());
                let factor = self.modulus.mul(self.n_inverse, factor);
                to.copy_from_slice(from);
                portable::inverse(self.modulus, twiddles, self.modulus.shoup(factor), to);
            }
            #[cfg(target_arch = "x86_64")]
            _ => {
                let (from, to, length) = (from.as_ptr(), to.as_mut_ptr(), to.len());
                // SAFETY: two buffers of that length.
                unsafe { self.inverse_vectors(from, to, length, factor) }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl NttTable {
    /// The forward transform of `n` words at `from`, to `to`, with vectors.
    ///
    /// # Safety
    /// Both point to `n` words; they are the same or do not overlap.
    unsafe fn forward_vectors(&self, from: *const u32, to: *mut u32, n: usize) {
        // SAFETY: tables are only built for available instruction sets; pointers as promised.
        unsafe {
            match &self.kind {
                Kind::Portable(_) => unreachable!("a table for vectors"),
                Kind::Narrow(twiddles) => twiddles.forward::<avx2::Narrow>(from, to, n),
                Kind::Wide(twiddles, None) => twiddles.forward::<avx512::Wide>(from, to, n),
                Kind::Wide(twiddles, Some(fused)) => fused.forward(twiddles, from, to, n),
            }
        }
    }

    /// `factor` times the inverse transform of `n` words at `from`, to `to`, with vectors.
    ///
    /// # Safety
    /// Both point to `n` words; they are the same or do not overlap.
    unsafe fn inverse_vectors(&self, from: *const u32, to: *mut u32, n: usize, factor: u32) {
        let sum = self.modulus.mul(self.n_inverse, factor);
        let difference = self.modulus.mul(sum, self.last_twiddle);
        let last = Last {
            sum: self.modulus.shoup(sum),
            difference: self.modulus.shoup(difference),
        };
        // SAFETY: tables are only built for available instruction sets; pointers as promised.
        unsafe {
            match &self.kind {
                Kind::Portable(_) => unreachable!("a table for vectors"),
                Kind::Narrow(twiddles) => twiddles.inverse::<avx2::Narrow>(from, to, n, &last),
                Kind::Wide(twiddles, _) => twiddles.inverse::<avx512::Wide>(from, to, n, &last),
            }
        }
    }
}

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
    Narrow(Box<codelets::Twiddles<avx2::Narrow>>),
    /// 512-bit vectors; and where 52-bit multiply-adds do the outer stages of forward transforms, their twiddles.
    #[cfg(target_arch = "x86_64")]
    Wide(
        Box<codelets::Twiddles<avx512::Wide>>,
        Option<ifma::Twiddles>,
    ),
}

impl Kind {
    /// The tables of the set, or of a lesser one where N is too short for its vectors.
    fn new(modulus: &Modulus, powers: &[u32], set: InstructionSet) -> Self {
        #[cfg(target_arch = "x86_64")]
        if set.is_avx512() {
            if let Some(twiddles) = codelets::Twiddles::new(modulus, powers) {
                let fused = set.has_ifma().then(|| ifma::Twiddles::new(modulus, powers));
                return Self::Wide(Box::new(twiddles), fused);
            }
        }
        #[cfg(target_arch = "x86_64")]
        if set != InstructionSet::Portable {
            if let Some(twiddles) = codelets::Twiddles::new(modulus, powers) {
                return Self::Narrow(Box::new(twiddles));
            }
        }
        Self::Portable(powers.iter().map(|&w| modulus.shoup(w)).collect())
    }
}

/// What the last stage of an inverse transform multiplies sums and differences by: a factor times 1/N, and that times the last twiddle.
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
        let (a, length) = (a.as_mut_ptr(), a.len());
        // SAFETY: one buffer of that length.
        unsafe { self.forward_at(a, a, length) }
    }

    /// Coefficients to values, from one buffer to another.
    pub fn forward_from(&self, from: &[u32], to: &mut [u32]) {
        assert_eq!(from.len(), to.len());
        // SAFETY: two buffers of that length.
        unsafe { self.forward_at(from.as_ptr(), to.as_mut_ptr(), to.len()) }
    }

    /// Values to coefficients, in place, canonical to canonical, 1/N included.
    pub fn inverse(&self, a: &mut [u32]) {
        let (a, length) = (a.as_mut_ptr(), a.len());
        // SAFETY: one buffer of that length.
        unsafe { self.inverse_at(a, a, length, 1) }
    }

    /// `factor` times the coefficients, from one buffer to another: the factor costs nothing, it replaces 1/N.
    pub fn inverse_scaled(&self, from: &[u32], to: &mut [u32], factor: u32) {
        assert_eq!(from.len(), to.len());
        // SAFETY: two buffers of that length.
        unsafe { self.inverse_at(from.as_ptr(), to.as_mut_ptr(), to.len(), factor) }
    }

    /// The forward transform of `n` words at `from`, to `to`.
    ///
    /// # Safety
    /// Both point to `n` words; they are the same or do not overlap.
    unsafe fn forward_at(&self, from: *const u32, to: *mut u32, n: usize) {
        // SAFETY: tables are only built for available instruction sets; pointers as promised, and all loops read words before they write them.
        unsafe {
            match &self.kind {
                Kind::Portable(twiddles) => {
                    portable::forward(self.modulus, twiddles, copied(from, to, n));
                }
                #[cfg(target_arch = "x86_64")]
                Kind::Narrow(twiddles) => twiddles.forward(from, to, n),
                #[cfg(target_arch = "x86_64")]
                Kind::Wide(twiddles, None) => twiddles.forward(from, to, n),
                #[cfg(target_arch = "x86_64")]
                Kind::Wide(twiddles, Some(fused)) => fused.forward(twiddles, from, to, n),
            }
        }
    }

    /// `factor` times the inverse transform of `n` words at `from`, to `to`.
    ///
    /// # Safety
    /// Both point to `n` words; they are the same or do not overlap.
    unsafe fn inverse_at(&self, from: *const u32, to: *mut u32, n: usize, factor: u32) {
        let sum = self.modulus.mul(self.n_inverse, factor);
        let difference = self.modulus.mul(sum, self.last_twiddle);
        let last = Last {
            sum: self.modulus.shoup(sum),
            difference: self.modulus.shoup(difference),
        };
        // SAFETY: as above.
        unsafe {
            match &self.kind {
                Kind::Portable(twiddles) => {
                    let to = copied(from, to, n);
                    portable::inverse(self.modulus, twiddles, last.sum, to);
                }
                #[cfg(target_arch = "x86_64")]
                Kind::Narrow(twiddles) => twiddles.inverse(from, to, n, &last),
                #[cfg(target_arch = "x86_64")]
                Kind::Wide(twiddles, _) => twiddles.inverse(from, to, n, &last),
            }
        }
    }
}

/// The `n` words at `to`, after those at `from` are copied there.
///
/// # Safety
/// Both point to `n` words that nobody else uses while the slice lives.
unsafe fn copied<'a>(from: *const u32, to: *mut u32, n: usize) -> &'a mut [u32] {
    // SAFETY: the caller's; the two may overlap.
    unsafe {
        std::ptr::copy(from, to, n);
        std::slice::from_raw_parts_mut(to, n)
    }
}

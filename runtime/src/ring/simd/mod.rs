//! Vectors of 32-bit words for the kernels, and the choice of instruction set at run time.
//!
//! A kernel is written once, generic over [`Vector`]; [`with_vectors!`] compiles it for every instruction set and picks one.
//! Every set computes the same canonical residues.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod word;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use word::Word;

use crate::arith::Modulus;
use std::sync::OnceLock;

/// Brings a line to the caches; any address will do.
#[inline(always)]
pub(crate) fn prefetch(line: *const u32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64, and a prefetch of no memory at all does nothing.
    unsafe {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
        _mm_prefetch::<_MM_HINT_T0>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

/// Which instructions the kernels use. The choice changes speed, never a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionSet {
    /// Plain Rust.
    Portable,
    /// 256-bit vectors.
    Avx2,
    /// 512-bit vectors (F, BW, DQ, VL).
    Avx512,
    /// The same, and 52-bit multiply-adds (IFMA) in transforms.
    Avx512Ifma,
    /// The same, and the matrix unit (AMX, tiles of 8-bit products) in basis extensions.
    Avx512Amx,
}

impl InstructionSet {
    /// Every set, the widest last.
    const ALL: [Self; 5] = [
        Self::Portable,
        Self::Avx2,
        Self::Avx512,
        Self::Avx512Ifma,
        Self::Avx512Amx,
    ];

    /// The fastest set this machine has: the widest, but for 52-bit multiply-adds where they are slower.
    pub fn detect() -> Self {
        // Asked for with every limb that is encoded; a virtual machine takes microseconds to say what its processor is.
        static DETECTED: OnceLock<InstructionSet> = OnceLock::new();
        *DETECTED.get_or_init(|| Self::fastest(&Self::all_available(), Self::is_amd()))
    }

    /// The fastest of some sets, the widest last.
    fn fastest(available: &[Self], is_amd: bool) -> Self {
        let slower = is_amd.then_some(Self::Avx512Ifma);
        let mut widest_first = available.iter().rev();
        let found = widest_first.find(|&&set| Some(set) != slower);
        found.copied().unwrap_or(Self::Portable)
    }

    /// Whether AMD made the processor. There a 32-bit multiplication (`vpmulld`) is one operation, and 512-bit products of either kind begin
    /// once a cycle; on Intel's it is two. So a butterfly of 16 words takes 4 multiplications of 32 bits or 6 multiply-adds of 52: forward transforms
    /// of 60 and 77 us on Zen 4.
    fn is_amd() -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let vendor = std::arch::x86_64::__cpuid(0);
            let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
            name.concat() == b"AuthenticAMD"
        }
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Whether this machine has the set.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Ifma => {
                Self::Avx512.is_available() && is_x86_feature_detected!("avx512ifma")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Amx => Self::Avx512Ifma.is_available() && amx::is_available(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Whether vectors have 512 bits.
    pub(crate) fn is_avx512(self) -> bool {
        matches!(self, Self::Avx512 | Self::Avx512Ifma | Self::Avx512Amx)
    }

    /// Whether 52-bit multiply-adds are there.
    pub(crate) fn has_ifma(self) -> bool {
        matches!(self, Self::Avx512Ifma | Self::Avx512Amx)
    }

    /// Whether there is a matrix unit.
    pub(crate) fn has_tiles(self) -> bool {
        self == Self::Avx512Amx
    }

    /// Sums of products that registers hold beside the factors.
    pub(crate) fn wide_sums(self) -> usize {
        if self.is_avx512() {
            8
        } else {
            4
        }
    }

    /// Every set this machine has, the widest last, for tests that compare them.
    pub fn all_available() -> Vec<Self> {
        let available = |set: &Self| set.is_available();
        Self::ALL.into_iter().filter(available).collect()
    }
}

/// Constants of one modulus for vector code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reducer {
    /// The prime.
    pub q: u32,
    /// `q^-1 mod 2^32`.
    pub q_inverse: u32,
    /// `2^32 mod q` and its Shoup quotient: undoes a Montgomery reduction.
    pub radix: crate::arith::ShoupFactor,
}

impl Reducer {
    pub fn new(modulus: &Modulus) -> Self {
        let q = modulus.value();
        let mut inverse = q;
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2u32.wrapping_sub(q.wrapping_mul(inverse)));
        }
        Self {
            q,
            q_inverse: inverse,
            radix: modulus.shoup(modulus.reduce_u64(1 << 32)),
        }
    }
}

/// A vector of `LANES` 32-bit words. Words wrap. All functions are `unsafe` because they need the instruction set of the implementor;
/// `load` and `store` need `LANES` accessible words besides.
///
/// # Safety
/// Call only on a machine that has the instruction set, from a function compiled with it (see [`with_vectors!`]).
pub(crate) trait Vector: Copy {
    /// Words per vector.
    const LANES: usize;
    /// Vectors of a row, 1 or 2, that sums of products are made of at a time: both of a line of the cache where a line holds two, because the
    /// line may be gone when all other rows have been read.
    const TOGETHER: usize;
    /// 64-bit accumulators, one per lane.
    type Wide: Copy;

    unsafe fn load(from: *const u32) -> Self;
    unsafe fn store(self, to: *mut u32);
    unsafe fn splat(word: u32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    /// Unsigned minimum.
    unsafe fn min(self, other: Self) -> Self;
    /// `self * w mod q` in `[0, 2q)` for any words; `quotient = floor(w 2^32 / q)`. Both constants the same in all lanes.
    unsafe fn shoup(self, w: Self, quotient: Self, q: Self) -> Self;

    unsafe fn wide_zero() -> Self::Wide;
    /// `sum + a * b` lane by lane.
    unsafe fn mac(sum: Self::Wide, a: Self, b: Self) -> Self::Wide;
    /// `sum + a * b` for a `b` that is the same in all lanes.
    unsafe fn mac_splat(sum: Self::Wide, a: Self, b: u32) -> Self::Wide;
    /// `sum + a * b` for a 64-bit `b` that is the same in all lanes; wraps.
    unsafe fn mac_splat_wide(sum: Self::Wide, a: Self, b: u64) -> Self::Wide;
    /// `sum + c` for a constant.
    unsafe fn wide_add(sum: Self::Wide, c: u64) -> Self::Wide;
    /// The words `sum >> 57`.
    unsafe fn wide_top(sum: Self::Wide) -> Self;
    /// `sum 2^-32 mod q` as a word in `(0, sum 2^-32 + q)`; needs `sum < 2^64 - q 2^32`.
    unsafe fn montgomery(sum: Self::Wide, q: Self, q_inverse: Self) -> Self;

    /// Sixteen words in another order: word l of the result is word `order[l]`, below 16. `from` and `to` may be the same.
    ///
    /// # Safety
    /// All three point to 16 words; the instruction set is present.
    #[inline(always)]
    unsafe fn permute_run(from: *const u32, to: *mut u32, order: *const u32) {
        // SAFETY: the caller's.
        unsafe {
            let words = from.cast::<[u32; 16]>().read();
            for l in 0..16 {
                *to.add(l) = words[*order.add(l) as usize & 15];
            }
        }
    }

    /// From `[0, 2 bound)` to `[0, bound)` if `bound` is a multiple of q: subtracts it where possible.
    #[inline(always)]
    unsafe fn fold(self, bound: Self) -> Self {
        // SAFETY: the caller has the instruction set.
        unsafe { self.min(self.sub(bound)) }
    }

    /// `sum mod q`, canonical, for `sum < 2^64 - q 2^32`.
    #[inline(always)]
    unsafe fn reduce(sum: Self::Wide, c: &Reducer) -> Self {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let q = Self::splat(c.q);
            let r = Self::montgomery(sum, q, Self::splat(c.q_inverse));
            r.shoup(Self::splat(c.radix.value), Self::splat(c.radix.quotient), q)
                .fold(q)
        }
    }
}

/// Compiles the body of a generic kernel for each instruction set and calls the one of `$set`.
/// `with_vectors!(set, fn kernel<V>(a: *const u32, ...) { ... })` passes the variables of the same names.
macro_rules! with_vectors {
    ($set:expr, fn $name:ident<$v:ident>($($arg:ident: $ty:ty),* $(,)?) $body:block) => {{
        #[inline(always)]
        unsafe fn $name<$v: $crate::ring::simd::Vector>($($arg: $ty),*) $body
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        unsafe fn avx512($($arg: $ty),*) {
            // SAFETY: compiled with the set; the pointers are the caller's promise.
            unsafe { $name::<$crate::ring::simd::Avx512>($($arg),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2")]
        unsafe fn avx2($($arg: $ty),*) {
            // SAFETY: as above.
            unsafe { $name::<$crate::ring::simd::Avx2>($($arg),*) }
        }
        match $set {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `InstructionSet` in a context is an available one; bounds are checked by the caller.
            set if set.is_avx512() => unsafe { avx512($($arg),*) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            $crate::ring::simd::InstructionSet::Avx2 => unsafe { avx2($($arg),*) },
            // SAFETY: plain words need no instruction set.
            _ => unsafe { $name::<$crate::ring::simd::Word>($($arg),*) },
        }
    }};
}
pub(crate) use with_vectors;

#[cfg(test)]
mod tests {
    use super::InstructionSet::{self, *};

    #[test]
    fn the_widest_set_is_taken_but_for_multiply_adds_of_52_bits_on_amd() {
        let fastest = InstructionSet::fastest;
        let zen4 = [Portable, Avx2, Avx512, Avx512Ifma];
        assert_eq!(fastest(&zen4, true), Avx512);
        assert_eq!(fastest(&zen4, false), Avx512Ifma);
        assert_eq!(fastest(&InstructionSet::ALL, false), Avx512Amx);
        assert_eq!(fastest(&zen4[..2], true), Avx2);
        assert_eq!(fastest(&[], true), Portable);
        assert!(InstructionSet::detect().is_available());
    }
}

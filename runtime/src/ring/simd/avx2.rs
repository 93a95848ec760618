//! 256-bit vectors. A 64-bit quantity per lane is kept as two vectors, for even and for odd lanes.

use super::Vector;
use std::arch::{asm, x86_64::*};

/// Eight words.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256i);

/// Moves the high words of `even` into the even lanes of `odd`: joins the high halves of two vectors of 64-bit products.
#[inline(always)]
unsafe fn join_high(even: __m256i, odd: __m256i) -> __m256i {
    // SAFETY: AVX2 is the caller's.
    unsafe { _mm256_blend_epi32::<0b1010_1010>(_mm256_shuffle_epi32::<0b11_11_01_01>(even), odd) }
}

/// Products of the low halves. Assembly, because where only the low half of a product is used the compiler would emulate a
/// full 64-bit multiplication.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn product(a: __m256i, b: __m256i) -> __m256i {
    let result;
    // SAFETY: AVX2 is the caller's; registers only.
    unsafe {
        asm!("vpmuludq {result}, {a}, {b}", result = lateout(ymm_reg) result, a = in(ymm_reg) a, b = in(ymm_reg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    result
}

/// `t - k q` with `k = t q^-1 mod 2^32`: the low half becomes zero, the high half is the signed Montgomery reduction in `(-q, t 2^-32]`.
#[inline(always)]
unsafe fn cancel_low(t: __m256i, q: __m256i, q_inverse: __m256i) -> __m256i {
    // SAFETY: AVX2 is the caller's.
    unsafe { _mm256_sub_epi64(t, _mm256_mul_epu32(product(t, q_inverse), q)) }
}

#[inline(always)]
unsafe fn odd_lanes(v: __m256i) -> __m256i {
    // SAFETY: AVX2 is the caller's.
    unsafe { _mm256_srli_epi64::<32>(v) }
}

/// Even and odd lanes.
#[derive(Clone, Copy)]
pub(crate) struct Wide {
    even: __m256i,
    odd: __m256i,
}

// SAFETY of every block below: AVX2 is present by the contract of `Vector`; pointers are the caller's.
impl Vector for Avx2 {
    const LANES: usize = 8;
    const TOGETHER: usize = 2;
    type Wide = Wide;

    #[inline(always)]
    unsafe fn permute_run(from: *const u32, to: *mut u32, order: *const u32) {
        // SAFETY: see above.
        unsafe {
            let (low, high) = (Self::load(from), Self::load(from.add(8)));
            for half in 0..2 {
                // Bits 0 to 2 choose the word, bit 3 the vector.
                let order = Self::load(order.add(8 * half)).0;
                let (low, high) = (
                    _mm256_permutevar8x32_epi32(low.0, order),
                    _mm256_permutevar8x32_epi32(high.0, order),
                );
                let turned = _mm256_blendv_ps(
                    _mm256_castsi256_ps(low),
                    _mm256_castsi256_ps(high),
                    _mm256_castsi256_ps(_mm256_slli_epi32::<28>(order)),
                );
                Self(_mm256_castps_si256(turned)).store(to.add(8 * half));
            }
        }
    }

    #[inline(always)]
    unsafe fn load(from: *const u32) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u32) {
        // SAFETY: see above.
        unsafe { _mm256_storeu_si256(to.cast(), self.0) }
    }
    #[inline(always)]
    unsafe fn splat(word: u32) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_set1_epi32(word as i32)) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_add_epi32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_sub_epi32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_min_epu32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn shoup(self, w: Self, quotient: Self, q: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            let even = _mm256_mul_epu32(self.0, quotient.0);
            let odd = _mm256_mul_epu32(odd_lanes(self.0), quotient.0);
            let h = join_high(even, odd);
            Self(_mm256_sub_epi32(
                _mm256_mullo_epi32(self.0, w.0),
                _mm256_mullo_epi32(h, q.0),
            ))
        }
    }
    #[inline(always)]
    unsafe fn wide_zero() -> Wide {
        // SAFETY: see above.
        unsafe {
            Wide {
                even: _mm256_setzero_si256(),
                odd: _mm256_setzero_si256(),
            }
        }
    }
    #[inline(always)]
    unsafe fn mac(sum: Wide, a: Self, b: Self) -> Wide {
        // SAFETY: see above.
        unsafe {
            Wide {
                even: _mm256_add_epi64(sum.even, _mm256_mul_epu32(a.0, b.0)),
                odd: _mm256_add_epi64(sum.odd, _mm256_mul_epu32(odd_lanes(a.0), odd_lanes(b.0))),
            }
        }
    }
    #[inline(always)]
    unsafe fn mac_splat(sum: Wide, a: Self, b: u32) -> Wide {
        // SAFETY: see above.
        unsafe {
            let b = _mm256_set1_epi32(b as i32);
            Wide {
                even: _mm256_add_epi64(sum.even, _mm256_mul_epu32(a.0, b)),
                odd: _mm256_add_epi64(sum.odd, _mm256_mul_epu32(odd_lanes(a.0), b)),
            }
        }
    }
    #[inline(always)]
    unsafe fn mac_splat_wide(sum: Wide, a: Self, b: u64) -> Wide {
        // SAFETY: see above.
        unsafe {
            let (low, high) = (
                _mm256_set1_epi64x((b & 0xffff_ffff) as i64),
                _mm256_set1_epi64x((b >> 32) as i64),
            );
            let odd = odd_lanes(a.0);
            Wide {
                even: _mm256_add_epi64(
                    sum.even,
                    _mm256_add_epi64(
                        _mm256_mul_epu32(a.0, low),
                        _mm256_slli_epi64::<32>(_mm256_mul_epu32(a.0, high)),
                    ),
                ),
                odd: _mm256_add_epi64(
                    sum.odd,
                    _mm256_add_epi64(
                        _mm256_mul_epu32(odd, low),
                        _mm256_slli_epi64::<32>(_mm256_mul_epu32(odd, high)),
                    ),
                ),
            }
        }
    }
    #[inline(always)]
    unsafe fn wide_add(sum: Wide, c: u64) -> Wide {
        // SAFETY: see above.
        unsafe {
            let c = _mm256_set1_epi64x(c as i64);
            Wide {
                even: _mm256_add_epi64(sum.even, c),
                odd: _mm256_add_epi64(sum.odd, c),
            }
        }
    }
    #[inline(always)]
    unsafe fn wide_top(sum: Wide) -> Self {
        // SAFETY: see above.
        unsafe {
            let odd = _mm256_slli_epi64::<32>(_mm256_srli_epi64::<57>(sum.odd));
            Self(_mm256_or_si256(_mm256_srli_epi64::<57>(sum.even), odd))
        }
    }
    #[inline(always)]
    unsafe fn montgomery(sum: Wide, q: Self, q_inverse: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            let (even, odd) = (
                cancel_low(sum.even, q.0, q_inverse.0),
                cancel_low(sum.odd, q.0, q_inverse.0),
            );
            Self(_mm256_add_epi32(join_high(even, odd), q.0))
        }
    }
}

//! 512-bit vectors. A 64-bit quantity per lane is kept as two vectors, for even and for odd lanes.

use super::Vector;
use std::arch::{asm, x86_64::*};

/// Sixteen words.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512i);

/// Moves the high words of `even` into the even lanes of `odd`: joins the high halves of two vectors of 64-bit products.
/// Assembly, because the compiler would take a two-source permutation, which is slower and needs copies.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn join_high(even: __m512i, odd: __m512i) -> __m512i {
    let mut joined = odd;
    // SAFETY: AVX-512F is the caller's; registers only.
    unsafe {
        asm!("vmovshdup {joined}{{{mask}}}, {even}", joined = inout(zmm_reg) joined, even = in(zmm_reg) even, mask = in(kreg) 0x5555u16,
            options(pure, nomem, nostack, preserves_flags));
    }
    joined
}

/// Products of the low halves. Assembly, because where only the low half of a product is used the compiler would take the
/// three times dearer 64-bit multiplication.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn product(a: __m512i, b: __m512i) -> __m512i {
    let result;
    // SAFETY: AVX-512F is the caller's; registers only.
    unsafe {
        asm!("vpmuludq {result}, {a}, {b}", result = lateout(zmm_reg) result, a = in(zmm_reg) a, b = in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    result
}

/// `t - k q` with `k = t q^-1 mod 2^32`: the low half becomes zero, the high half is the signed Montgomery reduction in `(-q, t 2^-32]`.
#[inline(always)]
unsafe fn cancel_low(t: __m512i, q: __m512i, q_inverse: __m512i) -> __m512i {
    // SAFETY: AVX-512F is the caller's.
    unsafe { _mm512_sub_epi64(t, _mm512_mul_epu32(product(t, q_inverse), q)) }
}

#[inline(always)]
unsafe fn odd_lanes(v: __m512i) -> __m512i {
    // SAFETY: AVX-512F is the caller's.
    unsafe { _mm512_srli_epi64::<32>(v) }
}

impl Avx512 {
    /// Lane `l` takes lane `indices[l]`.
    #[inline(always)]
    pub unsafe fn permute(self, indices: Self) -> Self {
        // SAFETY: AVX-512F is the caller's.
        unsafe { Self(_mm512_permutexvar_epi32(indices.0, self.0)) }
    }
}

/// Even and odd lanes.
#[derive(Clone, Copy)]
pub(crate) struct Wide {
    even: __m512i,
    odd: __m512i,
}

// SAFETY of every block below: AVX-512F is present by the contract of `Vector`; pointers are the caller's.
impl Vector for Avx512 {
    const LANES: usize = 16;
    const TOGETHER: usize = 1;
    type Wide = Wide;

    #[inline(always)]
    unsafe fn permute_run(from: *const u32, to: *mut u32, order: *const u32) {
        // SAFETY: see above.
        unsafe {
            Self::load(from).permute(Self::load(order)).store(to);
        }
    }

    #[inline(always)]
    unsafe fn load(from: *const u32) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_loadu_si512(from.cast())) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u32) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_si512(to.cast(), self.0) }
    }
    #[inline(always)]
    unsafe fn splat(word: u32) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_set1_epi32(word as i32)) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_add_epi32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_sub_epi32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_min_epu32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn shoup(self, w: Self, quotient: Self, q: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            let even = _mm512_mul_epu32(self.0, quotient.0);
            let odd = _mm512_mul_epu32(odd_lanes(self.0), quotient.0);
            let h = join_high(even, odd);
            Self(_mm512_sub_epi32(
                _mm512_mullo_epi32(self.0, w.0),
                _mm512_mullo_epi32(h, q.0),
            ))
        }
    }
    #[inline(always)]
    unsafe fn wide_zero() -> Wide {
        // SAFETY: see above.
        unsafe {
            Wide {
                even: _mm512_setzero_si512(),
                odd: _mm512_setzero_si512(),
            }
        }
    }
    #[inline(always)]
    unsafe fn mac(sum: Wide, a: Self, b: Self) -> Wide {
        // SAFETY: see above.
        unsafe {
            Wide {
                even: _mm512_add_epi64(sum.even, _mm512_mul_epu32(a.0, b.0)),
                odd: _mm512_add_epi64(sum.odd, _mm512_mul_epu32(odd_lanes(a.0), odd_lanes(b.0))),
            }
        }
    }
    #[inline(always)]
    unsafe fn mac_splat(sum: Wide, a: Self, b: u32) -> Wide {
        // SAFETY: see above.
        unsafe {
            let b = _mm512_set1_epi32(b as i32);
            Wide {
                even: _mm512_add_epi64(sum.even, _mm512_mul_epu32(a.0, b)),
                odd: _mm512_add_epi64(sum.odd, _mm512_mul_epu32(odd_lanes(a.0), b)),
            }
        }
    }
    #[inline(always)]
    unsafe fn mac_splat_wide(sum: Wide, a: Self, b: u64) -> Wide {
        // SAFETY: see above.
        unsafe {
            let (low, high) = (
                _mm512_set1_epi64((b & 0xffff_ffff) as i64),
                _mm512_set1_epi64((b >> 32) as i64),
            );
            let odd = odd_lanes(a.0);
            Wide {
                even: _mm512_add_epi64(
                    sum.even,
                    _mm512_add_epi64(
                        _mm512_mul_epu32(a.0, low),
                        _mm512_slli_epi64::<32>(_mm512_mul_epu32(a.0, high)),
                    ),
                ),
                odd: _mm512_add_epi64(
                    sum.odd,
                    _mm512_add_epi64(
                        _mm512_mul_epu32(odd, low),
                        _mm512_slli_epi64::<32>(_mm512_mul_epu32(odd, high)),
                    ),
                ),
            }
        }
    }
    #[inline(always)]
    unsafe fn wide_add(sum: Wide, c: u64) -> Wide {
        // SAFETY: see above.
        unsafe {
            let c = _mm512_set1_epi64(c as i64);
            Wide {
                even: _mm512_add_epi64(sum.even, c),
                odd: _mm512_add_epi64(sum.odd, c),
            }
        }
    }
    #[inline(always)]
    unsafe fn wide_top(sum: Wide) -> Self {
        // SAFETY: see above.
        unsafe {
            let odd = _mm512_slli_epi64::<32>(_mm512_srli_epi64::<57>(sum.odd));
            Self(_mm512_or_si512(_mm512_srli_epi64::<57>(sum.even), odd))
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
            Self(_mm512_add_epi32(join_high(even, odd), q.0))
        }
    }
}

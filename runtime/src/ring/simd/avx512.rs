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
    /// `self * w 2^-32 mod q` in `(-q, q)`, as a wrapping word, for `w` in `[0, q)` that differs by lane.
    #[inline(always)]
    pub unsafe fn montgomery_product(self, w: Self, q: Self, q_inverse: Self) -> Self {
        // SAFETY: AVX-512F is the caller's.
        unsafe {
            let even = _mm512_mul_epu32(self.0, w.0);
            let odd = _mm512_mul_epu32(odd_lanes(self.0), odd_lanes(w.0));
            Self(join_high(
                cancel_low(even, q.0, q_inverse.0),
                cancel_low(odd, q.0, q_inverse.0),
            ))
        }
    }

    /// [`Avx512::montgomery_product`] with sixteen words at `w`, and a seventeenth that may be read: odd words are loaded in the place of even
    /// ones, which costs no instruction.
    #[inline(always)]
    pub unsafe fn montgomery_product_at(self, w: *const u32, q: Self, q_inverse: Self) -> Self {
        // SAFETY: AVX-512F and the words are the caller's.
        unsafe {
            let even = _mm512_mul_epu32(self.0, Self::load(w).0);
            let odd = _mm512_mul_epu32(odd_lanes(self.0), Self::load(w.add(1)).0);
            Self(join_high(
                cancel_low(even, q.0, q_inverse.0),
                cancel_low(odd, q.0, q_inverse.0),
            ))
        }
    }

    /// Sixteen words.
    #[inline(always)]
    pub fn from_bits(bits: __m512i) -> Self {
        Self(bits)
    }

    /// Lanes in reverse order.
    #[inline(always)]
    pub unsafe fn reverse(self) -> Self {
        // SAFETY: AVX-512F is the caller's.
        unsafe {
            Self(_mm512_permutexvar_epi32(
                _mm512_set_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                self.0,
            ))
        }
    }

    /// Lane `l` takes lane `indices[l]`.
    #[inline(always)]
    pub unsafe fn permute(self, indices: Self) -> Self {
        // SAFETY: AVX-512F is the caller's.
        unsafe { Self(_mm512_permutexvar_epi32(indices.0, self.0)) }
    }

    /// Transposes a 16 by 16 matrix of words.
    #[inline(always)]
    pub unsafe fn transpose(x: [Self; 16]) -> [Self; 16] {
        // SAFETY: AVX-512F is the caller's.
        unsafe {
            let mut a = [
                x[0].0, x[1].0, x[2].0, x[3].0, x[4].0, x[5].0, x[6].0, x[7].0, x[8].0, x[9].0,
                x[10].0, x[11].0, x[12].0, x[13].0, x[14].0, x[15].0,
            ];
            // Pairs of rows, then of pairs: 4 by 4 blocks inside 128-bit lanes.
            macro_rules! pairs {
                ($lo:expr, $hi:expr; $(($i:literal, $j:literal)),*) => {
                    $( (a[$i], a[$j]) = ($lo(a[$i], a[$j]), $hi(a[$i], a[$j])); )*
                };
            }
            pairs!(|p, q| _mm512_unpacklo_epi32(p, q), |p, q| _mm512_unpackhi_epi32(p, q);
                (0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11), (12, 13), (14, 15));
            pairs!(|p, q| _mm512_unpacklo_epi64(p, q), |p, q| _mm512_unpackhi_epi64(p, q);
                (0, 2), (1, 3), (4, 6), (5, 7), (8, 10), (9, 11), (12, 14), (13, 15));
            // Now a[4g + {0, 2, 1, 3}] holds columns {0, 1, 2, 3} + 4 * lane of rows 4g .. 4g + 3.
            pairs!(|p, q| _mm512_shuffle_i32x4::<0x88>(p, q), |p, q| _mm512_shuffle_i32x4::<0xdd>(p, q);
                (0, 4), (1, 5), (2, 6), (3, 7), (8, 12), (9, 13), (10, 14), (11, 15));
            pairs!(|p, q| _mm512_shuffle_i32x4::<0x88>(p, q), |p, q| _mm512_shuffle_i32x4::<0xdd>(p, q);
                (0, 8), (1, 9), (2, 10), (3, 11), (4, 12), (5, 13), (6, 14), (7, 15));
            // No `map` on arrays here: the compiler would pass them through memory.
            // Column c + 4 l sits at: l = 0: a[c'], l = 1: a[c' + 4], l = 2: a[c' + 8], l = 3: a[c' + 12], c' = c with 1 and 2 exchanged.
            [
                Self(a[0]),
                Self(a[2]),
                Self(a[1]),
                Self(a[3]),
                Self(a[4]),
                Self(a[6]),
                Self(a[5]),
                Self(a[7]),
                Self(a[8]),
                Self(a[10]),
                Self(a[9]),
                Self(a[11]),
                Self(a[12]),
                Self(a[14]),
                Self(a[13]),
                Self(a[15]),
            ]
        }
    }
}

/// Remainders modulo q of words below 16q: the multiple of q to take off, up to one, is looked up by a word's leading bits.
#[derive(Clone, Copy)]
pub(crate) struct Remainder {
    multiples: [__m512i; 2],
    shift: __m512i,
}

impl Remainder {
    /// The 32 multiples `floor(t 2^b / q) q` for `2^b <= q < 2^(b+1)`: a word `x` less that of `t = floor(x / 2^b)` is below `q + 2^b`.
    pub fn table(q: u32) -> [u32; 32] {
        std::array::from_fn(|t| {
            let multiple = ((t as u64) << q.ilog2()) / u64::from(q) * u64::from(q);
            // Words end at 2^32: leading bits of larger numbers do not occur.
            u32::try_from(multiple).unwrap_or(0)
        })
    }

    /// From [`Remainder::table`].
    #[inline(always)]
    pub unsafe fn new(table: &[u32; 32], q: u32) -> Self {
        // SAFETY: AVX-512F is the caller's.
        unsafe {
            Self {
                multiples: [
                    _mm512_loadu_si512(table.as_ptr().cast()),
                    _mm512_loadu_si512(table.as_ptr().add(16).cast()),
                ],
                shift: _mm512_set1_epi32(q.ilog2() as i32),
            }
        }
    }

    /// `x mod q`.
    #[inline(always)]
    pub unsafe fn of(&self, x: Avx512, q: Avx512) -> Avx512 {
        // SAFETY: AVX-512F is the caller's.
        unsafe {
            let leading = _mm512_srlv_epi32(x.0, self.shift);
            let multiple = _mm512_permutex2var_epi32(self.multiples[0], leading, self.multiples[1]);
            Avx512(_mm512_sub_epi32(x.0, multiple)).fold(q)
        }
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

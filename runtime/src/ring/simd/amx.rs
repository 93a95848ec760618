//! The matrix unit (Intel AMX): products of tiles of bytes, and residues from them.
//!
//! A residue is four bytes, `y = sum_a y_a 2^(8a)`, and `y w mod p = sum_a y_a v_a` with `v_a = w 2^(8a) mod p`, again four bytes each. So a
//! sum of `y_i w_i` is `T = sum_b 2^(8b) C_b` where `C_b` is a sum of products of a byte of a residue and a byte of a weight. One instruction makes
//! a tile of 16 by 16 such sums of 16 terms, and it reads residues as they lie in memory.

use super::super::words::Words;
use std::arch::{asm, x86_64::*};

/// Rows of a tile, and words of a row.
pub(crate) const SIDE: usize = 16;
/// Words of a tile.
pub(crate) const TILE: usize = SIDE * SIDE;
/// Bytes of a residue.
pub(crate) const BYTES: usize = 4;
/// `T 2^-16` is what the quotient by the prime is found from: for smaller primes the part left out counts.
const SMALLEST_PRIME: u32 = 1 << 18;

/// The four sums `C_b`, a tile each.
#[repr(C, align(64))]
pub(crate) struct Sums(pub [u32; BYTES * TILE]);

impl Sums {
    pub const fn zero() -> Self {
        Self([0; BYTES * TILE])
    }
}

/// Adds byte `b` of each `weight 2^(8a) mod p` to the word at `place(b)`, at its byte a: the weight of a residue in the sum `C_b`.
pub(crate) fn put_weight(words: &mut Words, weight: u32, p: u32, place: impl Fn(usize) -> usize) {
    for a in 0..BYTES {
        let shifted = (u64::from(weight) << (8 * a)) % u64::from(p);
        for b in 0..BYTES {
            words[place(b)] |= ((shifted >> (8 * b)) as u32 & 0xff) << (8 * a);
        }
    }
}

/// What takes `T` to its remainder by a prime.
#[derive(Clone, Copy)]
pub(crate) struct TileReducer {
    p: u32,
    /// `2^16 / p`, less a part in 2^21: quotients never come out too large.
    quotient: f32,
}

impl TileReducer {
    /// None for a prime too small.
    pub fn new(p: u32) -> Option<Self> {
        let exact = 65_536.0 / f64::from(p);
        (p >= SMALLEST_PRIME).then_some(Self {
            p,
            quotient: (exact * (1.0 - 1.0 / 2_097_152.0)) as f32,
        })
    }

    /// Canonical residues of `T`, where the sums have at most 32 terms.
    ///
    /// # Safety
    /// Four tiles of sums, of which vector `row` is taken; AVX-512F.
    #[inline(always)]
    pub unsafe fn of(&self, sums: *const u32, row: usize) -> __m512i {
        // SAFETY: the caller's.
        unsafe {
            let load = |b: usize| _mm512_load_si512(sums.add(b * TILE + row * SIDE).cast());
            let low = _mm512_add_epi32(load(0), _mm512_slli_epi32::<8>(load(1)));
            let high = _mm512_add_epi32(load(2), _mm512_slli_epi32::<8>(load(3)));
            // floor(T 2^-16), below 2^28; then a quotient that is at most floor(T / p) and at least one less.
            let leading = _mm512_add_epi32(high, _mm512_srli_epi32::<16>(low));
            let quotient = _mm512_cvttps_epi32(_mm512_mul_ps(
                _mm512_cvtepi32_ps(leading),
                _mm512_set1_ps(self.quotient),
            ));
            let p = _mm512_set1_epi32(self.p as i32);
            let words = _mm512_add_epi32(low, _mm512_slli_epi32::<16>(high));
            let r = _mm512_sub_epi32(words, _mm512_mullo_epi32(quotient, p));
            _mm512_min_epu32(r, _mm512_sub_epi32(r, p))
        }
    }
}

/// The shapes of the tile registers, as `ldtilecfg` reads them (Intel SDM, volume 1, chapter 18).
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Every register: 16 rows of 64 bytes.
static SHAPES: Shapes = {
    let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
    let mut tile = 0;
    while tile < 8 {
        (row_bytes[tile], rows[tile]) = (64, 16);
        tile += 1;
    }
    Shapes {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes,
        rows,
    }
};

/// Takes the registers into use. Contents stay from here to [`release`]: only the code in between names them.
///
/// # Safety
/// The unit is available.
#[inline(always)]
pub(crate) unsafe fn configure() {
    // SAFETY: the caller's.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &raw const SHAPES, options(nostack, preserves_flags));
    }
}

/// Gives the registers up.
///
/// # Safety
/// The unit is available.
#[inline(always)]
pub(crate) unsafe fn release() {
    // SAFETY: the caller's.
    unsafe {
        asm!("tilerelease", options(nostack, nomem, preserves_flags));
    }
}

/// Brings four tiles of words, one after the other, into registers 0 to 3.
///
/// # Safety
/// The four tiles; between [`configure`] and [`release`].
#[inline(always)]
pub(crate) unsafe fn load_four(from: *const u32) {
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "tileloadd tmm0, [{from} + {line}]",
            "tileloadd tmm1, [{from} + {line} + 1024]",
            "tileloadd tmm2, [{from} + {line} + 2048]",
            "tileloadd tmm3, [{from} + {line} + 3072]",
            from = in(reg) from,
            line = in(reg) 4 * SIDE,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            options(nostack, readonly, preserves_flags)
        );
    }
}

/// `tile_load!("tmm4", from, apart)`: a tile whose rows are so many words apart.
macro_rules! tile_load {
    ($to:literal, $from:expr, $apart:expr) => {
        std::arch::asm!(concat!("tileloadd ", $to, ", [{from} + {apart}]"), from = in(reg) $from, apart = in(reg) 4 * $apart,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm7") _,
            options(nostack, readonly, preserves_flags))
    };
}

/// `tile_product!("tmm5" = "tmm0", "tmm4")`: sums of products of bytes; the first factor has a row per row, the second a word per word of the result.
macro_rules! tile_product {
    ($sums:literal = $rows:literal, $words:literal) => {
        std::arch::asm!(concat!("tilezero ", $sums), concat!("tdpbuud ", $sums, ", ", $rows, ", ", $words),
            out("tmm5") _, out("tmm6") _, options(nostack, nomem, preserves_flags))
    };
}

/// `tile_store!("tmm5", to)`: a tile, its rows one after the other.
macro_rules! tile_store {
    ($from:literal, $to:expr) => {
        std::arch::asm!(concat!("tilestored [{to} + {line}], ", $from), to = in(reg) $to, line = in(reg) 64usize,
            options(nostack, preserves_flags))
    };
}
pub(crate) use {tile_load, tile_product, tile_store};

/// Whether the processor multiplies tiles of 8-bit integers (AMX-TILE, AMX-INT8) and the system lets this process use them: Linux gives a
/// thread room for the registers only in a process that asked for it (`ARCH_REQ_XCOMP_PERM`; Linux, Documentation/arch/x86/xstate.rst).
pub(super) fn is_available() -> bool {
    #[cfg(target_os = "linux")]
    {
        use std::sync::OnceLock;
        static PERMITTED: OnceLock<bool> = OnceLock::new();
        *PERMITTED.get_or_init(|| present() && permitted())
    }
    #[cfg(not(target_os = "linux"))]
    false
}

#[cfg(target_os = "linux")]
fn present() -> bool {
    const TILE: u32 = 1 << 24;
    const INT8: u32 = 1 << 25;
    let features = __cpuid_count(7, 0).edx;
    features & TILE != 0 && features & INT8 != 0
}

#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: a system call on two numbers; a system that does not know it says so.
    unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        ) == 0
    }
}

//! One word at a time: the portable vectors.

use super::Vector;

/// A vector of one lane.
#[derive(Clone, Copy)]
pub(crate) struct Word(u32);

// Nothing here needs an instruction set: the functions are unsafe by the trait's contract only; load and store by their pointers.
impl Vector for Word {
    const LANES: usize = 1;
    const TOGETHER: usize = 1;
    type Wide = u64;

    #[inline(always)]
    unsafe fn load(from: *const u32) -> Self {
        // SAFETY: the caller vouches for the pointer.
        Self(unsafe { from.read() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u32) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { to.write(self.0) }
    }
    #[inline(always)]
    unsafe fn splat(word: u32) -> Self {
        Self(word)
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }
    #[inline(always)]
    unsafe fn shoup(self, w: Self, quotient: Self, q: Self) -> Self {
        let h = ((u64::from(self.0) * u64::from(quotient.0)) >> 32) as u32;
        Self(self.0.wrapping_mul(w.0).wrapping_sub(h.wrapping_mul(q.0)))
    }
    #[inline(always)]
    unsafe fn wide_zero() -> u64 {
        0
    }
    #[inline(always)]
    unsafe fn mac(sum: u64, a: Self, b: Self) -> u64 {
        sum.wrapping_add(u64::from(a.0) * u64::from(b.0))
    }
    #[inline(always)]
    unsafe fn mac_splat(sum: u64, a: Self, b: u32) -> u64 {
        sum.wrapping_add(u64::from(a.0) * u64::from(b))
    }
    #[inline(always)]
    unsafe fn mac_splat_wide(sum: u64, a: Self, b: u64) -> u64 {
        sum.wrapping_add(u64::from(a.0).wrapping_mul(b))
    }
    #[inline(always)]
    unsafe fn wide_add(sum: u64, c: u64) -> u64 {
        sum.wrapping_add(c)
    }
    #[inline(always)]
    unsafe fn wide_top(sum: u64) -> Self {
        Self((sum >> 57) as u32)
    }
    #[inline(always)]
    unsafe fn montgomery(sum: u64, q: Self, q_inverse: Self) -> Self {
        let k = (sum as u32).wrapping_mul(q_inverse.0);
        let u = u64::from(k) * u64::from(q.0);
        Self(
            ((sum >> 32) as u32)
                .wrapping_sub((u >> 32) as u32)
                .wrapping_add(q.0),
        )
    }
}

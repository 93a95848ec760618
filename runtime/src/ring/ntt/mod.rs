//! Negacyclic number-theoretic transform of one limb.
//!
//! Forward: Cooley-Tukey butterflies with twiddles `psi^bitrev(k)`, natural order in, bit-reversed out, so word `i` of the
//! result is the value at `psi^(2 bitrev(i) + 1)` (Longa, Naehrig 2016/504). Inverse: Gentleman-Sande with the same table read
//! backwards, because `psi^-bitrev(m + i) = -psi^bitrev(2m - 1 - i)` for `i < m`.
//!
//! Canonical residues in and out on every path. The vector paths keep 4 bytes per twiddle of the last stages (Montgomery form, by lane) and
//! 8 bytes for the few others (Shoup), 16 more where 52-bit multiply-adds do forward transforms; with 256-bit vectors 8 for all but the last
//! stage: 290 to 400 KB per prime at N = 2^16.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod ifma;
#[cfg(target_arch = "x86_64")]
mod passes;
mod portable;
#[cfg(target_arch = "x86_64")]
mod square;
#[cfg(test)]
mod tests;

use super::simd::{InstructionSet, Reducer};
use crate::arith::{primes, Modulus, ShoupFactor};

/// Twiddles of one prime, laid out for one instruction set.
pub(crate) struct NttTable {
    modulus: Modulus,
    kind: Kind,
}

enum Kind {
    /// Entry `k` is `psi^bitrev(k)`, `bitrev` over log2 N bits; and 1/N.
    Portable(Vec<ShoupFactor>, ShoupFactor),
    #[cfg(target_arch = "x86_64")]
    Vector(Box<VectorTable>),
}

/// Twiddles for vectors of L lanes: the array is cut into `squares` pieces of L*L words.
#[cfg(target_arch = "x86_64")]
struct VectorTable {
    reducer: Reducer,
    squares: usize,
    /// `psi^bitrev(k)` for `k < N / L`, and the Shoup quotients; of 512-bit vectors.
    values: Vec<u32>,
    quotients: Vec<u32>,
    /// Of 512-bit vectors, per square, `(L - 1) * L` twiddles in Montgomery form: vector `t - 1` holds for each lane `l` descendant `t` (heap order) of the
    /// butterfly tree on the `l`-th run of L words.
    inner: Vec<u32>,
    /// Where the first square's begin: a line of the cache. One word may be read after the last.
    inner_start: usize,
    /// [`Remainder::table`] of the prime.
    multiples: [u32; 32],
    /// Twiddles of the stages before the squares' lanes where 52-bit multiply-adds do them.
    wide: Option<ifma::WideTwiddles>,
    /// Those of transforms with 256-bit vectors.
    narrow: Option<avx2::Twiddles>,
    /// 1/N.
    n_inverse: u32,
    /// `-psi^(-N/2)`, the last inverse twiddle.
    last_twiddle: u32,
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
        let n_inverse = modulus.inv(n as u32)?;
        let kind = match set {
            #[cfg(target_arch = "x86_64")]
            set if set != InstructionSet::Portable => {
                Kind::Vector(Box::new(VectorTable::new(modulus, &powers, n_inverse, set)))
            }
            _ => Kind::Portable(
                powers.iter().map(|&w| modulus.shoup(w)).collect(),
                modulus.shoup(n_inverse),
            ),
        };
        Some(Self {
            modulus: *modulus,
            kind,
        })
    }

    /// Coefficients to values, in place, canonical to canonical.
    pub fn forward(&self, a: &mut [u32]) {
        match &self.kind {
            Kind::Portable(twiddles, _) => {
                assert_eq!(a.len(), twiddles.len());
                portable::forward(&self.modulus, twiddles, a);
            }
            #[cfg(target_arch = "x86_64")]
            Kind::Vector(table) => {
                let (a, length) = (a.as_mut_ptr(), a.len());
                // SAFETY: one buffer of that length, read before it is written.
                unsafe { table.forward(a, a, length) }
            }
        }
    }

    /// Coefficients to values, from one buffer to another.
    pub fn forward_from(&self, from: &[u32], to: &mut [u32]) {
        assert_eq!(from.len(), to.len());
        match &self.kind {
            Kind::Portable(..) => {
                to.copy_from_slice(from);
                self.forward(to);
            }
            #[cfg(target_arch = "x86_64")]
            Kind::Vector(table) => {
                let (from, to, length) = (from.as_ptr(), to.as_mut_ptr(), to.len());
                // SAFETY: two buffers of that length.
                unsafe { table.forward(from, to, length) }
            }
        }
    }

    /// Values to coefficients, in place, canonical to canonical, 1/N included.
    pub fn inverse(&self, a: &mut [u32]) {
        match &self.kind {
            Kind::Portable(twiddles, n_inverse) => {
                assert_eq!(a.len(), twiddles.len());
                portable::inverse(&self.modulus, twiddles, *n_inverse, a);
            }
            #[cfg(target_arch = "x86_64")]
            Kind::Vector(table) => {
                let (a, length) = (a.as_mut_ptr(), a.len());
                // SAFETY: one buffer of that length, read before it is written.
                unsafe { table.inverse(&self.modulus, a, a, length, 1) }
            }
        }
    }

    /// `factor` times the coefficients, from one buffer to another: the factor costs nothing, it replaces 1/N.
    pub fn inverse_scaled(&self, from: &[u32], to: &mut [u32], factor: u32) {
        assert_eq!(from.len(), to.len());
        match &self.kind {
            Kind::Portable(twiddles, n_inverse) => {
                assert_eq!(to.len(), twiddles.len());
                let factor = self
                    .modulus
                    .shoup(self.modulus.mul(n_inverse.value, factor));
                to.copy_from_slice(from);
                portable::inverse(&self.modulus, twiddles, factor, to);
            }
            #[cfg(target_arch = "x86_64")]
            Kind::Vector(table) => {
                let (from, to, length) = (from.as_ptr(), to.as_mut_ptr(), to.len());
                // SAFETY: two buffers of that length.
                unsafe { table.inverse(&self.modulus, from, to, length, factor) }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
/// Stages of the strided passes before the squares, as even as possible, larger ones first; unused entries are zero.
#[cfg(target_arch = "x86_64")]
fn plan(stages: u32, most: u32) -> [u32; 4] {
    let count = stages.div_ceil(most).max(1);
    std::array::from_fn(|i| {
        if (i as u32) < count {
            (stages + count - 1 - i as u32) / count
        } else {
            0
        }
    })
}

#[cfg(target_arch = "x86_64")]
mod vector {
    use super::passes::{forward_pass, inverse_pass, Constants};
    use super::square::Square;
    use super::*;
    use super::{avx2, ifma};
    use crate::ring::simd::{Avx512, Remainder};

    impl VectorTable {
        pub(super) fn new(
            modulus: &Modulus,
            powers: &[u32],
            n_inverse: u32,
            set: InstructionSet,
        ) -> Self {
            let lanes = if set.is_avx512() { 16 } else { 8 };
            let squares = powers.len() / (lanes * lanes);
            let runs = powers.len() / lanes;
            // Those of 256-bit vectors are elsewhere.
            let (outer, filled) = if set.is_avx512() {
                (runs, squares)
            } else {
                (0, 0)
            };
            let values = powers[..outer].to_vec();
            let quotients = values.iter().map(|&w| modulus.shoup(w).quotient).collect();
            let radix = modulus.shoup(modulus.reduce_u64(1 << 32));
            let line = 16;
            let mut inner: Vec<u32> = Vec::with_capacity(filled * (lanes - 1) * lanes + line + 1);
            let inner_start = inner.as_ptr().align_offset(64).min(line);
            inner.resize(inner_start, 0);
            for square in 0..filled {
                for t in 1..lanes {
                    let level = t.ilog2();
                    inner.extend((0..lanes).map(|lane| {
                        let root = runs + square * lanes + lane;
                        modulus.mul_shoup(powers[(root << level) + t - (1 << level)], radix)
                    }));
                }
            }
            inner.push(0);
            let wide = match set.has_ifma() {
                true => ifma::WideTwiddles::new(modulus, powers),
                false => None,
            };
            let narrow = (!set.is_avx512()).then(|| avx2::Twiddles::new(modulus, powers));
            Self {
                reducer: Reducer::new(modulus),
                squares,
                values,
                quotients,
                inner,
                inner_start,
                multiples: Remainder::table(modulus.value()),
                wide,
                narrow,
                n_inverse,
                last_twiddle: powers[1],
            }
        }

        /// Remainders of words below 16q.
        #[inline(always)]
        pub(super) unsafe fn remainder(&self) -> Remainder {
            // SAFETY: AVX-512F is the caller's.
            unsafe { Remainder::new(&self.multiples, self.reducer.q) }
        }

        /// The forward transform of `n` words at `from`, to `to`.
        ///
        /// # Safety
        /// Both point to `n` words; they are the same or do not overlap.
        pub(super) unsafe fn forward(&self, from: *const u32, to: *mut u32, n: usize) {
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
            unsafe fn avx512(table: &VectorTable, from: *const u32, to: *mut u32, n: usize) {
                // SAFETY: compiled with the set; pointers as promised.
                unsafe { forward::<Avx512>(table, from, to, n) }
            }
            // SAFETY: tables are only built for available instruction sets; pointers as promised.
            unsafe {
                if let Some(narrow) = &self.narrow {
                    avx2::forward(self, narrow, from, to, n)
                } else if let Some(wide) = &self.wide {
                    ifma::forward(self, wide, from, to, n)
                } else {
                    avx512(self, from, to, n)
                }
            }
        }

        /// `factor` times the inverse transform of `n` words at `from`, to `to`.
        ///
        /// # Safety
        /// Both point to `n` words; they are the same or do not overlap.
        pub(super) unsafe fn inverse(
            &self,
            modulus: &Modulus,
            from: *const u32,
            to: *mut u32,
            n: usize,
            factor: u32,
        ) {
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
            unsafe fn avx512(
                table: &VectorTable,
                from: *const u32,
                to: *mut u32,
                n: usize,
                factors: &Last,
            ) {
                // SAFETY: compiled with the set; pointers as promised.
                unsafe { inverse::<Avx512>(table, from, to, n, factors) }
            }
            let sum = modulus.mul(self.n_inverse, factor);
            let factors = Last {
                sum: modulus.shoup(sum),
                difference: modulus.shoup(modulus.mul(sum, self.last_twiddle)),
            };
            // SAFETY: tables are only built for available instruction sets; pointers as promised.
            unsafe {
                match &self.narrow {
                    Some(narrow) => avx2::inverse(self, narrow, from, to, n, &factors),
                    None => avx512(self, from, to, n, &factors),
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn forward<V: Square>(table: &VectorTable, from: *const u32, to: *mut u32, n: usize) {
        assert_eq!(n, table.squares << (2 * V::LOG));
        let passes = plan(n.ilog2() - 2 * V::LOG, V::PASS);
        // SAFETY: every pass and square stays inside the n words; the caller has the instruction set.
        unsafe {
            let c = Constants::<V>::new(table);
            // Bound of the values, in units of q; folding brings 16 down to 8 (see `passes`).
            let mut bound = 1;
            let mut step = |stages: u32| {
                let fold = bound + 2 * stages > 16;
                bound = if fold { 8 } else { bound } + 2 * stages;
                fold
            };
            let fold = step(passes[0]);
            if passes[0] > 0 {
                forward_pass::<V>(from, to, n, passes[0], 1, table, fold);
            } else {
                std::ptr::copy(from, to, n);
            }
            let folds: [bool; 3] = [step(passes[1]), step(passes[2]), step(passes[3])];
            let fold_square = step(V::LOG);
            // After the first pass the blocks are independent: finish each while it is in the first-level cache.
            let length = n >> passes[0];
            for block in 0..1usize << passes[0] {
                let base = to.add(block * length);
                let (mut count, mut size) = (1usize, length);
                let mut root = (1usize << passes[0]) + block;
                for (&stages, &fold) in passes[1..].iter().zip(&folds) {
                    if stages > 0 {
                        for i in 0..count {
                            forward_pass::<V>(
                                base.add(i * size),
                                base.add(i * size),
                                size,
                                stages,
                                root + i,
                                table,
                                fold,
                            );
                        }
                        (count, size, root) = (count << stages, size >> stages, root << stages);
                    }
                }
                for i in 0..count {
                    if fold_square {
                        V::forward_square::<true>(base.add(i * size), block * count + i, table, &c);
                    } else {
                        V::forward_square::<false>(
                            base.add(i * size),
                            block * count + i,
                            table,
                            &c,
                        );
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn inverse<V: Square>(
        table: &VectorTable,
        from: *const u32,
        to: *mut u32,
        n: usize,
        factors: &Last,
    ) {
        assert_eq!(n, table.squares << (2 * V::LOG));
        let passes = plan(n.ilog2() - 2 * V::LOG, V::PASS);
        // SAFETY: every pass and square stays inside the n words; the caller has the instruction set.
        unsafe {
            let c = Constants::<V>::new(table);
            let length = n >> passes[0];
            let only_square = passes[0] == 0;
            for block in 0..1usize << passes[0] {
                let base = to.add(block * length);
                let per_block = table.squares >> passes[0];
                for i in 0..per_block {
                    let square = block * per_block + i;
                    let (from, to) = (
                        from.add(square << (2 * V::LOG)),
                        base.add(i << (2 * V::LOG)),
                    );
                    if only_square {
                        V::inverse_square::<true>(from, to, square, table, factors, &c);
                    } else {
                        V::inverse_square::<false>(from, to, square, table, factors, &c);
                    }
                }
                let mut count = per_block;
                for &stages in passes[1..].iter().rev() {
                    if stages > 0 {
                        count >>= stages;
                        let size = length / count;
                        let m = count << passes[0];
                        for i in 0..count {
                            // Root m + b is mirrored to 2m - 1 - b.
                            let mirror = 2 * m - 1 - (block * count + i);
                            inverse_pass::<V>(
                                base.add(i * size),
                                size,
                                stages,
                                mirror,
                                table,
                                factors,
                                false,
                            );
                        }
                    }
                }
            }
            if !only_square {
                inverse_pass::<V>(to, n, passes[0], 1, table, factors, true);
            }
        }
    }
}

//! Many sums of products with plaintexts on one limb, block by block: the factors of a block are read once for all sums.
//!
//! A linear map multiplies the same rotations of its sources by one plaintext per sum. Taken sum by sum, every factor crosses the memory bus
//! as often as there are sums; here a block of all factors stays in the second-level cache, and a vector of them in registers for
//! up to [`AT_ONCE`] sums. A plaintext that is [`super::RnsPoly::compressed`] into long runs is one word for a block, which takes no vector load.

use super::context::{LimbId, RingContext};
use super::simd::{prefetch, with_vectors, InstructionSet, Reducer, Vector};

/// Most sums made together: where registers are few, less ([`InstructionSet::wide_sums`]).
const AT_ONCE: usize = 4;
/// Most words of a block.
const BLOCK: usize = 1024;
/// Words of a run from which on a plaintext's run is one word for all of a vector.
const SHORTEST_RUN: usize = 16;
/// Words by which whole plaintexts are fetched ahead: more streams are read at a time than the processor follows by itself.
const AHEAD: usize = 128;
/// Most products summed before a reduction: each is below 2^56, and sums must stay below `2^64 - 2^60`.
const MAX_TERMS: usize = 239;

/// One sum on one limb: Σ plaintext · factor, for both halves of the factors.
pub(crate) struct DiagonalSum<'a> {
    /// Number of the factor, and the plaintext: n words, or n / 2^k that stand for runs of 2^k each.
    pub terms: Vec<(usize, &'a [u32])>,
    /// Where both halves of the sum are written.
    pub to: (&'a mut [u32], &'a mut [u32]),
}

/// Products of one factor in a group of sums; none where a sum lacks the factor.
struct Products<'a> {
    factor: usize,
    plaintexts: [Option<&'a [u32]>; AT_ONCE],
}

/// Sums that are made together.
struct Group<'a> {
    /// Number of the first sum.
    first: usize,
    /// 1, 2 or 4.
    sums: usize,
    products: Vec<Products<'a>>,
    /// Whether every plaintext is one word for a block.
    splat: bool,
}

impl<'a> Group<'a> {
    fn new(first: usize, sums: &[DiagonalSum<'a>], n: usize) -> Self {
        let mut products: Vec<Products<'a>> = Vec::new();
        for (number, sum) in sums.iter().enumerate() {
            for &(factor, plaintext) in &sum.terms {
                // The same factor twice in one sum takes a second entry.
                let known = products
                    .iter_mut()
                    .find(|p| p.factor == factor && p.plaintexts[number].is_none());
                match known {
                    Some(p) => p.plaintexts[number] = Some(plaintext),
                    None => {
                        let mut plaintexts = [None; AT_ONCE];
                        plaintexts[number] = Some(plaintext);
                        products.push(Products { factor, plaintexts });
                    }
                }
            }
        }
        let mut all = sums.iter().flat_map(|s| &s.terms);
        let splat = all.all(|(_, p)| n / p.len() >= SHORTEST_RUN);
        Self {
            first,
            sums: sums.len(),
            products,
            splat,
        }
    }

    /// Groups of at most `most` sums.
    fn all(sums: &[DiagonalSum<'a>], n: usize, most: usize) -> Vec<Self> {
        let mut groups = Vec::new();
        let mut first = 0;
        while first < sums.len() {
            let many = match (sums.len() - first).min(most) {
                1 => 1,
                2 | 3 => 2,
                _ => AT_ONCE,
            };
            groups.push(Self::new(first, &sums[first..first + many], n));
            first += many;
        }
        groups
    }
}

impl RingContext {
    /// Writes all `sums` on limb `id`; `factors` are both halves of each factor there.
    ///
    /// # Panics
    /// If a factor or a result is not one limb long, a plaintext's length does not divide a limb's, or a factor does not exist.
    pub(crate) fn limb_diagonal_sums(
        &self,
        id: LimbId,
        factors: &[(&[u32], &[u32])],
        sums: &mut [DiagonalSum<'_>],
    ) {
        let n = self.degree();
        assert!(factors.iter().all(|(a, b)| a.len() == n && b.len() == n));
        for sum in &*sums {
            let fits = |&(f, p): &(usize, &[u32])| {
                f < factors.len() && !p.is_empty() && n.is_multiple_of(p.len())
            };
            assert!(sum.terms.iter().all(fits));
            assert!(sum.to.0.len() == n && sum.to.1.len() == n);
        }
        // Both halves of a sum.
        let groups = Group::all(sums, n, self.instruction_set().wide_sums() / 2);
        let splat = groups.iter().filter(|g| g.splat);
        let plaintexts = splat.flat_map(|g| g.products.iter().flat_map(|p| p.plaintexts.iter()));
        let shortest = plaintexts.flatten().map(|p| n / p.len()).min();
        let block = shortest.unwrap_or(n).min(BLOCK).min(n);
        let most = groups.iter().map(|g| g.products.len()).max().unwrap_or(0);
        let mut scratch = Scratch {
            words: vec![0; AT_ONCE * most],
            blocks: Vec::new(),
        };
        if groups.iter().any(|g| !g.splat) {
            scratch.blocks = vec![0; (AT_ONCE * most + 1) * block];
        }
        for start in (0..n).step_by(block) {
            for group in &groups {
                let to = &mut sums[group.first..group.first + group.sums];
                let range = (start, block, n);
                run_block(
                    (self.instruction_set(), self.reducer(id)),
                    group,
                    factors,
                    range,
                    &mut scratch,
                    to,
                );
            }
        }
    }
}

struct Scratch {
    /// By product and sum: the plaintext's word for the block.
    words: Vec<u32>,
    /// By product and sum: the plaintext's words in the block where it is compressed; a block of zeros at the end.
    blocks: Vec<u32>,
}

/// One block of one group.
fn run_block(
    (set, reducer): (InstructionSet, &Reducer),
    group: &Group<'_>,
    factors: &[(&[u32], &[u32])],
    (start, block, n): (usize, usize, usize),
    scratch: &mut Scratch,
    sums: &mut [DiagonalSum<'_>],
) {
    let mut to = [(std::ptr::null_mut(), std::ptr::null_mut()); AT_ONCE];
    for (to, sum) in to.iter_mut().zip(sums) {
        let (low, high) = &mut sum.to;
        *to = (low[start..].as_mut_ptr(), high[start..].as_mut_ptr());
    }
    let parts = group.products.len().div_ceil(MAX_TERMS).max(1);
    for part in 0..parts {
        let products = group.products.chunks(MAX_TERMS).nth(part).unwrap_or(&[]);
        let of = |p: &Products<'_>| {
            let (low, high) = factors[p.factor];
            (low[start..].as_ptr(), high[start..].as_ptr())
        };
        let taken: Vec<(*const u32, *const u32)> = products.iter().map(of).collect();
        let mut plaintexts: Vec<[*const u32; AT_ONCE]> = Vec::new();
        if group.splat {
            for (p, words) in products.iter().zip(scratch.words.chunks_mut(AT_ONCE)) {
                for (word, plaintext) in words.iter_mut().zip(&p.plaintexts) {
                    *word = plaintext.map_or(0, |p| p[start / (n / p.len())]);
                }
            }
        } else {
            let zeros = scratch.blocks.len() - block;
            let (expanded, zeros) = scratch.blocks.split_at_mut(zeros);
            let mut places = expanded.chunks_mut(block);
            for p in products {
                plaintexts.push(
                    p.plaintexts
                        .map(|plaintext| match (plaintext, places.next()) {
                            (Some(p), Some(place)) if p.len() < n => {
                                let length = n / p.len();
                                for (i, word) in place.iter_mut().enumerate() {
                                    *word = p[(start + i) / length];
                                }
                                place.as_ptr()
                            }
                            (Some(p), _) => p[start..].as_ptr(),
                            (None, _) => zeros.as_ptr(),
                        }),
                );
            }
        }
        let operands = Operands {
            factors: taken.as_ptr(),
            words: scratch.words.as_ptr(),
            plaintexts: plaintexts.as_ptr(),
            products: products.len(),
            to,
            accumulate: part > 0,
        };
        run(set, reducer, operands, (group.splat, group.sums), block);
    }
}

/// A block as the kernel takes it: every pointer to its first word.
#[derive(Clone, Copy)]
struct Operands {
    factors: *const (*const u32, *const u32),
    words: *const u32,
    plaintexts: *const [*const u32; AT_ONCE],
    products: usize,
    to: [(*mut u32, *mut u32); AT_ONCE],
    accumulate: bool,
}

fn run(
    set: InstructionSet,
    reducer: &Reducer,
    operands: Operands,
    (splat, sums): (bool, usize),
    block: usize,
) {
    with_vectors!(
        set,
        fn kernel<V>(
            reducer: &Reducer,
            operands: Operands,
            splat: bool,
            sums: usize,
            block: usize,
        ) {
            // SAFETY: the block lies inside all operands, and there are as many plaintexts as products times sums.
            unsafe {
                match (splat, sums) {
                    (true, 1) => block_of::<V, 1, true>(reducer, operands, block),
                    (true, 2) => block_of::<V, 2, true>(reducer, operands, block),
                    (true, _) => block_of::<V, AT_ONCE, true>(reducer, operands, block),
                    (false, 1) => block_of::<V, 1, false>(reducer, operands, block),
                    (false, 2) => block_of::<V, 2, false>(reducer, operands, block),
                    (false, _) => block_of::<V, AT_ONCE, false>(reducer, operands, block),
                }
            }
        }
    )
}

/// `G` sums of a block.
///
/// # Safety
/// As in [`run`]; the instruction set is present.
#[inline(always)]
unsafe fn block_of<V: Vector, const G: usize, const SPLAT: bool>(
    reducer: &Reducer,
    operands: Operands,
    block: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let q = V::splat(reducer.q);
        for j in (0..block).step_by(V::LANES) {
            let mut low = [V::wide_zero(); G];
            let mut high = [V::wide_zero(); G];
            for t in 0..operands.products {
                let (a, b) = *operands.factors.add(t);
                let (a, b) = (V::load(a.add(j)), V::load(b.add(j)));
                for g in 0..G {
                    if SPLAT {
                        let word = *operands.words.add(t * AT_ONCE + g);
                        low[g] = V::mac_splat(low[g], a, word);
                        high[g] = V::mac_splat(high[g], b, word);
                    } else {
                        let words = (*operands.plaintexts.add(t))[g].add(j);
                        prefetch(words.wrapping_add(AHEAD));
                        let words = V::load(words);
                        low[g] = V::mac(low[g], a, words);
                        high[g] = V::mac(high[g], b, words);
                    }
                }
            }
            for g in 0..G {
                let (to_low, to_high) = operands.to[g];
                for (sum, to) in [(low[g], to_low.add(j)), (high[g], to_high.add(j))] {
                    let mut r = V::reduce(sum, reducer);
                    if operands.accumulate {
                        r = r.add(V::load(to)).fold(q);
                    }
                    r.store(to);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{random_poly, sheet_primes};
    use super::super::{Form, RnsPoly};
    use super::*;

    /// Sums over plaintexts of every length, with factors missing here and there and one twice.
    #[test]
    fn diagonal_sums_are_their_definition_on_every_instruction_set() {
        let primes: Vec<u32> = sheet_primes().into_iter().step_by(20).collect();
        for set in InstructionSet::all_available() {
            let ring = RingContext::with_instruction_set(12, &primes, set).unwrap();
            let limbs = ring.all_limbs();
            let polys: Vec<RnsPoly> = (0..12)
                .map(|seed| random_poly(&ring, &limbs, Form::Evaluation, seed))
                .collect();
            let (n, id) = (ring.degree(), limbs[1]);
            let limb = |i: usize| polys[i].limb(1);
            let factors: Vec<(&[u32], &[u32])> = (0..3).map(|i| (limb(i), limb(i + 3))).collect();
            let modulus = ring.modulus(id);
            for (count, lengths) in [
                (7, [n / 16, n / 128, n / 32]),
                (6, [n, n / 4, n / 256]),
                (1, [n / 8, n, n / 2]),
                // More products than one reduction takes.
                (2, [n / 512; 3]),
            ] {
                let many = if lengths[0] == n / 512 {
                    MAX_TERMS + 5
                } else {
                    3
                };
                let terms = |sum: usize| -> Vec<(usize, &[u32])> {
                    let term = |k: usize| (k % 3, &limb(6 + (k + sum) % 6)[..lengths[k % 3]]);
                    let mut terms: Vec<_> = (0..many).filter(|k| k + sum != 4).map(term).collect();
                    terms.push(term(sum));
                    terms
                };
                let mut to = vec![(vec![7u32; n], vec![7u32; n]); count];
                let mut sums: Vec<DiagonalSum<'_>> = to
                    .iter_mut()
                    .enumerate()
                    .map(|(sum, (low, high))| DiagonalSum {
                        terms: terms(sum),
                        to: (low, high),
                    })
                    .collect();
                ring.limb_diagonal_sums(id, &factors, &mut sums);
                drop(sums);
                for (sum, (low, high)) in to.iter().enumerate() {
                    for j in (0..n).step_by(5) {
                        let expect = |half: usize| {
                            terms(sum).iter().fold(0, |total, &(f, p)| {
                                let factor = [factors[f].0, factors[f].1][half][j];
                                modulus.add(total, modulus.mul(factor, p[j / (n / p.len())]))
                            })
                        };
                        assert_eq!(
                            (low[j], high[j]),
                            (expect(0), expect(1)),
                            "sum {sum}, word {j}"
                        );
                    }
                }
            }
        }
    }
}

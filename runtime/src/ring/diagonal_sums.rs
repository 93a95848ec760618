//! Many sums of products with plaintexts on one limb, block by block: the factors of a block are read once for all sums.
//!
//! A linear map multiplies the same rotations of its sources by one plaintext per sum. Taken sum by sum, every factor crosses the memory bus
//! as often as there are sums; here a block of all factors stays in the second-level cache, and a vector of them in registers for
//! up to [`AT_ONCE`] sums. A plaintext that is [`super::RnsPoly::compressed`] into long runs is one word for a block, which takes no vector load.

use super::context::{LimbId, RingContext};
use super::simd::{prefetch, with_vectors, InstructionSet, Reducer, Vector};
use super::words::LINE;

/// Most sums made together: where registers are few, less ([`InstructionSet::wide_sums`]).
const AT_ONCE: usize = 4;
/// Most words of a block.
const BLOCK: usize = 1024;
/// Words of a run from which on a plaintext's run is one word for all of a vector.
const SHORTEST_RUN: usize = 16;
/// Words by which whole plaintexts are fetched ahead: more streams are read at a time than the processor follows by itself.
const AHEAD: usize = 128;
/// Plaintexts by which a line of one is fetched ahead.
const LINES_AHEAD: usize = 16;
/// Most products summed before a reduction: each is below 2^56, and sums must stay below `2^64 - 2^60`.
const MAX_TERMS: usize = 239;

/// One sum on one limb: Σ plaintext · factor, for both halves of the factors.
pub(crate) struct DiagonalSum<'a> {
    /// Number of the factor, and the plaintext: n words, or n / 2^k that stand for runs of 2^k each.
    pub terms: Vec<(usize, &'a [u32])>,
    /// Where both halves of the sum are written.
    pub to: (&'a mut [u32], &'a mut [u32]),
}

/// A plaintext on the limb, and log2 of the words that each of its words stands for.
type Plaintext<'a> = (&'a [u32], u32);

/// Products of one factor in a group of sums; none where a sum lacks the factor.
struct Products<'a> {
    factor: usize,
    plaintexts: [Option<Plaintext<'a>>; AT_ONCE],
}

/// Sums that are made together.
struct Group<'a> {
    /// Number of the first sum.
    first: usize,
    /// 1, 2 or 4.
    sums: usize,
    products: Vec<Products<'a>>,
    /// Both halves of the products' factors.
    factors: Vec<(&'a [u32], &'a [u32])>,
    /// Whether every plaintext is one word for a block.
    splat: bool,
}

impl<'a> Group<'a> {
    fn new(
        first: usize,
        sums: &[DiagonalSum<'a>],
        factors: &[(&'a [u32], &'a [u32])],
        n: usize,
    ) -> Self {
        let mut products: Vec<Products<'a>> = Vec::new();
        for (number, sum) in sums.iter().enumerate() {
            for &(factor, plaintext) in &sum.terms {
                let plaintext = Some((plaintext, (n / plaintext.len()).ilog2()));
                // The same factor twice in one sum takes a second entry.
                let known = products
                    .iter_mut()
                    .find(|p| p.factor == factor && p.plaintexts[number].is_none());
                match known {
                    Some(p) => p.plaintexts[number] = plaintext,
                    None => {
                        let mut plaintexts = [None; AT_ONCE];
                        plaintexts[number] = plaintext;
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
            factors: products.iter().map(|p| factors[p.factor]).collect(),
            products,
            splat,
        }
    }

    /// Groups of at most `most` sums.
    fn all(
        sums: &[DiagonalSum<'a>],
        factors: &[(&'a [u32], &'a [u32])],
        n: usize,
        most: usize,
    ) -> Vec<Self> {
        let mut groups = Vec::new();
        let mut first = 0;
        while first < sums.len() {
            let many = match (sums.len() - first).min(most) {
                1 => 1,
                2 | 3 => 2,
                _ => AT_ONCE,
            };
            groups.push(Self::new(first, &sums[first..first + many], factors, n));
            first += many;
        }
        groups
    }

    /// Words that its plaintexts are for a block, where each is one.
    fn words(&self) -> usize {
        match self.splat {
            true => self.products.len() * self.sums,
            false => 0,
        }
    }

    /// Its plaintexts, each with its place among those words.
    fn placed(&self) -> impl Iterator<Item = (usize, Plaintext<'a>)> + '_ {
        let sums = self.sums;
        let products = self.products.iter().enumerate();
        products.flat_map(move |(t, product)| {
            let plaintexts = product.plaintexts[..sums].iter().enumerate();
            plaintexts.filter_map(move |(g, p)| p.map(|p| (t * sums + g, p)))
        })
    }
}

/// Writes the words of plaintexts for each block; `each` is their number for one block. Words of products that a sum lacks stay.
fn gather(
    placed: &[(usize, Plaintext<'_>)],
    starts: impl Iterator<Item = usize> + Clone,
    each: usize,
    to: &mut [u32],
) {
    let first = starts.clone().next().unwrap_or(0);
    for (i, &(place, (plaintext, log_run))) in placed.iter().enumerate() {
        // Each plaintext is a line of memory that nothing else would fetch ahead.
        if let Some((_, (next, log_run))) = placed.get(i + LINES_AHEAD) {
            prefetch(next.as_ptr().wrapping_add(first >> log_run));
        }
        let words = to[place..].iter_mut().step_by(each);
        for (word, start) in words.zip(starts.clone()) {
            *word = plaintext[start >> log_run];
        }
    }
}

impl RingContext {
    /// Writes all `sums` on limb `id`; `factors` are both halves of each factor there.
    ///
    /// # Panics
    /// If a factor or a result is not one limb long, a plaintext's length does not divide a limb's, or a factor does not exist.
    pub(crate) fn limb_diagonal_sums<'a>(
        &self,
        id: LimbId,
        factors: &[(&'a [u32], &'a [u32])],
        sums: &mut [DiagonalSum<'a>],
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
        let groups = Group::all(sums, factors, n, self.instruction_set().wide_sums() / 2);
        let splat = groups.iter().filter(|g| g.splat);
        let plaintexts = splat.flat_map(|g| g.products.iter().flat_map(|p| p.plaintexts.iter()));
        let shortest = plaintexts.flatten().map(|&(_, log_run)| 1 << log_run).min();
        let block: usize = shortest.unwrap_or(n).min(BLOCK).min(n);
        // A line of a plaintext is read once for all the blocks that it has words for.
        let blocks = LINE.min(n / block);
        let each: usize = groups.iter().map(Group::words).sum();
        let mut words = vec![0; blocks * each];
        let whole = groups.iter().filter(|g| !g.splat);
        let most = whole.map(|g| g.products.len()).max();
        let mut expanded = vec![0; most.map_or(0, |most| (AT_ONCE * most + 1) * block)];
        let mut placed = Vec::new();
        let mut before = 0;
        for group in groups.iter().filter(|g| g.splat) {
            placed.extend(group.placed().map(|(place, p)| (before + place, p)));
            before += group.words();
        }
        for first in (0..n).step_by(block * blocks) {
            let starts = (first..first + block * blocks).step_by(block);
            gather(&placed, starts.clone(), each, &mut words);
            for (number, start) in starts.enumerate() {
                let mut words = words.get(number * each..).unwrap_or(&[]);
                for group in &groups {
                    let to = &mut sums[group.first..group.first + group.sums];
                    let own = (self.instruction_set(), self.reducer(id));
                    let scratch = (words, &mut expanded[..]);
                    run_block(own, group, (start, block), scratch, to);
                    words = &words[group.words()..];
                }
            }
        }
    }
}

/// One block of one group: `words` are its plaintexts' where each is one word, `expanded` has room for them otherwise, and for zeros.
fn run_block(
    (set, reducer): (InstructionSet, &Reducer),
    group: &Group<'_>,
    (start, block): (usize, usize),
    (words, expanded): (&[u32], &mut [u32]),
    sums: &mut [DiagonalSum<'_>],
) {
    let mut to = [(std::ptr::null_mut(), std::ptr::null_mut()); AT_ONCE];
    for (to, sum) in to.iter_mut().zip(sums) {
        let (low, high) = &mut sum.to;
        *to = (low[start..].as_mut_ptr(), high[start..].as_mut_ptr());
    }
    // A sum of nothing is written too.
    for part in 0..group.products.len().div_ceil(MAX_TERMS).max(1) {
        let from = part * MAX_TERMS;
        let end = group.products.len().min(from + MAX_TERMS);
        let mut plaintexts: Vec<[*const u32; AT_ONCE]> = Vec::new();
        if !group.splat {
            let zeros = expanded.len() - block;
            let (expanded, zeros) = expanded.split_at_mut(zeros);
            let mut places = expanded.chunks_mut(block);
            for p in &group.products[from..end] {
                plaintexts.push(
                    p.plaintexts
                        .map(|plaintext| match (plaintext, places.next()) {
                            (Some((p, log_run)), Some(place)) if log_run > 0 => {
                                for (i, word) in place.iter_mut().enumerate() {
                                    *word = p[(start + i) >> log_run];
                                }
                                place.as_ptr()
                            }
                            (Some((p, _)), _) => p[start..].as_ptr(),
                            (None, _) => zeros.as_ptr(),
                        }),
                );
            }
        }
        let operands = Operands {
            factors: &group.factors[from..end],
            start,
            words: words.get(from * group.sums..).unwrap_or(&[]).as_ptr(),
            plaintexts: plaintexts.as_ptr(),
            to,
            accumulate: part > 0,
        };
        run(set, reducer, operands, (group.splat, group.sums), block);
    }
}

/// A block as the kernel takes it; every pointer but those of factors to its first word.
#[derive(Clone, Copy)]
struct Operands<'a> {
    factors: &'a [(&'a [u32], &'a [u32])],
    start: usize,
    /// By product and sum.
    words: *const u32,
    plaintexts: *const [*const u32; AT_ONCE],
    to: [(*mut u32, *mut u32); AT_ONCE],
    accumulate: bool,
}

fn run(
    set: InstructionSet,
    reducer: &Reducer,
    operands: Operands<'_>,
    (splat, sums): (bool, usize),
    block: usize,
) {
    with_vectors!(
        set,
        fn kernel<V>(
            reducer: &Reducer,
            operands: Operands<'_>,
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
    operands: Operands<'_>,
    block: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let q = V::splat(reducer.q);
        for j in (0..block).step_by(V::LANES) {
            let mut low = [V::wide_zero(); G];
            let mut high = [V::wide_zero(); G];
            for (t, (a, b)) in operands.factors.iter().enumerate() {
                let place = operands.start + j;
                let (a, b) = (
                    V::load(a.as_ptr().add(place)),
                    V::load(b.as_ptr().add(place)),
                );
                for g in 0..G {
                    if SPLAT {
                        let word = *operands.words.add(t * G + g);
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

//! One limb of a key switch, from digits and key to its place in the result, in one pass over memory.
//!
//! The sum over digits, the addend, the division's correction and the automorphism all run through registers: a run of 16 words at a time,
//! which an automorphism in evaluation form keeps together ([`super::automorphism`]).

use super::automorphism::{BlockPermutation, RUN};
use super::context::{LimbId, RingContext};
use super::simd::{prefetch, with_vectors, InstructionSet, Reducer};
use crate::arith::ShoupFactor;

/// Most digits: with the addend, the sum stays below `2^64 - 2^60`.
const MAX_TERMS: usize = 239;
/// Words by which digits and keys are fetched ahead: they come from memory, by more streams at a time than the processor follows by itself. Eight runs take
/// longer than a line does to come from there; on Zen 4 512 words took 4 % more of a key switch, and 2048 more again.
const AHEAD: usize = 8 * RUN;

/// What both halves of one limb of a key switch are made of: factor · (Σ digit · key + addend · its factor) + correction, turned.
pub(crate) struct LimbSwitch<'a> {
    /// (digit, key, key).
    pub terms: &'a [(&'a [u32], &'a [u32], &'a [u32])],
    /// Added to the sums, each times its factor.
    pub addends: [Option<(&'a [u32], u32)>; 2],
    /// Multiplies the sums; below the prime.
    pub factor: u32,
    /// Added after the factor.
    pub corrections: Option<[&'a [u32]; 2]>,
    /// X → X^g, applied last.
    pub turn: Option<&'a BlockPermutation>,
    /// Whether the result is added to what is there.
    pub accumulate: bool,
}

/// [`LimbSwitch`] as the kernel takes it: absent operands are null.
#[derive(Clone, Copy)]
struct Operands {
    addends: [*const u32; 2],
    addend_factors: [u32; 2],
    corrections: [*const u32; 2],
    /// Per run: its place times 16, plus the number of its order.
    targets: *const u32,
    orders: *const [u32; RUN],
    accumulate: bool,
    to: [*mut u32; 2],
}

impl RingContext {
    /// Writes (or adds) both halves of one limb of a key switch.
    ///
    /// # Panics
    /// If a slice is not one limb long, or there are more than 239 terms.
    pub(crate) fn limb_switch(
        &self,
        id: LimbId,
        switch: &LimbSwitch<'_>,
        to: (&mut [u32], &mut [u32]),
    ) {
        let n = self.degree();
        let whole = |limb: &[u32]| limb.len() == n;
        assert!(switch.terms.len() <= MAX_TERMS && n.is_multiple_of(RUN));
        assert!(whole(to.0) && whole(to.1));
        assert!(switch
            .terms
            .iter()
            .all(|(a, b, c)| whole(a) && whole(b) && whole(c)));
        assert!(switch.addends.iter().flatten().all(|(a, _)| whole(a)));
        assert!(switch.corrections.iter().flatten().all(|c| whole(c)));
        assert!(switch.turn.is_none_or(|t| t.targets().len() * RUN == n));
        let null = std::ptr::null();
        let operands = Operands {
            addends: switch.addends.map(|a| a.map_or(null, |(a, _)| a.as_ptr())),
            addend_factors: switch.addends.map(|a| a.map_or(0, |(_, f)| f)),
            corrections: switch
                .corrections
                .map_or([null; 2], |c| c.map(<[u32]>::as_ptr)),
            targets: switch.turn.map_or(null, |t| t.targets().as_ptr()),
            orders: switch
                .turn
                .map_or(std::ptr::null(), |t| t.orders().as_ptr()),
            accumulate: switch.accumulate,
            to: [to.0.as_mut_ptr(), to.1.as_mut_ptr()],
        };
        let (set, reducer) = (self.instruction_set(), self.reducer(id));
        let modulus = self.modulus(id);
        // Undoes the Montgomery reduction of the sum and multiplies by the factor at once.
        let scale = modulus.shoup(modulus.mul(reducer.radix.value, switch.factor));
        run(set, reducer, scale, switch.terms, operands, n);
    }
}

fn run(
    set: InstructionSet,
    reducer: &Reducer,
    scale: ShoupFactor,
    terms: &[(&[u32], &[u32], &[u32])],
    operands: Operands,
    n: usize,
) {
    with_vectors!(
        set,
        fn kernel<V>(
            reducer: &Reducer,
            scale: ShoupFactor,
            terms: &[(&[u32], &[u32], &[u32])],
            operands: Operands,
            n: usize,
        ) {
            // SAFETY: all operands have n words, n is a multiple of 16, and targets number the n / 16 runs.
            unsafe {
                let Operands {
                    addends,
                    addend_factors,
                    corrections,
                    targets,
                    orders,
                    accumulate,
                    to,
                } = operands;
                let q = V::splat(reducer.q);
                let q_inverse = V::splat(reducer.q_inverse);
                let scale = (V::splat(scale.value), V::splat(scale.quotient));
                for run in 0..n / RUN {
                    let mut made = [[0u32; RUN]; 2];
                    for lane in (0..RUN).step_by(V::LANES * V::TOGETHER) {
                        let mut sums = [[V::wide_zero(); 2]; 2];
                        let sums = &mut sums[..V::TOGETHER];
                        let j = run * RUN + lane;
                        for half in 0..2 {
                            if !addends[half].is_null() {
                                for (v, sums) in sums.iter_mut().enumerate() {
                                    let a = V::load(addends[half].add(j + v * V::LANES));
                                    sums[half] = V::mac_splat(sums[half], a, addend_factors[half]);
                                }
                            }
                        }
                        for (a, b, c) in terms {
                            prefetch(a.as_ptr().wrapping_add(j + AHEAD));
                            prefetch(b.as_ptr().wrapping_add(j + AHEAD));
                            prefetch(c.as_ptr().wrapping_add(j + AHEAD));
                            for (v, sums) in sums.iter_mut().enumerate() {
                                let j = j + v * V::LANES;
                                let a = V::load(a.as_ptr().add(j));
                                sums[0] = V::mac(sums[0], a, V::load(b.as_ptr().add(j)));
                                sums[1] = V::mac(sums[1], a, V::load(c.as_ptr().add(j)));
                            }
                        }
                        for (v, sums) in sums.iter().enumerate() {
                            for half in 0..2 {
                                let mut r = V::montgomery(sums[half], q, q_inverse)
                                    .shoup(scale.0, scale.1, q)
                                    .fold(q);
                                if !corrections[half].is_null() {
                                    let correction = corrections[half].add(j + v * V::LANES);
                                    r = r.add(V::load(correction)).fold(q);
                                }
                                r.store(made[half].as_mut_ptr().add(lane + v * V::LANES));
                            }
                        }
                    }
                    let mut place = run;
                    if !targets.is_null() {
                        let target = *targets.add(run) as usize;
                        let order = (*orders.add(target % RUN)).as_ptr();
                        for half in &mut made {
                            V::permute_run(half.as_ptr(), half.as_mut_ptr(), order);
                        }
                        place = target / RUN;
                    }
                    for (half, to) in made.iter().zip(to) {
                        let to = to.add(place * RUN);
                        for lane in (0..RUN).step_by(V::LANES) {
                            let mut r = V::load(half.as_ptr().add(lane));
                            if accumulate {
                                r = r.add(V::load(to.add(lane))).fold(q);
                            }
                            r.store(to.add(lane));
                        }
                    }
                }
            }
        }
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{random_poly, small_context};
    use super::super::{Form, GaloisElement, RnsPoly};
    use super::*;

    #[test]
    fn a_limb_switch_is_its_definition() {
        let context = small_context(10, 2);
        let limbs = context.all_limbs();
        let polys: Vec<RnsPoly> = (0..8)
            .map(|seed| random_poly(&context, &limbs, Form::Evaluation, seed))
            .collect();
        let id = limbs[1];
        let limb = |i: usize| polys[i].limb(1);
        let modulus = context.modulus(id);
        let terms = [(limb(0), limb(1), limb(2)), (limb(3), limb(4), limb(5))];
        let turn = context.block_permutation(GaloisElement::rotation(3, 10));
        let source = context.evaluation_permutation(GaloisElement::rotation(3, 10));
        for (addend, corrected, turned, accumulate) in [
            (false, false, false, false),
            (true, false, true, false),
            (true, true, true, true),
            (false, true, false, true),
        ] {
            let switch = LimbSwitch {
                terms: &terms,
                addends: [addend.then_some((limb(6), 77)), None],
                factor: 12_345,
                corrections: corrected.then_some([limb(7), limb(6)]),
                turn: turned.then_some(&*turn),
                accumulate,
            };
            let start = (limb(2).to_vec(), limb(5).to_vec());
            let (mut low, mut high) = start.clone();
            context.limb_switch(id, &switch, (&mut low, &mut high));
            for j in 0..context.degree() {
                let s = if turned { source[j] as usize } else { j };
                let expect = |half: usize, there: u32| {
                    let key = |t: &(&[u32], &[u32], &[u32])| [t.1[s], t.2[s]][half];
                    let mut sum = terms
                        .iter()
                        .fold(0, |sum, t| modulus.add(sum, modulus.mul(t.0[s], key(t))));
                    if addend && half == 0 {
                        sum = modulus.add(sum, modulus.mul(limb(6)[s], 77));
                    }
                    let mut r = modulus.mul(sum, 12_345);
                    if corrected {
                        r = modulus.add(r, limb(7 - half)[s]);
                    }
                    if accumulate {
                        r = modulus.add(r, there);
                    }
                    r
                };
                assert_eq!(low[j], expect(0, start.0[j]), "word {j}");
                assert_eq!(high[j], expect(1, start.1[j]), "word {j}");
            }
        }
    }
}

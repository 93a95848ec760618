//! Loops over one limb, for every instruction set. Residues are canonical in and out; lengths are multiples of 16.

use super::simd::{prefetch, with_vectors, InstructionSet, Reducer};
use crate::arith::ShoupFactor;

/// Words by which the factors of many products are fetched ahead: more streams are read at a time than the processor follows by itself.
const AHEAD: usize = 128;

/// Asserts that all slices have one length, a multiple of every vector length.
fn check(length: usize, others: &[usize]) {
    assert!(
        length.is_multiple_of(16) && others.iter().all(|&l| l == length),
        "limb lengths {length} and {others:?}"
    );
}

/// `a += b`.
pub(crate) fn add(set: InstructionSet, q: u32, a: &mut [u32], b: &[u32]) {
    check(a.len(), &[b.len()]);
    let (n, a, b) = (a.len(), a.as_mut_ptr(), b.as_ptr());
    with_vectors!(
        set,
        fn kernel<V>(n: usize, q: u32, a: *mut u32, b: *const u32) {
            // SAFETY: both slices have n words.
            unsafe {
                let q = V::splat(q);
                for j in (0..n).step_by(V::LANES) {
                    V::load(a.add(j))
                        .add(V::load(b.add(j)))
                        .fold(q)
                        .store(a.add(j));
                }
            }
        }
    )
}

/// `a -= b`.
pub(crate) fn sub(set: InstructionSet, q: u32, a: &mut [u32], b: &[u32]) {
    check(a.len(), &[b.len()]);
    let (n, a, b) = (a.len(), a.as_mut_ptr(), b.as_ptr());
    with_vectors!(
        set,
        fn kernel<V>(n: usize, q: u32, a: *mut u32, b: *const u32) {
            // SAFETY: both slices have n words.
            unsafe {
                let q = V::splat(q);
                for j in (0..n).step_by(V::LANES) {
                    let d = V::load(a.add(j)).sub(V::load(b.add(j)));
                    d.min(d.add(q)).store(a.add(j));
                }
            }
        }
    )
}

/// `a = -a`.
pub(crate) fn neg(set: InstructionSet, q: u32, a: &mut [u32]) {
    check(a.len(), &[]);
    let (n, a) = (a.len(), a.as_mut_ptr());
    with_vectors!(
        set,
        fn kernel<V>(n: usize, q: u32, a: *mut u32) {
            // SAFETY: the slice has n words.
            unsafe {
                let (q, zero) = (V::splat(q), V::splat(0));
                for j in (0..n).step_by(V::LANES) {
                    let d = zero.sub(V::load(a.add(j)));
                    d.min(d.add(q)).store(a.add(j));
                }
            }
        }
    )
}

/// `a += c` in every word.
pub(crate) fn add_constant(set: InstructionSet, q: u32, a: &mut [u32], c: u32) {
    check(a.len(), &[]);
    let (n, a) = (a.len(), a.as_mut_ptr());
    with_vectors!(
        set,
        fn kernel<V>(n: usize, q: u32, a: *mut u32, c: u32) {
            // SAFETY: the slice has n words.
            unsafe {
                let (q, c) = (V::splat(q), V::splat(c));
                for j in (0..n).step_by(V::LANES) {
                    V::load(a.add(j)).add(c).fold(q).store(a.add(j));
                }
            }
        }
    )
}

/// `a *= factor`.
pub(crate) fn scale_in_place(set: InstructionSet, q: u32, a: &mut [u32], factor: ShoupFactor) {
    check(a.len(), &[]);
    let (n, a) = (a.len(), a.as_mut_ptr());
    with_vectors!(
        set,
        fn kernel<V>(n: usize, q: u32, a: *mut u32, factor: ShoupFactor) {
            // SAFETY: the slice has n words.
            unsafe {
                let (q, w, quotient) = (
                    V::splat(q),
                    V::splat(factor.value),
                    V::splat(factor.quotient),
                );
                for j in (0..n).step_by(V::LANES) {
                    V::load(a.add(j))
                        .shoup(w, quotient, q)
                        .fold(q)
                        .store(a.add(j));
                }
            }
        }
    )
}

/// `to += from * factor`.
pub(crate) fn add_scaled(
    set: InstructionSet,
    q: u32,
    to: &mut [u32],
    from: &[u32],
    factor: ShoupFactor,
) {
    check(to.len(), &[from.len()]);
    let (n, to, from) = (to.len(), to.as_mut_ptr(), from.as_ptr());
    with_vectors!(
        set,
        fn kernel<V>(n: usize, q: u32, to: *mut u32, from: *const u32, factor: ShoupFactor) {
            // SAFETY: both slices have n words.
            unsafe {
                let (q, q2, w, quotient) = (
                    V::splat(q),
                    V::splat(2 * q),
                    V::splat(factor.value),
                    V::splat(factor.quotient),
                );
                for j in (0..n).step_by(V::LANES) {
                    let sum = V::load(from.add(j))
                        .shoup(w, quotient, q)
                        .add(V::load(to.add(j)));
                    sum.fold(q2).fold(q).store(to.add(j));
                }
            }
        }
    )
}

/// `a *= b`.
pub(crate) fn mul(set: InstructionSet, reducer: &Reducer, a: &mut [u32], b: &[u32]) {
    check(a.len(), &[b.len()]);
    let (n, a, b) = (a.len(), a.as_mut_ptr(), b.as_ptr());
    with_vectors!(
        set,
        fn kernel<V>(n: usize, reducer: &Reducer, a: *mut u32, b: *const u32) {
            // SAFETY: both slices have n words.
            unsafe {
                for j in (0..n).step_by(V::LANES) {
                    let product = V::mac(V::wide_zero(), V::load(a.add(j)), V::load(b.add(j)));
                    V::reduce(product, reducer).store(a.add(j));
                }
            }
        }
    )
}

/// `acc += a * b`.
pub(crate) fn mul_acc(
    set: InstructionSet,
    reducer: &Reducer,
    acc: &mut [u32],
    a: &[u32],
    b: &[u32],
) {
    check(acc.len(), &[a.len(), b.len()]);
    let (n, acc, a, b) = (acc.len(), acc.as_mut_ptr(), a.as_ptr(), b.as_ptr());
    with_vectors!(
        set,
        fn kernel<V>(n: usize, reducer: &Reducer, acc: *mut u32, a: *const u32, b: *const u32) {
            // SAFETY: all slices have n words.
            unsafe {
                let q = V::splat(reducer.q);
                for j in (0..n).step_by(V::LANES) {
                    let product = V::reduce(
                        V::mac(V::wide_zero(), V::load(a.add(j)), V::load(b.add(j))),
                        reducer,
                    );
                    product.add(V::load(acc.add(j))).fold(q).store(acc.add(j));
                }
            }
        }
    )
}

/// `to = sum of a_i * b_i`, fewer than 241 pairs (the sum stays below `2^64 - 2^60`).
pub(crate) fn inner_product(
    set: InstructionSet,
    reducer: &Reducer,
    to: &mut [u32],
    pairs: &[(&[u32], &[u32])],
) {
    assert!(pairs.len() <= 240);
    pairs
        .iter()
        .for_each(|(a, b)| check(to.len(), &[a.len(), b.len()]));
    let (n, to) = (to.len(), to.as_mut_ptr());
    with_vectors!(
        set,
        fn kernel<V>(n: usize, reducer: &Reducer, to: *mut u32, pairs: &[(&[u32], &[u32])]) {
            // SAFETY: all slices have n words.
            unsafe {
                for j in (0..n).step_by(V::LANES * V::TOGETHER) {
                    let mut sums = [V::wide_zero(); 2];
                    let sums = &mut sums[..V::TOGETHER];
                    for (a, b) in pairs {
                        let (a, b) = (a.as_ptr(), b.as_ptr());
                        for row in [a, b] {
                            prefetch(row.wrapping_add(j + AHEAD));
                        }
                        for (v, sum) in sums.iter_mut().enumerate() {
                            let j = j + v * V::LANES;
                            *sum = V::mac(*sum, V::load(a.add(j)), V::load(b.add(j)));
                        }
                    }
                    for (v, &sum) in sums.iter().enumerate() {
                        V::reduce(sum, reducer).store(to.add(j + v * V::LANES));
                    }
                }
            }
        }
    )
}

/// Two inner products that share the left factors: `(to_0, to_1) = sum of a_i * (b_i, c_i)`, at most 240 triples.
pub(crate) fn inner_product_pair(
    set: InstructionSet,
    reducer: &Reducer,
    to: (&mut [u32], &mut [u32]),
    triples: &[(&[u32], &[u32], &[u32])],
) {
    assert!(triples.len() <= 240);
    check(to.0.len(), &[to.1.len()]);
    triples
        .iter()
        .for_each(|(a, b, c)| check(to.0.len(), &[a.len(), b.len(), c.len()]));
    let (n, first, second) = (to.0.len(), to.0.as_mut_ptr(), to.1.as_mut_ptr());
    with_vectors!(
        set,
        fn kernel<V>(
            n: usize,
            reducer: &Reducer,
            first: *mut u32,
            second: *mut u32,
            triples: &[(&[u32], &[u32], &[u32])],
        ) {
            // SAFETY: all slices have n words.
            unsafe {
                for j in (0..n).step_by(V::LANES * V::TOGETHER) {
                    let mut sums = [(V::wide_zero(), V::wide_zero()); 2];
                    let sums = &mut sums[..V::TOGETHER];
                    for (a, b, c) in triples {
                        let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_ptr());
                        for row in [a, b, c] {
                            prefetch(row.wrapping_add(j + AHEAD));
                        }
                        for (v, (x, y)) in sums.iter_mut().enumerate() {
                            let j = j + v * V::LANES;
                            let a = V::load(a.add(j));
                            *x = V::mac(*x, a, V::load(b.add(j)));
                            *y = V::mac(*y, a, V::load(c.add(j)));
                        }
                    }
                    for (v, &(x, y)) in sums.iter().enumerate() {
                        V::reduce(x, reducer).store(first.add(j + v * V::LANES));
                        V::reduce(y, reducer).store(second.add(j + v * V::LANES));
                    }
                }
            }
        }
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::Stream;
    use super::*;
    use crate::arith::Modulus;

    #[test]
    fn every_instruction_set_agrees_with_modular_arithmetic() {
        for q in [786_433u32, 2_752_513, 135_135_233, 268_042_241] {
            let m = Modulus::new(q).unwrap();
            let reducer = Reducer::new(&m);
            let mut stream = Stream(u64::from(q));
            let n = 256;
            let mut draw = || -> Vec<u32> {
                (0..n)
                    .map(|i| {
                        if i % 5 == 0 {
                            q - 1 - (i % 3) as u32
                        } else {
                            (stream.next() % u64::from(q)) as u32
                        }
                    })
                    .collect()
            };
            let (a, b, c) = (draw(), draw(), draw());
            let w = m.shoup(b[7]);
            for set in InstructionSet::all_available() {
                let run = |f: &dyn Fn(&mut [u32])| {
                    let mut x = a.clone();
                    f(&mut x);
                    x
                };
                let expect =
                    |f: &dyn Fn(usize) -> u32| (0..n as usize).map(f).collect::<Vec<u32>>();
                assert_eq!(run(&|x| add(set, q, x, &b)), expect(&|i| m.add(a[i], b[i])));
                assert_eq!(run(&|x| sub(set, q, x, &b)), expect(&|i| m.sub(a[i], b[i])));
                assert_eq!(run(&|x| neg(set, q, x)), expect(&|i| m.neg(a[i])));
                assert_eq!(
                    run(&|x| add_constant(set, q, x, w.value)),
                    expect(&|i| m.add(a[i], w.value))
                );
                assert_eq!(
                    run(&|x| scale_in_place(set, q, x, w)),
                    expect(&|i| m.mul(a[i], w.value))
                );
                assert_eq!(
                    run(&|x| add_scaled(set, q, x, &b, w)),
                    expect(&|i| m.add(a[i], m.mul(b[i], w.value)))
                );
                assert_eq!(
                    run(&|x| mul(set, &reducer, x, &b)),
                    expect(&|i| m.mul(a[i], b[i]))
                );
                assert_eq!(
                    run(&|x| mul_acc(set, &reducer, x, &b, &c)),
                    expect(&|i| m.add(a[i], m.mul(b[i], c[i])))
                );
                for count in [0, 1, 5, 240] {
                    let pairs: Vec<(&[u32], &[u32])> = (0..count)
                        .map(|i| {
                            if i % 2 == 0 {
                                (&a[..], &b[..])
                            } else {
                                (&c[..], &c[..])
                            }
                        })
                        .collect();
                    let reference = expect(&|i| {
                        pairs
                            .iter()
                            .fold(0, |s, (x, y)| m.add(s, m.mul(x[i], y[i])))
                    });
                    assert_eq!(run(&|x| inner_product(set, &reducer, x, &pairs)), reference);
                    let triples: Vec<(&[u32], &[u32], &[u32])> =
                        pairs.iter().map(|&(x, y)| (x, y, &c[..])).collect();
                    let mut second = vec![0; n as usize];
                    let mut first = second.clone();
                    inner_product_pair(set, &reducer, (&mut first, &mut second), &triples);
                    assert_eq!(first, reference);
                    assert_eq!(
                        second,
                        expect(&|i| triples
                            .iter()
                            .fold(0, |s, (x, _, z)| m.add(s, m.mul(x[i], z[i]))))
                    );
                }
            }
        }
    }
}

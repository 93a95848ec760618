//! Transforms against definitions, against tfhe-ntt, and each instruction set against the others.

#[cfg(target_arch = "x86_64")]
#[path = "../../../codelets/mod.rs"]
#[allow(dead_code)]
mod codelets;

use super::super::testing::{sheet_primes, Stream};
use super::*;

fn random(n: usize, q: u32, seed: u64) -> Vec<u32> {
    let mut stream = Stream(seed);
    (0..n)
        .map(|_| (stream.next() % u64::from(q)) as u32)
        .collect()
}

/// Negacyclic product by the definition.
fn naive_product(q: u32, a: &[u32], b: &[u32]) -> Vec<u32> {
    let (n, wide) = (a.len(), u64::from(q));
    let dot = |x: &[u32], y: &mut dyn Iterator<Item = &u32>| {
        let mut sum = 0u64;
        for (i, (&x, &y)) in x.iter().zip(y).enumerate() {
            sum += u64::from(x) * u64::from(y);
            if i % 128 == 127 {
                sum %= wide;
            }
        }
        sum % wide
    };
    (0..n)
        .map(|k| {
            let plus = dot(&a[..=k], &mut b[..=k].iter().rev());
            let minus = dot(&a[k + 1..], &mut b[k + 1..].iter().rev());
            ((plus + wide - minus) % wide) as u32
        })
        .collect()
}

#[test]
fn products_match_the_definition_for_every_prime_of_the_sheet() {
    let (log_n, n) = (11, 1 << 11);
    for (index, q) in sheet_primes().into_iter().enumerate() {
        let modulus = Modulus::new(q).unwrap();
        let (a, b) = (random(n, q, index as u64), random(n, q, !(index as u64)));
        let expected = naive_product(q, &a, &b);
        let mut values: Option<Vec<u32>> = None;
        for set in InstructionSet::all_available() {
            let table = NttTable::new(log_n, &modulus, set).unwrap();
            let (mut x, mut y) = (a.clone(), b.clone());
            table.forward(&mut x);
            table.forward(&mut y);
            assert_eq!(
                &x,
                values.get_or_insert_with(|| x.clone()),
                "q = {q}, {set:?}"
            );
            let mut product: Vec<u32> =
                x.iter().zip(&y).map(|(&x, &y)| modulus.mul(x, y)).collect();
            table.inverse(&mut product);
            assert_eq!(product, expected, "q = {q}, {set:?}");
        }
    }
}

#[test]
fn forward_evaluates_at_odd_powers_in_bit_reversed_order() {
    let (log_n, n) = (9u32, 512usize);
    let modulus = Modulus::new(786_433).unwrap();
    let psi = primes::primitive_root(&modulus, 2 << log_n).unwrap();
    let a = random(n, modulus.value(), 4);
    let mut values = a.clone();
    NttTable::new(log_n, &modulus, InstructionSet::detect())
        .unwrap()
        .forward(&mut values);
    for i in [0usize, 1, 2, 77, 511] {
        let reversed = (i as u32).reverse_bits() >> (32 - log_n);
        let point = modulus.pow(psi, u64::from(2 * reversed + 1));
        let horner = a
            .iter()
            .rev()
            .fold(0, |sum, &c| modulus.add(modulus.mul(sum, point), c));
        assert_eq!(values[i], horner);
    }
}

#[test]
fn products_match_tfhe_ntt_at_full_size() {
    let (log_n, n) = (16, 1 << 16);
    let primes = sheet_primes();
    for q in [
        primes[0],
        primes[1],
        primes[30],
        primes[120],
        primes[200],
        primes[243],
    ] {
        let modulus = Modulus::new(q).unwrap();
        let table = NttTable::new(log_n, &modulus, InstructionSet::detect()).unwrap();
        let plan = tfhe_ntt::prime32::Plan::try_new(n, q).unwrap();
        let (a, b) = (random(n, q, 1), random(n, q, 2));
        let (mut x, mut y) = (a.clone(), b.clone());
        table.forward(&mut x);
        table.forward(&mut y);
        x.iter_mut()
            .zip(&y)
            .for_each(|(x, &y)| *x = modulus.mul(*x, y));
        table.inverse(&mut x);
        let (mut u, mut v) = (a, b);
        plan.fwd(&mut u);
        plan.fwd(&mut v);
        plan.mul_assign_normalize(&mut u, &v);
        plan.inv(&mut u);
        assert_eq!(x, u, "q = {q}");
    }
}

#[test]
fn every_instruction_set_transforms_every_size_alike() {
    for (log_n, q) in (8..=16).flat_map(|log_n| [(log_n, 786_433), (log_n, 268_042_241)]) {
        let modulus = Modulus::new(q).unwrap();
        let n = 1 << log_n;
        let worst = [
            random(n, q, 6),
            vec![q - 1; n],
            vec![0; n],
            (0..n as u32).map(|i| (i & 1) * (q - 1)).collect(),
        ];
        let oracle = NttTable::new(log_n, &modulus, InstructionSet::Portable).unwrap();
        for set in InstructionSet::all_available() {
            let table = NttTable::new(log_n, &modulus, set).unwrap();
            for a in &worst {
                let (mut x, mut y) = (a.clone(), a.clone());
                oracle.forward(&mut x);
                table.forward(&mut y);
                assert!(x == y, "forward, N = 2^{log_n}, q = {q}, {set:?}");
                let mut apart = random(n, q, 7);
                table.forward_from(a, &mut apart);
                assert!(x == apart, "forward from, N = 2^{log_n}, q = {q}, {set:?}");
                let (mut x, mut y) = (a.clone(), a.clone());
                oracle.inverse(&mut x);
                table.inverse(&mut y);
                assert!(x == y, "inverse, N = 2^{log_n}, q = {q}, {set:?}");
            }
        }
    }
}

/// Sums of neighbours, then of neighbours of those, down to one value, which is stored: 31 values, 6 of them live at once if depth comes first.
#[cfg(target_arch = "x86_64")]
fn tree(block: &mut codelets::block::Block, depth: u32, from: usize) -> codelets::block::Value {
    use codelets::block::at;
    if depth == 0 {
        return block.load(at("rdi", 32 * from));
    }
    let left = tree(block, depth - 1, 2 * from);
    let right = tree(block, depth - 1, 2 * from + 1);
    block.two("vpaddd", left, right)
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_codelet_reads_every_value_after_it_is_made_and_from_its_register() {
    use codelets::{block, order};
    use std::collections::HashMap;
    let mut written = block::Block::new(block::Vectors::Narrow);
    let root = tree(&mut written, 6, 0);
    written.store(block::at("rsi", 0), root);
    let ordered = order::order(&written, 16);
    assert_eq!(ordered.len(), written.operations.len());
    let texts: Vec<String> = written
        .operations
        .iter()
        .map(|o| o.print(|v| format!("v{}", v.0)))
        .collect();
    let order_of: Vec<usize> = ordered
        .iter()
        .map(|o| {
            texts
                .iter()
                .position(|t| *t == o.print(|v| format!("v{}", v.0)))
                .unwrap()
        })
        .collect();
    assert!(!order_of.is_sorted(), "left as it was written");
    let mut holds: HashMap<String, block::Value> = HashMap::new();
    for (operation, text) in ordered
        .iter()
        .zip(order::print(written.vectors, &ordered, 16))
    {
        let mut registers = text
            .split([' ', ','])
            .filter(|word| word.starts_with("ymm"));
        let result = operation
            .result
            .map(|r| (registers.next().unwrap().to_string(), r));
        for (value, register) in operation.values().zip(registers) {
            assert_eq!(holds.get(register), Some(&value), "{text}");
        }
        holds.extend(result);
    }
    assert!(holds.len() <= 16);
}

#[cfg(target_arch = "x86_64")]
#[test]
#[should_panic(expected = "a word may leave its bits")]
fn a_codelet_whose_words_may_leave_their_bits_is_refused() {
    use codelets::{block::at, residue};
    let mut w = residue::Writer::new(codelets::block::Vectors::Narrow, residue::Constants("rcx"));
    let x = w.load(at("rdi", 0), (-4.5, 4.5));
    w.sum(x, x);
}

/// What the instructions of a step do to a word.
#[cfg(target_arch = "x86_64")]
fn stepped(step: codelets::residue::Step, word: u32, q: u32) -> u32 {
    use codelets::residue::Step;
    match step {
        Step::Move(by) => word.wrapping_add((by as i32).wrapping_mul(q as i32) as u32),
        Step::AboveZero(multiple) => word.min(word.wrapping_add(multiple as u32 * q)),
        Step::Fold(multiple) => word.min(word.wrapping_sub(multiple as u32 * q)),
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn words_are_brought_as_near_to_zero_as_asked_for_and_stay_the_residues_they_were() {
    use codelets::residue::Step;
    let q = 268_042_241u32;
    let size = |words: f64| words * f64::from(q);
    for (range, wanted) in [
        ((-6.6, 6.6), 1.6),
        ((-8.0, 8.0), 4.0),
        ((-0.6, 4.8), 2.0),
        ((-0.4, 2.4), 2.0),
        ((0.0, 8.0), 1.0),
    ] {
        let steps = (0..=8).find_map(|operations| Step::path(range, wanted, operations));
        let steps = steps.expect("a path");
        for part in 0..=1000 {
            let word = size(range.0 + (range.1 - range.0) * f64::from(part) / 1000.0) as i64;
            let word = word.clamp(-8 * i64::from(q), 8 * i64::from(q) - 1) as i32;
            let end = steps
                .iter()
                .fold(word as u32, |word, &step| stepped(step, word, q))
                as i32;
            let (from, to) = (i64::from(word), i64::from(end));
            assert_eq!(
                (from - to) % i64::from(q),
                0,
                "{word} to {end} by {steps:?}"
            );
            assert!(to.unsigned_abs() as f64 <= size(wanted), "{word} to {end}");
        }
    }
    assert!(Step::path((-8.0, 8.0), 4.0, 2).is_none(), "3 operations");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn prefetches_are_spread_over_a_codelet() {
    use codelets::{block, order};
    let mut written = block::Block::new(block::Vectors::Wide);
    for place in 0..20 {
        let word = written.load(block::at("rdi", 64 * place));
        written.prefetch(block::at("rdi", 64 * (place + 20)));
        written.store(block::at("rsi", 64 * place), word);
    }
    let ordered = order::order(&written, 32);
    let places: Vec<usize> = (0..ordered.len())
        .filter(|&i| ordered[i].mnemonic == "prefetcht0")
        .collect();
    assert_eq!((ordered.len(), places.len()), (60, 20));
    assert!(places.windows(2).all(|pair| pair[1] - pair[0] == 3));
}

//! Single operations on random residues, with 0 and q - 1 among them.

use super::super::pointwise::{Operands, Word};
use super::super::simulator::Build;
use super::{assert_same, same, Both};
use crate::backend::{Backend, Triple};
use crate::ring::testing::random_poly;
use crate::ring::{Form, GaloisElement, LimbId, RnsPoly};
use heron_schedule::params::Level;
use num_bigint::BigInt;

const FORMS: [Form; 2] = [Form::Coefficient, Form::Evaluation];

fn random(both: &Both, limbs: &[LimbId], form: Form, seed: u64) -> RnsPoly {
    random_poly(both.context.ring(), limbs, form, seed)
}

#[test]
fn transforms_equal_the_cpus_in_every_ring() {
    for log_n in 8..=13 {
        let both = Both::new(log_n, u64::from(log_n));
        for form in FORMS {
            // The whole chain: primes of 20 to 28 bits.
            let limbs = both.context.ring().all_limbs();
            let mut expected = random(&both, &limbs, form, 1);
            let original = both.gpu.upload(&expected);
            let mut found = original.clone();
            match form {
                Form::Coefficient => {
                    both.cpu.to_evaluation(&mut expected);
                    both.gpu.to_evaluation(&mut found);
                }
                Form::Evaluation => {
                    both.cpu.to_coefficient(&mut expected);
                    both.gpu.to_coefficient(&mut found);
                }
            }
            assert_same(
                &format!("N = 2^{log_n} from {form:?}"),
                &both.gpu,
                &found,
                &expected,
            );
            // A clone keeps what it had.
            assert_same(
                "the clone",
                &both.gpu,
                &original,
                &random(&both, &limbs, form, 1),
            );
            match form {
                Form::Coefficient => both.gpu.to_coefficient(&mut found),
                Form::Evaluation => both.gpu.to_evaluation(&mut found),
            }
            assert_same(
                "back in place",
                &both.gpu,
                &found,
                &random(&both, &limbs, form, 1),
            );
        }
    }
}

#[test]
fn pointwise_operations_equal_the_cpus() {
    for log_n in [8, 10, 12] {
        let both = Both::new(log_n, 3);
        let limbs = both.limbs(0, 9);
        let mut more = limbs.clone();
        more.reverse();
        more.extend(both.limbs(1, 3));
        for form in FORMS {
            let a = random(&both, &limbs, form, 1);
            let b = random(&both, &more, form, 2);
            let (ga, gb) = (both.gpu.upload(&a), both.gpu.upload(&b));
            let constants: Vec<u32> = (0..limbs.len() as u32).map(|i| i * 0x0123_4567).collect();
            macro_rules! check {
                ($what:literal, $op:ident $(, $arg:expr, $gpu_arg:expr $(; $factor:expr)?)?) => {{
                    let (mut expected, mut found) = (a.clone(), ga.clone());
                    both.cpu.$op(&mut expected $(, $arg $(, $factor)?)?);
                    // Once elsewhere, because the operand is shared, and once in place.
                    both.gpu.$op(&mut found $(, $gpu_arg $(, $factor)?)?);
                    assert_same($what, &both.gpu, &found, &expected);
                    both.cpu.$op(&mut expected $(, $arg $(, $factor)?)?);
                    both.gpu.$op(&mut found $(, $gpu_arg $(, $factor)?)?);
                    assert_same($what, &both.gpu, &found, &expected);
                    assert_same("the operand", &both.gpu, &ga, &a);
                }};
            }
            check!("a sum", add_assign, &b, &gb);
            check!("a difference", sub_assign, &b, &gb);
            check!("a negative", neg_assign);
            check!("a multiple", mul_scalars, &constants, &constants);
            check!("a shift", add_scalars, &constants, &constants);
            if form == Form::Evaluation {
                check!("a product", mul_assign, &b, &gb);
                let roots = both.context.imaginary_roots(&limbs);
                check!("an imaginary multiple", mul_imaginary, &roots, &roots);
            }
            // A sum on some of the limbs.
            let part: Vec<LimbId> = limbs[2..6].iter().rev().copied().collect();
            let c = random(&both, &part, form, 3);
            let gc = both.gpu.upload(&c);
            check!("a scaled sum", add_scaled, &c, &gc; &constants[..4]);
        }
    }
}

#[test]
fn zeros_and_selections_equal_the_cpus() {
    let both = Both::new(10, 4);
    let limbs = both.limbs(0, 8);
    let a = random(&both, &limbs, Form::Evaluation, 5);
    let ga = both.gpu.upload(&a);
    let zero = both.gpu.zero(&limbs, Form::Coefficient);
    assert_same(
        "zero",
        &both.gpu,
        &zero,
        &both.cpu.zero(&limbs, Form::Coefficient),
    );
    let scattered = [limbs[5], limbs[0], limbs[7]];
    for part in [&limbs[2..6], &scattered] {
        let (expected, mut found) = (a.select(part), both.gpu.select(&ga, part));
        assert_same("a selection", &both.gpu, &found, &expected);
        // Changing it leaves the whole alone.
        both.gpu.neg_assign(&mut found);
        assert_same("the whole", &both.gpu, &ga, &a);
    }
    assert_eq!(both.gpu.limbs(&ga), limbs);
}

#[test]
fn automorphisms_equal_the_cpus_in_both_forms() {
    for log_n in [8, 11] {
        let both = Both::new(log_n, 5);
        let limbs = both.limbs(3, 5);
        for form in FORMS {
            let a = random(&both, &limbs, form, 6);
            let ga = both.gpu.upload(&a);
            for g in [
                GaloisElement::rotation(1, log_n),
                GaloisElement::rotation(-37, log_n),
                GaloisElement::conjugation(log_n),
            ] {
                let (found, expected) =
                    (both.gpu.automorphism(&ga, g), both.cpu.automorphism(&a, g));
                assert_same(&format!("{form:?}, {g:?}"), &both.gpu, &found, &expected);
            }
        }
    }
}

#[test]
fn inner_products_equal_the_cpus_also_with_compressed_factors_and_many_terms() {
    let both = Both::new(11, 6);
    let ring = both.context.ring();
    let (limbs, extra) = (both.limbs(0, 6), both.limbs(1, 4));
    let mut wide = extra;
    wide.extend(&limbs);
    for terms in [0, 1, 5, 33, 70] {
        let polys: Vec<[RnsPoly; 3]> = (0..terms)
            .map(|t| {
                let layout = if t % 2 == 0 { &limbs } else { &wide };
                std::array::from_fn(|k| random(&both, layout, Form::Evaluation, 3 * t + k as u64))
            })
            .collect();
        // Some left factors are polynomials in a power of X.
        let sparse = |t: usize| {
            let n = ring.degree();
            let mut coefficients = vec![0i64; n];
            for (k, c) in coefficients.iter_mut().step_by(1 << (t % 6)).enumerate() {
                *c = (k as i64 * 7919 + t as i64) % 1_000_003 - 500_000;
            }
            let mut poly = RnsPoly::from_signed(ring, &wide, &coefficients);
            ring.to_evaluation(&mut poly);
            poly.compressed(t as u32 % 6).expect("repeats")
        };
        let left: Vec<RnsPoly> = polys
            .iter()
            .enumerate()
            .map(|(t, p)| if t % 3 == 1 { sparse(t) } else { p[0].clone() })
            .collect();
        let up = |p: &RnsPoly| both.gpu.upload(p);
        let device: Vec<_> = left
            .iter()
            .zip(&polys)
            .map(|(a, p)| (up(a), up(&p[1]), up(&p[2])))
            .collect();
        let triples: Vec<Triple<'_, RnsPoly>> = left
            .iter()
            .zip(&polys)
            .map(|(a, [_, b, c])| (a, b, c))
            .collect();
        let on_device: Vec<_> = device.iter().map(|(a, b, c)| (a, b, c)).collect();
        let expected = both.cpu.inner_product_pair(&triples, &limbs);
        let found = both.gpu.inner_product_pair(&on_device, &limbs);
        assert_same(
            &format!("{terms} terms, first"),
            &both.gpu,
            &found.0,
            &expected.0,
        );
        assert_same(
            &format!("{terms} terms, second"),
            &both.gpu,
            &found.1,
            &expected.1,
        );
        let pairs: Vec<_> = polys.iter().map(|[_, b, c]| (b, c)).collect();
        let on_device: Vec<_> = device.iter().map(|(_, b, c)| (b, c)).collect();
        let expected = both.cpu.inner_product(&pairs, &limbs);
        let found = both.gpu.inner_product(&on_device, &limbs);
        assert_same(&format!("{terms} pairs"), &both.gpu, &found, &expected);
    }
}

#[test]
fn sums_that_share_factors_equal_the_cpus() {
    let both = Both::new(10, 10);
    let row = both.context.row(Level(5)).expect("row");
    let draw = |seed| random(&both, &row.extended, Form::Evaluation, seed);
    let babies: Vec<(RnsPoly, RnsPoly)> = (0..40).map(|i| (draw(i), draw(100 + i))).collect();
    let left: Vec<RnsPoly> = (0..6).map(|i| draw(200 + i)).collect();
    let up = |p: &RnsPoly| both.gpu.upload(p);
    let on_device: Vec<_> = babies.iter().map(|(b, c)| (up(b), up(c))).collect();
    let left_there: Vec<_> = left.iter().map(up).collect();
    // Six sums, of all babies, of some, of none, and of one of them twice.
    let used = |s: usize| -> Vec<usize> {
        match s {
            0 => (0..40).collect(),
            4 => Vec::new(),
            5 => vec![7, 7, 3],
            _ => (s..40).step_by(s + 1).collect(),
        }
    };
    let sums: Vec<Vec<Triple<'_, RnsPoly>>> = (0..6)
        .map(|s| {
            let each = used(s).into_iter();
            each.map(|i| (&left[(s + i) % 6], &babies[i].0, &babies[i].1))
                .collect()
        })
        .collect();
    let there: Vec<Vec<_>> = (0..6)
        .map(|s| {
            let each = used(s).into_iter();
            each.map(|i| (&left_there[(s + i) % 6], &on_device[i].0, &on_device[i].1))
                .collect()
        })
        .collect();
    let (expected, found) = (both.cpu.sums(&sums, row), both.gpu.sums(&there, row));
    assert_eq!(found.len(), 6);
    for (s, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_same(&format!("sum {s}, first"), &both.gpu, &found.0, &expected.0);
        assert_same(
            &format!("sum {s}, second"),
            &both.gpu,
            &found.1,
            &expected.1,
        );
    }
}

#[test]
fn extensions_equal_the_cpus_for_one_to_sixty_four_source_limbs() {
    let both = Both::new(10, 7);
    let all = both.context.ring().all_limbs();
    for k in [1, 2, 5, 12, 16, 33, 64.min(all.len() - 1)] {
        let (source, target) = (&all[all.len() - k..], &all[..11.min(all.len())]);
        let a = random(&both, source, Form::Coefficient, k as u64);
        let found = both
            .gpu
            .extend(&both.gpu.upload(&a), target)
            .expect("extends");
        let expected = both.cpu.extend(&a, target).expect("extends");
        assert_same(&format!("{k} limbs"), &both.gpu, &found, &expected);
    }
}

#[test]
fn divisions_equal_the_cpus() {
    let both = Both::new(11, 8);
    let l = both.context.ring().all_limbs();
    let rows: [(&[LimbId], Vec<LimbId>, Option<BigInt>); 6] = [
        (&l[..6], l[..5].to_vec(), None),
        (
            &l[..8],
            l[..4].to_vec(),
            Some(BigInt::from(12_345_678_901_234i64)),
        ),
        (&l[2..9], [&l[3..6], &l[10..12]].concat(), None),
        (
            &l[2..9],
            vec![l[1], l[13], l[4], l[3]],
            Some(BigInt::from(-77)),
        ),
        (&l[..3], l[..5].to_vec(), Some(BigInt::from(5))),
        (&l[..4], l[..4].to_vec(), None),
    ];
    for (hi, lo, factor) in rows {
        let a = random(&both, hi, Form::Evaluation, 3);
        let b = random(&both, hi, Form::Evaluation, 4);
        let (ga, gb) = (both.gpu.upload(&a), both.gpu.upload(&b));
        let what = format!("from {} to {} limbs", hi.len(), lo.len());
        let expected = both.cpu.divide_and_round(&a, &lo, factor.as_ref());
        let found = both.gpu.divide_and_round(&ga, &lo, factor.as_ref());
        assert_same(
            &what,
            &both.gpu,
            &found.expect("divides"),
            &expected.expect("divides"),
        );
        let expected = both
            .cpu
            .divide_and_round_pair((&a, &b), &lo, factor.as_ref());
        let found = both
            .gpu
            .divide_and_round_pair((&ga, &gb), &lo, factor.as_ref());
        let (expected, found) = (expected.expect("divides"), found.expect("divides"));
        assert_same(&what, &both.gpu, &found.0, &expected.0);
        assert_same(&what, &both.gpu, &found.1, &expected.1);
    }
}

#[test]
fn altered_kernels_are_noticed() {
    let log_n = 10;
    let transform = |build| {
        let both = Both::built(log_n, build, 9);
        let mut expected = random(&both, &both.limbs(0, 2), Form::Coefficient, 1);
        let mut found = both.gpu.upload(&expected);
        both.cpu.to_evaluation(&mut expected);
        both.gpu.to_evaluation(&mut found);
        same(&both.gpu, &found, &expected)
    };
    let extension = |build| {
        let both = Both::built(log_n, build, 9);
        let a = random(&both, &both.limbs(0, 4), Form::Coefficient, 2);
        let target = both.limbs(2, 4);
        let expected = both.cpu.extend(&a, &target).expect("extends");
        let found = both
            .gpu
            .extend(&both.gpu.upload(&a), &target)
            .expect("extends");
        same(&both.gpu, &found, &expected)
    };
    assert_eq!(transform(Build::Plain), Ok(()));
    assert_eq!(extension(Build::Plain), Ok(()));
    assert!(transform(Build::WithoutBarriers).is_err());
    assert!(extension(Build::ShorterQuotient).is_err());
}

/// Under the address sanitizer this ends the process: `runtime/gpu/simulate.sh` requires it.
#[test]
#[ignore = "reads beyond its memory, for a sanitizer to stop it"]
fn a_kernel_that_reads_beyond_its_memory_is_stopped() {
    let both = Both::new(10, 1);
    let limbs = both.limbs(0, 2);
    let a = both.gpu.zero(&limbs, Form::Evaluation);
    let operands = Operands {
        to: a.address().expect("is there"),
        a: a.address().expect("is there"),
        ..Operands::default()
    };
    let beyond = Word {
        a: 2,
        ..Word::at(0, limbs[0])
    };
    // SAFETY: none; the second limb is the last.
    let _ = unsafe { both.gpu.pointwise("heron_copy", operands, [beyond]) };
}

/// Under the undefined-behaviour sanitizer this ends the process: `runtime/gpu/simulate.sh` requires it.
#[test]
#[ignore = "exceeds the bounds of lazy words, for a sanitizer to stop it"]
fn a_transform_of_words_beyond_their_bound_is_stopped() {
    let both = Both::new(10, 1);
    let limbs = both.limbs(0, 1);
    let mut poly = RnsPoly::zero(both.context.ring(), &limbs, Form::Coefficient);
    poly.data_mut().fill(0x7fff_ffff);
    let mut found = both.gpu.upload(&poly);
    both.gpu.to_evaluation(&mut found);
}

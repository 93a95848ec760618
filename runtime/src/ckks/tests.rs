//! Every operation against the message it should carry, with the predicted bound beside the measured error. Toy ring: not secure.

use super::encoding::Complex;
use super::noise::NoiseModel;
use super::testing::{rotated, step, times, Lab};
use super::{Basis, CkksError};
use crate::rlwe::RlweError;
use heron_schedule::params::Level;

const TOP: Level = Level(9);

#[test]
fn encryption_decrypts_to_the_message_under_both_keys() {
    let lab = Lab::toy(&[], &[]);
    let noise = NoiseModel::new(&lab.context);
    let x = lab.slots(1);
    for level in [Level(0), Level(4), TOP] {
        let scale = lab.scale(level);
        lab.error(&lab.encrypt(&x, level, 1), &x).within(
            &format!("secret-key encryption {level}"),
            noise.bound(noise.encryption(scale)),
        );
        let public = lab
            .client
            .public_key(level, &lab.random.derive("pk", &[]))
            .unwrap();
        let message = lab.plaintext(&x, level, scale, Basis::Row);
        let c = public
            .encrypt(&message, &lab.random.derive("pke", &[]))
            .unwrap();
        lab.error(&c, &x).within(
            &format!("public-key encryption {level}"),
            noise.bound(noise.public_encryption(scale)),
        );
    }
}

#[test]
fn encrypting_twice_shares_no_residues() {
    let lab = Lab::toy(&[], &[]);
    let x = lab.slots(1);
    // Not even when the caller passes the same source of randomness.
    let (a, b) = (lab.encrypt(&x, TOP, 1), lab.encrypt(&x, TOP, 1));
    let words = a.polys()[0].data().len();
    for (p, q) in a.polys().iter().zip(b.polys()) {
        let equal = p
            .data()
            .iter()
            .zip(q.data())
            .filter(|(a, b)| a == b)
            .count();
        // Chance alone: one in q per word.
        assert!(equal < 10, "{equal} of {words} residues are equal");
    }
}

#[test]
fn another_key_decrypts_to_noise() {
    let lab = Lab::toy(&[], &[]);
    let other = crate::client::ClientKey::generate(
        std::sync::Arc::clone(&lab.context),
        &lab.random.derive("other", &[]),
    );
    let x = lab.slots(1);
    let c = lab.encrypt(&x, TOP, 1);
    let log_slots = lab.context.params().log_n() - 1;
    let wrong = other.decrypt_slots(&lab.encoder, &c, log_slots).unwrap();
    let close = wrong
        .iter()
        .zip(&x)
        .filter(|(a, b)| (a.re - b.re).abs() < 1e3)
        .count();
    assert_eq!(close, 0, "slots within 1000 of the message");
}

#[test]
fn sums_and_integer_multiples_add_their_errors() {
    let lab = Lab::toy(&[], &[]);
    let noise = NoiseModel::new(&lab.context);
    let (x, y) = (lab.slots(1), lab.slots(2));
    let level = Level(3);
    let fresh = noise.encryption(lab.scale(level));
    let mut c = lab.encrypt(&x, level, 1);
    lab.evaluator.mul_integer_assign(&mut c, -3);
    lab.evaluator
        .add_assign(&mut c, &lab.encrypt(&y, level, 2))
        .unwrap();
    lab.evaluator
        .sub_assign(&mut c, &lab.encrypt(&x, level, 3))
        .unwrap();
    lab.evaluator.neg_assign(&mut c);
    lab.evaluator.add_constant_assign(&mut c, 0.625).unwrap();
    let scale = lab.scale(level);
    let message = lab.plaintext(&y, level, scale, Basis::Row);
    lab.evaluator.add_plain_assign(&mut c, &message).unwrap();
    // 4x - y + 0.625 + y
    let expected: Vec<Complex> = x
        .iter()
        .map(|a| Complex::new(4.0 * a.re + 0.625, 4.0 * a.im))
        .collect();
    let predicted = NoiseModel::together(&[3.0 * fresh, fresh, fresh, noise.encoding(scale)]);
    lab.error(&c, &expected)
        .within("-(-3x + y - x) + 0.625 + y", noise.bound(predicted));
}

#[test]
fn imaginary_unit_is_exact() {
    let lab = Lab::toy(&[], &[]);
    let x = lab.slots(1);
    let mut c = lab.encrypt(&x, Level(2), 1);
    let original = lab.decrypt(&c);
    lab.evaluator.mul_imaginary_assign(&mut c).unwrap();
    let turned: Vec<Complex> = original.iter().map(|a| Complex::new(-a.im, a.re)).collect();
    let worst = lab.error(&c, &turned).worst;
    assert!(worst < 1e-13, "{worst}, bound 1e-13 (decoding alone)");
}

#[test]
fn nine_products_reach_level_zero_with_canonical_scales() {
    let rows: Vec<Level> = (1..=9).map(Level).collect();
    let lab = Lab::toy(&rows, &[]);
    let noise = NoiseModel::new(&lab.context);
    let x = lab.slots(1);
    let mut c = lab.encrypt(&x, TOP, 1);
    let mut expected = x.clone();
    let mut predicted = noise.encryption(lab.scale(TOP));
    for level in (1..=9).rev().map(Level) {
        let y = lab.slots(10 + u64::from(level.0));
        let d = lab.encrypt(&y, level, 100 + u64::from(level.0));
        let product_scale = c.scale().times(d.scale()).unwrap();
        c = lab.evaluator.mul_rescale(&c, &d).unwrap();
        expected = expected
            .iter()
            .zip(&y)
            .map(|(a, b)| times(*a, *b))
            .collect();
        assert_eq!(c.level(), Level(level.0 - 1));
        assert_eq!(
            c.scale(),
            lab.scale(c.level()),
            "canonical scale at {}",
            c.level()
        );
        let row = lab.context.row(level).unwrap();
        let ratio = product_scale.over(c.scale()).unwrap().to_f64();
        // |x|, |y| <= sqrt 2; on average 2/3 in square.
        let size = (2.0f64 / 3.0).sqrt();
        predicted = NoiseModel::together(&[
            predicted * 2f64.sqrt(),
            size * noise.encryption(lab.scale(level)) * 2f64.sqrt(),
            noise.relinearise_and_rescale(row, ratio, c.scale()),
        ]);
        lab.error(&c, &expected)
            .within(&format!("product to {}", c.level()), noise.bound(predicted));
    }
    assert!(matches!(
        lab.evaluator.mul_rescale(&c, &c),
        Err(CkksError::NoLevelLeft {
            found: Level(0),
            ..
        })
    ));
}

#[test]
fn merged_relinearisation_and_rescaling_equal_the_two_steps() {
    let level = Level(5);
    let lab = Lab::toy(&[level], &[]);
    let (x, y) = (lab.slots(1), lab.slots(2));
    let product = lab
        .evaluator
        .mul(&lab.encrypt(&x, level, 1), &lab.encrypt(&y, level, 2))
        .unwrap();
    let merged = lab
        .evaluator
        .relinearise_and_rescale(product.clone())
        .unwrap();
    let relinearised = lab.evaluator.relinearise(product).unwrap();
    let separate = lab.evaluator.rescale(&relinearised).unwrap();
    // Rounding twice differs from rounding once only where the first lands within 1/L of a half, L > 2^70.
    assert!(merged.polys() == separate.polys());
}

#[test]
fn sums_of_products_relinearise_once() {
    let level = Level(4);
    let lab = Lab::toy(&[level], &[]);
    let noise = NoiseModel::new(&lab.context);
    let xs: Vec<_> = (0..5).map(|i| lab.slots(i)).collect();
    let cs: Vec<_> = xs
        .iter()
        .enumerate()
        .map(|(i, x)| lab.encrypt(x, level, i as u64))
        .collect();
    let pairs = [(&cs[0], &cs[1]), (&cs[2], &cs[3]), (&cs[4], &cs[4])];
    let c = lab.evaluator.mul_sum(&pairs, 2, -0.25).unwrap();
    let expected: Vec<Complex> = (0..xs[0].len())
        .map(|i| {
            let parts = [
                times(xs[0][i], xs[1][i]),
                times(xs[2][i], xs[3][i]),
                times(xs[4][i], xs[4][i]),
            ];
            let re: f64 = parts.iter().map(|p| p.re).sum();
            let im: f64 = parts.iter().map(|p| p.im).sum();
            Complex::new(2.0 * re - 0.25, 2.0 * im)
        })
        .collect();
    // Six factors (the square counts twice, coherently), each fresh error times a value below sqrt 2.
    let fresh = noise.encryption(lab.scale(level)) * 2f64.sqrt() * 8f64.sqrt();
    let row = lab.context.row(level).unwrap();
    let ratio = 2f64.powi(40);
    let predicted =
        2.0 * NoiseModel::together(&[fresh, noise.relinearise_and_rescale(row, ratio, c.scale())]);
    lab.error(&c, &expected)
        .within("2(ab + cd + ee) - 1/4", noise.bound(predicted));
}

#[test]
fn adjusting_reaches_every_lower_level_with_any_coefficient() {
    let lab = Lab::toy(&[], &[]);
    let noise = NoiseModel::new(&lab.context);
    let x = lab.slots(1);
    let c = lab.encrypt(&x, TOP, 1);
    for (to, factor) in [(8, 1.0), (7, -0.3125), (3, 0.7310585), (0, 1e-3), (0, -1.0)] {
        let to = Level(to);
        let d = lab.evaluator.adjust(&c, to, factor).unwrap();
        assert_eq!((d.level(), d.scale()), (to, lab.scale(to)));
        let expected: Vec<Complex> = x
            .iter()
            .map(|a| Complex::new(a.re * factor, a.im * factor))
            .collect();
        let constant = 2f64.powf(-40.75) * 2f64.sqrt();
        let predicted = NoiseModel::together(&[
            factor * noise.encryption(lab.scale(TOP)),
            noise.division(d.scale()),
        ]);
        lab.error(&d, &expected).within(
            &format!("adjust @9 to {to} by {factor}"),
            noise.bound(predicted) + constant,
        );
    }
    assert!(lab.evaluator.adjust(&c, TOP, 1.0).is_err());
}

#[test]
fn combine_brings_operands_of_several_levels_together() {
    let lab = Lab::toy(&[], &[]);
    let noise = NoiseModel::new(&lab.context);
    let xs: Vec<_> = (0..4).map(|i| lab.slots(i)).collect();
    let cs: Vec<_> = [5, 5, 8, 3]
        .iter()
        .zip(&xs)
        .enumerate()
        .map(|(i, (l, x))| lab.encrypt(x, Level(*l), i as u64))
        .collect();
    let coefficients = [0.75, -1.5, 0.1, 2.0];
    let terms: Vec<_> = cs.iter().zip(coefficients).collect();
    let c = lab.evaluator.combine(&terms, Level(3), 0.5).unwrap();
    let expected: Vec<Complex> = (0..xs[0].len())
        .map(|i| {
            let re: f64 = xs.iter().zip(coefficients).map(|(x, f)| x[i].re * f).sum();
            let im: f64 = xs.iter().zip(coefficients).map(|(x, f)| x[i].im * f).sum();
            Complex::new(re + 0.5, im)
        })
        .collect();
    let fresh = noise.encryption(lab.scale(Level(3)));
    let predicted = NoiseModel::together(&[
        2.7 * fresh,
        noise.division(c.scale()),
        noise.division(c.scale()),
    ]);
    lab.error(&c, &expected)
        .within("combine", noise.bound(predicted) + 4.0 * 2f64.powf(-40.75));
    assert!(
        lab.evaluator.combine(&terms, Level(5), 0.0).is_err(),
        "a source below the result"
    );
    assert!(
        lab.evaluator
            .combine(&[(&cs[3], 0.5)], Level(3), 0.0)
            .is_err(),
        "half at the result's level"
    );
}

#[test]
fn rotations_and_conjugation_move_slots() {
    let level = Level(6);
    let lab = Lab::toy(&[level], &[1, -5, 100]);
    let noise = NoiseModel::new(&lab.context);
    let x = lab.slots(1);
    let c = lab.encrypt(&x, level, 1);
    let row = lab.context.row(level).unwrap();
    let scale = lab.scale(level);
    let predicted = noise.bound(NoiseModel::together(&[
        noise.encryption(scale),
        noise.key_switch(row, scale),
    ]));
    for k in [1, -5, 100] {
        let r = lab.evaluator.rotate(&c, step(k)).unwrap();
        lab.error(&r, &rotated(&x, k))
            .within(&format!("rotate by {k}"), predicted);
    }
    let conjugate: Vec<Complex> = x.iter().map(|a| Complex::new(a.re, -a.im)).collect();
    lab.error(&lab.evaluator.conjugate(&c).unwrap(), &conjugate)
        .within("conjugate", predicted);
    assert!(matches!(
        lab.evaluator.rotate(&c, step(2)),
        Err(CkksError::Rlwe(RlweError::NoKey { .. }))
    ));
}

#[test]
fn hoisted_rotations_equal_single_rotations() {
    let level = Level(7);
    let steps = [1, 3, -2, 0];
    let lab = Lab::toy(&[level], &steps);
    let c = lab.encrypt(&lab.slots(1), level, 1);
    let hoisted = lab.evaluator.rotate_hoisted(&c, &steps.map(step)).unwrap();
    for (k, h) in steps.iter().zip(&hoisted) {
        let single = lab.evaluator.rotate(&c, step(*k)).unwrap();
        assert!(single.polys() == h.polys(), "step {k}");
    }
}

#[test]
fn a_key_made_for_two_rows_serves_both_and_no_other() {
    let lab = Lab::toy(&[Level(2), Level(5)], &[1]);
    let x = lab.slots(1);
    for level in [Level(2), Level(5)] {
        let r = lab
            .evaluator
            .rotate(&lab.encrypt(&x, level, 1), step(1))
            .unwrap();
        assert!(lab.error(&r, &rotated(&x, 1)).worst < 1e-6);
    }
    assert!(matches!(
        lab.evaluator.rotate(&lab.encrypt(&x, Level(4), 1), step(1)),
        Err(CkksError::Rlwe(RlweError::KeyRow { row: Level(4), .. }))
    ));
}

#[test]
fn operands_at_different_levels_or_scales_are_refused() {
    let lab = Lab::toy(&[], &[]);
    let x = lab.slots(1);
    let (a, b) = (lab.encrypt(&x, Level(3), 1), lab.encrypt(&x, Level(4), 1));
    assert!(matches!(
        lab.evaluator.add(&a, &b),
        Err(CkksError::LevelMismatch { .. })
    ));
    assert!(matches!(
        lab.evaluator.mul(&a, &b),
        Err(CkksError::LevelMismatch { .. })
    ));
    let mut c = a.clone();
    c.set_scale(lab.scale(Level(4)));
    assert!(matches!(
        lab.evaluator.add(&a, &c),
        Err(CkksError::ScaleMismatch { .. })
    ));
    let product = lab.evaluator.mul(&a, &a).unwrap();
    assert!(matches!(
        lab.evaluator.rotate(&product, step(1)),
        Err(CkksError::Degree { .. })
    ));
}

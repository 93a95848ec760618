//! Chains without bootstrapping on ciphertexts: every level of both kinds, in a toy ring. Not secure.

use super::noise::NoiseModel;
use super::testing::{rotated, step, times, Lab};
use crate::ring::GaloisElement;
use crate::rlwe::{KeyKind, KeyRequest, RlweError};
use heron_schedule::params::{Level, LevelBits, LevelledShape, ParameterSet, Profile};

const LOG_N: u32 = 11;

fn lab(bits: LevelBits, digit_limbs: u8, levels: &[Level]) -> Lab {
    let shape = LevelledShape { bits, digit_limbs };
    let params = ParameterSet::levelled(Profile::ToyLevelled, LOG_N, shape).unwrap();
    let mut request = KeyRequest::new();
    for &level in levels {
        request.add(KeyKind::Relinearisation, level);
        let rotation = GaloisElement::rotation(3, LOG_N);
        request.add(KeyKind::Galois(rotation), level);
    }
    Lab::with_keys(params, &request)
}

#[test]
fn products_and_rotations_of_levelled_chains_stay_within_their_bounds_at_every_level() {
    for (bits, digit_limbs) in [
        (LevelBits::TwentySeven, 1),
        (LevelBits::TwentySeven, 3),
        (LevelBits::TwentySeven, 8),
        (LevelBits::Forty, 1),
        (LevelBits::Forty, 4),
        (LevelBits::Forty, 12),
    ] {
        let levels: Vec<Level> = (1..=11).map(Level).collect();
        let lab = lab(bits, digit_limbs, &levels);
        let noise = NoiseModel::new(&lab.context);
        let (x, y) = (lab.slots(1), lab.slots(2));
        let product: Vec<_> = x.iter().zip(&y).map(|(a, b)| times(*a, *b)).collect();
        for &level in levels.iter().rev() {
            let scale = lab.scale(level);
            let c = lab.encrypt(&x, level, 1);
            lab.error(&c, &x).within(
                &format!("{bits:?} {digit_limbs} encryption {level}"),
                noise.bound(noise.encryption(scale)),
            );
            let row = lab.context.row(level).unwrap();
            let turned = lab.evaluator.rotate(&c, step(3)).unwrap();
            let predicted =
                NoiseModel::together(&[noise.encryption(scale), noise.key_switch(row, scale)]);
            lab.error(&turned, &rotated(&x, 3))
                .within(&format!("rotation {level}"), noise.bound(predicted));
            let d = lab.encrypt(&y, level, 2);
            let both = c.scale().times(d.scale()).unwrap();
            let z = lab.evaluator.mul_rescale(&c, &d).unwrap();
            let below = Level(level.0 - 1);
            assert_eq!((z.level(), z.scale()), (below, lab.scale(below)));
            let ratio = both.over(z.scale()).unwrap().to_f64();
            let size = (2.0f64 / 3.0).sqrt();
            let predicted = NoiseModel::together(&[
                2f64.sqrt() * size * noise.encryption(scale),
                noise.relinearise_and_rescale(row, ratio, z.scale()),
            ]);
            lab.error(&z, &product)
                .within(&format!("product {level}"), noise.bound(predicted));
        }
    }
}

#[test]
fn ciphertexts_of_levelled_chains_reach_every_lower_level() {
    for bits in [LevelBits::TwentySeven, LevelBits::Forty] {
        let lab = lab(bits, 4, &[]);
        let noise = NoiseModel::new(&lab.context);
        let x = lab.slots(5);
        let top = Level(11);
        let c = lab.encrypt(&x, top, 1);
        for to in 0..top.0 {
            let lower = lab.evaluator.adjust(&c, Level(to), -1.0).unwrap();
            let expected: Vec<_> = x
                .iter()
                .map(|z| super::encoding::Complex::new(-z.re, -z.im))
                .collect();
            let scale = lab.scale(Level(to));
            let predicted = NoiseModel::together(&[
                noise.encryption(lab.scale(top)),
                noise.division(scale),
                // The constant is rounded: a relative error of the message.
                2f64.powf(-0.5 - f64::from(bits.log2())),
            ]);
            lab.error(&lower, &expected)
                .within(&format!("{bits:?} to {to}"), noise.bound(predicted));
        }
    }
}

#[test]
fn the_largest_ring_multiplies_and_rotates_too() {
    let shape = LevelledShape {
        bits: LevelBits::TwentySeven,
        digit_limbs: 3,
    };
    let params = ParameterSet::levelled(Profile::Secure, 17, shape).unwrap();
    let level = Level(2);
    let mut request = KeyRequest::new();
    request.add(KeyKind::Relinearisation, level);
    let rotation = GaloisElement::rotation(5, 17);
    request.add(KeyKind::Galois(rotation), level);
    let lab = Lab::with_keys(params, &request);
    let noise = NoiseModel::new(&lab.context);
    let x = lab.slots(1);
    let c = lab.encrypt(&x, level, 1);
    let turned = lab.evaluator.rotate(&c, step(5)).unwrap();
    let row = lab.context.row(level).unwrap();
    let scale = lab.scale(level);
    let predicted = [noise.encryption(scale), noise.key_switch(row, scale)];
    lab.error(&turned, &rotated(&x, 5)).within(
        "rotation at N = 2^17",
        noise.bound(NoiseModel::together(&predicted)),
    );
    let both = c.scale().times(turned.scale()).unwrap();
    let z = lab.evaluator.mul_rescale(&c, &turned).unwrap();
    let ratio = both.over(z.scale()).unwrap().to_f64();
    let expected: Vec<_> = x
        .iter()
        .zip(rotated(&x, 5))
        .map(|(a, b)| times(*a, b))
        .collect();
    let size = (2.0f64 / 3.0).sqrt();
    let predicted = NoiseModel::together(&[
        size * noise.encryption(scale),
        size * NoiseModel::together(&predicted),
        noise.relinearise_and_rescale(row, ratio, z.scale()),
    ]);
    lab.error(&z, &expected)
        .within("product at N = 2^17", noise.bound(predicted));
}

#[test]
fn levelled_chains_make_no_keys_of_bootstrapping() {
    let lab = lab(LevelBits::Forty, 6, &[]);
    let top = lab.context.params().top();
    for (kind, row) in [
        (KeyKind::DenseToSparse, Level(0)),
        (KeyKind::SparseToDense, top),
    ] {
        let mut request = KeyRequest::new();
        request.add(kind, row);
        let made = lab.client.evaluation_keys(&request, &lab.random);
        assert!(matches!(made, Err(RlweError::KeyNotAllowed { .. })));
    }
}

//! Several ciphertexts at once: each result is the CPU's for it alone.

use super::super::simulator::{Build, Simulator};
use super::super::{Gpu, GpuPoly};
use super::same;
use super::switches::{assert_equal, device_evaluator, upload};
use crate::backend::{Backend, Rotation};
use crate::bootstrap::{requirements, Bootstrapper, Kind, Tuning};
use crate::ckks::testing::{step, Lab};
use crate::ckks::{Ciphertext, Evaluator, ProductSum};
use crate::ring::testing::random_poly;
use crate::ring::{Form, GaloisElement, RnsPoly};
use crate::rlwe::{KeyKind, KeyRequest};
use heron_schedule::params::{Level, ParameterSet, Profile};
use std::sync::Arc;

const LEVEL: Level = Level(6);
const STEPS: [i64; 3] = [0, 5, -3];

fn lab(log_n: u32, level: Level, kinds: &[Kind]) -> Lab {
    let params = ParameterSet::with_ring(Profile::ToySecure, log_n).expect("profile");
    let mut request = match kinds {
        [] => KeyRequest::new(),
        kinds => requirements(&params, Tuning::STANDARD, kinds).expect("keys"),
    };
    request.add(KeyKind::Relinearisation, level);
    request.add(KeyKind::Galois(GaloisElement::conjugation(log_n)), level);
    for k in STEPS.iter().filter(|&&k| k != 0) {
        request.add(KeyKind::Galois(GaloisElement::rotation(*k, log_n)), level);
    }
    Lab::with_keys(params, &request)
}

fn encrypted(lab: &Lab, level: Level, count: u64) -> Vec<Ciphertext> {
    let each = 0..count;
    each.map(|i| lab.encrypt(&lab.slots(i), level, i)).collect()
}

/// The same ciphertext with its limbs in another order.
fn reordered(gpu: &Gpu, ct: &Ciphertext<GpuPoly>) -> Ciphertext<GpuPoly> {
    let polys = ct.polys().iter().map(|p| {
        let mut limbs = gpu.limbs(p).to_vec();
        limbs.reverse();
        gpu.select(p, &limbs)
    });
    Ciphertext::from_parts(polys.collect(), ct.level(), ct.scale())
}

#[test]
fn rotations_and_products_of_several_ciphertexts_equal_the_cpus_of_each() {
    for (log_n, count) in [(8, 1), (8, 9), (9, 3), (10, 8), (12, 5)] {
        let lab = lab(log_n, LEVEL, &[]);
        let (cpu, on_gpu) = (&lab.evaluator, device_evaluator(&lab, u64::from(log_n)));
        let gpu = on_gpu.backend();
        let cts = encrypted(&lab, LEVEL, count);
        let mut brought: Vec<_> = cts.iter().map(|ct| upload(gpu, ct)).collect();
        if count > 4 {
            // One in between that cannot share a launch.
            brought[2] = reordered(gpu, &brought[2]);
        }
        let sources: Vec<_> = brought.iter().collect();
        let what = |op: &str, i: usize| format!("{op} {i} of {count}, N = 2^{log_n}");
        let found = on_gpu.rotate_each(&sources, step(5)).expect("rotates");
        for (i, (found, ct)) in found.iter().zip(&cts).enumerate() {
            let expected = cpu.rotate(ct, step(5)).expect("rotates");
            assert_equal(&what("rotation", i), gpu, found, &expected);
        }
        let found = on_gpu.conjugate_each(&sources).expect("conjugates");
        for (i, (found, ct)) in found.iter().zip(&cts).enumerate() {
            let expected = cpu.conjugate(ct).expect("conjugates");
            assert_equal(&what("conjugate", i), gpu, found, &expected);
        }
        let steps = STEPS.map(step);
        let found = on_gpu.rotate_hoisted_each(&sources, &steps[1..]);
        for (i, (found, ct)) in found.expect("rotates").iter().zip(&cts).enumerate() {
            let expected = cpu.rotate_hoisted(ct, &steps[1..]).expect("rotates");
            for (found, expected) in found.iter().zip(&expected) {
                assert_equal(&what("hoisted rotation", i), gpu, found, expected);
            }
        }
        // Products of neighbours, with factors and constants of their own.
        let numbers = |i: usize| (i as i64 % 3 - 1, 0.25 * (i % 2) as f64);
        let next = |i: usize| (i + 1) % cts.len();
        let sums = (0..cts.len()).map(|i| ProductSum {
            pairs: vec![(&brought[i], &brought[next(i)]), (&brought[i], &brought[i])],
            factor: numbers(i).0,
            constant: numbers(i).1,
        });
        let found = on_gpu.mul_sum_each(&sums.collect::<Vec<_>>());
        for (i, found) in found.expect("multiplies").iter().enumerate() {
            let (factor, constant) = numbers(i);
            let pairs = [(&cts[i], &cts[next(i)]), (&cts[i], &cts[i])];
            let expected = cpu.mul_sum(&pairs, factor, constant).expect("multiplies");
            assert_equal(&what("product", i), gpu, found, &expected);
        }
    }
}

/// The shape of the launches at full size: one row of each of four ciphertexts in a block.
#[test]
fn a_batch_of_rotations_in_the_full_ring_equals_the_cpus() {
    let level = Level(1);
    let lab = lab(16, level, &[]);
    let on_gpu = device_evaluator(&lab, 3);
    let gpu = on_gpu.backend();
    let cts = encrypted(&lab, level, 4);
    let brought: Vec<_> = cts.iter().map(|ct| upload(gpu, ct)).collect();
    let sources: Vec<_> = brought.iter().collect();
    let found = on_gpu.rotate_each(&sources, step(5)).expect("rotates");
    for (found, ct) in found.iter().zip(&cts) {
        let expected = lab.evaluator.rotate(ct, step(5)).expect("rotates");
        assert_equal("a rotation", gpu, found, &expected);
    }
}

#[test]
fn bootstraps_of_several_ciphertexts_equal_the_cpus_of_each() {
    let kinds = [Kind::Full, Kind::ComplexPair, Kind::Sparse { log_slots: 5 }];
    let lab = lab(9, LEVEL, &kinds);
    let (cpu, on_gpu) = (&lab.evaluator, device_evaluator(&lab, 7));
    let gpu = on_gpu.backend();
    let cts = encrypted(&lab, LEVEL, 5);
    let brought: Vec<_> = cts.iter().map(|ct| upload(gpu, ct)).collect();
    let sources: Vec<_> = brought.iter().collect();
    let tuning = Tuning::STANDARD;
    let on_host = Bootstrapper::new(&lab.context, cpu.backend(), tuning, &kinds).expect("prepares");
    let prepared = Bootstrapper::new(&lab.context, gpu, tuning, &kinds).expect("prepares");
    let top = lab.context.params().top_usable();
    let found = prepared.each(&on_gpu, &sources, Kind::Full, top);
    for (found, ct) in found.expect("bootstraps").iter().zip(&cts) {
        let expected = on_host.full(cpu, ct, top).expect("bootstraps");
        assert_equal("a full bootstrap", gpu, found, &expected);
    }
    let found = prepared.each(&on_gpu, &sources[..2], kinds[2], top);
    for (found, ct) in found.expect("bootstraps").iter().zip(&cts) {
        let expected = on_host.sparse(cpu, ct, 5, top).expect("bootstraps");
        assert_equal("a sparse bootstrap", gpu, found, &expected);
    }
    let pairs = [(sources[0], sources[1]), (sources[2], sources[3])];
    let found = prepared.pair_each(&on_gpu, &pairs, LEVEL);
    for ((a, b), ct) in found.expect("bootstraps").iter().zip(cts.chunks(2)) {
        let expected = on_host
            .pair(cpu, &ct[0], &ct[1], LEVEL)
            .expect("bootstraps");
        assert_equal("a pair's first", gpu, a, &expected.0);
        assert_equal("a pair's second", gpu, b, &expected.1);
    }
}

/// The key is read by each launch once, so four rotations read it as often as one.
#[test]
fn four_rotations_together_take_the_launches_of_one() {
    let lab = lab(10, LEVEL, &[]);
    let context = lab.evaluator.context();
    let cts = encrypted(&lab, LEVEL, 4);
    let launches = |count: usize| {
        let device = Arc::new(Simulator::new(2));
        let gpu = Gpu::new(Arc::clone(&device) as _, Arc::clone(context)).expect("tables");
        let on_gpu = Evaluator::on(gpu, Arc::clone(context), Arc::clone(&lab.evaluator.keys));
        let gpu = on_gpu.backend();
        let brought: Vec<_> = cts[..count].iter().map(|ct| upload(gpu, ct)).collect();
        let sources: Vec<_> = brought.iter().collect();
        on_gpu.rotate_each(&sources, step(5)).expect("rotates");
        device.launches()
    };
    assert_eq!((launches(1), launches(4)), (6, 6));
}

#[test]
fn kernels_that_mix_up_the_ciphertexts_of_a_batch_are_noticed() {
    let lab = lab(10, LEVEL, &[]);
    let context = lab.evaluator.context();
    let cts = encrypted(&lab, LEVEL, 4);
    let device = Simulator::with(Build::MixedBatch, 1, 1 << 40);
    let gpu = Gpu::new(Arc::new(device), Arc::clone(context)).expect("tables");
    let on_gpu = Evaluator::on(gpu, Arc::clone(context), Arc::clone(&lab.evaluator.keys));
    let gpu = on_gpu.backend();
    let brought: Vec<_> = cts.iter().map(|ct| upload(gpu, ct)).collect();
    let differs = |count: usize| {
        let sources: Vec<_> = brought[..count].iter().collect();
        let found = on_gpu.rotate_each(&sources, step(5)).expect("rotates");
        let mut each = found.iter().zip(&cts);
        each.any(|(found, ct)| {
            let expected = lab.evaluator.rotate(ct, step(5)).expect("rotates");
            let mut polys = found.polys().iter().zip(expected.polys());
            polys.any(|(found, expected)| same(gpu, found, expected).is_err())
        })
    };
    assert!(!differs(1), "one ciphertext cannot be mixed up");
    assert!(differs(4), "the altered kernels pass");
}

/// Linear maps on several ciphertexts, whose rotations are never kept; one beyond what a launch takes, and one with altered kernels.
#[test]
fn sums_of_rotations_equal_the_cpus_within_one_launch_and_beyond() {
    let lab = lab(10, LEVEL, &[]);
    let context = lab.evaluator.context();
    let row = context.row(LEVEL).expect("row");
    let cpu = lab.evaluator.backend();
    let cts = encrypted(&lab, LEVEL, 5);
    let rotation = |k: i64| {
        let element = lab.evaluator.rotation_element(step(k));
        let key = lab.evaluator.keys().get(KeyKind::Galois(element));
        Rotation {
            element,
            key: key.expect("key"),
        }
    };
    let babies = [Some(rotation(5)), None, Some(rotation(-3))];
    // Diagonals of full length, in another order of their limbs, and ones that repeat.
    let ring = context.ring();
    let mut reversed = row.extended.clone();
    reversed.reverse();
    let diagonals: Vec<RnsPoly> = (0..6)
        .map(|i| match i % 3 {
            0 => random_poly(ring, &row.extended, Form::Evaluation, i),
            1 => random_poly(ring, &reversed, Form::Evaluation, i),
            _ => {
                let fill = |_, words: &mut [u32]| words.fill(i as u32 + 1);
                let poly = ring.evaluate_in_power(&row.extended, 2, fill);
                poly.expect("a compressed polynomial")
            }
        })
        .collect();
    // Giant steps of several terms, of one and of none.
    let giant = |number: usize| -> Vec<(usize, usize)> {
        match number % 4 {
            0 => vec![(0, 0), (1, 1), (2, 2)],
            1 => vec![(3, 2)],
            2 => vec![],
            _ => vec![(4, 1), (5, 0)],
        }
    };
    for (count, giants, build, same_as) in [
        (1, 4, Build::Plain, true),
        (5, 8, Build::Plain, true),
        (3, 9, Build::Plain, true),
        (4, 4, Build::MixedBatch, false),
    ] {
        let giants: Vec<_> = (0..giants).map(giant).collect();
        let digits = cts[..count].iter().map(|ct| {
            let [c0, c1] = ct.polys() else {
                panic!("a fresh ciphertext has two polynomials");
            };
            (cpu.decompose(c1, row).expect("digits"), c0)
        });
        let terms = giants.iter().map(|g| {
            let terms = g.iter().map(|&(d, b)| (&diagonals[d], b));
            terms.collect::<Vec<_>>()
        });
        let terms: Vec<_> = terms.collect();
        let expected = cpu.rotated_sums_each(digits.collect(), &babies, &terms, row);
        let expected = expected.expect("maps");

        let device = Simulator::with(build, 3, 1 << 40);
        let gpu = Gpu::new(Arc::new(device), Arc::clone(context)).expect("tables");
        let brought: Vec<_> = cts[..count].iter().map(|ct| upload(&gpu, ct)).collect();
        let on_device: Vec<_> = diagonals.iter().map(|d| gpu.upload(d)).collect();
        let high: Vec<_> = brought.iter().map(|ct| &ct.polys()[1]).collect();
        let digits = gpu.decompose_each(&high, row).expect("digits").into_iter();
        let sources = digits.zip(brought.iter().map(|ct| &ct.polys()[0]));
        let terms = giants.iter().map(|g| {
            let terms = g.iter().map(|&(d, b)| (&on_device[d], b));
            terms.collect::<Vec<_>>()
        });
        let terms: Vec<_> = terms.collect();
        let found = gpu.rotated_sums_each(sources.collect(), &babies, &terms, row);
        let mut alike = true;
        for (found, expected) in found.expect("maps").iter().zip(&expected) {
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                alike &= same(&gpu, &found.0, &expected.0).is_ok();
                alike &= same(&gpu, &found.1, &expected.1).is_ok();
            }
        }
        assert_eq!(
            alike,
            same_as,
            "{count} ciphertexts, {} giant steps, {build:?}",
            giants.len()
        );
    }
}

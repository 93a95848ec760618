//! Key switches, and the CKKS operations made of them.

use super::super::simulator::Simulator;
use super::super::{DeviceError, Gpu};
use super::assert_same;
use crate::backend::{Backend, Rotation, Switch};
use crate::ckks::testing::{step, Lab};
use crate::ckks::{Ciphertext, Evaluator};
use crate::ring::{Form, GaloisElement};
use crate::rlwe::{KeyKind, KeyRequest};
use heron_schedule::params::{Level, ParameterSet, Profile};
use std::sync::Arc;

const STEPS: [i64; 3] = [1, 5, -3];

pub(super) fn device_evaluator(lab: &Lab, seed: u64) -> Evaluator<Gpu> {
    let context = lab.evaluator.context();
    let gpu = Gpu::new(Arc::new(Simulator::new(seed)), Arc::clone(context)).expect("tables");
    Evaluator::on(gpu, Arc::clone(context), Arc::clone(&lab.evaluator.keys))
}

pub(super) fn upload(gpu: &Gpu, ct: &Ciphertext) -> Ciphertext<<Gpu as Backend>::Poly> {
    let polys = ct.polys().iter().map(|p| gpu.upload(p)).collect();
    Ciphertext::from_parts(polys, ct.level(), ct.scale())
}

/// The same polynomials at the same level and scale.
#[track_caller]
pub(super) fn assert_equal(
    what: &str,
    gpu: &Gpu,
    found: &Ciphertext<<Gpu as Backend>::Poly>,
    expected: &Ciphertext,
) {
    assert_eq!(
        (found.level(), found.scale(), found.polys().len()),
        (expected.level(), expected.scale(), expected.polys().len()),
        "{what}"
    );
    for (found, expected) in found.polys().iter().zip(expected.polys()) {
        assert_same(what, gpu, found, expected);
    }
}

#[test]
fn key_switches_equal_the_cpus_for_every_shuffling() {
    for (level, seed) in [(Level(2), 1), (Level(6), 2), (Level(6), 3)] {
        let lab = Lab::toy(&[level], &STEPS);
        let on_gpu = device_evaluator(&lab, seed);
        let (cpu, gpu) = (lab.evaluator.backend(), on_gpu.backend());
        let row = lab.context.row(level).expect("row");
        let source = lab.encrypt(&lab.slots(1), level, 1);
        let [c0, c1] = source.polys() else {
            panic!("a fresh ciphertext has two polynomials");
        };
        let (d0, d1) = (gpu.upload(c0), gpu.upload(c1));
        let rotations: Vec<Rotation<'_>> = STEPS
            .iter()
            .map(|&s| {
                let element = lab.evaluator.rotation_element(step(s));
                let key = lab.evaluator.keys().get(KeyKind::Galois(element));
                Rotation {
                    element,
                    key: key.expect("key"),
                }
            })
            .collect();
        let digits = cpu.decompose(c1, row).expect("digits");
        let on_device = gpu.decompose(&d1, row).expect("digits");
        assert_eq!(digits.digits.len(), on_device.digits.len());
        for (found, expected) in on_device.digits.iter().zip(&digits.digits) {
            assert_same("a digit", gpu, found, expected);
        }

        // What was looked at is finished; fresh digits are finished by the product, in passing.
        let fresh = gpu.decompose(&d1, row).expect("digits");
        let expected = cpu.key_product(&digits, rotations[0].key, row);
        let (low, high) = expected.as_ref().expect("product");
        for turn in 0..3 {
            let found = gpu.key_product(&fresh, rotations[0].key, row);
            let found = found.expect("product");
            assert_same(&format!("product {turn}"), gpu, &found.0, low);
            assert_same(&format!("product {turn}"), gpu, &found.1, high);
        }
        let found = gpu.key_product(&on_device, rotations[0].key, row);
        let (expected, found) = (expected.expect("product"), found.expect("product"));
        assert_same("a key product", gpu, &found.0, &expected.0);
        assert_same("a key product", gpu, &found.1, &expected.1);

        let mut rotated = cpu
            .rotated_products(&digits, c0, &rotations, row)
            .expect("products");
        let mut moved = gpu
            .rotated_products(&on_device, &d0, &rotations, row)
            .expect("products");
        for (found, expected) in moved.iter().zip(&rotated) {
            assert_same("a rotated product", gpu, &found.0, &expected.0);
            assert_same("a rotated product", gpu, &found.1, &expected.1);
        }

        let (low, kept) = (rotated[0].0.clone(), moved[1].clone());
        let pair = (&moved[0].0.clone(), &d1);
        cpu.switch_and_add((&low, c1), rotations[2], row, &mut rotated[1])
            .expect("switch");
        gpu.switch_and_add(pair, rotations[2], row, &mut moved[1])
            .expect("switch");
        assert_same("an added switch", gpu, &moved[1].0, &rotated[1].0);
        assert_same("an added switch", gpu, &moved[1].1, &rotated[1].1);
        // What was cloned before is still the product.
        let before = cpu
            .rotated_products(&digits, c0, &rotations[1..2], row)
            .expect("products");
        assert_same("a clone of the sum", gpu, &kept.0, &before[0].0);

        let below = lab.context.row(Level(level.0 - 1)).expect("row");
        for lo in [&row.limbs, &below.limbs] {
            for (first, second, element) in [
                (false, false, None),
                (true, false, Some(rotations[0].element)),
                (true, true, None),
            ] {
                let key = rotations[0].key;
                let switch = Switch {
                    key,
                    addends: [first.then_some(c0), second.then_some(c1)],
                    element,
                    lo,
                };
                let expected = cpu.switch_and_divide(&digits, switch, row).expect("switch");
                let switch = Switch {
                    key,
                    addends: [first.then_some(&d0), second.then_some(&d1)],
                    element,
                    lo,
                };
                let found = gpu
                    .switch_and_divide(&on_device, switch, row)
                    .expect("switch");
                assert_same("a divided switch", gpu, &found.0, &expected.0);
                assert_same("a divided switch", gpu, &found.1, &expected.1);
            }
        }
    }
}

/// Every shape of the transforms, alone and within other kernels.
#[test]
fn a_rotation_equals_the_cpus_in_every_ring() {
    let level = Level(1);
    for log_n in 8..=16 {
        let params = ParameterSet::with_ring(Profile::ToySecure, log_n).expect("profile");
        let mut request = KeyRequest::new();
        request.add(KeyKind::Galois(GaloisElement::rotation(3, log_n)), level);
        let lab = Lab::with_keys(params, &request);
        let on_gpu = device_evaluator(&lab, u64::from(log_n));
        let a = lab.encrypt(&lab.slots(1), level, 1);
        let expected = lab.evaluator.rotate(&a, step(3)).expect("rotates");
        let found = on_gpu.rotate(&upload(on_gpu.backend(), &a), step(3));
        let what = format!("N = 2^{log_n}");
        assert_equal(&what, on_gpu.backend(), &found.expect("rotates"), &expected);
    }
}

/// Fused launches on one backend, launches that do one thing each on the other.
#[test]
fn fused_launches_equal_their_unfused_twins() {
    let lab = Lab::toy(&[Level(6)], &[1]);
    let fused = device_evaluator(&lab, 7);
    let context = lab.evaluator.context();
    let (twin, other) = (Arc::new(Simulator::new(8)), Arc::new(Simulator::new(9)));
    let gpu = Gpu::unfused(Arc::clone(&twin) as _, Arc::clone(context)).expect("tables");
    let unfused = Evaluator::on(gpu, Arc::clone(context), Arc::clone(&lab.evaluator.keys));
    let a = lab.encrypt(&lab.slots(1), Level(6), 1);
    let found = fused.rotate(&upload(fused.backend(), &a), step(1));
    let single = unfused.rotate(&upload(unfused.backend(), &a), step(1));
    let expected = lab.evaluator.rotate(&a, step(1)).expect("rotates");
    assert_equal(
        "fused",
        fused.backend(),
        &found.expect("rotates"),
        &expected,
    );
    assert_equal(
        "unfused",
        unfused.backend(),
        &single.expect("rotates"),
        &expected,
    );
    let gpu = Gpu::new(Arc::clone(&other) as _, Arc::clone(context)).expect("tables");
    let counted = Evaluator::on(gpu, Arc::clone(context), Arc::clone(&lab.evaluator.keys));
    counted
        .rotate(&upload(counted.backend(), &a), step(1))
        .expect("rotates");
    println!(
        "{} launches fused, {} not",
        other.launches(),
        twin.launches()
    );
    assert_eq!((other.launches(), twin.launches()), (6, 11));
}

#[test]
fn a_key_that_lacks_a_limb_of_the_row_is_refused_and_the_device_goes_on() {
    let lab = Lab::toy(&[Level(2)], &[1]);
    let on_gpu = device_evaluator(&lab, 1);
    let a = lab.encrypt(&lab.slots(1), Level(5), 1);
    let above = upload(on_gpu.backend(), &a);
    let refused = on_gpu.rotate(&above, step(1)).map(|_| ());
    assert_eq!(
        refused.map_err(|e| e.to_string()),
        lab.evaluator
            .rotate(&a, step(1))
            .map(|_| ())
            .map_err(|e| e.to_string())
    );
    assert!(on_gpu.backend().failure().is_none());
}

#[test]
fn keys_make_room_for_one_another_where_memory_holds_few() {
    let level = Level(6);
    let lab = Lab::toy(&[level], &STEPS);
    let context = lab.evaluator.context();
    let run = |limit: u64| {
        let device = Arc::new(Simulator::with(super::Build::Plain, 1, limit));
        let gpu = Gpu::new(Arc::clone(&device) as _, Arc::clone(context)).expect("tables");
        let on_gpu = Evaluator::on(gpu, Arc::clone(context), Arc::clone(&lab.evaluator.keys));
        let a = lab.encrypt(&lab.slots(1), level, 1);
        let on_device = upload(on_gpu.backend(), &a);
        for k in STEPS.iter().chain(&STEPS) {
            let found = on_gpu.rotate(&on_device, step(*k)).expect("fits");
            let expected = lab.evaluator.rotate(&a, step(*k)).expect("rotates");
            assert_equal("a rotation", on_gpu.backend(), &found, &expected);
        }
        on_gpu.backend().most_bytes()
    };
    let all = run(1 << 40);
    let key = lab.evaluator.keys().iter().next().expect("a key").bytes();
    let few = run(all - key);
    println!("{all} bytes with all keys, {few} with some, {key} of a key");
    assert!(few <= all - key);
}

#[test]
fn exhausted_memory_is_an_error_that_says_what_was_needed() {
    let lab = Lab::toy(&[Level(6)], &[1]);
    let context = lab.evaluator.context();
    let ring = context.ring();
    // Room for the tables and a little more.
    let tables = 4 * ring.limb_count() as u64 * ring.degree() as u64 * 5 / 2;
    let device = Simulator::with(super::Build::Plain, 1, tables + (1 << 20));
    let gpu = Gpu::new(Arc::new(device), Arc::clone(context)).expect("tables");
    let on_gpu = Evaluator::on(gpu, Arc::clone(context), Arc::clone(&lab.evaluator.keys));
    let a = upload(on_gpu.backend(), &lab.encrypt(&lab.slots(1), Level(6), 1));
    let error = on_gpu.rotate(&a, step(1)).expect_err("does not fit");
    println!("{error}");
    assert!(error.to_string().contains("bytes left"), "{error}");
    let first = on_gpu.backend().failure();
    assert!(matches!(first, Some(DeviceError::Memory { .. })));
    // From here on nothing is made, and nothing claims to have been.
    let zero = on_gpu.backend().zero(&ring.all_limbs(), Form::Evaluation);
    assert!(on_gpu.backend().fetch(&zero).is_err());
}

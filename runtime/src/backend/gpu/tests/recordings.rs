//! Work that is recorded and started as a whole: the same residues, whatever order its launches are in.

use super::super::simulator::{Build, Simulator};
use super::super::{Gpu, GpuPoly, Recordings};
use super::switches::{assert_equal, upload};
use super::{same, Both};
use crate::backend::Backend;
use crate::bootstrap::{requirements, Bootstrapper, Kind, Tuning};
use crate::ckks::testing::Lab;
use crate::ckks::Evaluator;
use crate::ring::testing::random_poly;
use crate::ring::{Form, GaloisElement, RnsPoly};
use crate::rlwe::RlweError;
use heron_schedule::params::{ParameterSet, Profile};
use std::sync::Arc;

/// Some sums and products of both, in chains that do not need one another; memory is taken and given back on the way.
fn worked<B: Backend>(on: &B, inputs: Vec<B::Poly>) -> Result<Vec<B::Poly>, RlweError> {
    let mut outputs = Vec::new();
    for round in 0..3u32 {
        let mut sum = inputs[0].clone();
        on.add_assign(&mut sum, &inputs[1]);
        for step in 0..3 {
            let turn = GaloisElement::new(u64::from(5 + 8 * (round + step)), on.ring().log_n());
            let turned = on.automorphism(&sum, turn.expect("odd"));
            on.mul_assign(&mut sum, &turned);
        }
        on.to_coefficient(&mut sum);
        on.neg_assign(&mut sum);
        on.to_evaluation(&mut sum);
        outputs.push(sum);
    }
    let last = on.inner_product(
        &[(&outputs[0], &outputs[1]), (&outputs[1], &outputs[2])],
        on.limbs(&inputs[0]),
    );
    outputs.push(last);
    Ok(outputs)
}

fn inputs(both: &Both, seed: u64) -> Vec<RnsPoly> {
    let limbs = both.limbs(0, 3);
    let one = |seed| random_poly(both.context.ring(), &limbs, Form::Evaluation, seed);
    vec![one(2 * seed), one(2 * seed + 1)]
}

/// The work on the device, on new inputs each time, against the CPU.
fn times(both: &Both, recordings: &Recordings, count: u64) -> Result<(), String> {
    for seed in 0..count {
        let inputs = inputs(both, seed);
        let expected = worked(&both.cpu, inputs.clone()).expect("works");
        let there: Vec<GpuPoly> = inputs.iter().map(|p| both.gpu.upload(p)).collect();
        let work = &mut |inputs| worked(&both.gpu, inputs);
        let found = both.gpu.repeat(recordings, vec![1], there, work);
        let found = found.map_err(|e| e.to_string())?;
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            same(&both.gpu, found, expected)?;
        }
    }
    Ok(())
}

fn on(device: &Arc<Simulator>) -> Both {
    let both = Both::new(8, 1);
    let gpu = Gpu::new(Arc::clone(device) as _, Arc::clone(&both.context)).expect("tables");
    Both { gpu, ..both }
}

#[test]
fn repeated_work_is_started_as_a_whole_and_gives_the_same_residues_in_any_order() {
    let mut orders = 0;
    for seed in 0..4 {
        let device = Arc::new(Simulator::new(seed));
        let both = on(&device);
        let recordings = Recordings::default();
        assert_eq!(times(&both, &recordings, 4), Ok(()));
        // Not the first time.
        assert_eq!(device.replays(), 3);
        orders += device.replays();
    }
    assert_eq!(orders, 12);
}

#[test]
fn a_replay_that_does_not_wait_is_noticed() {
    let wrong = (0..4).filter(|&seed| {
        let both = on(&Arc::new(Simulator::without_waits(seed)));
        times(&both, &Recordings::default(), 3).is_err()
    });
    assert!(wrong.count() > 0);
}

#[test]
fn work_that_brings_something_new_is_not_recorded() {
    let device = Arc::new(Simulator::new(1));
    let both = on(&device);
    let recordings = Recordings::default();
    for seed in 0..3 {
        let brought = inputs(&both, 10 + seed);
        let there = inputs(&both, seed)
            .iter()
            .map(|p| both.gpu.upload(p))
            .collect();
        let work = &mut |inputs: Vec<GpuPoly>| -> Result<_, RlweError> {
            let mut sum = both.gpu.upload(&brought[0]);
            both.gpu.add_assign(&mut sum, &inputs[0]);
            Ok(vec![sum])
        };
        let found = both.gpu.repeat(&recordings, vec![2], there, work);
        let mut expected = brought[0].clone();
        both.cpu.add_assign(&mut expected, &inputs(&both, seed)[0]);
        assert_eq!(
            same(&both.gpu, &found.expect("works")[0], &expected),
            Ok(())
        );
    }
    assert_eq!(device.replays(), 0);
}

#[test]
fn recordings_make_room_and_the_work_goes_on_without_them() {
    let free = Arc::new(Simulator::new(1));
    let both = on(&free);
    let recordings = Recordings::default();
    assert_eq!(times(&both, &recordings, 1), Ok(()));
    let eager = both.gpu.most_bytes();
    assert_eq!(times(&both, &recordings, 2), Ok(()));
    let recorded = both.gpu.most_bytes();
    assert!(free.replays() > 0 && recorded > eager);
    // Enough for the work as such; then for the recording too, until somebody else takes all that is left.
    let tight = Arc::new(Simulator::with(Build::Plain, 1, eager));
    assert_eq!(times(&on(&tight), &Recordings::default(), 4), Ok(()));
    assert_eq!(tight.replays(), 0);
    let enough = Arc::new(Simulator::with(Build::Plain, 1, 2 * recorded));
    let both = on(&enough);
    let recordings = Recordings::default();
    assert_eq!(times(&both, &recordings, 3), Ok(()));
    assert_eq!(enough.replays(), 2);
    let left = (2 * recorded - both.gpu.used_bytes()) as usize / 4;
    let large = both
        .gpu
        .take(left + 1000)
        .expect("the recording is given up");
    assert_eq!(both.gpu.failure().map(ToString::to_string), None);
    drop(large);
    assert_eq!(times(&both, &recordings, 2), Ok(()));
    assert_eq!(enough.replays(), 2);
}

#[test]
fn recorded_bootstraps_equal_the_cpus() {
    let params = ParameterSet::with_ring(Profile::ToySecure, 9).expect("profile");
    let kinds = [Kind::Full];
    let request = requirements(&params, Tuning::STANDARD, &kinds).expect("keys");
    let lab = Lab::with_keys(params, &request);
    let params = lab.context.params();
    let device = Arc::new(Simulator::new(3));
    let gpu = Gpu::new(Arc::clone(&device) as _, Arc::clone(&lab.context)).expect("tables");
    let keys = Arc::clone(&lab.evaluator.keys);
    let on_gpu = Evaluator::on(gpu, Arc::clone(&lab.context), keys);
    let (cpu, gpu) = (&lab.evaluator, on_gpu.backend());
    let tuning = Tuning::STANDARD;
    let on_host = Bootstrapper::new(&lab.context, cpu.backend(), tuning, &kinds).expect("prepares");
    let there = Bootstrapper::new(&lab.context, gpu, tuning, &kinds).expect("prepares");
    let (level, top) = (params.bootstrap_level(), params.top_usable());
    for seed in 0..3 {
        let cts = [1, 2].map(|i| lab.encrypt(&lab.slots(seed + i), level, 10 * seed + i));
        let [da, db] = &cts.each_ref().map(|ct| upload(gpu, ct));
        let found = there
            .each(&on_gpu, &[da, db], Kind::Full, top)
            .expect("bootstraps");
        for (found, ct) in found.iter().zip(&cts) {
            let expected = on_host.full(cpu, ct, top).expect("bootstraps");
            assert_equal("a bootstrap of two", gpu, found, &expected);
        }
    }
    assert_eq!(device.replays(), 2);
}

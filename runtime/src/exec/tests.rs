//! The executors on the sample program of the schedule crate.

use super::clear::Clear;
use super::key_request::program_keys;
use super::ports::{pack, unpack};
use super::refresh::{bootstrap_keys, Refresher};
use super::rns::Rns;
use super::trace::Trace;
use super::{walk, ExecError, Timing};
use crate::ckks::encoding::Complex;
use crate::ckks::testing::Lab;
use heron_schedule::params::{Level, Profile};
use heron_schedule::proto::linear::Folding;
use heron_schedule::proto::{
    instruction::Op, BiasRef, Body, Combine, CombineTerm, Giant, Instruction, Linear, LinearOut,
    Output, Program, Rotate, Rotated, Term,
};
use heron_schedule::recount::recount;
use heron_schedule::sample::{
    sample, sample_program, sample_reference, SAMPLE_BATCH, SAMPLE_ELEMENTS,
};
use heron_schedule::Schedule;

fn inputs(count: usize) -> Vec<Vec<f64>> {
    let value = |lane: usize, i: usize| ((lane * 8 + i) as f64 * 0.377).rem_euclid(2.0) - 1.0;
    (0..count)
        .map(|lane| (0..SAMPLE_ELEMENTS).map(|i| value(lane, i)).collect())
        .collect()
}

struct Run {
    outputs: Vec<Vec<f64>>,
    flagged: Vec<usize>,
    timing: Timing,
}

fn run(schedule: &Schedule, inputs: &[Vec<f64>], seed: Option<u64>) -> Result<Run, ExecError> {
    let program = schedule.program();
    let slots = schedule.params().slots();
    let lanes: Vec<&[f64]> = inputs.iter().map(Vec::as_slice).collect();
    let packed = pack(&program.inputs[0], None, SAMPLE_BATCH, slots, &lanes).expect("packs");
    let mut clear = Clear::new(schedule, vec![packed], seed)?;
    let timing = walk(program, &mut clear, &mut |_| ())?;
    let (outputs, flags) = clear.into_outputs();
    let outputs = unpack(&program.outputs[0], SAMPLE_BATCH, &outputs[0], inputs.len());
    Ok(Run {
        outputs: outputs.expect("unpacks"),
        flagged: flags.iter().map(|f| f.lane).collect(),
        timing,
    })
}

fn worst(found: &[f64], expected: &[f64]) -> f64 {
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f64::max)
}

fn changed(change: impl FnOnce(&mut Program)) -> Schedule {
    let (mut program, weights) = sample_program(Profile::Toy).expect("sample");
    change(&mut program);
    let slots = 2048;
    program.keys = heron_schedule::keys::required_keys(&program, slots);
    Schedule::new(program, weights).expect("still a schedule")
}

#[test]
fn clear_without_noise_equals_the_formula_and_with_noise_stays_near() {
    let schedule = sample(Profile::Toy).expect("sample");
    let inputs = inputs(SAMPLE_BATCH);
    let exact = run(&schedule, &inputs, None).expect("runs");
    let noisy = run(&schedule, &inputs, Some(7)).expect("runs");
    let again = run(&schedule, &inputs, Some(7)).expect("runs");
    assert_eq!(noisy.outputs, again.outputs);
    // A bootstrap's noise is six deviations of 2^-22 at most; squaring a value below 2 multiplies it by at most 4.
    let bound = 4.0 * 6.0 * 2f64.powi(-22) + 1e-7;
    for (lane, input) in inputs.iter().enumerate() {
        let expected = sample_reference(input);
        let clean = worst(&exact.outputs[lane], &expected);
        let error = worst(&noisy.outputs[lane], &expected);
        println!(
            "lane {lane}: {clean:.2e} (bound 1e-14), with noise {error:.2e} (bound {bound:.2e})"
        );
        assert!(clean < 1e-14 && error < bound && error > 0.0);
    }
}

#[test]
fn kinds_sum_to_the_time_of_the_walk() {
    let schedule = sample(Profile::Toy).expect("sample");
    let timing = run(&schedule, &inputs(1), Some(1)).expect("runs").timing;
    let sum: f64 = timing.kinds().map(|(_, k)| k.seconds).sum();
    println!("{sum} of {}", timing.seconds);
    assert!((sum - timing.seconds).abs() <= 0.05 * timing.seconds);
    let count: u64 = timing.kinds().map(|(_, k)| k.count).sum();
    assert_eq!(count as usize, schedule.program().instructions.len());
}

#[test]
fn an_outlier_in_one_lane_is_flagged_and_spoils_no_other() {
    let schedule = sample(Profile::Toy).expect("sample");
    let mut inputs = inputs(SAMPLE_BATCH);
    let before = run(&schedule, &inputs, None).expect("runs");
    assert!(before.flagged.is_empty(), "{:?}", before.flagged);
    inputs[2] = vec![1e6; SAMPLE_ELEMENTS];
    let after = run(&schedule, &inputs, None).expect("runs");
    assert_eq!(after.flagged, vec![2]);
    for lane in [0, 1, 3] {
        assert_eq!(after.outputs[lane], before.outputs[lane]);
    }
    assert_ne!(after.outputs[2], before.outputs[2]);
}

#[test]
fn changing_a_weight_an_instruction_or_a_rotation_changes_the_output() {
    let inputs = inputs(2);
    let base = run(&sample(Profile::Toy).expect("sample"), &inputs, None).expect("runs");
    let (program, weights) = sample_program(Profile::Toy).expect("sample");
    let mut bytes = weights.bytes().to_vec();
    bytes[6] ^= 0x08;
    let one_weight = Schedule::new(program, bytes.into()).expect("still a schedule");
    let one_rotation = changed(|p| match &mut p.instructions[4].op {
        Some(Op::Rotate(op)) => op.out[0].step += 4,
        _ => panic!("a rotation stands here"),
    });
    let without_squares = changed(|p| {
        p.instructions.remove(2);
        match &mut p.instructions[2].op {
            Some(Op::Combine(op)) => drop(op.term.pop()),
            _ => panic!("a combination stands here"),
        }
        p.instructions[2].free = vec![1];
    });
    for (what, schedule) in [
        ("weight", one_weight),
        ("rotation", one_rotation),
        ("instruction", without_squares),
    ] {
        let found = run(&schedule, &inputs, None).expect("runs");
        let difference = worst(&found.outputs[0], &base.outputs[0]);
        println!("{what}: {difference:.2e}");
        assert!(difference > 1e-6, "{what}");
    }
}

#[test]
fn deleting_an_instruction_that_others_read_is_refused() {
    let (mut program, weights) = sample_program(Profile::Toy).expect("sample");
    program.instructions.remove(5);
    assert!(Schedule::new(program.clone(), weights.clone()).is_err());
    let schedule = sample(Profile::Toy).expect("sample");
    let slots = vec![vec![vec![0.0; 2048]]];
    let mut clear = Clear::new(&schedule, slots, None).expect("inputs fit");
    let found = walk(&program, &mut clear, &mut |_| ());
    assert!(matches!(found, Err(ExecError::Instruction { .. })));
}

#[test]
fn a_trace_counts_what_the_recount_counts() {
    let schedule = sample(Profile::Toy).expect("sample");
    let mut trace = Trace::new(&schedule);
    walk(schedule.program(), &mut trace, &mut |_| ()).expect("traces");
    let counted = recount(schedule.program(), schedule.params().slots());
    assert_eq!(trace.operations, counted.operations);
    assert_eq!(trace.lowest.map(|l| l.0), Some(5));
}

#[test]
fn ciphertexts_decrypt_to_what_clear_computes() {
    let schedule = sample(Profile::Toy).expect("sample");
    let program = schedule.program();
    let mut request = program_keys(program, schedule.params()).expect("keys");
    request.merge(&bootstrap_keys(program, schedule.params()).expect("keys"));
    let lab = Lab::with_keys(schedule.params().clone(), &request);
    let inputs = inputs(SAMPLE_BATCH);
    let expected = run(&schedule, &inputs, None).expect("runs").outputs;
    let lanes: Vec<&[f64]> = inputs.iter().map(Vec::as_slice).collect();
    let slots = schedule.params().slots();
    let packed = pack(&program.inputs[0], None, SAMPLE_BATCH, slots, &lanes).expect("packs");
    let complex: Vec<Complex> = packed[0].iter().map(|&x| Complex::new(x, 0.0)).collect();
    let encrypted = lab.encrypt(&complex, Level(7), 1);
    let refresher = Refresher::new(program, &lab.evaluator).expect("bootstrapping");
    let refreshing = refresher.with(&lab.evaluator);
    let mut rns = Rns::new(
        &schedule,
        &lab.evaluator,
        &lab.encoder,
        &refreshing,
        vec![vec![encrypted]],
    )
    .expect("inputs fit");
    let timing = walk(program, &mut rns, &mut |_| ()).expect("runs");
    let outputs = rns.into_outputs().expect("written");
    let decrypted: Vec<f64> = lab.decrypt(&outputs[0][0]).iter().map(|c| c.re).collect();
    let found = unpack(
        &program.outputs[0],
        SAMPLE_BATCH,
        &[decrypted],
        SAMPLE_BATCH,
    );
    // The bootstrap dominates: at least 16 bits in the worst slot, and squaring a value below 2 multiplies its error by at most 4.
    let bound = 4.0 * 2f64.powi(-16);
    for (lane, found) in found.expect("unpacks").iter().enumerate() {
        let error = worst(found, &expected[lane]);
        println!("lane {lane}: {error:.2e} (bound {bound:.2e})");
        assert!(error < bound && error > 0.0);
    }
    let encoding = timing.kinds().find(|(k, _)| k.name() == "encoding");
    assert!(encoding.is_some_and(|(_, t)| t.seconds > 0.0));
}

/// The sample's input and two rotations of it, mapped to three results: rotations of sources and of sums, pairs and ones without partners.
fn mapped(folding: Folding) -> Schedule {
    changed(|p| {
        let term = |src, baby, plaintext| Term {
            src,
            baby,
            plaintext,
        };
        let giant = |step, terms: &[Term]| Giant {
            step,
            term: terms.to_vec(),
        };
        let bodies = &mut p.bodies;
        bodies.clear();
        let mut out = |dst, giants: &[Giant], bias: Option<u32>| {
            let giant = giants.to_vec();
            bodies.push(Body { giant });
            LinearOut {
                matrix: 0,
                dst,
                body: bodies.len() as u32 - 1,
                bias: bias.map(|plaintext| BiasRef { plaintext }),
            }
        };
        let step = |op| Instruction {
            layer: 0,
            op: Some(op),
            free: Vec::new(),
        };
        let rotated = |step, dst| Rotated { step, dst };
        let rotate = Op::Rotate(Rotate {
            src: 0,
            level: 7,
            out: vec![rotated(4, 1), rotated(12, 2)],
        });
        let linear = Op::Linear(Linear {
            src: vec![0, 1, 2],
            level_in: 7,
            out: vec![
                out(
                    3,
                    &[
                        giant(0, &[term(0, 0, 0), term(1, 0, 1), term(2, 8, 2)]),
                        giant(16, &[term(1, 8, 0), term(0, 0, 2)]),
                    ],
                    Some(3),
                ),
                out(4, &[giant(16, &[term(0, 0, 1), term(1, 8, 3)])], None),
                out(5, &[giant(0, &[term(2, 0, 0), term(1, 0, 2)])], Some(0)),
            ],
            folding: folding.into(),
        });
        let part = |src, coefficient| CombineTerm {
            src,
            level: 6,
            coefficient,
        };
        let combine = Op::Combine(Combine {
            dst: 6,
            level_out: 6,
            term: vec![part(3, 1.0), part(4, 2.0), part(5, -3.0)],
            constant: 0.0,
            bias: None,
        });
        let output = Op::Output(Output {
            port: 0,
            ciphertext: 0,
            src: 6,
        });
        p.registers = 7;
        p.instructions.truncate(1);
        p.instructions[0].free.clear();
        let all = [rotate, linear, combine, output];
        p.instructions.extend(all.into_iter().map(step));
        p.outputs[0].level = 6;
        p.bootstraps.clear();
    })
}

#[test]
fn folded_maps_decrypt_to_what_they_compute_unfolded() {
    let inputs = inputs(SAMPLE_BATCH);
    let expected = run(&mapped(Folding::None), &inputs, None).expect("runs");
    for (folding, conjugations) in [
        (Folding::None, 0),
        (Folding::Sources, 3),
        (Folding::Results, 1),
    ] {
        let schedule = mapped(folding);
        let program = schedule.program();
        let mut trace = Trace::new(&schedule);
        walk(program, &mut trace, &mut |_| ()).expect("traces");
        let counted = recount(program, schedule.params().slots()).operations;
        assert_eq!(trace.operations, counted);
        assert_eq!(counted.conjugate, conjugations);
        let request = program_keys(program, schedule.params()).expect("keys");
        let lab = Lab::with_keys(schedule.params().clone(), &request);
        let lanes: Vec<&[f64]> = inputs.iter().map(Vec::as_slice).collect();
        let slots = schedule.params().slots();
        let packed = pack(&program.inputs[0], None, SAMPLE_BATCH, slots, &lanes).expect("packs");
        let complex: Vec<Complex> = packed[0].iter().map(|&x| Complex::new(x, 0.0)).collect();
        let encrypted = vec![vec![lab.encrypt(&complex, Level(7), 1)]];
        let refresher = Refresher::new(program, &lab.evaluator).expect("no bootstrapping");
        let refreshing = refresher.with(&lab.evaluator);
        let rns = Rns::new(
            &schedule,
            &lab.evaluator,
            &lab.encoder,
            &refreshing,
            encrypted,
        );
        let mut rns = rns.expect("inputs fit");
        walk(program, &mut rns, &mut |_| ()).expect("runs");
        let outputs = rns.into_outputs().expect("written");
        let decrypted = lab.decrypt(&outputs[0][0]);
        let unreal = decrypted.iter().map(|c| c.im.abs()).fold(0.0, f64::max);
        let real: Vec<f64> = decrypted.iter().map(|c| c.re).collect();
        let found = unpack(&program.outputs[0], SAMPLE_BATCH, &[real], SAMPLE_BATCH);
        // Noise of a few key switches at a scale of 2^40 and in 2^12 coefficients.
        let bound = 2f64.powi(-20);
        for (found, expected) in found.expect("unpacks").iter().zip(&expected.outputs) {
            let error = worst(found, expected);
            println!("{folding:?}: {error:.2e}, imaginary {unreal:.2e} (bound {bound:.2e})");
            assert!(error < bound && error > 0.0 && unreal < bound);
        }
    }
}

#[test]
fn a_folded_map_without_its_conjugation_key_is_refused() {
    let schedule = mapped(Folding::Sources);
    let (mut program, weights) = sample_program(Profile::Toy).expect("sample");
    program.clone_from(schedule.program());
    program.keys.retain(|k| !k.conjugation);
    let refused = Schedule::new(program, weights).err().map(|e| e.to_string());
    assert!(refused.is_some_and(|e| e.contains("conjugation at level 6 is not among the keys")));
}

//! A run's memory, known before it starts.

use super::super::simulator::{Build, Simulator};
use super::super::Gpu;
use super::switches::upload;
use crate::ckks::encoding::Complex;
use crate::ckks::testing::Lab;
use crate::ckks::{Ciphertext, Evaluator};
use crate::exec::key_request::program_keys;
use crate::exec::refresh::{bootstrap_keys, Refresher};
use crate::exec::rehearse::{device_needs, DeviceNeeds};
use crate::exec::rns::Rns;
use crate::exec::{walk, ExecError};
use heron_schedule::params::{Level, Profile};
use heron_schedule::proto::{instruction::Op, Instruction};
use heron_schedule::sample::{sample, sample_program};
use heron_schedule::Schedule;
use std::sync::Arc;

/// What a rehearsal says, what the run then took at its peak, and the launches that the rehearsal made.
struct Tried {
    rehearsed: Result<DeviceNeeds, ExecError>,
    launches: u64,
    ran: Option<u64>,
    /// Most ciphertexts that were worked on at once.
    together: usize,
}

/// Rehearses the schedule on a device of so many bytes and, if that says that it fits, runs it.
fn tried(schedule: &Schedule, lab: &Lab, bytes: u64) -> Tried {
    attempt(schedule, lab, bytes, true)
}

/// Rehearses only. A refusal leaves the number of ciphertexts at once as it was, so it says 0.
fn rehearsed(schedule: &Schedule, lab: &Lab, bytes: u64) -> Tried {
    let found = attempt(schedule, lab, bytes, false);
    let together = match found.rehearsed {
        Ok(_) => found.together,
        Err(_) => 0,
    };
    Tried { together, ..found }
}

fn attempt(schedule: &Schedule, lab: &Lab, bytes: u64, run: bool) -> Tried {
    let (program, context) = (schedule.program(), lab.evaluator.context());
    let device = Arc::new(Simulator::with(Build::Plain, 1, bytes));
    let gpu = Gpu::new(Arc::clone(&device) as _, Arc::clone(context)).expect("tables");
    let on_gpu = Evaluator::on(gpu, Arc::clone(context), Arc::clone(&lab.evaluator.keys));
    let gpu = on_gpu.backend();
    let refresher = Refresher::new(program, &on_gpu).expect("bootstrapping");
    let before = device.launches();
    let rehearsed = device_needs(schedule, &on_gpu, &lab.encoder, &refresher);
    let launches = device.launches() - before;
    let ran = (run && rehearsed.is_ok()).then(|| {
        let inputs = program.inputs.iter().map(|port| {
            let level = Level(port.level as u8);
            let zeros = vec![Complex::new(0.0, 0.0); schedule.params().slots()];
            let each = port.ciphertexts.iter();
            each.map(|_| upload(gpu, &lab.encrypt(&zeros, level, 1)))
                .collect::<Vec<Ciphertext<_>>>()
        });
        let inputs = inputs.collect();
        let refreshing = refresher.with(&on_gpu);
        let rns = Rns::new(schedule, &on_gpu, &lab.encoder, &refreshing, inputs);
        let mut rns = rns.expect("inputs fit");
        walk(program, &mut rns, &mut |_| ()).expect("runs");
        gpu.settle().expect("fits");
        gpu.most_bytes()
    });
    Tried {
        rehearsed,
        launches,
        ran,
        together: gpu.most_together(),
    }
}

fn lab(schedule: &Schedule) -> Lab {
    let (program, params) = (schedule.program(), schedule.params());
    let mut request = program_keys(program, params).expect("keys");
    request.merge(&bootstrap_keys(program, params).expect("keys"));
    Lab::with_keys(params.clone(), &request)
}

#[test]
fn where_memory_is_short_fewer_ciphertexts_are_worked_on_at_once() {
    // The sample's bootstrap four times, whose results but the first nobody reads.
    let (mut program, weights) = sample_program(Profile::Toy).expect("sample");
    let is_bootstrap = |i: &Instruction| matches!(i.op, Some(Op::Bootstrap(_)));
    let place = program.instructions.iter().position(is_bootstrap);
    let place = place.expect("a bootstrap");
    for _ in 0..3 {
        let mut copy = program.instructions[place].clone();
        if let Some(Op::Bootstrap(op)) = &mut copy.op {
            op.dst = vec![program.registers];
            program.registers += 1;
        }
        // The last one frees the source.
        program.instructions[place].free.clear();
        let last = program.instructions.iter().rposition(is_bootstrap);
        let last = last.expect("a bootstrap");
        program.instructions[last].free.clear();
        program.instructions.insert(last + 1, copy);
    }
    let schedule = Schedule::new(program, weights).expect("verifies");
    let lab = lab(&schedule);
    let free = tried(&schedule, &lab, 1 << 40);
    let needs = free.rehearsed.expect("fits");
    assert_eq!((free.ran, free.together), (Some(needs.bytes), 8));
    // The least memory for four at once, keys making room for one another, to a hundredth.
    let (mut enough, mut short) = (needs.bytes, (needs.bytes - needs.keys) / 2);
    while enough - short > needs.bytes / 100 {
        let middle = (enough + short) / 2;
        match rehearsed(&schedule, &lab, middle).together {
            8 => enough = middle,
            _ => short = middle,
        }
    }
    let fewer = tried(&schedule, &lab, short);
    println!("{} together in {short} bytes of {needs}", fewer.together);
    assert!(fewer.ran.expect("runs") <= short);
    assert!(fewer.together < 4);
}

#[test]
fn a_rehearsal_tells_the_memory_of_a_run_to_the_byte_and_refuses_what_does_not_fit() {
    let schedule = sample(Profile::Toy).expect("sample");
    let program = schedule.program();
    let lab = lab(&schedule);

    let free = tried(&schedule, &lab, 1 << 40);
    let needs = free.rehearsed.expect("fits");
    println!("{needs}");
    assert_eq!((free.launches, free.ran), (0, Some(needs.bytes)));
    assert!(needs.keys > 0 && needs.matrices > 0);
    assert!(needs.keys + needs.matrices < needs.bytes);
    assert!(needs.instruction < program.instructions.len());

    let exact = tried(&schedule, &lab, needs.bytes);
    assert_eq!(exact.ran, Some(needs.bytes));

    // Keys that do not fit together make room for one another.
    let key = lab.evaluator.keys().iter().map(|k| k.bytes()).max();
    let less = needs.bytes - key.expect("keys");
    let tight = tried(&schedule, &lab, less);
    assert_eq!(tight.rehearsed.expect("fits"), needs);
    assert!(tight.ran.expect("runs") <= less);

    // What the run works on does not.
    let too_few = needs.bytes - needs.keys - (needs.bytes - needs.keys - needs.matrices) / 8;
    let refused = tried(&schedule, &lab, too_few);
    let error = refused.rehearsed.expect_err("does not fit").to_string();
    println!("{error}");
    assert_eq!(refused.launches, 0);
    for part in ["a run needs", "keys", "at instruction", "--batch"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!error.contains('\n'));
}

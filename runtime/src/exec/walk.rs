//! The one loop over instructions: registers, lifetimes, times.

use super::timing::{Kind, Timing};
use super::together::{mates, Member};
use super::{ExecError, Executor};
use heron_schedule::primitive::primitives;
use heron_schedule::proto::{instruction::Op, Instruction, MulSum, Program};
use heron_schedule::recount::writes;
use std::collections::BTreeMap;
use std::time::Instant;

/// Where a walk stands, before an instruction.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Position of the instruction.
    pub index: usize,
    /// Instructions there are.
    pub total: usize,
    /// Name of its layer.
    pub layer: &'a str,
    /// What it will be booked under.
    pub kind: Kind,
}

/// Runs a verified program on an executor. A register is dropped after the last instruction that reads it. Where the executor gains by it,
/// instructions that can run together do, at the time of the first, which is booked for all of them.
/// Fails where the program contradicts itself or the executor refuses, naming the instruction.
pub fn walk<E: Executor>(
    program: &Program,
    executor: &mut E,
    watch: &mut dyn FnMut(Progress<'_>),
) -> Result<Timing, ExecError> {
    let log_n = program
        .parameters
        .as_ref()
        .map_or(1, |p| p.log_n.clamp(1, 31));
    let booked = primitives(program, 1 << (log_n - 1));
    let started = Instant::now();
    let mut timing = Timing::new(program);
    let mut registers: Vec<Option<E::Ct>> = Vec::new();
    registers.resize_with(program.registers as usize, || None);
    let mut made = Made::new();
    for (index, instruction) in program.instructions.iter().enumerate() {
        let layer = program.layers.get(instruction.layer as usize);
        let layer = layer.map_or("", |l| l.name.as_str());
        let kind = kind_of(instruction);
        watch(Progress {
            index,
            total: program.instructions.len(),
            layer,
            kind,
        });
        let begin = Instant::now();
        executor.begin(index, instruction.layer);
        let result = step(program, index, executor, &mut registers, &mut made);
        result.map_err(|e| ExecError::Instruction {
            index,
            layer: layer.into(),
            reason: e.to_string(),
        })?;
        for register in &instruction.free {
            if let Some(slot) = registers.get_mut(*register as usize) {
                *slot = None;
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        if let Some(booked) = booked.get(index) {
            let parts = executor.take_parts();
            timing.book(instruction.layer, kind, booked, parts, seconds);
        }
    }
    timing.close(started.elapsed().as_secs_f64());
    Ok(timing)
}

fn kind_of(instruction: &Instruction) -> Kind {
    match &instruction.op {
        Some(Op::Linear(_)) => Kind::Linear,
        Some(Op::MulSum(_)) => Kind::CiphertextProduct,
        Some(Op::Rotate(_)) => Kind::Rotation,
        Some(Op::Bootstrap(_)) => Kind::Bootstrap,
        Some(Op::Combine(_)) => Kind::Combine,
        Some(Op::Input(_)) | Some(Op::Output(_)) | None => Kind::Other,
    }
}

fn get<Ct>(registers: &[Option<Ct>], register: u32) -> Result<&Ct, ExecError> {
    registers
        .get(register as usize)
        .and_then(Option::as_ref)
        .ok_or_else(|| ExecError::Evaluator(format!("r{register} holds nothing")))
}

type Registers<Ct> = [Option<Ct>];

/// Results by the position of their instruction.
type Made<Ct> = BTreeMap<usize, Vec<Ct>>;

/// The operands of an instruction.
fn operands<Ct>(
    registers: &Registers<Ct>,
    list: impl Iterator<Item = u32>,
) -> Result<Vec<&Ct>, ExecError> {
    list.map(|r| get(registers, r)).collect()
}

fn pairs<'a, Ct>(
    registers: &'a Registers<Ct>,
    op: &MulSum,
) -> Result<Vec<(&'a Ct, &'a Ct)>, ExecError> {
    let each = op.pair.iter();
    each.map(|p| Ok((get(registers, p.a)?, get(registers, p.b)?)))
        .collect()
}

/// The results of an instruction, in the order in which it lists its destinations.
fn run<E: Executor>(
    instruction: &Instruction,
    executor: &mut E,
    registers: &Registers<E::Ct>,
) -> Result<Vec<E::Ct>, ExecError> {
    match &instruction.op {
        Some(Op::Input(op)) => Ok(vec![executor.input(op)?]),
        Some(Op::Output(op)) => {
            executor.output(op, get(registers, op.src)?)?;
            Ok(Vec::new())
        }
        Some(Op::Linear(op)) => executor.linear(op, &operands(registers, op.src.iter().copied())?),
        Some(Op::Combine(op)) => {
            let sources = operands(registers, op.term.iter().map(|t| t.src))?;
            Ok(vec![executor.combine(op, &sources)?])
        }
        Some(Op::MulSum(op)) => Ok(vec![executor.mul_sum(op, &pairs(registers, op)?)?]),
        Some(Op::Rotate(op)) => executor.rotate(op, get(registers, op.src)?),
        Some(Op::Bootstrap(op)) => {
            executor.bootstrap(op, &operands(registers, op.src.iter().copied())?)
        }
        None => Err(ExecError::Evaluator("no operation".into())),
    }
}

/// Runs some instructions together, all like the first, and keeps what they make.
fn run_together<E: Executor>(
    program: &Program,
    positions: &[usize],
    executor: &mut E,
    registers: &Registers<E::Ct>,
    made: &mut Made<E::Ct>,
) -> Result<(), ExecError> {
    let (mut products, mut rotations, mut bootstraps) = (Vec::new(), Vec::new(), Vec::new());
    for &index in positions {
        let instruction = program.instructions.get(index);
        match instruction.and_then(|i| i.op.as_ref()) {
            Some(Op::MulSum(op)) => {
                let sources = pairs(registers, op)?;
                products.push(Member { index, op, sources });
            }
            Some(Op::Rotate(op)) => {
                let sources = get(registers, op.src)?;
                rotations.push(Member { index, op, sources });
            }
            Some(Op::Bootstrap(op)) => {
                let sources = operands(registers, op.src.iter().copied())?;
                bootstraps.push(Member { index, op, sources });
            }
            _ => return Err(ExecError::Evaluator("no operation of a batch".into())),
        }
    }
    let mut results = Vec::with_capacity(positions.len());
    if !products.is_empty() {
        let each = executor.mul_sum_each(&products)?;
        results.extend(each.into_iter().map(|ct| vec![ct]));
    }
    if !rotations.is_empty() {
        results.extend(executor.rotate_each(&rotations)?);
    }
    if !bootstraps.is_empty() {
        results.extend(executor.bootstrap_each(&bootstraps)?);
    }
    if results.len() != positions.len() {
        return Err(unequal());
    }
    made.extend(positions.iter().copied().zip(results));
    Ok(())
}

fn unequal() -> ExecError {
    ExecError::Evaluator("as many results as registers expected".into())
}

fn step<E: Executor>(
    program: &Program,
    index: usize,
    executor: &mut E,
    registers: &mut Registers<E::Ct>,
    made: &mut Made<E::Ct>,
) -> Result<(), ExecError> {
    let Some(instruction) = program.instructions.get(index) else {
        return Ok(());
    };
    let most = executor.together();
    if most > 1 && !made.contains_key(&index) {
        let positions = mates(program, index, most, &|i| made.contains_key(&i));
        if positions.len() > 1 {
            run_together(program, &positions, executor, registers, made)?;
        }
    }
    let results = match made.remove(&index) {
        Some(results) => results,
        None => run(instruction, executor, registers)?,
    };
    let places = writes(instruction);
    if places.len() != results.len() {
        return Err(unequal());
    }
    for ((register, _), ct) in places.into_iter().zip(results) {
        let total = registers.len();
        let slot = registers.get_mut(register as usize);
        *slot.ok_or_else(|| ExecError::Evaluator(format!("writes r{register} of {total}")))? =
            Some(ct);
    }
    Ok(())
}

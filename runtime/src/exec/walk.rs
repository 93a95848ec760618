//! The one loop over instructions: registers, lifetimes, times.

use super::timing::{Kind, Timing};
use super::{ExecError, Executor};
use heron_schedule::primitive::primitives;
use heron_schedule::proto::{instruction::Op, Instruction, Program};
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

/// Runs a verified program on an executor. A register is dropped after the last instruction that reads it.
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
        step(instruction, executor, &mut registers).map_err(|e| ExecError::Instruction {
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

fn step<E: Executor>(
    instruction: &Instruction,
    executor: &mut E,
    registers: &mut [Option<E::Ct>],
) -> Result<(), ExecError> {
    let mut results: Vec<(u32, E::Ct)> = Vec::new();
    let unequal = || ExecError::Evaluator("as many results as registers expected".into());
    match &instruction.op {
        Some(Op::Input(op)) => results.push((op.dst, executor.input(op)?)),
        Some(Op::Output(op)) => executor.output(op, get(registers, op.src)?)?,
        Some(Op::Linear(op)) => {
            let sources = op.src.iter().map(|&r| get(registers, r));
            let sources = sources.collect::<Result<Vec<_>, _>>()?;
            let found = executor.linear(op, &sources)?;
            if found.len() != op.out.len() {
                return Err(unequal());
            }
            results.extend(op.out.iter().map(|o| o.dst).zip(found));
        }
        Some(Op::Combine(op)) => {
            let sources = op.term.iter().map(|t| get(registers, t.src));
            let sources = sources.collect::<Result<Vec<_>, _>>()?;
            results.push((op.dst, executor.combine(op, &sources)?));
        }
        Some(Op::MulSum(op)) => {
            let pairs = op
                .pair
                .iter()
                .map(|p| Ok((get(registers, p.a)?, get(registers, p.b)?)));
            let pairs = pairs.collect::<Result<Vec<_>, ExecError>>()?;
            results.push((op.dst, executor.mul_sum(op, &pairs)?));
        }
        Some(Op::Rotate(op)) => {
            let found = executor.rotate(op, get(registers, op.src)?)?;
            if found.len() != op.out.len() {
                return Err(unequal());
            }
            results.extend(op.out.iter().map(|o| o.dst).zip(found));
        }
        Some(Op::Bootstrap(op)) => {
            let sources = op.src.iter().map(|&r| get(registers, r));
            let sources = sources.collect::<Result<Vec<_>, _>>()?;
            let found = executor.bootstrap(op, &sources)?;
            if found.len() != op.dst.len() {
                return Err(unequal());
            }
            results.extend(op.dst.iter().copied().zip(found));
        }
        None => return Err(ExecError::Evaluator("no operation".into())),
    }
    for (register, ct) in results {
        let total = registers.len();
        let slot = registers.get_mut(register as usize);
        *slot.ok_or_else(|| ExecError::Evaluator(format!("writes r{register} of {total}")))? =
            Some(ct);
    }
    Ok(())
}

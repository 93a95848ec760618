//! The memory of a run, estimated from its schedule: what `--max-memory` is held against, and what is printed beside the measured peak.

use crate::depth_report::key_bytes;
use crate::server::key_request;
use heron_runtime::bootstrap::{footprint, Footprint, Tuning, Work};
use heron_runtime::ckks::linear_sums::{passes, GiantSize, PassBytes};
use heron_runtime::exec::refresh::kinds;
use heron_runtime::ring::pool::KEPT_BYTES;
use heron_schedule::folding::{baby_rotations, folding, sums, Product};
use heron_schedule::params::{Level, ParameterSet};
use heron_schedule::proto::instruction::Op;
use heron_schedule::proto::linear::Folding;
use heron_schedule::proto::{Instruction, Linear, Program};
use heron_schedule::recount::writes;
use std::collections::BTreeMap;

/// The program with its libraries, its heap with what lies unused in it, and the schedule. Measured: a run without encryption.
const PROCESS: u64 = 40 << 20;
/// Tables of the number-theoretic transform, words per coefficient of each prime: twiddles with their quotients.
const TABLE_WORDS: u64 = 2;

/// Bytes of a run at its peak: keys, tables of the ring, bootstrapping's matrices, the ciphertexts alive with what the instruction
/// works on, and buffers kept for reuse.
pub fn run_bytes(program: &Program, params: &ParameterSet) -> u64 {
    let n = 1u64 << params.log_n();
    let keys = key_request(program, params).map_or(0, |request| key_bytes(&request, params));
    let tables = 4 * TABLE_WORDS * n * params.primes().len() as u64;
    // Parameters that cannot bootstrap are refused elsewhere.
    let bootstrapping = footprint(params, Tuning::STANDARD, &kinds(program)).unwrap_or_default();
    let polynomials = polynomials(program, params, &bootstrapping);
    PROCESS + keys + tables + bootstrapping.matrices + polynomials
}

/// The most bytes of polynomials at once: in registers, in what an instruction works on, and kept for reuse since earlier ones. Each
/// ciphertext counts at its own level from its first instruction to its last.
fn polynomials(program: &Program, params: &ParameterSet, bootstrapping: &Footprint) -> u64 {
    let mut held = vec![0; program.registers as usize];
    // Encrypted inputs lie ready from the start.
    let inputs = program.inputs.iter();
    let mut alive: u64 = inputs
        .map(|p| p.ciphertexts.len() as u64 * pair(params, p.level, 0))
        .sum();
    let mut kept = Kept::default();
    let mut most = 0;
    for instruction in &program.instructions {
        for (register, level) in writes(instruction) {
            if let Some(size) = held.get_mut(register as usize) {
                alive -= std::mem::replace(size, pair(params, level, 0));
                alive += *size;
            }
        }
        for work in work(instruction, program, params, bootstrapping) {
            kept.add(work);
            most = most.max(alive + work.bytes + kept.others(work));
        }
        for register in &instruction.free {
            if let Some(size) = held.get_mut(*register as usize) {
                alive -= std::mem::take(size);
            }
        }
    }
    most
}

/// Buffers that wait for reuse: of each size as many as were in use at once. A buffer serves polynomials down to two thirds of its size, so
/// sizes that near count as one.
#[derive(Default)]
struct Kept(BTreeMap<u32, u64>);

impl Kept {
    fn size(work: Work) -> u32 {
        (work.limbs.max(1) as f64).log(1.5) as u32
    }

    fn add(&mut self, work: Work) {
        let most = self.0.entry(Kept::size(work)).or_default();
        *most = work.bytes.max(*most);
    }

    /// Bytes of all sizes but that of `work`, which uses its own.
    fn others(&self, work: Work) -> u64 {
        let others = self.0.iter().filter(|(size, _)| **size != Kept::size(work));
        others
            .map(|(_, bytes)| bytes)
            .sum::<u64>()
            .min(KEPT_BYTES as u64)
    }
}

/// Bytes of two polynomials on the limbs of a level and so many more.
fn pair(params: &ParameterSet, level: u32, more: usize) -> u64 {
    let level = Level(u8::try_from(level).unwrap_or(u8::MAX));
    let limbs = params.limbs(level).map_or(0, <[_]>::len) + more;
    (8 * limbs as u64) << params.log_n()
}

/// What an instruction works on besides registers, one thing after the other.
fn work(
    instruction: &Instruction,
    program: &Program,
    params: &ParameterSet,
    bootstrapping: &Footprint,
) -> Vec<Work> {
    let special = params.special().len();
    let digits = params.digits().len() as u64;
    let at = |level, bytes| Work {
        limbs: pair(params, level, special) >> (params.log_n() + 3),
        bytes,
    };
    // The digits of a key switch, its two sums, and what it began with.
    let switch = |level| {
        let bytes = (digits + 2) * pair(params, level, special) / 2 + 2 * pair(params, level, 0);
        vec![at(level, bytes)]
    };
    match &instruction.op {
        Some(Op::Linear(op)) => vec![at(op.level_in, linear_work(op, program, params))],
        Some(Op::MulSum(op)) => switch(op.level_in),
        Some(Op::Rotate(op)) => switch(op.level),
        Some(Op::Bootstrap(_)) => bootstrapping.work.clone(),
        Some(Op::Combine(_) | Op::Input(_) | Op::Output(_)) | None => Vec::new(),
    }
}

/// A linear step keeps the sums of giant steps, what they are made of, and each result before it is divided.
fn linear_work(op: &Linear, program: &Program, params: &ParameterSet) -> u64 {
    let special = params.special().len();
    let extended = pair(params, op.level_in, special);
    let n = 1usize << params.log_n();
    let limbs = (extended >> (params.log_n() + 3)) as usize;
    let mut babies = vec![0u64; op.src.len()];
    for (source, _) in baby_rotations(&program.bodies, op, params.slots()) {
        if let Some(count) = babies.get_mut(source as usize) {
            *count += 1;
        }
    }
    let period = |index: Option<u32>| {
        let vector = index.and_then(|i| program.plaintexts.get(i as usize));
        vector.map_or(0, |v| v.length as usize * program.batch.max(1) as usize)
    };
    let words = |p: &Product| (2 * period(p.real).max(period(p.imaginary))).min(n);
    let sums = sums(&program.bodies, op, params.slots());
    let sizes: Vec<GiantSize> = sums
        .iter()
        .flatten()
        .map(|(_, products)| GiantSize {
            terms: products.len(),
            words: products.iter().map(words).sum(),
        })
        .collect();
    let digits = params.digits().len() as u64 * extended / 2;
    let plaintexts = |giants: &[GiantSize]| -> u64 {
        let words: usize = giants.iter().map(|g| g.words).sum();
        (4 * limbs * words) as u64
    };
    let folded = match folding(op) {
        Folding::Sources => op.src.len() as u64 / 2 * pair(params, op.level_in, 0),
        Folding::None | Folding::Results => 0,
    };
    let results = sums.len() as u64 * extended + folded;
    let Some(ends) = passes(&sizes, n, limbs, PassBytes::DEFAULT) else {
        let sums = sizes.len() as u64;
        let babies = babies.into_iter().max().unwrap_or(0);
        let largest = sizes.iter().map(|g| GiantSize {
            words: g.words / g.terms.max(1) * g.terms.min(PassBytes::DEFAULT.terms),
            ..*g
        });
        let together = largest.map(|g| plaintexts(&[g])).max().unwrap_or(0);
        // The unrotated source is lifted too.
        return (sums + babies + u64::from(babies > 0)) * extended + digits.max(together) + results;
    };
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let passes = starts
        .zip(&ends)
        .filter_map(|(from, &to)| sizes.get(from..to));
    let pass = passes
        .map(|p| p.len() as u64 * extended + plaintexts(p))
        .max();
    // All rotations on one limb, in each thread.
    let threads = rayon::current_num_threads() as u64;
    let rotations = babies.iter().map(|b| b + 1).sum::<u64>() * 8 * n as u64 * threads;
    results + op.src.len() as u64 * digits + rotations + pass.unwrap_or(0)
}

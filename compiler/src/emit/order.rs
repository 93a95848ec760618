//! Orders instructions so that few ciphertexts are alive at once: each is made when its first reader needs it.
//!
//! Bundles are emitted whole, so that attention over many tokens would keep every rotation of the keys, every product and every
//! spread score at the same time. Here instructions that make many ciphertexts are cut where that costs little, and all
//! are visited from the outputs, operands first. What is computed does not change.

use std::collections::BTreeMap;

use heron_schedule::body::{giants, Bodies};
use heron_schedule::proto::{self, instruction::Op, Instruction};
use heron_schedule::recount::writes;

/// Most results of one hoisted rotation: cutting it repeats the decomposition, a third of one rotation.
const ROTATIONS: usize = 32;
/// Most products summed before they are relinearised: a further part costs one relinearisation and one rescaling.
const PRODUCTS: usize = 64;

/// Calls `f` on every wire that an instruction reads, in order.
fn reads(op: &Op, f: &mut dyn FnMut(u32)) {
    match op {
        Op::Input(_) => {}
        Op::Output(o) => f(o.src),
        Op::Linear(o) => o.src.iter().for_each(|w| f(*w)),
        Op::Combine(o) => o.term.iter().for_each(|t| f(t.src)),
        Op::MulSum(o) => o.pair.iter().for_each(|p| {
            f(p.a);
            f(p.b);
        }),
        Op::Rotate(o) => f(o.src),
        Op::Bootstrap(o) => o.src.iter().for_each(|w| f(*w)),
    }
}

/// Cuts and orders `instructions`, whose wires are each written once before they are read. `next`: the first unused wire.
pub fn order(
    instructions: Vec<Instruction>,
    bodies: &mut Bodies,
    mut next: u32,
) -> Vec<Instruction> {
    let mut cut = Vec::with_capacity(instructions.len());
    for instruction in instructions {
        split(instruction, bodies, &mut next, &mut cut);
    }
    let mut maker: BTreeMap<u32, usize> = BTreeMap::new();
    for (i, instruction) in cut.iter().enumerate() {
        maker.extend(writes(instruction).into_iter().map(|(w, _)| (w, i)));
    }
    let mut order = Vec::with_capacity(cut.len());
    let mut met = vec![false; cut.len()];
    // Inputs and outputs give the rows of the program their order; what no output reads comes last.
    let is_output = |i: &usize| matches!(cut[*i].op, Some(Op::Output(_)));
    let outputs = (0..cut.len()).filter(is_output);
    for root in outputs.chain(0..cut.len()) {
        // (instruction, whether its operands are done)
        let mut stack = vec![(root, false)];
        while let Some((i, ready)) = stack.pop() {
            if ready {
                order.push(i);
                continue;
            }
            if std::mem::replace(&mut met[i], true) {
                continue;
            }
            stack.push((i, true));
            let mut operands = Vec::new();
            if let Some(op) = &cut[i].op {
                reads(op, &mut |w| operands.extend(maker.get(&w).copied()));
            }
            let open = operands.into_iter().rev().filter(|o| !met[*o]);
            stack.extend(open.map(|o| (o, false)));
        }
    }
    let mut cut: Vec<Option<Instruction>> = cut.into_iter().map(Some).collect();
    order.into_iter().filter_map(|i| cut[i].take()).collect()
}

/// Appends an instruction, in parts where it makes or reads much at once.
fn split(
    instruction: Instruction,
    bodies: &mut Bodies,
    next: &mut u32,
    out: &mut Vec<Instruction>,
) {
    let layer = instruction.layer;
    let mut push = |op: Op| {
        out.push(Instruction {
            layer,
            op: Some(op),
            free: Vec::new(),
        });
    };
    match instruction.op {
        Some(Op::Rotate(rotate)) => {
            for part in rotate.out.chunks(ROTATIONS) {
                push(Op::Rotate(proto::Rotate {
                    out: part.to_vec(),
                    ..rotate
                }));
            }
        }
        // Pairs stay together: folded maps are cut when they are emitted.
        Some(Op::Linear(linear)) if linear.folding == 0 => components(linear, bodies)
            .into_iter()
            .for_each(|part| push(Op::Linear(part))),
        Some(Op::MulSum(sum)) if sum.pair.len() > PRODUCTS => {
            let level = sum.level_in.saturating_sub(1);
            let mut term = Vec::new();
            for part in sum.pair.chunks(PRODUCTS) {
                let dst = *next;
                *next += 1;
                term.push(proto::CombineTerm {
                    src: dst,
                    level,
                    coefficient: 1.0,
                });
                push(Op::MulSum(proto::MulSum {
                    dst,
                    pair: part.to_vec(),
                    constant: 0.0,
                    ..sum
                }));
            }
            push(Op::Combine(proto::Combine {
                dst: sum.dst,
                level_out: level,
                term,
                constant: sum.constant,
                bias: None,
            }));
        }
        other => out.push(Instruction {
            op: other,
            ..instruction
        }),
    }
}

/// A linear map as several that share no source; each keeps the sources it reads only.
fn components(linear: proto::Linear, bodies: &mut Bodies) -> Vec<proto::Linear> {
    let sources_of = |out: &proto::LinearOut| -> Vec<u32> {
        let terms = giants(bodies.list(), out).iter().flat_map(|g| &g.term);
        let mut all: Vec<u32> = terms.map(|t| t.src).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    // Union-find over sources; the smallest names the group.
    let mut group: Vec<u32> = (0..linear.src.len() as u32).collect();
    fn find(group: &[u32], mut s: u32) -> u32 {
        while let Some(&up) = group.get(s as usize) {
            if up == s {
                break;
            }
            s = up;
        }
        s
    }
    let read: Vec<Vec<u32>> = linear.out.iter().map(sources_of).collect();
    for sources in &read {
        for pair in sources.windows(2) {
            let (a, b) = (find(&group, pair[0]), find(&group, pair[1]));
            if let Some(g) = group.get_mut(a.max(b) as usize) {
                *g = a.min(b);
            }
        }
    }
    let mut parts: BTreeMap<u32, proto::Linear> = BTreeMap::new();
    for (mut out, sources) in linear.out.into_iter().zip(&read) {
        let name = sources.first().map_or(0, |s| find(&group, *s));
        let part = parts.entry(name).or_insert_with(|| {
            let members = (0..linear.src.len()).filter(|s| find(&group, *s as u32) == name);
            proto::Linear {
                folding: linear.folding,
                src: members.filter_map(|s| linear.src.get(s).copied()).collect(),
                level_in: linear.level_in,
                out: Vec::new(),
            }
        });
        let before = |s: u32| (0..s).filter(|o| find(&group, *o) == name).count() as u32;
        let places: BTreeMap<u32, u32> = sources.iter().map(|s| (*s, before(*s))).collect();
        if places.iter().any(|(from, to)| from != to) {
            let mut giant = giants(bodies.list(), &out).to_vec();
            for term in giant.iter_mut().flat_map(|g| &mut g.term) {
                term.src = places.get(&term.src).copied().unwrap_or(0);
            }
            out.body = bodies.number(giant);
        }
        part.out.push(out);
    }
    parts.into_values().collect()
}

#[cfg(test)]
mod tests;

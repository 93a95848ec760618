//! Gives out registers: a register is taken when a ciphertext is made and returned after its last use.

use std::collections::BTreeMap;

use heron_schedule::proto::{instruction::Op, Instruction};

/// Calls `f` on every register that an instruction reads.
fn each_read(op: &mut Op, f: &mut dyn FnMut(&mut u32)) {
    match op {
        Op::Input(_) => {}
        Op::Output(o) => f(&mut o.src),
        Op::Linear(o) => o.src.iter_mut().for_each(f),
        Op::Combine(o) => o.term.iter_mut().for_each(|t| f(&mut t.src)),
        Op::MulSum(o) => o.pair.iter_mut().for_each(|p| {
            f(&mut p.a);
            f(&mut p.b);
        }),
        Op::Rotate(o) => f(&mut o.src),
        Op::Bootstrap(o) => o.src.iter_mut().for_each(f),
    }
}

/// Calls `f` on every register that an instruction writes.
fn each_write(op: &mut Op, f: &mut dyn FnMut(&mut u32)) {
    match op {
        Op::Input(o) => f(&mut o.dst),
        Op::Output(_) => {}
        Op::Linear(o) => o.out.iter_mut().for_each(|x| f(&mut x.dst)),
        Op::Combine(o) => f(&mut o.dst),
        Op::MulSum(o) => f(&mut o.dst),
        Op::Rotate(o) => o.out.iter_mut().for_each(|x| f(&mut x.dst)),
        Op::Bootstrap(o) => o.dst.iter_mut().for_each(f),
    }
}

/// Replaces wire numbers (each written once) by registers, fills in `free`, and returns the number of registers.
pub fn assign(instructions: &mut [Instruction]) -> u32 {
    let mut last: BTreeMap<u32, usize> = BTreeMap::new();
    for (i, instruction) in instructions.iter_mut().enumerate() {
        if let Some(op) = &mut instruction.op {
            each_write(op, &mut |w| {
                last.insert(*w, i);
            });
            each_read(op, &mut |w| {
                last.insert(*w, i);
            });
        }
    }
    let mut ending: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    for (wire, i) in last {
        ending.entry(i).or_default().push(wire);
    }
    let mut register: BTreeMap<u32, u32> = BTreeMap::new();
    let mut spare: Vec<u32> = Vec::new();
    let mut count = 0;
    for (i, instruction) in instructions.iter_mut().enumerate() {
        let Some(op) = &mut instruction.op else {
            continue;
        };
        each_read(op, &mut |w| *w = register.get(w).copied().unwrap_or(*w));
        each_write(op, &mut |w| {
            let r = spare.pop().unwrap_or_else(|| {
                count += 1;
                count - 1
            });
            register.insert(*w, r);
            *w = r;
        });
        let mut free: Vec<u32> = ending
            .get(&i)
            .into_iter()
            .flatten()
            .filter_map(|w| register.get(w).copied())
            .collect();
        free.sort_unstable();
        spare.extend(free.iter().rev());
        instruction.free = free;
    }
    count
}

//! Instructions that can run together: of one kind and at one level, with operands that are there by the time of the first.

use heron_schedule::proto::{instruction::Op, Instruction, Program};
use heron_schedule::recount::{reads, writes};
use std::collections::BTreeSet;

/// How many instructions ahead mates are looked for.
const AHEAD: usize = 256;

/// An instruction of a batch.
pub struct Member<'a, O, S> {
    /// Its position in the program.
    pub index: usize,
    /// What it does.
    pub op: &'a O,
    /// Its operands, in the order it lists them.
    pub sources: S,
}

/// The two factors of a product.
pub type Factors<'a, Ct> = (&'a Ct, &'a Ct);

/// Whether one pass over a key can serve both.
fn is_like(a: &Op, b: &Op) -> bool {
    match (a, b) {
        (Op::MulSum(a), Op::MulSum(b)) => a.level_in == b.level_in,
        (Op::Rotate(a), Op::Rotate(b)) => {
            let steps = a.out.iter().map(|o| o.step);
            a.level == b.level && steps.eq(b.out.iter().map(|o| o.step))
        }
        (Op::Bootstrap(a), Op::Bootstrap(b)) => {
            let what = |x: &heron_schedule::proto::Bootstrap| (x.kind, x.log_slots, x.level_out);
            what(a) == what(b)
        }
        _ => false,
    }
}

/// Positions of at most `most` instructions, that at `first` before all, whose operands nothing in between writes. Those in `done` have run.
/// Their results wait for their turn: registers they write may hold something else until then.
pub fn mates(
    program: &Program,
    first: usize,
    most: usize,
    done: &dyn Fn(usize) -> bool,
) -> Vec<usize> {
    let mut found = vec![first];
    let instructions = program.instructions.get(first..).unwrap_or_default();
    let Some((leader, rest)) = instructions.split_first() else {
        return found;
    };
    let Some(op) = &leader.op else {
        return found;
    };
    let registers = |i: &Instruction| writes(i).into_iter().map(|(r, _)| r).collect::<Vec<_>>();
    let mut written: BTreeSet<u32> = registers(leader).into_iter().collect();
    for (index, instruction) in (first + 1..).zip(rest.iter().take(AHEAD)) {
        if found.len() >= most {
            break;
        }
        let ready = || reads(instruction).iter().all(|(r, _)| !written.contains(r));
        let like = instruction
            .op
            .as_ref()
            .is_some_and(|other| is_like(op, other));
        if like && !done(index) && ready() {
            found.push(index);
        }
        written.extend(registers(instruction));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{walk, ExecError, Executor};
    use heron_schedule::proto::Rotated;
    use heron_schedule::proto::{Bootstrap, Combine, Input, Linear, MulSum, Output, Pair, Rotate};

    fn square(dst: u32, src: u32, level_in: u32) -> Instruction {
        let op = MulSum {
            dst,
            level_in,
            pair: vec![Pair { a: src, b: src }],
            factor: 1,
            ..MulSum::default()
        };
        Instruction {
            op: Some(Op::MulSum(op)),
            ..Instruction::default()
        }
    }

    fn program(instructions: Vec<Instruction>) -> Program {
        Program {
            instructions,
            ..Program::default()
        }
    }

    #[test]
    fn instructions_at_one_level_whose_operands_are_there_run_together() {
        let program = program(vec![
            square(4, 0, 3),
            square(5, 1, 3),
            // At another level; then of a register written in between; then of one that is there, over one that is still read.
            square(6, 2, 2),
            square(7, 5, 3),
            square(0, 2, 3),
            // What register 0 held is gone by then.
            square(8, 0, 3),
        ]);
        let none = |_: usize| false;
        assert_eq!(mates(&program, 0, 8, &none), [0, 1, 4]);
        assert_eq!(mates(&program, 0, 2, &none), [0, 1]);
        assert_eq!(mates(&program, 0, 8, &|i| i == 1), [0, 4]);
        assert_eq!(mates(&program, 3, 8, &none), [3, 4]);
    }

    /// Numbers for ciphertexts: what is made of what.
    struct Mixing {
        together: usize,
        batches: Vec<usize>,
        outputs: Vec<u64>,
    }

    fn mixed(what: u64, sources: impl IntoIterator<Item = u64>) -> u64 {
        let add = |h: u64, x: u64| (h ^ x).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        sources.into_iter().fold(what, add)
    }

    impl Executor for Mixing {
        type Ct = u64;
        fn together(&self) -> usize {
            self.together
        }
        fn input(&mut self, op: &Input) -> Result<u64, ExecError> {
            Ok(mixed(1, [u64::from(op.ciphertext)]))
        }
        fn output(&mut self, _: &Output, source: &u64) -> Result<(), ExecError> {
            self.outputs.push(*source);
            Ok(())
        }
        fn linear(&mut self, _: &Linear, _: &[&u64]) -> Result<Vec<u64>, ExecError> {
            Ok(Vec::new())
        }
        fn combine(&mut self, _: &Combine, sources: &[&u64]) -> Result<u64, ExecError> {
            Ok(mixed(2, sources.iter().map(|&&x| x)))
        }
        fn mul_sum(&mut self, op: &MulSum, pairs: &[(&u64, &u64)]) -> Result<u64, ExecError> {
            let level = u64::from(op.level_in);
            Ok(mixed(3 + level, pairs.iter().flat_map(|(&a, &b)| [a, b])))
        }
        fn rotate(&mut self, op: &Rotate, source: &u64) -> Result<Vec<u64>, ExecError> {
            let each = op.out.iter();
            Ok(each
                .map(|o| mixed(100 + o.step as u64, [*source]))
                .collect())
        }
        fn bootstrap(&mut self, op: &Bootstrap, sources: &[&u64]) -> Result<Vec<u64>, ExecError> {
            let each = sources.iter();
            Ok(each
                .map(|&&x| mixed(200 + u64::from(op.level_out), [x]))
                .collect())
        }
        fn mul_sum_each(
            &mut self,
            batch: &[Member<'_, MulSum, Vec<(&u64, &u64)>>],
        ) -> Result<Vec<u64>, ExecError> {
            self.batches.push(batch.len());
            let each = batch.iter();
            each.map(|m| self.mul_sum(m.op, &m.sources)).collect()
        }
    }

    /// Registers are used again and again, as in real programs.
    #[test]
    fn programs_give_the_same_outputs_whether_instructions_run_together_or_not() {
        const REGISTERS: u32 = 6;
        let mut most = 0;
        for seed in 0..200u64 {
            let mut state = seed;
            let mut draw = |below: u32| {
                state = mixed(seed, [state]);
                (state >> 33) as u32 % below
            };
            let input = |ciphertext: u32| {
                let op = Input {
                    dst: ciphertext,
                    ciphertext,
                    ..Input::default()
                };
                Op::Input(op)
            };
            let mut ops: Vec<Op> = (0..REGISTERS).map(input).collect();
            for _ in 0..40 {
                let (dst, src) = (draw(REGISTERS), draw(REGISTERS));
                let op = match draw(4) {
                    0 => Op::Rotate(Rotate {
                        src,
                        level: draw(2),
                        out: vec![Rotated { dst, step: 3 }],
                    }),
                    1 => Op::Bootstrap(Bootstrap {
                        src: vec![src],
                        dst: vec![dst],
                        level_out: draw(2),
                        ..Bootstrap::default()
                    }),
                    _ => square(dst, src, draw(2)).op.expect("an operation"),
                };
                ops.push(op);
            }
            let output = |src| Output {
                src,
                ..Output::default()
            };
            ops.extend((0..REGISTERS).map(|src| Op::Output(output(src))));
            let each = ops.into_iter().map(|op| Instruction {
                op: Some(op),
                ..Instruction::default()
            });
            let program = Program {
                registers: REGISTERS,
                ..program(each.collect())
            };
            let run = |together| {
                let mut mixing = Mixing {
                    together,
                    batches: Vec::new(),
                    outputs: Vec::new(),
                };
                walk(&program, &mut mixing, &mut |_| ()).expect("runs");
                mixing
            };
            let (alone, together) = (run(1), run(4));
            assert_eq!(alone.outputs, together.outputs, "seed {seed}");
            assert!(alone.batches.is_empty());
            most = together.batches.into_iter().fold(most, usize::max);
        }
        assert_eq!(most, 4, "as many together as wanted, somewhere");
    }
}

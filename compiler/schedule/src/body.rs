//! Bodies of linear maps: what is rotated and multiplied for one result, apart from whose weights the products take.
//!
//! The plan of a linear map follows from shapes and layouts, so that equal layers have the same one; and where vectors take elements of a
//! matrix, which the instruction names, they are the same vectors. A program lists each body once.

use crate::proto::{instruction::Op, Body, Giant, Instruction, Linear, LinearOut};
use std::collections::HashMap;

/// The giant steps of one result; none for a body that is not there, which [`crate::verify`] refuses.
pub fn giants<'a>(bodies: &'a [Body], out: &LinearOut) -> &'a [Giant] {
    let body = bodies.get(out.body as usize);
    body.map_or(&[], |b| b.giant.as_slice())
}

/// The giant steps of all results of a linear step.
pub fn all_giants<'a>(bodies: &'a [Body], op: &'a Linear) -> impl Iterator<Item = &'a Giant> {
    op.out.iter().flat_map(|out| giants(bodies, out))
}

fn results(instructions: &mut [Instruction]) -> impl Iterator<Item = &mut LinearOut> {
    let linear = instructions.iter_mut().filter_map(|i| match &mut i.op {
        Some(Op::Linear(op)) => Some(op),
        _ => None,
    });
    linear.flat_map(|op| &mut op.out)
}

/// A list of bodies in the making, each of them once.
#[derive(Debug, Default)]
pub struct Bodies {
    list: Vec<Body>,
    numbers: HashMap<Body, u32>,
}

impl Bodies {
    /// The number of the body with these giant steps.
    pub fn number(&mut self, giant: Vec<Giant>) -> u32 {
        let body = Body { giant };
        if let Some(number) = self.numbers.get(&body) {
            return *number;
        }
        let number = self.list.len() as u32;
        self.list.push(body.clone());
        self.numbers.insert(body, number);
        number
    }

    /// The bodies, in order of their numbers.
    pub fn list(&self) -> &[Body] {
        &self.list
    }

    /// The bodies that the instructions use, in the order of their first use, and the instructions with these numbers.
    pub fn finish(mut self, instructions: &mut [Instruction]) -> Vec<Body> {
        let mut numbers = vec![None; self.list.len()];
        let mut used = Vec::new();
        for out in results(instructions) {
            let old = out.body as usize;
            if let (Some(number), Some(body)) = (numbers.get_mut(old), self.list.get_mut(old)) {
                out.body = *number.get_or_insert_with(|| {
                    used.push(std::mem::take(body));
                    used.len() as u32 - 1
                });
            }
        }
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Term;

    fn giants_of(plaintext: u32) -> Vec<Giant> {
        let term = vec![Term {
            src: 0,
            baby: 1,
            plaintext,
        }];
        vec![Giant { step: 0, term }]
    }

    fn step(bodies: &[u32]) -> Instruction {
        let out = bodies.iter().map(|body| LinearOut {
            body: *body,
            ..LinearOut::default()
        });
        let op = Linear {
            out: out.collect(),
            ..Linear::default()
        };
        Instruction {
            op: Some(Op::Linear(op)),
            ..Instruction::default()
        }
    }

    #[test]
    fn equal_bodies_are_listed_once() {
        let mut bodies = Bodies::default();
        let numbers = [3, 4, 3].map(|p| bodies.number(giants_of(p)));
        assert_eq!(numbers, [0, 1, 0]);
        assert_eq!(bodies.list().len(), 2);
    }

    #[test]
    fn what_no_instruction_uses_is_left_out_and_the_rest_numbered_by_first_use() {
        let mut bodies = Bodies::default();
        for p in 0..4 {
            bodies.number(giants_of(p));
        }
        let mut instructions = [step(&[3, 1]), step(&[1, 3])];
        let list = bodies.finish(&mut instructions);
        assert_eq!(
            list,
            [3, 1].map(|p| Body {
                giant: giants_of(p)
            })
        );
        assert_eq!(instructions, [step(&[0, 1]), step(&[1, 0])]);
    }
}

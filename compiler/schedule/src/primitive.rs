//! What an instruction spends its time on, from the instructions alone: the rows of a latency breakdown.

use crate::proto::{instruction::Op, Program};
use crate::recount::{count_instruction, reads, writes, OperationCounts};
use std::collections::BTreeMap;

/// A row of a latency breakdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Primitive {
    /// Bootstraps.
    Bootstrap,
    /// Products with plaintext vectors, their sums and rescalings.
    PlaintextProduct,
    /// Products of two ciphertexts, relinearised and rescaled, unless they belong to a polynomial.
    CiphertextProduct,
    /// Rotations: instructions of their own, and those inside linear maps.
    Rotation,
    /// Encoding of plaintext vectors, wherever it happens.
    Encoding,
    /// Polynomials of one ciphertext: products whose operands are functions of the same one, slot by slot, and combinations of such products.
    Polynomial,
    /// Additions, constants, adjustments, inputs, outputs, and time between instructions.
    Rest,
}

impl Primitive {
    /// Every primitive, in the order of reports.
    pub const ALL: [Primitive; 7] = [
        Primitive::Bootstrap,
        Primitive::PlaintextProduct,
        Primitive::CiphertextProduct,
        Primitive::Rotation,
        Primitive::Encoding,
        Primitive::Polynomial,
        Primitive::Rest,
    ];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Primitive::Bootstrap => "bootstrap",
            Primitive::PlaintextProduct => "plaintext_product",
            Primitive::CiphertextProduct => "ciphertext_product",
            Primitive::Rotation => "rotation",
            Primitive::Encoding => "encoding",
            Primitive::Polynomial => "polynomial",
            Primitive::Rest => "rest",
        }
    }
}

/// One instruction: what its time is booked under, and what it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Booked {
    /// Where its time goes, but for rotations and encoding inside a linear map, which the executor measures.
    pub primitive: Primitive,
    /// How often it does that: bootstraps, products, rotations; instructions for [`Primitive::Rest`].
    pub count: u64,
    /// Rotations inside a linear map.
    pub rotations: u64,
}

/// Which ciphertext a register is a polynomial of.
#[derive(Clone, Copy, PartialEq)]
struct Origin {
    /// The result that began it: instruction and number of the result.
    root: (usize, usize),
    /// Whether a product lies between.
    bent: bool,
}

/// What every instruction of a program is booked under. `slots`: slots of a ciphertext.
pub fn primitives(program: &Program, slots: usize) -> Vec<Booked> {
    let mut registers: BTreeMap<u32, Origin> = BTreeMap::new();
    let all = program.instructions.iter().enumerate();
    all.map(|(index, instruction)| {
        let sources: Vec<Option<Origin>> = reads(instruction)
            .iter()
            .map(|(register, _)| registers.get(register).copied())
            .collect();
        let common = common(&sources);
        let (primitive, origin) = match (&instruction.op, common) {
            (Some(Op::MulSum(_)), Some(root)) => {
                (Primitive::Polynomial, Some(Origin { root, bent: true }))
            }
            (Some(Op::MulSum(_)), None) => (Primitive::CiphertextProduct, None),
            (Some(Op::Combine(_)), Some(root)) => {
                let bent = sources.iter().flatten().any(|o| o.bent);
                let primitive = match bent {
                    true => Primitive::Polynomial,
                    false => Primitive::Rest,
                };
                (primitive, Some(Origin { root, bent }))
            }
            (Some(Op::Linear(_)), _) => (Primitive::PlaintextProduct, None),
            (Some(Op::Rotate(_)), _) => (Primitive::Rotation, None),
            (Some(Op::Bootstrap(_)), _) => (Primitive::Bootstrap, None),
            _ => (Primitive::Rest, None),
        };
        let refreshes = primitive == Primitive::Bootstrap;
        for (number, (register, _)) in writes(instruction).into_iter().enumerate() {
            // A bootstrap changes no value.
            let kept = sources.get(number).copied().flatten();
            let kept = kept.filter(|_| refreshes).or(origin);
            let root = (index, number);
            registers.insert(register, kept.unwrap_or(Origin { root, bent: false }));
        }
        booked(
            primitive,
            count_instruction(&program.bodies, instruction, slots),
        )
    })
    .collect()
}

/// The one result that all sources are functions of.
fn common(sources: &[Option<Origin>]) -> Option<(usize, usize)> {
    let root = sources.first().copied().flatten()?.root;
    let same = |o: &Option<Origin>| o.is_some_and(|o| o.root == root);
    sources.iter().all(same).then_some(root)
}

fn booked(primitive: Primitive, counts: OperationCounts) -> Booked {
    let (count, rotations) = match primitive {
        Primitive::Bootstrap => (counts.bootstrap, 0),
        Primitive::PlaintextProduct => (counts.ct_pt_multiply, counts.rotate),
        Primitive::CiphertextProduct | Primitive::Polynomial => (counts.ct_ct_multiply, 0),
        Primitive::Rotation => (counts.rotate, 0),
        Primitive::Encoding => (0, 0),
        Primitive::Rest => (1, 0),
    };
    Booked {
        primitive,
        count,
        rotations,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Profile;
    use crate::proto::Pair;
    use crate::sample::sample_program;

    #[test]
    fn every_instruction_of_the_sample_is_booked_where_its_time_goes() {
        let (program, _) = sample_program(Profile::Toy).expect("sample");
        let found = primitives(&program, 2048);
        let names: Vec<(&str, u64, u64)> = found
            .iter()
            .map(|b| (b.primitive.name(), b.count, b.rotations))
            .collect();
        let expected = [
            ("rest", 1, 0),
            ("plaintext_product", 3, 2),
            ("polynomial", 1, 0), // a²
            ("polynomial", 0, 0), // a/2 + (a² - 1/4)
            ("rotation", 1, 0),
            ("rest", 1, 0), // of two ciphertexts
            ("bootstrap", 1, 0),
            ("polynomial", 1, 0), // d²
            ("rest", 1, 0),
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_product_of_a_ciphertext_and_its_rotation_is_no_polynomial() {
        let (mut program, _) = sample_program(Profile::Toy).expect("sample");
        let Some(Op::MulSum(square)) = &program.instructions[2].op else {
            panic!("a square stands here")
        };
        let mut product = square.clone();
        product.pair = vec![Pair { a: 0, b: 1 }];
        // After the rotation of r0 to r1.
        program.instructions[5].op = Some(Op::MulSum(product));
        let found = primitives(&program, 2048)[5];
        assert_eq!(
            (found.primitive, found.count),
            (Primitive::CiphertextProduct, 1)
        );
    }
}

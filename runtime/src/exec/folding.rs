//! Linear steps on ciphertexts, folded or not: which products the evaluator makes of which encoded vectors, and what is done before and
//! after. See [`heron_schedule::folding`].

use crate::backend::Backend;
use crate::ckks::linear::{GiantStep, LinearOutput, LinearTerm};
use crate::ckks::{Ciphertext, CkksError, Evaluator, RotationStep};
use heron_schedule::folding::{factors, folding, sums};
use heron_schedule::proto::{linear::Folding, Body, Linear};

/// A plaintext to be encoded: factors.0 · real + i · factors.1 · imaginary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Vector {
    /// Number of a plaintext, 0 without.
    pub real: Option<u32>,
    /// Number of a plaintext, 0 without.
    pub imaginary: Option<u32>,
    /// The matrices that they take elements of: 1 + number, 0 without.
    pub matrices: (u32, u32),
    /// What they are multiplied by.
    pub factors: (f64, f64),
}

/// What the evaluator is to do: its diagonals are numbered as `vectors`.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// One per sum.
    pub outputs: Vec<LinearOutput>,
    /// The plaintexts of its products.
    pub vectors: Vec<Vector>,
}

impl Plan {
    /// The products of a linear step, of a program with these bodies, on ciphertexts of `slots` slots.
    pub fn new(bodies: &[Body], op: &Linear, slots: usize) -> Plan {
        let mut plan = Plan::default();
        let folding = folding(op);
        for (number, sum) in sums(bodies, op, slots).into_iter().enumerate() {
            // A last result without a partner is not added to its conjugate.
            let alone = folding == Folding::Results && 2 * number + 1 == op.out.len();
            let factors = factors(if alone { Folding::None } else { folding });
            // What a folded sum's imaginary half is made of: the second of a pair of results, or other sources of the same one.
            let of = |out: usize| op.out.get(out).map_or(0, |o| o.matrix);
            let matrices = match folding {
                Folding::Results => (of(2 * number), of(2 * number + 1)),
                Folding::None | Folding::Sources => (of(number), of(number)),
            };
            let mut giants = Vec::new();
            for (step, products) in sum {
                let first = plan.vectors.len();
                let terms = products.iter().enumerate().map(|(i, p)| LinearTerm {
                    source: p.source as usize,
                    baby: RotationStep(i64::from(p.baby)),
                    diagonal: first + i,
                });
                giants.push(GiantStep {
                    step: RotationStep(i64::from(step)),
                    terms: terms.collect(),
                });
                plan.vectors.extend(products.iter().map(|p| Vector {
                    real: p.real,
                    imaginary: p.imaginary,
                    matrices,
                    factors,
                }));
            }
            plan.outputs.push(LinearOutput { giants });
        }
        plan
    }
}

/// s_2k + i·s_2k+1 for each pair of sources; nothing where sources are not folded.
pub(super) fn folded_sources<B: Backend>(
    evaluator: &Evaluator<B>,
    op: &Linear,
    sources: &[&Ciphertext<B::Poly>],
) -> Result<Vec<Ciphertext<B::Poly>>, CkksError> {
    if folding(op) != Folding::Sources {
        return Ok(Vec::new());
    }
    let fold = |pair: &[&Ciphertext<B::Poly>]| match pair {
        [real, imaginary] => {
            let mut sum = (*imaginary).clone();
            evaluator.mul_imaginary_assign(&mut sum)?;
            evaluator.add_assign(&mut sum, real)?;
            Ok(sum)
        }
        rest => rest.first().map(|c| (*c).clone()).ok_or(CkksError::Shape {
            op: "linear",
            what: "number of sources",
            expected: 1,
            found: 0,
        }),
    };
    sources.chunks(2).map(fold).collect()
}

/// The results of a linear step from its sums.
pub(super) fn unfolded<B: Backend>(
    evaluator: &Evaluator<B>,
    op: &Linear,
    sums: Vec<Ciphertext<B::Poly>>,
) -> Result<Vec<Ciphertext<B::Poly>>, CkksError> {
    let mut results = Vec::with_capacity(op.out.len());
    let mut sums = sums.into_iter();
    loop {
        // What has been separated makes room for what comes next.
        let some: Vec<_> = sums
            .by_ref()
            .take(evaluator.backend().together().max(1))
            .collect();
        if some.is_empty() {
            return Ok(results);
        }
        let folded = match folding(op) {
            Folding::None => 0,
            Folding::Sources => some.len(),
            // A last result may be without a partner.
            Folding::Results => some.len().min((op.out.len() - results.len()) / 2),
        };
        let conjugated: Vec<_> = some.iter().take(folded).collect();
        let conjugates = evaluator.conjugate_each(&conjugated)?;
        let mut some = some.into_iter();
        for (sum, conjugate) in some.by_ref().take(folded).zip(conjugates) {
            results.push(evaluator.add(&sum, &conjugate)?);
            if folding(op) == Folding::Results {
                // i·(conj(z) - z) = 2·Im z.
                let mut imaginary = evaluator.sub(&conjugate, &sum)?;
                evaluator.mul_imaginary_assign(&mut imaginary)?;
                results.push(imaginary);
            }
        }
        results.extend(some);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heron_schedule::proto::{Giant, LinearOut, Term};

    /// Two results of one source, each with elements of a matrix of its own.
    fn step(folding: Folding) -> Linear {
        let out = |dst, matrix| LinearOut {
            dst,
            body: 0,
            bias: None,
            matrix,
        };
        Linear {
            src: vec![0],
            level_in: 1,
            out: vec![out(1, 7), out(2, 8)],
            folding: folding.into(),
        }
    }

    #[test]
    fn each_result_takes_elements_of_its_own_matrix() {
        let term = vec![Term {
            src: 0,
            baby: 1,
            plaintext: 5,
        }];
        let giant = vec![Giant { step: 0, term }];
        let bodies = [Body { giant }];
        let vectors = |folding| Plan::new(&bodies, &step(folding), 64).vectors;
        let apart: Vec<_> = vectors(Folding::None).iter().map(|v| v.matrices).collect();
        assert_eq!(apart, [(7, 7), (8, 8)]);
        let folded = vectors(Folding::Results);
        assert_eq!(folded.len(), 1);
        assert_eq!((folded[0].real, folded[0].imaginary), (Some(5), Some(5)));
        assert_eq!(folded[0].matrices, (7, 8));
    }
}

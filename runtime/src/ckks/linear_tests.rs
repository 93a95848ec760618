//! Linear maps against the sums they stand for. Toy ring: not secure.

use super::diagonals::{EncodeOnDemand, EncodedDiagonals};
use super::encoding::Complex;
use super::linear::{DiagonalSource, GiantStep, LinearOutput, LinearTerm, Watch};
use super::linear_sums::PassBytes;
use super::noise::NoiseModel;
use super::testing::{rotated, step, times, Lab};
use super::{Basis, Ciphertext, CkksError, Plaintext};
use crate::ring::RnsPoly;
use crate::rlwe::{KeyKind, KeyRequest};
use heron_schedule::params::{Level, ParameterSet, Profile};
use std::sync::Arc;

const LEVEL: Level = Level(5);
const STEPS: [i64; 5] = [1, 2, 3, 4, 8];

fn term(source: usize, baby: i64, diagonal: usize) -> LinearTerm {
    LinearTerm {
        source,
        baby: step(baby),
        diagonal,
    }
}

/// Two outputs of two sources: rotated babies, an unrotated giant, a giant of unrotated sources.
fn map() -> Vec<LinearOutput> {
    let giant = |k, terms| GiantStep {
        step: step(k),
        terms,
    };
    vec![
        LinearOutput {
            giants: vec![
                giant(0, vec![term(0, 0, 0), term(0, 1, 1), term(1, 3, 2)]),
                giant(4, vec![term(0, 2, 3), term(1, 0, 4)]),
                giant(8, vec![term(0, 0, 5), term(1, 0, 6)]),
            ],
        },
        LinearOutput {
            giants: vec![giant(0, vec![term(1, 0, 7), term(0, 0, 8)])],
        },
    ]
}

fn expected(lab: &Lab, sources: &[Vec<Complex>], output: &LinearOutput) -> Vec<Complex> {
    let mut total = vec![Complex::default(); lab.encoder.slots()];
    for giant in &output.giants {
        let mut sum = vec![Complex::default(); total.len()];
        for t in &giant.terms {
            let diagonal = lab.slots(1000 + t.diagonal as u64);
            let moved = rotated(&sources[t.source], t.baby.0);
            for ((s, d), x) in sum.iter_mut().zip(diagonal).zip(moved) {
                let p = times(d, x);
                *s = Complex::new(s.re + p.re, s.im + p.im);
            }
        }
        for (t, s) in total.iter_mut().zip(rotated(&sum, giant.step.0)) {
            *t = Complex::new(t.re + s.re, t.im + s.im);
        }
    }
    total
}

#[test]
fn linear_maps_equal_the_sum_of_their_diagonals() {
    let lab = Lab::toy(&[LEVEL], &STEPS);
    let noise = NoiseModel::new(&lab.context);
    let xs = vec![lab.slots(1), lab.slots(2)];
    let cs: Vec<_> = (0..2)
        .map(|i| lab.encrypt(&xs[i], LEVEL, i as u64))
        .collect();
    let sources: Vec<_> = cs.iter().collect();
    let scale = lab.context.params().plaintext_scale(LEVEL).unwrap();
    let on_demand = EncodeOnDemand {
        context: &lab.context,
        encoder: &lab.encoder,
        scale,
        slots: |i| Some(lab.slots(1000 + i as u64)),
    };
    let results = lab.evaluator.linear(&sources, &map(), &on_demand).unwrap();
    for (index, (output, result)) in map().iter().zip(&results).enumerate() {
        assert_eq!(result.level(), Level(LEVEL.0 - 1));
        assert_eq!(result.scale(), lab.scale(result.level()), "canonical scale");
        let terms = output.giants.iter().map(|g| g.terms.len()).sum::<usize>() as f64;
        let row = lab.context.row(LEVEL).unwrap();
        // Per term: the source's error, a key switch, the plaintext's rounding times a value, all times a factor of mean square 2/3.
        let per_term = NoiseModel::together(&[
            noise.encryption(lab.scale(LEVEL)),
            noise.key_switch(row, lab.scale(LEVEL)),
            noise.encoding(scale),
        ]);
        let predicted =
            NoiseModel::together(&[per_term * terms.sqrt(), noise.division(result.scale())]);
        lab.error(result, &expected(&lab, &xs, output))
            .within(&format!("linear output {index}"), noise.bound(predicted));
    }
    // Kept plaintexts give the same residues.
    let encoded = (0..9)
        .map(|i| lab.encoder.encode(&lab.slots(1000 + i), scale).unwrap())
        .collect();
    let kept = EncodedDiagonals::new(Arc::clone(&lab.context), encoded, scale, true);
    for _ in 0..2 {
        let again = lab.evaluator.linear(&sources, &map(), &kept).unwrap();
        for (a, b) in again.iter().zip(&results) {
            assert!(a.polys() == b.polys());
        }
    }
}

/// Diagonals 0, 2, 4 … repeat after 16 slots.
struct Mixed<'a>(&'a Lab);

impl Mixed<'_> {
    fn real(&self, index: usize) -> Vec<f64> {
        let slots = self.0.slots(1000 + index as u64);
        let length = if index.is_multiple_of(2) {
            16
        } else {
            slots.len()
        };
        slots[..length].iter().map(|c| c.re).collect()
    }
}

impl DiagonalSource<RnsPoly> for Mixed<'_> {
    fn diagonal(
        &self,
        index: usize,
        level: Level,
        basis: Basis,
    ) -> Result<Arc<Plaintext>, CkksError> {
        let (context, encoder) = (&self.0.context, &self.0.encoder);
        let scale = context.params().plaintext_scale(level)?;
        let slots = self.real(index);
        Plaintext::encode_real_compressed(context, encoder, &slots, level, scale, basis)
            .map(Arc::new)
    }

    fn words(&self, index: usize) -> Option<usize> {
        Some(2 * self.real(index).len())
    }
}

#[test]
fn linear_maps_have_the_same_residues_in_one_pass_in_many_and_with_rotations_held() {
    let lab = Lab::toy(&[LEVEL], &STEPS);
    let cs = [1, 2].map(|i| lab.encrypt(&lab.slots(i), LEVEL, i));
    let sources: Vec<_> = cs.iter().collect();
    let within = |plaintexts, sums| {
        let most = PassBytes {
            plaintexts,
            sums,
            ..PassBytes::DEFAULT
        };
        let made =
            lab.evaluator
                .linear_within(&sources, &map(), &Mixed(&lab), most, &Watch::default());
        let polys = |c: &Ciphertext| c.polys().to_vec();
        made.unwrap().iter().map(polys).collect::<Vec<_>>()
    };
    let one = within(usize::MAX, usize::MAX);
    assert!(one == within(usize::MAX, 0), "a giant step a pass");
    assert!(one == within(0, usize::MAX), "rotations held");
}

#[test]
fn linear_maps_refuse_what_they_lack() {
    let lab = Lab::toy(&[LEVEL], &STEPS[..2]);
    let c = lab.encrypt(&lab.slots(1), LEVEL, 1);
    let scale = lab.context.params().plaintext_scale(LEVEL).unwrap();
    let diagonals = EncodedDiagonals::new(Arc::clone(&lab.context), Vec::new(), scale, false);
    let run = |outputs: &[LinearOutput]| lab.evaluator.linear(&[&c], outputs, &diagonals);
    let one = |k, t| {
        vec![LinearOutput {
            giants: vec![GiantStep {
                step: step(k),
                terms: t,
            }],
        }]
    };
    assert!(matches!(
        run(&one(0, vec![term(0, 0, 0)])),
        Err(CkksError::Shape { .. })
    ));
    assert!(matches!(
        run(&one(0, vec![term(1, 0, 0)])),
        Err(CkksError::Shape { .. })
    ));
    assert!(matches!(run(&one(0, vec![])), Err(CkksError::Shape { .. })));
    assert!(matches!(
        run(&one(0, vec![term(0, 7, 0)])),
        Err(CkksError::Rlwe(_))
    ));
}

#[test]
fn encapsulation_raises_the_modulus_and_returns_to_the_main_secret() {
    let params = ParameterSet::new(Profile::Toy).unwrap();
    let top = params.top();
    let mut request = KeyRequest::new();
    request.add(KeyKind::DenseToSparse, Level(0));
    request.add(KeyKind::SparseToDense, top);
    let lab = Lab::with_keys(params, &request);
    let x = lab.slots(1);
    let c = lab.encrypt(&x, Level(0), 1);
    let sparse = lab.evaluator.switch_to_sparse(&c).unwrap();
    let raised = lab.evaluator.raise_modulus(&sparse, top).unwrap();
    let dense = lab.evaluator.switch_to_dense(&raised).unwrap();
    // Modulo q0 nothing may have changed but a little noise; the multiple of q0 added by the lift is small under the sparse secret.
    let (mut poly, scale) = lab.client.decrypt(&dense).unwrap();
    let ring = lab.context.ring();
    let q0 = lab.context.row(Level(0)).unwrap().limbs.clone();
    poly.retain(|l| q0.contains(&l));
    let log_slots = lab.context.params().log_n() - 1;
    let slots = lab
        .encoder
        .decode_poly(ring, &poly, scale, log_slots)
        .unwrap();
    let worst = slots
        .iter()
        .zip(&x)
        .map(|(a, b)| (a.re - b.re).hypot(a.im - b.im))
        .fold(0.0, f64::max);
    let noise = NoiseModel::new(&lab.context);
    let top_row = lab.context.row(top).unwrap();
    let predicted = noise.bound(NoiseModel::together(&[
        noise.encryption(scale),
        noise.key_switch(lab.context.encapsulation(), scale),
        noise.key_switch(top_row, scale),
    ]));
    println!(
        "raised and lowered: worst 2^{:.2}, predicted bound 2^{:.2}",
        worst.log2(),
        predicted.log2()
    );
    assert!(worst <= predicted);
}

#[test]
fn encapsulation_keys_exist_at_their_own_rows_only() {
    let lab = Lab::toy(&[], &[]);
    let top = lab.context.params().top();
    for (kind, row) in [
        (KeyKind::DenseToSparse, Level(1)),
        (KeyKind::DenseToSparse, top),
        (KeyKind::SparseToDense, Level(0)),
    ] {
        let mut request = KeyRequest::new();
        request.add(kind, row);
        let keys = lab
            .client
            .evaluation_keys(&request, &lab.random.derive("x", &[]));
        assert!(keys.is_err(), "{kind} at {row}");
    }
}

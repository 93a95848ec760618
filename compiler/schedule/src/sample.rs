//! A small program that uses every instruction: for the tests of whatever reads or runs schedules.

use crate::container::Schedule;
use crate::keys::{required_bootstraps, required_keys};
use crate::params::{ParameterSet, Profile};
use crate::proto::*;
use crate::verify::VerifyError;
use crate::weights::{Weights, WeightsBuilder};
use instruction::Op;

/// Elements of the sample's input and output.
pub const SAMPLE_ELEMENTS: usize = 8;
/// Inputs per run of the sample.
pub const SAMPLE_BATCH: usize = 4;

/// The sample's plaintext vectors: p0..p2 of the linear step, p3 its bias.
pub fn sample_vectors() -> [Vec<f64>; 4] {
    let wave = |a: f64, b: f64| -> Vec<f64> {
        let value = |i: usize| ((i as f64) * a + b).rem_euclid(1.0) * 0.5 - 0.25;
        (0..SAMPLE_ELEMENTS).map(value).collect()
    };
    [
        wave(0.37, 0.1),
        wave(0.61, 0.2),
        wave(0.23, 0.7),
        wave(0.11, 0.4),
    ]
}

/// What the sample computes, for one input of [`SAMPLE_ELEMENTS`] values in [-1, 1]: with i modulo 8,
/// a_i = p0_i x_i + p1_i x_{i+1} + p2_{i+2} x_{i+2} + p3_i, b = a² - 1/4, c = a/2 + b, d_i = c_i + c_{i+1}, y = d².
pub fn sample_reference(x: &[f64]) -> Vec<f64> {
    let n = SAMPLE_ELEMENTS;
    let [p0, p1, p2, p3] = sample_vectors();
    let at = |v: &[f64], i: usize| v.get(i % n).copied().unwrap_or(0.0);
    let a: Vec<f64> = (0..n)
        .map(|i| {
            at(&p0, i) * at(x, i)
                + at(&p1, i) * at(x, i + 1)
                + at(&p2, i + 2) * at(x, i + 2)
                + at(&p3, i)
        })
        .collect();
    let c: Vec<f64> = a.iter().map(|a| 0.5 * a + a * a - 0.25).collect();
    (0..n)
        .map(|i| (at(&c, i) + at(&c, i + 1)).powi(2))
        .collect()
}

/// The sample's program and weights, for a profile with at least eight usable levels.
pub fn sample_program(profile: Profile) -> Result<(Program, Weights), VerifyError> {
    let params = ParameterSet::new(profile)?;
    let mut builder = WeightsBuilder::new();
    let [p0, p1, p2, p3] = sample_vectors().map(|v| builder.push(&v, false));
    let (plaintexts, weights) = builder.finish();
    let batch = SAMPLE_BATCH as i32;
    let port = |name: &str, level, factor| Port {
        name: name.into(),
        shape: vec![SAMPLE_ELEMENTS as u32],
        level,
        ciphertexts: vec![PortCiphertext {
            element: (0..SAMPLE_ELEMENTS as i32).collect(),
        }],
        factor,
        dtype: "float32".into(),
        ..Port::default()
    };
    let step = |layer, op, free: &[u32]| Instruction {
        layer,
        op: Some(op),
        free: free.to_vec(),
    };
    let term = |baby, plaintext| Term {
        src: 0,
        baby,
        plaintext,
    };
    let part = |src, level, coefficient| CombineTerm {
        src,
        level,
        coefficient,
    };
    let square = |dst, src, level_in, constant| {
        Op::MulSum(MulSum {
            dst,
            level_in,
            pair: vec![Pair { a: src, b: src }],
            factor: 1,
            constant,
        })
    };
    let body = Body {
        giant: vec![
            Giant {
                step: 0,
                term: vec![term(0, p0), term(batch, p1)],
            },
            Giant {
                step: 2 * batch,
                term: vec![term(0, p2)],
            },
        ],
    };
    let instructions = vec![
        step(
            0,
            Op::Input(Input {
                port: 0,
                ciphertext: 0,
                dst: 0,
                level: 7,
            }),
            &[],
        ),
        step(
            0,
            Op::Linear(Linear {
                folding: linear::Folding::None.into(),
                src: vec![0],
                level_in: 7,
                out: vec![LinearOut {
                    matrix: 0,
                    dst: 1,
                    body: 0,
                    bias: Some(BiasRef { plaintext: p3 }),
                }],
            }),
            &[0],
        ),
        step(1, square(2, 1, 6, -0.25), &[]),
        step(
            1,
            Op::Combine(Combine {
                dst: 0,
                level_out: 5,
                term: vec![part(1, 6, 0.5), part(2, 5, 1.0)],
                constant: 0.0,
                bias: None,
            }),
            &[1, 2],
        ),
        step(
            1,
            Op::Rotate(Rotate {
                src: 0,
                level: 5,
                out: vec![Rotated {
                    step: batch,
                    dst: 1,
                }],
            }),
            &[],
        ),
        step(
            1,
            Op::Combine(Combine {
                dst: 2,
                level_out: 5,
                term: vec![part(0, 5, 1.0), part(1, 5, 1.0)],
                constant: 0.0,
                bias: None,
            }),
            &[0, 1],
        ),
        step(
            2,
            Op::Bootstrap(Bootstrap {
                kind: bootstrap::Kind::Full as i32,
                src: vec![2],
                dst: vec![0],
                level_in: 5,
                level_out: 8,
                log_slots: 0,
            }),
            &[2],
        ),
        step(2, square(1, 0, 8, 0.0), &[0]),
        step(
            2,
            Op::Output(Output {
                port: 0,
                ciphertext: 0,
                src: 1,
            }),
            &[1],
        ),
    ];
    let layer = |name: &str, kind: &str| Layer {
        name: name.into(),
        kind: kind.into(),
        onnx_nodes: vec![],
    };
    let mut program = Program {
        name: "sample".into(),
        parameters: Some(Parameters {
            profile: profile.name().into(),
            log_n: params.log_n(),
            params_id: params.id().to_vec(),
        }),
        batch: batch as u32,
        registers: 3,
        layers: vec![
            layer("mix", "matmul"),
            layer("bend", "activation"),
            layer("out", "head"),
        ],
        inputs: vec![port("x", 7, 1.0)],
        outputs: vec![port("y", 7, 1.0)],
        instructions,
        plaintexts,
        bodies: vec![body],
        ..Program::default()
    };
    program.keys = required_keys(&program, params.slots());
    program.bootstraps = required_bootstraps(&program);
    Ok((program, weights))
}

/// [`sample_program`], verified.
pub fn sample(profile: Profile) -> Result<Schedule, VerifyError> {
    let (program, weights) = sample_program(profile)?;
    Schedule::new(program, weights)
}

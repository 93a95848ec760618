//! emit: the program computes what the poly graph computes, verifies, and is the same every time.

use std::collections::{BTreeMap, BTreeSet};

use heron_compiler::facts::ModelFacts;
use heron_compiler::pipeline::{compile_poly, lower_poly, write_schedule};
use heron_passes::cost::prices::Target;
use heron_passes::ir::poly::{PolyGraph, PolyOp};
use heron_passes::ir::shape::Shape;
use heron_passes::pass::Manager;
use heron_runtime::exec::clear::Clear;
use heron_runtime::exec::ports::{input_values, pack, unpack};
use heron_runtime::exec::walk;
use heron_schedule::params::{ParameterSet, Profile};
use heron_schedule::proto::instruction::Op;
use heron_schedule::recount::recount;
use heron_schedule::Schedule;

use crate::packed_models::{blocks, Draws, Model};
use crate::support::snapshot;

fn compile(poly: &PolyGraph, profile: Profile, batch: Option<usize>) -> Schedule {
    let params = ParameterSet::new(profile).unwrap();
    compile_poly(
        poly,
        &params,
        batch,
        &[],
        &ModelFacts::default(),
        None,
        &mut Manager::new(),
    )
    .unwrap()
}

/// Largest difference between poly graph and program run on plain vectors, over two inputs of the batch.
fn difference(poly: &PolyGraph, schedule: &Schedule) -> f64 {
    let program = schedule.program();
    let (slots, batch) = (schedule.params().slots(), program.batch as usize);
    let mut draws = Draws(3);
    let mut slot_vectors = Vec::new();
    let mut named = vec![BTreeMap::new(); 2.min(batch)];
    for port in &program.inputs {
        let inputs: Vec<Vec<f64>> = (0..named.len())
            .map(|_| (0..input_values(port)).map(|_| draws.number()).collect())
            .collect();
        for (n, x) in named.iter_mut().zip(&inputs) {
            n.insert(port.name.clone(), x.clone());
        }
        let refs: Vec<&[f64]> = inputs.iter().map(Vec::as_slice).collect();
        slot_vectors.push(pack(port, None, batch, slots, &refs).unwrap());
    }
    let mut clear = Clear::new(schedule, slot_vectors, None).unwrap();
    walk(program, &mut clear, &mut |_| {}).unwrap();
    let (outputs, flags) = clear.into_outputs();
    println!("values outside [-1, 1] at bootstraps: {}", flags.len());
    let (mut worst, mut change) = (0.0f64, 0.0f64);
    for (number, (_, v)) in poly.outputs.iter().enumerate() {
        let port = &program.outputs[number];
        let found = unpack(port, batch, &outputs[number], named.len()).unwrap();
        if let [a, b] = &found[..] {
            for (a, b) in a.iter().zip(b) {
                change = change.max((a - b).abs());
            }
        }
        for (found, inputs) in found.iter().zip(&named) {
            let expected = &poly.evaluate(inputs).unwrap()[v];
            for (f, e) in found.iter().zip(expected) {
                worst = worst.max((f - e).abs());
            }
        }
    }
    assert!(
        batch == 1 || change > 1e-3,
        "outputs must depend on inputs: {change:.1e}"
    );
    worst
}

#[test]
fn programs_compute_what_the_poly_graph_computes() {
    for (rows, d, heads, batch) in [(16, 32, 4, None), (8, 16, 2, Some(2)), (5, 12, 3, Some(1))] {
        let poly = blocks(rows, d, heads, 2);
        let schedule = compile(&poly, Profile::Secure, batch);
        let worst = difference(&poly, &schedule);
        let program = schedule.program();
        let counts = recount(program, schedule.params().slots());
        println!(
            "{rows}x{d} batch {}: difference {worst:.2e}, bound 1e-8; {} instructions, {} registers, {} plaintexts, {} bytes, {} keys, {:?} depth {}",
            program.batch,
            program.instructions.len(),
            program.registers,
            program.plaintexts.len(),
            schedule.to_bytes().len(),
            program.keys.len(),
            counts.operations,
            counts.multiplicative_depth,
        );
        // Factors are stored in f32: 2^-25 of each.
        assert!(worst < 1e-8);
    }
}

#[test]
fn maps_of_one_value_are_one_instruction_and_compute_the_same() {
    let mut m = Model::new("branches");
    let (rows, cols) = (32, 128);
    let x = m.input("x", rows, cols);
    // Their results are needed at three levels.
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| m.dense(name, x, cols));
    let matrix = Shape::Matrix { rows, cols };
    let ab = m.add("ab", PolyOp::Multiply, &[a, b], matrix);
    let abc = m.add("abc", PolyOp::Multiply, &[ab, c], matrix);
    let o = m.add("o", PolyOp::Multiply, &[abc, d], matrix);
    let y = m.dense("y", o, 64);
    let poly = m.finish(y);
    let schedule = compile(&poly, Profile::Toy, Some(1));
    let worst = difference(&poly, &schedule);
    let results: Vec<usize> = schedule
        .program()
        .instructions
        .iter()
        .filter_map(|i| match &i.op {
            Some(Op::Linear(op)) => Some(op.out.len()),
            _ => None,
        })
        .collect();
    println!("difference {worst:.2e}, bound 1e-6; results of maps {results:?}");
    assert!(worst < 1e-6);
    // Two ciphertexts of each of the four.
    assert!(results.contains(&8), "{results:?}");
}

#[test]
fn maps_of_one_shape_share_their_bodies_with_weights_of_their_own() {
    let mut m = Model::new("stack");
    // Matrices of so many elements are read from their base.
    let (rows, cols) = (16, 256);
    let x = m.input("x", rows, cols);
    let stack = ["a", "b", "c", "d"].iter();
    let y = stack.fold(x, |x, name| m.dense(name, x, cols));
    let poly = m.finish(y);
    let schedule = compile(&poly, Profile::Toy, Some(1));
    assert!(difference(&poly, &schedule) < 1e-6);
    let program = schedule.program();
    let results = program.instructions.iter().filter_map(|i| match &i.op {
        Some(Op::Linear(op)) => Some(&op.out),
        _ => None,
    });
    let results: Vec<_> = results.flatten().collect();
    let matrices: BTreeSet<u32> = results.iter().map(|out| out.matrix).collect();
    println!(
        "{} results, {} matrices, {} bodies",
        results.len(),
        matrices.len(),
        program.bodies.len()
    );
    assert_eq!(
        (results.len(), matrices.len(), program.bodies.len()),
        (8, 4, 2)
    );
}

#[test]
fn maps_over_pairs_of_ciphertexts_are_folded_and_compute_the_same() {
    // Two ciphertexts of 2^11 slots each; heads wide enough for packing in two stages. Nothing is bootstrapped, so that magnitudes are free.
    let mut m = Model::new("wide");
    let (rows, heads, head) = (32, 4, 32);
    let cols = heads * head;
    let x = m.input("x", rows, cols);
    let [q, k, v] = ["q", "k", "v"].map(|name| m.dense(name, x, cols));
    let keys = rows;
    let scores = Shape::Scores { heads, rows, keys };
    let op = PolyOp::Scores { heads, mask: None };
    let s = m.add("s", op, &[q, k], scores);
    let values = PolyOp::Values {
        heads,
        weights: None,
    };
    let o = m.add("o", values, &[s, v], Shape::Matrix { rows, cols });
    let y = m.dense("y", o, 64);
    let poly = m.finish(y);
    let schedule = compile(&poly, Profile::Toy, Some(1));
    let worst = difference(&poly, &schedule);
    let program = schedule.program();
    let foldings: BTreeSet<&str> = program
        .instructions
        .iter()
        .filter_map(|i| match &i.op {
            Some(Op::Linear(op)) => Some(op.folding().as_str_name()),
            _ => None,
        })
        .collect();
    println!("difference {worst:.2e}, bound 1e-6; {foldings:?}");
    assert!(worst < 1e-6);
    assert!(foldings.contains("SOURCES") && foldings.contains("RESULTS"));
    let counted = recount(program, schedule.params().slots()).operations;
    assert!(counted.conjugate > 0 && counted.bootstrap == 0);
}

#[test]
fn compiling_twice_gives_identical_bytes() {
    let poly = blocks(8, 16, 4, 1);
    let once = compile(&poly, Profile::Secure, None).to_bytes();
    assert!(once == compile(&poly, Profile::Secure, None).to_bytes());
}

#[test]
fn a_program_reads_as_text() {
    let mut m = Model::new("small");
    let x = m.input("x", 2, 2);
    let y = m.dense("y", x, 2);
    let z = m.add(
        "z",
        PolyOp::Multiply,
        &[y, y],
        Shape::Matrix { rows: 2, cols: 2 },
    );
    let schedule = compile(&m.finish(z), Profile::Toy, Some(512));
    snapshot(
        "emit__small",
        &heron_schedule::text::Text(schedule.program()).to_string(),
    );
}

#[test]
fn a_graph_for_other_parameters_is_refused() {
    let params = ParameterSet::new(Profile::Toy).unwrap();
    let poly = crate::packed_models::linear_layer(2, 2, 2);
    let graph = lower_poly(&poly, (&params, Target::Cpu), None, &mut Manager::new()).unwrap();
    let other = ParameterSet::with_ring(Profile::Toy, 10).unwrap();
    let error = write_schedule(&graph, &other, &[], &ModelFacts::default(), None).unwrap_err();
    snapshot("emit__refuses", &error.to_string());
}

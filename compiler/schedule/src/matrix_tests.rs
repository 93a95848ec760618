//! Vectors that take elements of a matrix: what they are, and that files which say otherwise are refused.

use std::sync::Arc;

use crate::base::{Base, FloatKind};
use crate::container::Schedule;
use crate::params::Profile;
use crate::proto::{instruction::Op, BiasRef, Linear, Matrix, Plaintext, Program};
use crate::sample::sample_program;
use crate::verify::verify;
use crate::weights::Weights;

const NUMBERS: [f32; 12] = [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11.];

fn bytes() -> Vec<u8> {
    NUMBERS.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn base() -> Base {
    let bytes = bytes();
    let range = 0..bytes.len();
    Base::new(FloatKind::Single, Arc::new(bytes), range).expect("whole numbers")
}

fn linear(program: &mut Program) -> &mut Linear {
    match &mut program.instructions[1].op {
        Some(Op::Linear(op)) => op,
        _ => unreachable!("the sample's second instruction is a linear map"),
    }
}

/// The sample, its linear map with elements of a 3 × 4 matrix in all vectors: a diagonal and one element more.
fn case(base: Base) -> (Program, Weights) {
    let (mut program, weights) = sample_program(Profile::Toy).expect("sample");
    let weights = weights.with_bases(vec![base]);
    program.bases = weights.list_bases(None);
    program.matrices = vec![Matrix {
        rows: 3,
        cols: 4,
        base_cols: 4,
        factor: 0.5,
        ..Matrix::default()
    }];
    let number = program.plaintexts.len() as u32;
    program.plaintexts.push(Plaintext {
        length: 4,
        run: vec![0, 3, 0, 5, 3, 1, 2, 0],
        ..Plaintext::default()
    });
    let op = linear(&mut program);
    op.out.iter_mut().for_each(|o| o.matrix = 1);
    let giants = program.bodies.iter_mut().flat_map(|b| &mut b.giant);
    for term in giants.flat_map(|g| &mut g.term) {
        term.plaintext = number;
    }
    (program, weights)
}

fn vector(program: &Program) -> &Plaintext {
    program.plaintexts.last().expect("a vector")
}

#[test]
fn a_vector_holds_the_elements_that_its_runs_name() {
    let (mut program, weights) = case(base());
    let number = program.plaintexts.len() as u32 - 1;
    let schedule = Schedule::new(program.clone(), weights.clone()).expect("verifies");
    assert_eq!(schedule.factors(1, number), Ok(vec![0.0, 2.5, 5.0, 1.0]));
    // Columns 3, 0, 1, 2 of the base, less 1, rows times 1, 2, 3 and columns by signs.
    let mut builder = crate::weights::WeightsBuilder::new();
    let row = builder.push(&[1.0, 2.0, 3.0], false);
    let col = builder.push(&[1.0, -1.0, 1.0, -1.0], false);
    let mean = builder.push(&[1.0, 1.0, 1.0], false);
    let (plaintexts, own) = builder.finish();
    let shared = vector(&program).clone();
    let reference = |plaintext| Some(BiasRef { plaintext });
    program.matrices[0] = Matrix {
        pick: vec![3, 0, 1, 2],
        row: reference(row),
        col: reference(col),
        mean: reference(mean),
        ..program.matrices[0].clone()
    };
    program.plaintexts = plaintexts;
    let weights = own.with_bases(weights.bases().to_vec());
    let made = crate::matrix::Matrix::read_all(&program, &weights).expect("reads");
    let found = made[0].vector(&shared);
    assert_eq!(found, [1.0, -3.0, 12.0, 0.0]);
}

#[test]
fn a_schedule_with_a_base_comes_back_and_every_byte_of_it_is_guarded() {
    let (program, weights) = case(base());
    let schedule = Schedule::new(program, weights).expect("verifies");
    let bytes = schedule.with_record(vec![1, 2, 3]).to_bytes();
    let back = Schedule::from_bytes(&bytes).expect("reads");
    assert_eq!(back.to_bytes(), bytes);
    assert_eq!(back.file_bytes(), bytes.len() as u64);
    let step = (0..bytes.len()).step_by(7);
    for at in step.chain(bytes.len() - 48..bytes.len()) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(Schedule::from_bytes(&damaged).is_err(), "byte {at}");
        assert!(Schedule::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn vectors_and_matrices_that_contradict_each_other_are_refused() {
    type Change = Box<dyn Fn(&mut Program)>;
    let run = |run: Vec<i32>| -> Change {
        Box::new(move |p| p.plaintexts.last_mut().expect("a vector").run = run.clone())
    };
    let cases: Vec<(&str, Change)> = vec![
        ("takes element 15", run(vec![0, 4, 0, 5])),
        ("runs", run(vec![0, 3, 0])),
        ("runs", run(vec![2, 3, 0, 1])),
        ("runs", run(vec![0, 2, 0, 1, 1, 1, 0, 0])),
        ("runs", run(vec![0, 2, 0, -1])),
        ("runs", run(vec![-1, 2, 0, 1])),
        ("mixed up", Box::new(|p| linear(p).out[0].matrix = 0)),
        ("no matrix", Box::new(|p| linear(p).out[0].matrix = 2)),
        ("base 7", Box::new(|p| p.matrices[0].base = 7)),
        ("columns", Box::new(|p| p.matrices[0].cols = 5)),
        ("base", Box::new(|p| p.matrices[0].rows = 4)),
        (
            "columns",
            Box::new(|p| p.matrices[0].pick = vec![0, 1, 2, 4]),
        ),
        (
            "columns",
            Box::new(|p| p.matrices[0].factor = f64::INFINITY),
        ),
        ("are listed", Box::new(|p| p.bases.clear())),
        ("is listed as", Box::new(|p| p.bases[0].values = 11)),
    ];
    for (number, (wanted, change)) in cases.into_iter().enumerate() {
        let (mut program, weights) = case(base());
        assert!(verify(&program, &weights).is_ok());
        change(&mut program);
        let found = verify(&program, &weights).map(|_| ());
        let found = found.expect_err(&format!("case {number}, {wanted}"));
        assert!(found.to_string().contains(wanted), "{number}: {found}");
    }
}

#[test]
fn numbers_left_in_the_model_are_found_and_refused_once_they_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("model.bin");
    let mut stored = vec![7u8; 3];
    stored.extend(bytes());
    std::fs::write(&model, &stored).expect("writes");
    let (mut program, weights) = case(base().from_file(&model, 3));
    program.bases = weights.list_bases(Some(folder.path()));
    assert_eq!(program.bases[0].file, "model.bin");
    let schedule = Schedule::new(program, weights).expect("verifies");
    let path = folder.path().join("x.heron");
    schedule.save(&path).expect("saves");
    let length = std::fs::metadata(&path).expect("a file").len();
    assert_eq!(length, schedule.file_bytes());
    let back = Schedule::open(&path).expect("opens");
    let number = back.program().plaintexts.len() as u32 - 1;
    assert_eq!(back.factors(1, number), Ok(vec![0.0, 2.5, 5.0, 1.0]));
    drop(back);
    let refused = |what: &str| {
        let found = Schedule::open(&path).expect_err(what).to_string();
        assert!(found.contains("model.bin"), "{what}: {found}");
    };
    let mut changed = stored.clone();
    changed[10] ^= 1;
    std::fs::write(&model, &changed).expect("writes");
    refused("changed");
    std::fs::write(&model, &stored[..40]).expect("writes");
    refused("cut");
    std::fs::remove_file(&model).expect("removes");
    refused("gone");
}

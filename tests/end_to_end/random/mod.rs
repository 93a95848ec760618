//! Random small transformers compile, and the schedule in the clear gives what tract gives for the ONNX file.
//!
//! Every case goes through the binary: ONNX file and calibration inputs in, `heron infer --backend clear` out, on inputs that the
//! calibration has not seen. To look at one case: `HERON_RANDOM_SEED=17 cargo test --release -p heron one_random_transformer -- --nocapture`
//! prints the model's description, keeps its files and prints their folder.

mod blocks;
#[allow(dead_code)] // shared with the importer's tests, which use more of it
#[path = "../../../compiler/tests/build/mod.rs"]
mod build;
mod draw;
mod graph;

use crate::support::Folder;
use draw::{Draws, Spec};
use graph::Onnx;
use heron_compiler::npz::{self, Array, Arrays};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

/// The default tolerance: largest difference over the reference's standard deviation.
const TOLERANCE: f64 = 1e-2;
/// Inputs that set the ranges.
const CALIBRATION: usize = 64;
/// Inputs that are run.
const TESTED: usize = 4;

/// Writes the model and its inputs into the folder.
fn write(spec: &Spec, folder: &Folder) {
    let mut g = Onnx::new(Draws::new(spec.seed ^ 0x7265_616c));
    let (output, rank) = blocks::transformer(spec, &mut g);
    let shape = match spec.vocabulary {
        Some(_) => vec![1, spec.tokens],
        None => vec![1, spec.tokens, blocks::FEATURES],
    };
    g.save(
        &folder.path("random.onnx"),
        &shape,
        spec.vocabulary.is_some(),
        &output,
        rank,
    );
    let mut draws = Draws::new(spec.seed ^ 0x696e_7075);
    for (name, count) in [
        ("random.calibration.npz", CALIBRATION),
        ("test.npz", TESTED),
    ] {
        let n = count * shape.iter().product::<usize>();
        let data = (0..n).map(|_| match spec.vocabulary {
            Some(v) => draws.below(v) as f64,
            None => draws.bounded(),
        });
        let array = Array {
            shape: [&[count], &shape[1..]].concat(),
            data: data.collect(),
            integer: spec.vocabulary.is_some(),
        };
        let arrays = Arrays([("x".to_string(), array)].into());
        npz::write(&folder.path(name), &arrays).expect("writes");
    }
}

/// Whether a value of the inputs that were run left the interval that its function was fitted on: 64 calibration inputs do not show
/// all that others may do, and heron says so.
fn left_fitted_intervals(folder: &Folder, profile: &str) -> bool {
    folder
        .heron(&[
            "compile",
            "random.onnx",
            "--profile",
            profile,
            "-o",
            "x.heron",
        ])
        .ok();
    let found = folder
        .heron(&[
            "bisect", "x.heron", "--input", "test.npz", "--format", "json",
        ])
        .ok()
        .json();
    let left = found["ranges_left"].as_array().cloned().unwrap_or_default();
    left.iter().any(|value| value["inside_fitted"] == false)
}

/// Compiles and runs a case: the relative error, `None` where the inputs left fitted intervals, or what went wrong.
fn attempt(spec: &Spec, folder: &Folder, profile: &str) -> Result<Option<f64>, String> {
    write(spec, folder);
    let called = folder.heron(&[
        "infer",
        "random.onnx",
        "--input",
        "test.npz",
        "--backend",
        "clear",
        "--profile",
        profile,
        "--threads",
        "1",
        "--format",
        "json",
    ]);
    if called.code != Some(0) {
        return Err(called.stderr);
    }
    let found = called.json();
    let error = found["error"]["relative"].as_f64();
    let error = error.ok_or("infer gives no error")?;
    if error > TOLERANCE && left_fitted_intervals(folder, profile) {
        return Ok(None);
    }
    if error > TOLERANCE || error == 0.0 {
        return Err(format!(
            "relative error {error:.2e}, tolerance {TOLERANCE:.0e}\n{}",
            called.stderr
        ));
    }
    Ok(Some(error))
}

/// Runs seeds on two threads; fails with every seed that failed.
fn check(seeds: std::ops::Range<u64>, profile: &str) {
    let next = AtomicUsize::new(0);
    let (failures, errors) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let all: Vec<u64> = seeds.collect();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(&seed) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let spec = Spec::draw(seed);
                    match attempt(&spec, &Folder::new(), profile) {
                        Ok(error) => errors.lock().expect("lock").push(error),
                        Err(reason) => {
                            let text = format!(
                                "seed {seed}: {reason}\n{spec:?}\nreproduce: HERON_RANDOM_SEED={seed} cargo test --release -p heron \
                                 one_random_transformer -- --nocapture\n"
                            );
                            println!("{text}");
                            failures.lock().expect("lock").push(seed);
                        }
                    }
                }
            });
        }
    });
    let found = errors.into_inner().expect("lock");
    let mut errors: Vec<f64> = found.iter().copied().flatten().collect();
    let left = found.len() - errors.len();
    let mut failures = failures.into_inner().expect("lock");
    errors.sort_by(f64::total_cmp);
    failures.sort_unstable();
    let median = errors.get(errors.len() / 2).copied().unwrap_or(f64::NAN);
    let worst = errors.last().copied().unwrap_or(f64::NAN);
    println!(
        "{} of {} random transformers within {TOLERANCE:.0e} ({profile}): median {median:.1e}, worst {worst:.1e}; \
         {left} were given inputs beyond their fitted intervals and reported so",
        errors.len(),
        all.len()
    );
    assert!(left <= all.len() / 100, "{left} left their intervals");
    assert!(failures.is_empty(), "seeds that failed: {failures:?}");
}

#[test]
fn fifty_random_transformers_give_what_their_onnx_files_give() {
    check(0..50, "toy");
}

/// `cargo test --release -p heron --test end_to_end five_hundred -- --ignored --nocapture`
#[test]
#[ignore = "three minutes"]
fn five_hundred_random_transformers_give_what_their_onnx_files_give() {
    check(0..500, "toy");
}

/// The packing of a real ring, without its cryptography:
/// `cargo test --release -p heron --test end_to_end secure_ring -- --ignored --nocapture`
#[test]
#[ignore = "minutes"]
fn random_transformers_give_what_their_onnx_files_give_on_the_secure_ring() {
    check(1000..1020, "secure");
}

/// The case of `HERON_RANDOM_SEED` (0 without it); its files stay.
#[test]
fn one_random_transformer() {
    let given = std::env::var("HERON_RANDOM_SEED").ok();
    let seed = given.as_ref().and_then(|s| s.parse().ok()).unwrap_or(0);
    let spec = Spec::draw(seed);
    println!("{spec:#?}");
    let folder = Folder::new();
    let result = attempt(&spec, &folder, "toy");
    if given.is_some() {
        println!("files: {}", folder.keep().display());
    }
    println!("{:?}", result.expect("within the tolerance"));
}

//! A toy model all the way: compile, report, run in the clear, run encrypted as four processes.

use crate::support::{repository, Folder};
use heron_compiler::npz;
use heron_runtime::exec::trace::Trace;
use heron_runtime::exec::walk;
use heron_schedule::Schedule;

const MODEL: &str = "models/toy/toy-head.onnx";
const INPUTS: &str = "models/toy/toy-head.test.npz";

fn compile(folder: &Folder, output: &str) {
    let model = repository(MODEL);
    let model = model.to_str().expect("a path in UTF-8");
    folder
        .heron(&["compile", model, "-o", output, "--profile", "toy"])
        .ok();
}

#[test]
fn compiling_twice_gives_the_same_bytes() {
    let folder = Folder::new();
    compile(&folder, "a.heron");
    compile(&folder, "b.heron");
    for (a, b) in [("a.heron", "b.heron"), ("a.client", "b.client")] {
        let read = |name| std::fs::read(folder.path(name)).expect("reads");
        assert!(read(a) == read(b), "{a} and {b} differ");
    }
    assert_eq!(
        folder.files(),
        ["a.client", "a.heron", "b.client", "b.heron"]
    );
}

#[test]
fn the_report_counts_what_an_execution_does() {
    let folder = Folder::new();
    compile(&folder, "toy.heron");
    let report = folder
        .heron(&["report", "toy.heron", "--format", "json"])
        .ok()
        .json();
    let schedule = Schedule::open(&folder.path("toy.heron")).expect("opens");
    let mut trace = Trace::new(&schedule);
    walk(schedule.program(), &mut trace, &mut |_| ()).expect("traces");
    let counted = trace.operations;
    let expected = [
        ("ct_ct_multiply", counted.ct_ct_multiply),
        ("ct_pt_multiply", counted.ct_pt_multiply),
        ("rotate", counted.rotate),
        ("conjugate", counted.conjugate),
        ("relinearize", counted.relinearize),
        ("rescale", counted.rescale),
        ("add", counted.add),
        ("bootstrap", counted.bootstrap),
    ];
    for (name, count) in expected {
        assert_eq!(report["operations"][name], count, "{name}");
    }
    assert_eq!(report["bootstraps"], counted.bootstrap);
    let layers = report["layers"].as_array().expect("layers");
    let sum: u64 = layers.iter().filter_map(|l| l["bootstraps"].as_u64()).sum();
    assert_eq!(sum, counted.bootstrap);
    assert!(report["multiplicative_depth"]
        .as_u64()
        .is_some_and(|d| d > 0));
}

#[test]
fn clear_and_encrypted_runs_are_near_the_plaintext_model() {
    let folder = Folder::new();
    let (model, inputs) = (repository(MODEL), repository(INPUTS));
    let paths = (
        model.to_str().expect("UTF-8"),
        inputs.to_str().expect("UTF-8"),
    );
    for backend in ["clear", "cpu"] {
        let result = folder
            .heron(&[
                "infer",
                paths.0,
                "--input",
                paths.1,
                "--profile",
                "toy",
                "--backend",
                backend,
                "--limit",
                "4",
                "--format",
                "json",
            ])
            .ok()
            .json();
        let relative = result["error"]["relative"].as_f64().expect("an error");
        println!("{backend}: relative error {relative:.2e} (bound 1e-2, the default tolerance)");
        assert!(relative < 1e-2 && relative > 0.0);
    }
}

#[test]
fn four_processes_give_what_clear_gives_for_a_compiled_model() {
    let folder = Folder::new();
    compile(&folder, "toy.heron");
    std::fs::copy(repository(INPUTS), folder.path("in.npz")).expect("copies");
    let calls: [&[&str]; 5] = [
        &[
            "keygen",
            "toy.client",
            "--client-key",
            "client.key",
            "--server-keys",
            "server.keys",
        ],
        &[
            "encrypt",
            "toy.client",
            "--client-key",
            "client.key",
            "--input",
            "in.npz",
            "-o",
            "in.ct",
            "--limit",
            "2",
        ],
        &[
            "run",
            "toy.heron",
            "--server-keys",
            "server.keys",
            "--input",
            "in.ct",
            "-o",
            "out.ct",
        ],
        &[
            "decrypt",
            "toy.client",
            "--client-key",
            "client.key",
            "--input",
            "out.ct",
            "-o",
            "out.npz",
        ],
        &[
            "infer",
            "toy.heron",
            "--input",
            "in.npz",
            "--backend",
            "clear",
            "--limit",
            "2",
            "--output",
            "clear.npz",
        ],
    ];
    for call in calls {
        folder.heron(call).ok();
    }
    let encrypted = npz::read(&folder.path("out.npz")).expect("reads");
    let clear = npz::read(&folder.path("clear.npz")).expect("reads");
    for (name, expected) in &clear.0 {
        let found = encrypted.0.get(name).expect("the same outputs");
        assert_eq!(found.shape, expected.shape);
        let differences = found
            .data
            .iter()
            .zip(&expected.data)
            .map(|(a, b)| (a - b).abs());
        let worst = differences.fold(0.0, f64::max);
        let size = expected.data.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        // Bootstrapping noise of 2^-16 in the worst slot, amplified by what follows it: a hundredfold at most here.
        let bound = size * 100.0 * 2f64.powi(-16);
        println!("`{name}`: {worst:.2e} (bound {bound:.2e})");
        assert!(worst < bound);
    }
}

#[test]
fn an_unsupported_operator_is_named_with_its_node() {
    let folder = Folder::new();
    let mut bytes = std::fs::read(repository(MODEL)).expect("the model");
    let at = bytes
        .windows(6)
        .position(|w| w == b"MatMul")
        .expect("a MatMul");
    let op_types = (at..bytes.len() - 6).filter(|&i| bytes[i..i + 6] == *b"MatMul");
    for i in op_types.collect::<Vec<_>>() {
        // Only the operator's type: a length byte of 6 stands before it, names are longer.
        if bytes[i - 1] == 6 {
            bytes[i..i + 6].copy_from_slice(b"MatMux");
        }
    }
    std::fs::write(folder.path("odd.onnx"), &bytes).expect("writes");
    let line = folder
        .heron(&[
            "compile",
            "odd.onnx",
            "-o",
            "odd.heron",
            "--calibration",
            "synthetic:1",
        ])
        .refused("unsupported-op");
    assert!(line.contains("MatMux"), "{line}");
    assert!(!folder.path("odd.heron").exists());
}

#[test]
fn no_calibration_is_refused_with_the_reason() {
    let folder = Folder::new();
    std::fs::copy(repository(MODEL), folder.path("toy.onnx")).expect("copies");
    let line = folder
        .heron(&["compile", "toy.onnx", "-o", "toy.heron", "--profile", "toy"])
        .refused("mismatch");
    assert!(line.contains("calibration"), "{line}");
}

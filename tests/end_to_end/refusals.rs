//! Bad requests: one clear error line, exit code 1; wrong usage: exit code 2. Never a panic.

use crate::support::{repository, Folder};

#[test]
fn wrong_usage_exits_with_two() {
    let folder = Folder::new();
    for arguments in [
        vec![],
        vec!["frobnicate"],
        vec!["infer", "x.onnx"],
        vec!["infer", "x.onnx", "--input", "y", "--profile", "huge"],
    ] {
        assert_eq!(folder.heron(&arguments).code, Some(2), "{arguments:?}");
    }
    assert_eq!(folder.heron(&["--help"]).code, Some(0));
}

#[test]
fn a_gpu_that_is_not_there_is_one_error_line_before_anything_is_read() {
    let folder = Folder::new();
    for arguments in [
        vec!["run", "x", "--server-keys", "x", "--input", "x", "-o", "x"],
        vec!["infer", "x.onnx", "--input", "x.npz"],
        vec!["bisect", "x.heron", "--input", "x.npz"],
        vec!["bench", "ops"],
        vec!["bench", "bootstrap"],
        vec!["bench", "model", "x.heron"],
    ] {
        let arguments = [arguments, vec!["--backend", "cuda"]].concat();
        // Where there is a GPU, the driver hides it.
        let found = folder.heron_in(&arguments, &[("CUDA_VISIBLE_DEVICES", "")]);
        assert_eq!(found.stderr.lines().count(), 1, "{}", found.stderr);
        let line = found.refused("resource");
        assert!(line.contains("no GPU was found: "), "{line}");
    }
}

#[test]
fn missing_and_damaged_files_are_one_error_line() {
    let folder = Folder::with_sample(1);
    folder.heron(&["report", "none.heron"]).refused("io");
    folder
        .heron(&["report", "sample.client"])
        .refused("malformed");
    let bytes = std::fs::read(folder.path("sample.heron")).expect("reads");
    for length in [0, 7, 100, 300, bytes.len() - 1] {
        std::fs::write(folder.path("cut.heron"), &bytes[..length]).expect("writes");
        folder.heron(&["report", "cut.heron"]).refused("malformed");
    }
    let mut damaged = bytes.clone();
    damaged[300] ^= 1;
    std::fs::write(folder.path("damaged.heron"), damaged).expect("writes");
    folder
        .heron(&["report", "damaged.heron"])
        .refused("malformed");
    let run = [
        "run",
        "sample.heron",
        "--server-keys",
        "in.npz",
        "--input",
        "in.npz",
        "-o",
        "out.ct",
    ];
    folder.heron(&run).refused("malformed");
    assert!(!folder.path("out.ct").exists());
}

#[test]
fn inputs_of_a_wrong_shape_or_with_strange_values_are_refused() {
    let folder = Folder::with_sample(1);
    let infer = [
        "infer",
        "sample.heron",
        "--input",
        "in.npz",
        "--backend",
        "clear",
    ];
    folder.write("in.npz", &[0.5; 14], &[2, 7]);
    let line = folder.heron(&infer).refused("shape");
    assert!(line.contains("`x`") && line.contains("[n, 8]"), "{line}");
    folder.write("in.npz", &[f64::NAN; 8], &[1, 8]);
    folder.heron(&infer).refused("non-finite");
    folder.write("in.npz", &[], &[0, 8]);
    folder.heron(&infer).refused("shape");
}

#[test]
fn truncated_and_unsupported_models_are_refused() {
    let folder = Folder::new();
    let bytes = std::fs::read(repository("models/digits-vit/digits-vit.onnx")).expect("the model");
    for length in [0, 10, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(folder.path("cut.onnx"), &bytes[..length]).expect("writes");
        let found = folder.heron(&["check", "cut.onnx"]);
        assert_eq!(found.code, Some(1), "{length}: {}", found.stderr);
        assert!(found.stderr.starts_with("error["), "{}", found.stderr);
        assert!(!found.stderr.contains("panicked"));
    }
}

#[test]
fn the_report_of_the_sample_shows_what_one_counts_by_hand() {
    let folder = Folder::with_sample(1);
    let report = folder
        .heron(&["report", "sample.heron", "--format", "json"])
        .ok()
        .json();
    assert_eq!(report["multiplicative_depth"], 3);
    assert_eq!(report["bootstraps"], 1);
    assert_eq!(report["operations"]["rotate"], 3);
    assert_eq!(report["operations"]["ct_ct_multiply"], 2);
    assert_eq!(report["parameters"]["profile"], "toy");
    assert_eq!(report["keys"]["rotation"], 2);
    let text = folder.heron(&["report", "sample.heron"]).ok().stdout;
    assert!(text.contains("bootstraps   1, 1 full\n"), "{text}");
}

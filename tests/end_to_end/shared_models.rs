//! Every model of a manifest: the good ones compile and give what the plaintext model gives, the bad ones are refused by kind.
//!
//! The folder is `../shared/models` beside the repository, or what `HERON_MODELS` names; without it the tests say that they skip.
//! Large models are written by `make_large.py NAME FOLDER`; `HERON_LARGE_MODELS=FOLDER cargo test --release -p heron --test end_to_end
//! -- --ignored large` runs them.

use crate::support::{repository, Folder};
use heron_compiler::npz::{self, Array, Arrays};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// INTERFACE.md: largest difference over the standard deviation of the reference.
const TOLERANCE: f64 = 1e-2;
/// Inputs of a test set that are run.
const INPUTS: usize = 8;

/// The folder that the variable names, else `beside`; `None`, said aloud, where there is none.
fn folder(variable: &str, beside: Option<&str>) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    let found = found.or_else(|| beside.map(repository))?;
    if found.is_dir() {
        return Some(found);
    }
    println!("skipped: {} is not a folder", found.display());
    None
}

fn manifest(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("manifest.json")).expect("a manifest");
    let all: Value = serde_json::from_str(&text).expect("JSON");
    all["models"].as_array().cloned().unwrap_or_default()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Largest difference of two arrays over the standard deviation of the second.
fn relative(found: impl Iterator<Item = f64>, expected: &[f64]) -> f64 {
    let n = expected.len() as f64;
    let mean = expected.iter().sum::<f64>() / n;
    let square = expected.iter().map(|x| x * x).sum::<f64>() / n;
    let worst = found
        .zip(expected)
        .map(|(f, e)| (f - e).abs())
        .fold(0.0, f64::max);
    worst / (square - mean * mean).sqrt()
}

/// Runs a model in the clear on the inputs of `test` and compares with the results stored there, else with the plaintext model;
/// returns what `infer` says.
fn check(model: &Path, test: &Path, calibration: &str, limit: usize) -> Value {
    let work = Folder::new();
    let stored = npz::read(test).expect("reads the test set");
    let results: Vec<String> = stored.0.keys().cloned().collect();
    let limit = limit.to_string();
    let mut call = vec!["infer", text(model), "--input", text(test)];
    call.extend(["--backend", "clear", "--format", "json", "--limit", &limit]);
    call.extend(["--output", "out.npz", "--profile", "secure", "--quiet"]);
    if !calibration.is_empty() {
        call.extend(["--calibration", calibration]);
    }
    let has_results = results.iter().any(|r| r == "output" || r == "logits");
    if has_results {
        call.extend(["--expect", text(test)]);
    }
    let said = work.heron(&call).ok().json();
    let error = said["error"]["relative"].as_f64().expect("an error");
    let name = model.file_name().unwrap_or_default().to_string_lossy();
    println!(
        "{name}: relative error {error:.2e} (bound {TOLERANCE}), {} bootstraps, compiled in {:.1} s, peak {:.2} GB",
        said["bootstraps"],
        said["seconds"]["compile"].as_f64().unwrap_or(f64::NAN),
        said["peak_bytes"].as_f64().unwrap_or(f64::NAN) / 1e9,
    );
    assert!(error < TOLERANCE && error > 0.0, "{name}: {error}");
    // The comparison can fail: a constant is far outside the tolerance, whichever constant it is.
    for (output, array) in npz::read(&work.path("out.npz")).expect("results").0 {
        let values = match stored.0.get(&output) {
            Some(expected) => &expected.data[..array.data.len()],
            None => &array.data[..],
        };
        let (low, high) = values
            .iter()
            .fold((f64::MAX, f64::MIN), |(l, h), x| (l.min(*x), h.max(*x)));
        let constant = relative(values.iter().map(|_| (low + high) / 2.0), values);
        println!("  a constant `{output}` would be {constant:.2} off");
        assert!(constant > TOLERANCE);
    }
    said
}

fn path_of(folder: &Path, model: &Value, key: &str) -> Option<PathBuf> {
    let path = folder.join(model[key].as_str()?);
    path.exists().then_some(path)
}

/// The calibration argument: none where a set lies beside the model.
fn calibration(model: &Path) -> &'static str {
    match model.with_extension("calibration.npz").exists() {
        true => "",
        false => "synthetic:1",
    }
}

#[test]
fn good_models_compile_and_match_their_reference_in_the_clear() {
    let Some(folder) = folder("HERON_MODELS", Some("../shared/models")) else {
        return;
    };
    let mut tried = 0;
    for model in manifest(&folder) {
        let file = model["file"].as_str().unwrap_or_default();
        if model["expect"] != "compile" {
            continue;
        }
        match (
            path_of(&folder, &model, "file"),
            path_of(&folder, &model, "test"),
        ) {
            (Some(path), Some(test)) => {
                check(&path, &test, calibration(&path), INPUTS);
                tried += 1;
            }
            _ => println!("{file}: not here, see make_large.py"),
        }
    }
    assert!(tried > 0, "the manifest names no model that is here");
}

#[test]
fn toy_models_match_their_reference_in_the_clear() {
    for name in ["toy-head", "toy-block", "toy-relu-cls"] {
        let model = repository(&format!("models/toy/{name}.onnx"));
        check(&model, &model.with_extension("test.npz"), "", INPUTS);
    }
}

#[test]
fn bad_models_are_refused_by_kind_and_name_within_memory() {
    let Some(folder) = folder("HERON_MODELS", Some("../shared/models")) else {
        return;
    };
    let folder = folder.join("bad");
    let mut tried = 0;
    for model in manifest(&folder) {
        let path = folder.join(model["file"].as_str().expect("a file name"));
        if model["expect"] != "refuse" {
            continue;
        }
        let work = Folder::new();
        let mut call = vec![
            "compile",
            text(&path),
            "-o",
            "x.heron",
            "--profile",
            "secure",
        ];
        if !calibration(&path).is_empty() {
            call.extend(["--calibration", "synthetic:1"]);
        }
        let kind = model["kind"].as_str().expect("a kind");
        let line = work.heron(&call).refused(kind);
        let mentions = model["mention"].as_array().cloned().unwrap_or_default();
        let named = mentions.iter().filter_map(Value::as_str);
        // A file of zero bytes has nothing that could be named.
        assert!(
            mentions.is_empty() || named.clone().any(|m| line.contains(m)),
            "{}: `{line}` names none of {:?}",
            path.display(),
            named.collect::<Vec<_>>()
        );
        assert!(work.files().is_empty(), "{:?}", work.files());
        tried += 1;
    }
    assert!(tried > 0, "the manifest names no bad model");
}

/// Writes 8 inputs of [1, 128, 768] for a model without a test set, as `make_large.py` gives none for bert-base.
fn generated_inputs(work: &Folder, name: &str) -> PathBuf {
    let (count, size) = (INPUTS, 128 * 768);
    // Sums of uniform numbers by a linear congruential generator: mean 0, deviation 1.
    let mut state = 1u64;
    let mut uniform = move || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as f64 / (1u64 << 31) as f64
    };
    let data = (0..count * size)
        .map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0)
        .collect();
    let array = Array {
        shape: vec![count, 128, 768],
        data,
        integer: false,
    };
    let path = work.path("in.npz");
    npz::write(&path, &Arrays([(name.to_string(), array)].into())).expect("writes");
    path
}

#[test]
#[ignore = "minutes; needs the models of make_large.py in HERON_LARGE_MODELS"]
fn large_models_match_their_reference_within_a_minute_and_8_gb() {
    let Some(folder) = folder("HERON_LARGE_MODELS", None) else {
        panic!("set HERON_LARGE_MODELS to the folder that make_large.py wrote bert-block and bert-base to");
    };
    for (name, test) in [("bert-block", true), ("bert-base", false)] {
        let model = folder.join(format!("{name}.onnx"));
        let work = Folder::new();
        let beside = repository(&format!("../shared/models/{name}.test.npz"));
        let inputs = match test && beside.exists() {
            true => beside,
            false => generated_inputs(&work, "hidden_states"),
        };
        let calibration = repository(&format!("../shared/models/{name}.calibration.npz"));
        let calibration = match calibration.exists() {
            true => calibration,
            false => generated_inputs(&work, "hidden_states"),
        };
        let said = check(&model, &inputs, text(&calibration), 1);
        let seconds = said["seconds"]["compile"].as_f64().expect("seconds");
        let peak = said["peak_bytes"].as_u64().expect("bytes");
        assert!(seconds < 60.0, "{name}: compiled in {seconds} s");
        assert!(peak < 8_000_000_000, "{name}: {peak} bytes");
    }
}

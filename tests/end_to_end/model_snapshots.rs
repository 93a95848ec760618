//! What the compiler makes of each small model, layer by layer: a change of a pass shows here which models it reaches.

use crate::support::{repository, Folder};
use serde_json::Value;
use std::fmt::Write;
use std::path::PathBuf;

/// The summary of a report: nothing in it depends on the last bits of a machine's arithmetic.
fn summary(report: &Value) -> String {
    let mut out = String::new();
    let p = &report["parameters"];
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "profile {} log2_n {} inputs_per_run {} security {}",
        p["profile"].as_str().unwrap_or("?"),
        p["log2_n"],
        p["inputs_per_run"],
        p["security_bits"].as_f64().map_or(0, |b| b as u32),
    );
    let kinds = &report["bootstraps_by_kind"];
    let _ = writeln!(
        out,
        "depth {} bootstraps {} (full {}, complex pair {}, sparse {}) rotation keys {}",
        report["multiplicative_depth"],
        report["bootstraps"],
        kinds["full"],
        kinds["complex_pair"],
        kinds["sparse"],
        report["keys"]["rotation"],
    );
    let operations = report["operations"].as_object().into_iter().flatten();
    let operations: Vec<String> = operations.map(|(k, n)| format!("{k} {n}")).collect();
    let _ = writeln!(out, "{}", operations.join(", "));
    let _ = writeln!(out);
    for layer in report["layers"].as_array().into_iter().flatten() {
        let level = |key: &str| match layer[key].as_i64() {
            Some(l) => l.to_string(),
            None => "-".into(),
        };
        let mut line = format!(
            "{:36} {:17} depth {:2}  level {:>2} -> {:>2}  bootstraps {:2}  ciphertexts {:4}",
            layer["name"].as_str().unwrap_or("?"),
            layer["kind"].as_str().unwrap_or("?"),
            layer["depth"].as_i64().unwrap_or(-1),
            level("level_in"),
            level("level_out"),
            layer["bootstraps"].as_i64().unwrap_or(-1),
            layer["ciphertexts"].as_i64().unwrap_or(-1),
        );
        let a = &layer["approximation"];
        if a.is_object() {
            let end = |i: usize| a["interval"][i].as_f64().unwrap_or(f64::NAN);
            let _ = write!(
                line,
                "  {} on [{:.2}, {:.2}] {} {} error {:.0e}",
                a["function"].as_str().unwrap_or("?"),
                end(0),
                end(1),
                a["method"].as_str().unwrap_or("?"),
                a["degree_or_iterations"],
                a["max_error"].as_f64().unwrap_or(f64::NAN),
            );
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

fn pin(name: &str, model: PathBuf) {
    let work = Folder::new();
    let path = model.to_str().expect("a path in UTF-8");
    let mut call = vec![
        "compile",
        path,
        "-o",
        "x.heron",
        "--profile",
        "secure",
        "--quiet",
    ];
    if !model.with_extension("calibration.npz").exists() {
        call.extend(["--calibration", "synthetic:1"]);
    }
    work.heron(&call).ok();
    let report = work
        .heron(&["report", "x.heron", "--format", "json"])
        .ok()
        .json();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(repository("snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(format!("model__{name}"), summary(&report)));
}

#[test]
fn toy_models_compile_to_what_is_pinned() {
    for name in ["toy-head", "toy-block", "toy-relu-cls"] {
        pin(name, repository(&format!("models/toy/{name}.onnx")));
    }
}

#[test]
fn trained_models_compile_to_what_is_pinned() {
    for name in ["digits-vit-tiny", "recall-gpt-tiny", "digits-vit"] {
        pin(name, repository(&format!("models/{name}/{name}.onnx")));
    }
}

#[test]
fn exported_bert_compiles_to_what_is_pinned() {
    for name in ["hf-bert-tiny-torchscript", "hf-bert-tiny-dynamo"] {
        let model = repository(&format!("../shared/models/{name}.onnx"));
        match model.exists() {
            true => pin(name, model),
            false => println!("skipped: {} is not here", model.display()),
        }
    }
}

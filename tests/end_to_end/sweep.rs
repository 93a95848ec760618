//! `compile --sweep`: cost against the size of a symbolic axis.

use crate::support::{repository, Folder};

fn file(path: &str) -> String {
    let path = repository(path);
    path.to_str().expect("a path in UTF-8").to_string()
}

fn sweep(folder: &Folder, model: &str, axis: &str, more: &[&str]) -> crate::support::Called {
    let model = file(model);
    let mut call = vec!["compile", &model, "--sweep", axis, "--profile", "toy"];
    call.extend(more);
    folder.heron(&call)
}

const DECODER: &str = "models/toy/toy-decoder.onnx";

#[test]
fn a_row_per_size_is_what_compiling_at_that_size_gives() {
    let folder = Folder::new();
    let last = ["--positions", "last"];
    let json = sweep(
        &folder,
        DECODER,
        "tokens=4,8,16",
        &[&last[..], &["--format", "json"]].concat(),
    );
    let json = json.ok().json();
    assert!(folder.files().is_empty(), "{:?}", folder.files());
    assert_eq!(json["axis"], "tokens");
    let rows = json["rows"].as_array().expect("rows");
    let sizes: Vec<_> = rows.iter().map(|r| r["size"].as_u64()).collect();
    assert_eq!(sizes, [Some(4), Some(8), Some(16)]);
    let seconds: Vec<f64> = rows.iter().filter_map(|r| r["seconds"].as_f64()).collect();
    // Fewer inputs of more tokens fit side by side, so that an input costs more.
    let batches = rows.iter().filter_map(|r| r["inputs_per_run"].as_f64());
    let each: Vec<f64> = seconds.iter().zip(batches).map(|(s, b)| s / b).collect();
    assert!(each.len() == 3 && each.is_sorted(), "{each:?}");
    assert!(each[0] < each[2], "{each:?}");
    // Eight tokens are what the calibration file has.
    let model = file(DECODER);
    let call = [
        "compile",
        &model,
        "-o",
        "x.heron",
        "--profile",
        "toy",
        "--positions",
        "last",
    ];
    folder.heron(&call).ok();
    let report = folder
        .heron(&["report", "x.heron", "--format", "json"])
        .ok()
        .json();
    let row = &rows[1];
    assert_eq!(row["seconds"], report["estimate"]["seconds"]);
    assert_eq!(row["peak_bytes"], report["estimate"]["peak_bytes"]);
    assert_eq!(row["keys"], report["keys"]);
    assert_eq!(row["bootstraps"], report["bootstraps"]);
    assert_eq!(row["key_switches"], report["key_switches"]);
    let text = sweep(&folder, DECODER, "tokens=4,8", &last).ok().stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].trim_start().starts_with("tokens"), "{text}");
    assert_eq!(lines.len(), 5, "{text}");
    assert!(lines.iter().all(|l| l.chars().count() <= 80), "{text}");
}

#[test]
fn fixed_unknown_and_batch_axes_and_impossible_sizes_are_refused() {
    let folder = Folder::new();
    let fixed = sweep(&folder, "models/toy/toy-head.onnx", "tokens=4", &[]).refused("shape");
    assert!(
        fixed.contains("`x` [4, 4]") && fixed.contains("export"),
        "{fixed}"
    );
    let unknown = sweep(&folder, DECODER, "length=4", &[]).refused("shape");
    assert!(
        unknown.contains("[1, tokens]") && unknown.contains("length"),
        "{unknown}"
    );
    let batch = sweep(&folder, "models/toy/toy-block.onnx", "batch=4", &[]).refused("shape");
    assert!(batch.contains("--batch"), "{batch}");
    // The model has tables for 64 positions.
    let long = sweep(&folder, DECODER, "tokens=65", &[]);
    assert_eq!(long.code, Some(1), "{}", long.stderr);
    assert!(long.stderr.contains("--sweep tokens=65"), "{}", long.stderr);
    for wrong in ["tokens", "tokens=0", "tokens=4,x"] {
        assert_eq!(sweep(&folder, DECODER, wrong, &[]).code, Some(2), "{wrong}");
    }
    let model = file(DECODER);
    assert_eq!(folder.heron(&["compile", &model]).code, Some(2));
    assert!(folder.files().is_empty(), "{:?}", folder.files());
}

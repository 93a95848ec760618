//! Exports of transformer libraries: what is imported equals onnxruntime. See `models/families/README.md`.

use std::path::{Path, PathBuf};

use heron_compiler::calibration::user_inputs;
use heron_compiler::npz;
use heron_compiler::onnx::{check, import_with_arrays, Imported, Shapes};
use heron_compiler::reference::Reference;

/// Largest difference over the standard deviation of the output: onnxruntime computes in f32.
const BOUND: f64 = 1e-4;

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "onnx"))
        .collect();
    all.sort();
    all
}

/// Largest difference over the standard deviation of `want`.
fn distance(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let n = want.len() as f64;
    let mean = want.iter().sum::<f64>() / n;
    let deviation = (want.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n).sqrt();
    let worst = got.iter().zip(want).map(|(g, w)| (g - w).abs());
    worst.fold(0.0, f64::max) / deviation
}

/// Imports a file, compares its tensor graph and tract with the stored outputs, and says what `check` says.
fn agrees(path: &Path) -> Imported {
    let tests = npz::read(&path.with_extension("test.npz")).unwrap();
    let name = path.display();
    let report = check(path, &Shapes::default(), Some(&tests)).unwrap();
    assert!(report.compiles, "{name}: {:?}", report.obstacles);
    let imported = import_with_arrays(path, &Shapes::default(), Some(&tests)).unwrap();
    assert_eq!(report.blocks, imported.blocks);
    imported.graph.verify().unwrap();
    let mut inputs = user_inputs(&imported.inputs, &tests).unwrap();
    let reference = Reference::load(path, &imported.all_inputs, &imported.outputs).unwrap();
    let want = &tests.0["logits"].data;
    let (mut got, mut tract) = (Vec::new(), Vec::new());
    for (i, input) in inputs.iter_mut().enumerate() {
        tract.extend(reference.run(i, input).unwrap().concat());
        imported.client.extend(input).unwrap();
        got.extend(imported.graph.outputs_for(input).unwrap().concat());
    }
    let (ours, theirs) = (distance(&got, want), distance(&tract, want));
    println!("{name}: heron {ours:.1e}, tract {theirs:.1e}, bound {BOUND:.0e}");
    assert!(ours <= BOUND && theirs <= BOUND, "{name}");
    imported
}

/// Two layers of attention and the blocks of the family.
fn has_the_blocks_of_its_family(path: &Path, imported: &Imported) {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let (family, _) = name.split_once('.').unwrap();
    let softmax = if name.contains(".power.") {
        "power_softmax"
    } else {
        "softmax"
    };
    let wanted: &[(&str, usize)] = match family {
        "bert" | "roberta" => &[
            ("layer_norm", 5),
            ("gelu", 2),
            ("tanh", 1),
            ("embedding", 1),
        ],
        "gpt_neox" => &[
            ("layer_norm", 3),
            ("gelu", 2),
            ("rotary", 4),
            ("embedding", 1),
        ],
        "gpt2" => &[("layer_norm", 5), ("gelu", 2), ("embedding", 1)],
        "llama" => &[
            ("rms_norm", 5),
            ("silu", 2),
            ("rotary", 4),
            ("embedding", 1),
        ],
        "vit" => &[("layer_norm", 5), ("gelu", 2)],
        other => panic!("unknown family {other}"),
    };
    for (block, least) in [(softmax, 2)].iter().chain(wanted) {
        let found = imported.blocks.get(*block).copied().unwrap_or(0);
        // Two normalisations of one value with equal weights are one (GPT-NeoX's parallel residual).
        assert!(
            found >= *least,
            "{name}: {block} {found}, {:?}",
            imported.blocks
        );
    }
}

#[test]
fn exports_kept_here_equal_onnxruntime() {
    let all = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/families"));
    assert!(all.len() >= 8);
    for path in all {
        has_the_blocks_of_its_family(&path, &agrees(&path));
    }
}

/// Measured 2026-11 on the 48 files of `export.py`: see the table printed.
#[test]
#[ignore = "needs HERON_FAMILIES, a folder made by models/families/export.py"]
fn all_exports_and_their_twins_equal_onnxruntime() {
    let folder = std::env::var("HERON_FAMILIES").expect("HERON_FAMILIES names a folder");
    let all = files(Path::new(&folder));
    assert_eq!(all.len(), 48);
    for path in all {
        has_the_blocks_of_its_family(&path, &agrees(&path));
    }
}

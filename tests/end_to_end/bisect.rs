//! `bisect`: what is wrong is found where it is, what is right is called right.

use crate::support::{repository, Folder};
use heron_compiler::npz;
use heron_schedule::body::giants;
use heron_schedule::proto::instruction::Op;
use heron_schedule::{proto::Program, Schedule};
use serde_json::Value;

const INPUTS: &str = "models/toy/toy-block.test.npz";

fn compiled() -> Folder {
    let folder = Folder::new();
    let model = repository("models/toy/toy-block.onnx");
    let model = model.to_str().expect("UTF-8");
    let call = ["compile", model, "-o", "toy.heron", "--profile", "toy"];
    folder.heron(&call).ok();
    std::fs::copy(repository(INPUTS), folder.path("in.npz")).expect("copies");
    folder
}

fn bisect(folder: &Folder, file: &str, more: &[&str]) -> Value {
    let mut call = vec!["bisect", file, "--input", "in.npz", "--format", "json"];
    call.extend(more);
    folder.heron(&call).ok().json()
}

/// Writes the schedule with another program or other weights, its record kept.
fn alter(folder: &Folder, change: impl FnOnce(&mut Program, &mut Vec<u8>)) {
    let schedule = Schedule::open(&folder.path("toy.heron")).expect("opens");
    let mut program = schedule.program().clone();
    let mut weights = schedule.weights().bytes().to_vec();
    change(&mut program, &mut weights);
    let altered = Schedule::new(program, weights.into()).expect("verifies");
    let altered = altered.with_record(schedule.record().to_vec());
    altered.save(&folder.path("bad.heron")).expect("saves");
}

fn layer_of(program: &Program, name: &str) -> u32 {
    let found = program.layers.iter().position(|l| l.name == name);
    found.expect("the layer is there") as u32
}

#[test]
fn a_good_schedule_has_every_node_within_tolerance_in_the_clear_and_encrypted() {
    let folder = compiled();
    for backend in ["clear", "cpu"] {
        let found = bisect(
            &folder,
            "toy.heron",
            &["--backend", backend, "--limit", "2"],
        );
        let nodes = found["nodes"].as_array().expect("nodes");
        for n in nodes {
            let share = n["of_tolerance"].as_f64().expect("a number");
            println!("{backend} {} {share:.4} of the tolerance", n["node"]);
            assert!(share > 0.0 && share <= 1.0, "{n}");
        }
        // Linear maps, scores, sums, denominators, norms, activations, the output: most of the model's values.
        assert!(nodes.len() >= 20, "{}", nodes.len());
        assert!(nodes.iter().any(|n| n["after_bootstrap"] == true));
        assert!(nodes.iter().any(|n| n["node"] == "output"));
        assert!(found["first_bad"].is_null() && found["within_tolerance"] == true);
    }
    let call = ["bisect", "toy.heron", "--input", "in.npz", "--limit", "2"];
    let text = folder.heron(&call).ok().stdout;
    assert!(text.contains("nodes within tolerance\n"), "{text}");
}

#[test]
fn an_altered_weight_is_found_in_its_layer() {
    let folder = compiled();
    for name in ["v.mm", "fc1.mm", "dense.mm"] {
        alter(&folder, |program, weights| {
            let layer = layer_of(program, name);
            let linear = program.instructions.iter().find_map(|i| match &i.op {
                Some(Op::Linear(op)) if i.layer == layer => Some(op),
                _ => None,
            });
            let out = &linear.expect("a linear step").out[0];
            let term = &giants(&program.bodies, out)[0].term[0];
            let entry = &program.plaintexts[term.plaintext as usize];
            let at = entry.offset as usize;
            for k in 0..entry.length as usize {
                let range = at + 8 * k..at + 8 * k + 8;
                let old = f64::from_le_bytes(weights[range.clone()].try_into().expect("8 bytes"));
                weights[range].copy_from_slice(&(old + 0.05).to_le_bytes());
            }
        });
        let found = bisect(&folder, "bad.heron", &["--limit", "4"]);
        println!("{name}: {}", found["first_bad"]);
        assert_eq!(found["first_bad"]["layer"], name);
        assert_eq!(found["within_tolerance"], false);
    }
}

#[test]
fn an_altered_instruction_is_found_in_its_layer() {
    let folder = compiled();
    alter(&folder, |program, _| {
        let layer = layer_of(program, "gelu.twice");
        let products = program.instructions.iter_mut().filter(|i| i.layer == layer);
        let product = products
            .filter_map(|i| match &mut i.op {
                Some(Op::MulSum(op)) => Some(op),
                _ => None,
            })
            .last();
        product.expect("a product").constant += 0.1;
    });
    let found = bisect(&folder, "bad.heron", &["--limit", "4"]);
    assert_eq!(found["first_bad"]["layer"], "gelu.twice");
    assert_eq!(found["first_bad"]["kind"], "activation");
    let call = ["bisect", "bad.heron", "--input", "in.npz", "--limit", "4"];
    let text = folder.heron(&call).ok().stdout;
    let lines: Vec<&str> = text
        .lines()
        .filter(|l| l.starts_with("first node beyond the tolerance: "))
        .collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(lines[0].contains("gelu.twice"), "{}", lines[0]);
}

#[test]
fn inputs_ten_times_as_large_leave_their_ranges() {
    let folder = compiled();
    let plain = bisect(&folder, "toy.heron", &["--limit", "4"]);
    let mut arrays = npz::read(&folder.path("in.npz")).expect("reads");
    for array in arrays.0.values_mut() {
        array.data.iter_mut().for_each(|x| *x *= 10.0);
    }
    npz::write(&folder.path("in.npz"), &arrays).expect("writes");
    let scaled = bisect(&folder, "toy.heron", &["--limit", "4"]);
    let left = scaled["ranges_left"].as_array().expect("a list");
    assert!(left.len() > plain["ranges_left"].as_array().expect("a list").len());
    let of = |name: &str, what: &str| {
        let found = left.iter().find(|l| l["node"] == name && l["what"] == what);
        found.unwrap_or_else(|| panic!("{name} ({what}) is not listed"))
    };
    let x = of("x", "value");
    let calibrated = x["calibrated"][1].as_f64().expect("a number");
    assert!(x["found"][1].as_f64() > Some(3.0 * calibrated), "{x}");
    assert_eq!(of("ln1.normal", "denominator")["inside_fitted"], false);
    assert!(!scaled["first_bad"].is_null());
}

#[test]
fn a_schedule_without_its_model_is_refused() {
    let folder = Folder::with_sample(1);
    let call = ["bisect", "sample.heron", "--input", "in.npz"];
    let line = folder.heron(&call).refused("malformed");
    assert!(line.contains("no plaintext model"), "{line}");
}

#[test]
fn centred_embeddings_and_rotary_maps_are_followed_through_a_causal_model() {
    let folder = Folder::new();
    let model = repository("models/recall-gpt-tiny/recall-gpt-tiny.onnx");
    let model = model.to_str().expect("UTF-8");
    let call = ["compile", model, "-o", "toy.heron", "--profile", "toy"];
    folder.heron(&call).ok();
    let inputs = repository("models/recall-gpt-tiny/recall-gpt-tiny.test.npz");
    std::fs::copy(inputs, folder.path("in.npz")).expect("copies");
    let found = bisect(&folder, "toy.heron", &["--limit", "2"]);
    let nodes = found["nodes"].as_array().expect("nodes");
    println!("{} nodes, first bad {}", nodes.len(), found["first_bad"]);
    assert!(nodes.len() >= 40, "{}", nodes.len());
    assert!(found["first_bad"].is_null(), "{}", found["first_bad"]);
    // Ranges and errors come from the table that the client uses: fold-centring changes it.
    let report = folder.heron(&["report", "toy.heron", "--format", "json"]);
    let error = report.ok().json()["estimate"]["output_error"].clone();
    assert!(error.as_f64() < Some(0.02), "{error}");
}

#[test]
fn a_damaged_record_is_refused_and_never_a_panic() {
    let folder = compiled();
    let schedule = Schedule::open(&folder.path("toy.heron")).expect("opens");
    let record = schedule.record().to_vec();
    let mut cases: Vec<Vec<u8>> = vec![vec![7], vec![255; 40]];
    for keep in [9, 100, record.len() / 2, record.len() - 1] {
        cases.push(record[..keep].to_vec());
    }
    for (number, case) in cases.into_iter().enumerate() {
        let damaged = schedule.clone().with_record(case);
        damaged.save(&folder.path("bad.heron")).expect("saves");
        let call = ["bisect", "bad.heron", "--input", "in.npz"];
        let line = folder.heron(&call).refused("malformed");
        assert!(line.contains("damaged"), "{number}: {line}");
    }
}

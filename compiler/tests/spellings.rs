//! Blocks are recognised whatever they were spelled with, and the result equals the reference.

mod build;

use build::{attribute, floats, model, node, numbers, Spelled};
use heron_compiler::onnx::{import, ErrorKind, Shapes};
use heron_compiler::reference::Reference;
use heron_passes::ir::tensor::TensorOp;

/// Rounding of the f32 reference, relative to the largest output.
const BOUND: f64 = 1e-5;

/// Imports, compares with tract on eight inputs, and returns the blocks.
fn agrees(name: &str, spelled: Spelled) -> heron_compiler::onnx::Imported {
    let (_dir, path) = model(spelled);
    let imported = import(&path, &Shapes::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
    imported.graph.verify().unwrap();
    let reference = Reference::load(&path, &imported.all_inputs, &imported.outputs).unwrap();
    let (mut worst, mut largest) = (0f64, 0f64);
    for input in heron_compiler::calibration::synthetic(&imported.inputs, &Default::default(), 7, 8)
    {
        let want = reference.run(0, &input).unwrap();
        let got = imported.graph.outputs_for(&input).unwrap();
        for (x, y) in got.iter().flatten().zip(want.iter().flatten()) {
            worst = worst.max((x - y).abs());
            largest = largest.max(y.abs());
        }
    }
    println!(
        "{name}: measured {:.1e}, bound {BOUND:.0e}",
        worst / largest
    );
    assert!(largest > 0.0 && worst <= BOUND * largest, "{name}");
    imported
}

/// x [1,6,8] → scores `s` [1,6,6] → `p` by the given nodes → p · v.
fn attention(
    nodes: Vec<tract_onnx::pb::NodeProto>,
    weights: Vec<tract_onnx::pb::TensorProto>,
) -> Spelled {
    let mut all = vec![
        node("MatMul", &["x", "wq"], "q"),
        node("MatMul", &["x", "wk"], "k"),
        node("MatMul", &["x", "wv"], "v"),
        attribute(node("Transpose", &["k"], "kt"), "perm", &[0, 2, 1]),
        node("MatMul", &["q", "kt"], "qk"),
        node("Mul", &["qk", "scale"], "s"),
    ];
    all.extend(nodes);
    all.push(node("MatMul", &["p", "v"], "y"));
    let mut w = vec![
        floats("wq", &[8, 8], &numbers(64, 1)),
        floats("wk", &[8, 8], &numbers(64, 2)),
        floats("wv", &[8, 8], &numbers(64, 3)),
        floats("scale", &[], &[0.35]),
        floats("eps", &[], &[1e-3]),
        floats("four", &[], &[4.0]),
    ];
    w.extend(weights);
    Spelled {
        nodes: all,
        weights: w,
        input: vec![1, 6, 8],
    }
}

fn sum(from: &str, to: &str) -> tract_onnx::pb::NodeProto {
    attribute(node("ReduceSum", &[from, "last"], to), "keepdims", &[1])
}

#[test]
fn power_softmax_is_found_in_many_spellings() {
    let last = || build::ints("last", &[1], &[-1]);
    let cases: Vec<(&str, Vec<tract_onnx::pb::NodeProto>)> = vec![
        (
            "products and reciprocal",
            vec![
                node("Mul", &["s", "s"], "s2"),
                node("Mul", &["s2", "s"], "s3"),
                node("Mul", &["s3", "s"], "s4"),
                sum("s4", "den"),
                node("Add", &["eps", "den"], "dene"),
                node("Reciprocal", &["dene"], "r"),
                node("Mul", &["r", "s4"], "p"),
            ],
        ),
        (
            "absolute value and L1 norm",
            vec![
                node("Abs", &["s"], "a"),
                node("Pow", &["a", "four"], "s4"),
                attribute(
                    attribute(node("ReduceL1", &["s4"], "den"), "axes", &[-1]),
                    "keepdims",
                    &[1],
                ),
                node("Add", &["den", "eps"], "dene"),
                node("Div", &["s4", "dene"], "p"),
            ],
        ),
        (
            "mean of scores removed",
            vec![
                attribute(
                    attribute(node("ReduceMean", &["s"], "m"), "axes", &[-1]),
                    "keepdims",
                    &[1],
                ),
                node("Sub", &["s", "m"], "c"),
                node("Pow", &["c", "four"], "s4"),
                sum("s4", "den"),
                node("Add", &["den", "eps"], "dene"),
                node("Div", &["s4", "dene"], "p"),
            ],
        ),
        (
            "mask before the power",
            vec![
                node("Mul", &["s", "mask"], "sm"),
                node("Pow", &["sm", "four"], "s4"),
                sum("s4", "den"),
                node("Add", &["den", "eps"], "dene"),
                node("Div", &["s4", "dene"], "p"),
            ],
        ),
        (
            "mask after the power",
            vec![
                node("Pow", &["s", "four"], "s4"),
                node("Mul", &["mask", "s4"], "sm"),
                sum("sm", "den"),
                node("Add", &["den", "eps"], "dene"),
                node("Div", &["sm", "dene"], "p"),
            ],
        ),
    ];
    for (name, nodes) in cases {
        let mask: Vec<f32> = (0..36)
            .map(|i| f32::from(u8::from(i % 6 <= i / 6)))
            .collect();
        let m = agrees(
            name,
            attention(nodes, vec![last(), floats("mask", &[6, 6], &mask)]),
        );
        assert_eq!(m.blocks.get("power_softmax"), Some(&1), "{name}");
    }
}

#[test]
fn the_stable_form_loses_its_maximum_and_its_epsilon() {
    let nodes = vec![
        node("Abs", &["s"], "a"),
        attribute(
            attribute(node("ReduceMax", &["a"], "c"), "axes", &[-1]),
            "keepdims",
            &[1],
        ),
        node("Add", &["c", "eps"], "ce"),
        node("Div", &["s", "ce"], "n"),
        node("Pow", &["n", "four"], "s4"),
        sum("s4", "den"),
        node("Div", &["s4", "den"], "p"),
    ];
    let m = agrees(
        "stable form",
        attention(nodes, vec![build::ints("last", &[1], &[-1])]),
    );
    let epsilon = m
        .graph
        .topological()
        .into_iter()
        .find_map(|v| match m.graph.node(v).op {
            TensorOp::PowerSoftmax { epsilon, .. } => Some(epsilon),
            _ => None,
        });
    assert_eq!(epsilon, Some(0.0));
}

#[test]
fn an_odd_power_is_refused_by_name() {
    let nodes = vec![
        node("Abs", &["s"], "a"),
        node("Pow", &["a", "three"], "s3"),
        sum("s3", "den"),
        node("Div", &["s3", "den"], "p"),
    ];
    let weights = vec![
        build::ints("last", &[1], &[-1]),
        floats("three", &[], &[3.0]),
    ];
    let (_dir, path) = model(attention(nodes, weights));
    let e = import(&path, &Shapes::default()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::UnsupportedOp);
    assert!(e.to_string().contains("power 3"), "{e}");
}

#[test]
fn normalisations_in_many_nodes_are_found() {
    let mean = |from: &str, to: &str| {
        attribute(
            attribute(node("ReduceMean", &[from], to), "axes", &[-1]),
            "keepdims",
            &[1],
        )
    };
    let rms = vec![
        node("Mul", &["x", "x"], "x2"),
        mean("x2", "m"),
        node("Add", &["m", "eps"], "v"),
        node("Sqrt", &["v"], "d"),
        node("Reciprocal", &["d"], "r"),
        node("Mul", &["x", "r"], "n"),
        node("Mul", &["gamma", "n"], "y"),
    ];
    let layer = vec![
        mean("x", "mu"),
        node("Sub", &["x", "mu"], "c"),
        node("Mul", &["c", "c"], "c2"),
        mean("c2", "m"),
        node("Add", &["m", "eps"], "v"),
        node("Pow", &["v", "half"], "d"),
        node("Div", &["c", "d"], "n"),
        node("Mul", &["n", "gamma"], "g"),
        node("Add", &["g", "gamma"], "y"),
    ];
    for (name, nodes) in [("rms_norm", rms), ("layer_norm", layer)] {
        let m = agrees(
            name,
            Spelled {
                nodes,
                weights: vec![
                    floats("eps", &[], &[1e-2]),
                    floats("half", &[], &[0.5]),
                    floats("gamma", &[8], &numbers(8, 5)),
                ],
                input: vec![1, 6, 8],
            },
        );
        assert_eq!(m.blocks.get(name), Some(&1));
        assert_eq!(m.graph.len(), 2, "{}", m.graph);
    }
}

#[test]
fn activations_are_found_by_their_values() {
    let with = |nodes| Spelled {
        nodes,
        weights: vec![
            floats("k", &[], &[1.702]),
            floats("half", &[], &[0.5]),
            floats("one", &[], &[1.0]),
            floats("root", &[], &[std::f32::consts::FRAC_1_SQRT_2]),
        ],
        input: vec![1, 6, 8],
    };
    let silu = vec![node("Sigmoid", &["x"], "g"), node("Mul", &["g", "x"], "y")];
    let quick = vec![
        node("Mul", &["x", "k"], "t"),
        node("Sigmoid", &["t"], "g"),
        node("Mul", &["x", "g"], "y"),
    ];
    let gelu = vec![
        node("Mul", &["x", "root"], "t"),
        node("Erf", &["t"], "e"),
        node("Add", &["one", "e"], "g"),
        node("Mul", &["half", "x"], "h"),
        node("Mul", &["h", "g"], "y"),
    ];
    for (name, nodes) in [("silu", silu), ("quick_gelu", quick), ("gelu", gelu)] {
        let m = agrees(name, with(nodes));
        assert_eq!(m.blocks.get(name), Some(&1), "{:?}", m.blocks);
        assert_eq!(m.graph.len(), 2, "{}", m.graph);
    }
}

#[test]
fn convolution_becomes_gathered_patches_and_one_linear_map() {
    let mut conv = node("Conv", &["x", "w"], "c");
    for (name, v) in [("kernel_shape", [2, 2]), ("strides", [2, 2])] {
        conv = attribute(conv, name, &v);
    }
    let m = agrees(
        "conv",
        Spelled {
            nodes: vec![
                conv,
                node("Reshape", &["c", "flat"], "f"),
                attribute(node("Transpose", &["f"], "y"), "perm", &[0, 2, 1]),
            ],
            weights: vec![
                floats("w", &[5, 2, 2, 2], &numbers(40, 9)),
                build::ints("flat", &[3], &[1, 5, -1]),
            ],
            input: vec![1, 2, 6, 4],
        },
    );
    assert_eq!(m.graph.len(), 2, "{}", m.graph);
}

#[test]
fn attention_without_division_is_powers_of_the_scores() {
    let n = |op: &str, inputs: &[&str], output: &str| node(op, inputs, output);
    let spellings = [
        ("square", vec![n("Mul", &["s", "s"], "p")], 1),
        (
            "square over length",
            vec![n("Mul", &["s", "s"], "ss"), n("Mul", &["ss", "eps"], "p")],
            1,
        ),
        ("fourth power", vec![n("Pow", &["s", "four"], "p")], 2),
        (
            "cube",
            vec![n("Mul", &["s", "s"], "ss"), n("Mul", &["ss", "s"], "p")],
            2,
        ),
        ("linear attention", vec![n("Mul", &["s", "eps"], "p")], 0),
    ];
    for (name, nodes, products) in spellings {
        let imported = agrees(name, attention(nodes, vec![]));
        let graph = &imported.graph;
        let count = |is: &dyn Fn(&TensorOp) -> bool| {
            let all = graph.topological();
            all.iter().filter(|v| is(&graph.node(**v).op)).count()
        };
        assert_eq!(count(&|op| matches!(op, TensorOp::Scores { .. })), 1);
        assert_eq!(count(&|op| matches!(op, TensorOp::Values { .. })), 1);
        assert_eq!(
            count(&|op| matches!(op, TensorOp::Multiply)),
            products,
            "{name}"
        );
        assert_eq!(imported.blocks.get("polynomial_attention"), Some(&1));
    }
}

/// The bytes of small multiples of 1/8, exact in every float type.
fn encoded(data_type: i32, values: &[f32]) -> Vec<u8> {
    let half = |x: f32| -> u16 {
        // The exponent has a bias of 15 instead of 127, and 10 bits of fraction instead of 23.
        let bits = x.to_bits();
        let exponent = (bits >> 23 & 255) as i32 - 127 + 15;
        let sign = (bits >> 16 & 0x8000) as u16;
        match x == 0.0 {
            true => sign,
            false => sign | (exponent as u16) << 10 | (bits >> 13 & 1023) as u16,
        }
    };
    let each = values.iter();
    match data_type {
        1 => each.flat_map(|x| x.to_le_bytes()).collect(),
        10 => each.flat_map(|x| half(*x).to_le_bytes()).collect(),
        11 => each.flat_map(|x| f64::from(*x).to_le_bytes()).collect(),
        16 => each
            .flat_map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes())
            .collect(),
        _ => panic!("no float type"),
    }
}

#[test]
fn weights_of_every_float_type_are_read_from_external_data() {
    let values: Vec<f32> = (0..64)
        .map(|i| (i as f32 * 5.0 % 37.0 - 18.0) / 8.0)
        .collect();
    let x: Vec<f64> = (0..16).map(|i| f64::from(i) / 4.0 - 2.0).collect();
    let mut expected = vec![0.0; 16];
    for (i, y) in expected.iter_mut().enumerate() {
        let (row, col) = (i / 8, i % 8);
        *y = (0..8)
            .map(|k| x[row * 8 + k] * f64::from(values[k * 8 + col]))
            .sum();
    }
    for (name, data_type) in [
        ("float", 1),
        ("float16", 10),
        ("bfloat16", 16),
        ("double", 11),
    ] {
        let entry = |key: &str, value: &str| tract_onnx::pb::StringStringEntryProto {
            key: key.into(),
            value: value.into(),
        };
        let mut weight = floats("w", &[8, 8], &[]);
        weight.data_type = data_type;
        weight.data_location = Some(1);
        // Not at the beginning of a page, nor of a multiple of the element's size.
        weight.external_data = vec![entry("location", "w.bin"), entry("offset", "4099")];
        let cast = attribute(node("Cast", &["w"], "wide"), "to", &[1]);
        let (dir, path) = model(Spelled {
            nodes: vec![cast, node("MatMul", &["x", "wide"], "y")],
            weights: vec![weight],
            input: vec![1, 2, 8],
        });
        let mut bytes = vec![0x7f; 4099];
        bytes.extend(encoded(data_type, &values));
        std::fs::write(dir.path().join("w.bin"), &bytes).unwrap();
        let imported = import(&path, &Shapes::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let found = imported
            .graph
            .outputs_for(&[("x".to_string(), x.clone())].into());
        assert_eq!(found.unwrap(), vec![expected.clone()], "{name}");
        std::fs::write(dir.path().join("w.bin"), &bytes[..bytes.len() - 1]).unwrap();
        let short = import(&path, &Shapes::default()).unwrap_err();
        assert_eq!(short.kind(), ErrorKind::ExternalData, "{name}");
    }
}

#[test]
fn the_reference_runs_sums_of_ids_whose_node_is_named_as_its_result() {
    let mut sum = node("CumSum", &["ids", "axis"], "places");
    sum.name = "places".into();
    let nodes = vec![
        sum,
        attribute(node("Gather", &["table", "places"], "rows"), "axis", &[0]),
        node("MatMul", &["rows", "w"], "y"),
    ];
    let weights = vec![
        build::ints("axis", &[], &[1]),
        floats("table", &[9, 4], &numbers(36, 1)),
        floats("w", &[4, 3], &numbers(12, 2)),
    ];
    let (_dir, path) = build::graph(nodes, weights, &[("ids", &[1, 4], 7)], 17);
    let imported = import(&path, &Shapes::default()).unwrap();
    let reference = Reference::load(&path, &imported.all_inputs, &imported.outputs).unwrap();
    let mut input = [("ids".to_string(), vec![1.0, 0.0, 2.0, 3.0])].into();
    let want = reference.run(0, &input).unwrap();
    imported.client.extend(&mut input).unwrap();
    let got = imported.graph.outputs_for(&input).unwrap();
    for (x, y) in got[0].iter().zip(&want[0]) {
        assert!((x - y).abs() <= BOUND, "{x} {y}");
    }
}

//! Masks and positions from inputs stay with the client, whatever they were spelled with; operators of opset 23 are the blocks they stand
//! for.

#[allow(dead_code)]
mod build;

use build::{attribute, floats, graph, ints, node, numbers};
use heron_compiler::calibration::UserInput;
use heron_compiler::onnx::{import, Imported, Shapes};
use heron_compiler::reference::Reference;
use heron_passes::ir::tensor::TensorOp;
use std::path::Path;
use tract_onnx::pb::{NodeProto, TensorProto};

/// Rounding of the f32 reference, relative to the largest output.
const BOUND: f64 = 1e-5;
const FLOAT: i32 = 1;
const INT64: i32 = 7;

/// Inputs whose masks have 6, 4 and 5 real keys.
fn inputs() -> Vec<UserInput> {
    [6usize, 4, 5]
        .iter()
        .enumerate()
        .map(|(i, &real)| {
            let x = numbers(48, 40 + i as u64)
                .iter()
                .map(|&v| 2.0 * f64::from(v))
                .collect();
            let m = (0..6).map(|j| f64::from(u8::from(j < real))).collect();
            let ids = (0..6).map(|j| ((j * 7 + i * 3) % 11) as f64).collect();
            [("x".into(), x), ("m".into(), m), ("ids".into(), ids)].into()
        })
        .collect()
}

fn outputs(imported: &Imported, given: &UserInput) -> Vec<f64> {
    let mut given = given.clone();
    imported.client.extend(&mut given).unwrap();
    imported.graph.outputs_for(&given).unwrap().concat()
}

fn close(name: &str, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{name}");
    let largest = want.iter().fold(0f64, |m, x| m.max(x.abs()));
    let worst = got
        .iter()
        .zip(want)
        .map(|(g, w)| (g - w).abs())
        .fold(0.0, f64::max);
    println!(
        "{name}: measured {:.1e}, bound {BOUND:.0e}",
        worst / largest
    );
    assert!(largest > 0.0 && worst <= BOUND * largest, "{name}");
}

fn agrees(name: &str, path: &Path) -> Imported {
    let imported = import(path, &Shapes::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
    imported.graph.verify().unwrap();
    let reference = Reference::load(path, &imported.all_inputs, &imported.outputs).unwrap();
    for (i, given) in inputs().iter().enumerate() {
        let want = reference.run(i, given).unwrap().concat();
        close(name, &outputs(&imported, given), &want);
    }
    imported
}

/// x [1,6,8] → scores `s` [1,6,6] → `p` by the given nodes, with mask `m` [1,6] as a second input → p · v.
fn attention(nodes: Vec<NodeProto>, mask: i32) -> (tempfile::TempDir, std::path::PathBuf) {
    let mut all = vec![
        node("MatMul", &["x", "wq"], "q"),
        node("MatMul", &["x", "wk"], "k"),
        node("MatMul", &["x", "wv"], "v"),
        attribute(node("Transpose", &["k"], "kt"), "perm", &[0, 2, 1]),
        node("MatMul", &["q", "kt"], "qk"),
        node("Mul", &["qk", "scale"], "s"),
        node("Unsqueeze", &["m", "one_axis"], "mu"),
    ];
    all.extend(nodes);
    all.push(node("MatMul", &["p", "v"], "y"));
    let causal: Vec<i64> = (0..36).map(|i| i64::from(i % 6 <= i / 6)).collect();
    let weights = vec![
        floats("wq", &[8, 8], &numbers(64, 1)),
        floats("wk", &[8, 8], &numbers(64, 2)),
        floats("wv", &[8, 8], &numbers(64, 3)),
        floats("scale", &[], &[0.8]),
        floats("eps", &[], &[1e-3]),
        floats("four", &[], &[4.0]),
        floats("one", &[], &[1.0]),
        floats("zero", &[], &[0.0]),
        floats("low", &[], &[-1e9]),
        floats("minus_infinity", &[], &[-3.4028235e38]),
        ints("one_axis", &[1], &[1]),
        ints("last", &[1], &[-1]),
        ints("causal_int", &[6, 6], &causal),
    ];
    graph(
        all,
        weights,
        &[("x", &[1, 6, 8], FLOAT), ("m", &[1, 6], mask)],
        17,
    )
}

fn cast(from: &str, to: &str, elem: i64) -> NodeProto {
    attribute(node("Cast", &[from], to), "to", &[elem])
}

fn power(scores: &str) -> Vec<NodeProto> {
    vec![
        node("Pow", &[scores, "four"], "s4"),
        attribute(node("ReduceSum", &["s4", "last"], "den"), "keepdims", &[1]),
        node("Add", &["den", "eps"], "dene"),
        node("Div", &["s4", "dene"], "p"),
    ]
}

#[test]
fn softmax_takes_padding_masks_from_an_input() {
    let softmax = |from: &str| attribute(node("Softmax", &[from], "p"), "axis", &[-1]);
    let cases: Vec<(&str, i32, Vec<NodeProto>)> = vec![
        (
            "(1 - m) times a large negative number",
            INT64,
            vec![
                cast("mu", "mf", 1),
                node("Sub", &["one", "mf"], "inv"),
                node("Mul", &["inv", "low"], "add"),
                node("Add", &["s", "add"], "sm"),
                softmax("sm"),
            ],
        ),
        (
            "where on scores",
            INT64,
            vec![
                cast("mu", "mb", 9),
                node("Where", &["mb", "s", "minus_infinity"], "sm"),
                softmax("sm"),
            ],
        ),
        (
            "causal and padding together",
            INT64,
            vec![
                cast("mu", "mb", 9),
                cast("causal_int", "cb", 9),
                node("And", &["cb", "mb"], "keep"),
                node("Where", &["keep", "zero", "minus_infinity"], "add"),
                node("Add", &["s", "add"], "sm"),
                softmax("sm"),
            ],
        ),
        (
            "a mask of floats",
            FLOAT,
            vec![
                node("Equal", &["mu", "zero"], "gone"),
                node("Where", &["gone", "low", "s"], "sm"),
                softmax("sm"),
            ],
        ),
    ];
    for (name, elem, nodes) in cases {
        let (_dir, path) = attention(nodes, elem);
        let m = agrees(name, &path);
        let masked = m.graph.topological().into_iter().any(|v| {
            matches!(m.graph.node(v).op, TensorOp::Softmax { .. }) && m.graph.operands(v).len() == 2
        });
        assert!(masked, "{name}: {}", m.graph);
        assert_eq!(m.client.results.len(), 1, "{name}");
    }
}

#[test]
fn power_softmax_takes_multiplicative_masks_from_an_input() {
    let cases: Vec<(&str, Vec<NodeProto>)> = vec![
        (
            "before the power",
            [
                vec![cast("mu", "mf", 1), node("Mul", &["s", "mf"], "sm")],
                power("sm"),
            ]
            .concat(),
        ),
        (
            "after the power",
            vec![
                cast("mu", "mf", 1),
                node("Pow", &["s", "four"], "raw"),
                node("Mul", &["raw", "mf"], "s4"),
                attribute(node("ReduceSum", &["s4", "last"], "den"), "keepdims", &[1]),
                node("Add", &["den", "eps"], "dene"),
                node("Div", &["s4", "dene"], "p"),
            ],
        ),
        (
            "where with zero",
            [
                vec![
                    cast("mu", "mb", 9),
                    node("Where", &["mb", "s", "zero"], "sm"),
                ],
                power("sm"),
            ]
            .concat(),
        ),
    ];
    for (name, nodes) in cases {
        let (_dir, path) = attention(nodes, INT64);
        let m = agrees(name, &path);
        assert_eq!(m.blocks.get("power_softmax"), Some(&1), "{name}");
        assert_eq!(m.client.results.len(), 1, "{name}");
    }
}

#[test]
fn an_additive_mask_before_an_even_power_removes_what_it_masks() {
    let additive = [
        vec![
            cast("mu", "mf", 1),
            node("Sub", &["one", "mf"], "inv"),
            node("Mul", &["inv", "low"], "add"),
            node("Add", &["s", "add"], "sm"),
        ],
        power("sm"),
    ]
    .concat();
    let multiplied = [
        vec![cast("mu", "mf", 1), node("Mul", &["s", "mf"], "sm")],
        power("sm"),
    ]
    .concat();
    let (_a, added) = attention(additive, INT64);
    let (_b, meant) = attention(multiplied, INT64);
    let added = import(&added, &Shapes::default()).unwrap();
    let meant = import(&meant, &Shapes::default()).unwrap();
    for given in inputs() {
        close(
            "additive",
            &outputs(&added, &given),
            &outputs(&meant, &given),
        );
    }
    // Something between keeping and removing is no mask.
    let mut soft = inputs().remove(0);
    soft.insert("m".into(), vec![0.999_999_9, 1.0, 1.0, 1.0, 1.0, 1.0]);
    let e = added.client.extend(&mut soft).unwrap_err().to_string();
    assert!(e.contains("attention mask") && e.contains("`m`"), "{e}");
}

#[test]
fn position_ids_by_running_sums_are_looked_up_by_the_client() {
    let nodes = vec![
        node("Equal", &["ids", "pad"], "is_pad"),
        node("Not", &["is_pad"], "real"),
        cast("real", "real_int", 7),
        node("CumSum", &["real_int", "axis_one"], "count"),
        node("Mul", &["count", "real_int"], "kept"),
        node("Add", &["kept", "pad"], "positions"),
        node("Gather", &["words", "ids"], "w"),
        node("Gather", &["places", "positions"], "p"),
        node("Add", &["w", "p"], "e"),
        node("MatMul", &["e", "head"], "y"),
    ];
    let weights = vec![
        ints("pad", &[], &[1]),
        ints("axis_one", &[], &[1]),
        floats("words", &[11, 8], &numbers(88, 5)),
        floats("places", &[9, 8], &numbers(72, 6)),
        floats("head", &[8, 3], &numbers(24, 7)),
    ];
    let (_dir, path) = graph(nodes, weights, &[("ids", &[1, 6], INT64)], 17);
    let m = agrees("positions", &path);
    assert_eq!(m.graph.len(), 2, "{}", m.graph);
    assert_eq!(m.client.vocabularies().get("ids"), Some(&11));
}

fn projections(features: usize) -> (Vec<NodeProto>, Vec<TensorProto>) {
    let nodes = vec![
        node("MatMul", &["x", "wq"], "q"),
        node("MatMul", &["x", "wk"], "k"),
        node("MatMul", &["x", "wv"], "v"),
    ];
    let w = |name: &str, cols: usize, seed: u64| {
        floats(name, &[8, cols as i64], &numbers(8 * cols, seed))
    };
    (
        nodes,
        vec![w("wq", 8, 1), w("wk", features, 2), w("wv", features, 3)],
    )
}

/// The Attention node (tract has none) equals the same attention in small nodes, which tract confirms elsewhere.
#[test]
fn the_attention_node_equals_its_parts() {
    let (mut one, weights) = projections(4);
    let node23 = [("q_num_heads", 4), ("kv_num_heads", 2), ("is_causal", 1)]
        .into_iter()
        .fold(node("Attention", &["q", "k", "v"], "y"), |n, (a, v)| {
            attribute(n, a, &[v])
        });
    one.push(node23);
    let (_a, path) = graph(one, weights, &[("x", &[1, 6, 8], FLOAT)], 23);
    let fused = import(&path, &Shapes::default()).unwrap();
    assert_eq!(fused.blocks.get("softmax"), Some(&1));

    let (mut parts, mut weights) = projections(4);
    let causal: Vec<f32> = (0..36)
        .map(|i| if i % 6 > i / 6 { -1e9 } else { 0.0 })
        .collect();
    weights.extend([
        ints("four_heads", &[4], &[1, 6, 4, 2]),
        ints("two_heads", &[4], &[1, 6, 2, 2]),
        ints("shared", &[4], &[0, 0, 1, 1]),
        ints("joined", &[3], &[1, 6, 8]),
        floats("scale", &[], &[0.5f32.sqrt()]),
        floats("causal", &[6, 6], &causal),
    ]);
    let split = |from: &str, heads: &str, to: &str| {
        let flat = format!("{to}.split");
        vec![
            node("Reshape", &[from, heads], &flat),
            attribute(node("Transpose", &[&flat], to), "perm", &[0, 2, 1, 3]),
        ]
    };
    let share =
        |from: &str, to: &str| attribute(node("Gather", &[from, "shared"], to), "axis", &[1]);
    parts.extend(split("q", "four_heads", "qh"));
    parts.extend(split("k", "two_heads", "kh"));
    parts.extend(split("v", "two_heads", "vh"));
    parts.extend([
        share("kh", "ks"),
        share("vh", "vs"),
        attribute(node("Transpose", &["ks"], "kt"), "perm", &[0, 1, 3, 2]),
        node("MatMul", &["qh", "kt"], "qk"),
        node("Mul", &["qk", "scale"], "scaled"),
        node("Add", &["scaled", "causal"], "masked"),
        attribute(node("Softmax", &["masked"], "p"), "axis", &[-1]),
        node("MatMul", &["p", "vs"], "o"),
        attribute(node("Transpose", &["o"], "ot"), "perm", &[0, 2, 1, 3]),
        node("Reshape", &["ot", "joined"], "y"),
    ]);
    let (_b, path) = graph(parts, weights, &[("x", &[1, 6, 8], FLOAT)], 17);
    let small = agrees("grouped heads in parts", &path);
    for given in inputs() {
        close("fused", &outputs(&fused, &given), &outputs(&small, &given));
    }
}

/// The RotaryEmbedding node (tract has none) equals Neg, Slice and Concat.
#[test]
fn the_rotary_node_equals_its_parts() {
    let angles: Vec<f32> = (0..6 * 2)
        .map(|i| (i / 2) as f32 * [1.0, 0.1][i % 2])
        .collect();
    let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
    let weights = || {
        vec![
            floats("w", &[8, 8], &numbers(64, 4)),
            floats("head", &[8, 3], &numbers(24, 7)),
            floats("cos", &[1, 6, 2], &cos),
            floats("sin", &[1, 6, 2], &sin),
        ]
    };
    let last = |nodes: &mut Vec<NodeProto>| nodes.push(node("MatMul", &["r", "head"], "y"));
    let mut one = vec![
        node("MatMul", &["x", "w"], "h"),
        attribute(
            node("RotaryEmbedding", &["h", "cos", "sin"], "r"),
            "num_heads",
            &[2],
        ),
    ];
    last(&mut one);
    let (_a, path) = graph(one, weights(), &[("x", &[1, 6, 8], FLOAT)], 23);
    let fused = import(&path, &Shapes::default()).unwrap();

    let mut w = weights();
    let double = |v: &[f32]| -> Vec<f32> { v.chunks(2).flat_map(|c| [c, c].concat()).collect() };
    w.extend([
        ints("heads", &[4], &[1, 6, 2, 4]),
        ints("joined", &[3], &[1, 6, 8]),
        floats("cos4", &[6, 4], &double(&cos)),
        floats("sin4", &[6, 4], &double(&sin)),
        ints("zero", &[1], &[0]),
        ints("two", &[1], &[2]),
        ints("four", &[1], &[4]),
        ints("last", &[1], &[-1]),
    ]);
    let mut parts = vec![
        node("MatMul", &["x", "w"], "h"),
        node("Reshape", &["h", "heads"], "split"),
        attribute(node("Transpose", &["split"], "t"), "perm", &[0, 2, 1, 3]),
        node("Slice", &["t", "zero", "two", "last"], "t1"),
        node("Slice", &["t", "two", "four", "last"], "t2"),
        node("Neg", &["t2"], "n2"),
        attribute(node("Concat", &["n2", "t1"], "half"), "axis", &[-1]),
        node("Mul", &["t", "cos4"], "a"),
        node("Mul", &["half", "sin4"], "b"),
        node("Add", &["a", "b"], "turned"),
        attribute(
            node("Transpose", &["turned"], "back"),
            "perm",
            &[0, 2, 1, 3],
        ),
        node("Reshape", &["back", "joined"], "r"),
    ];
    last(&mut parts);
    let (_b, path) = graph(parts, w, &[("x", &[1, 6, 8], FLOAT)], 17);
    let small = agrees("rotary in parts", &path);
    for given in inputs() {
        close("fused", &outputs(&fused, &given), &outputs(&small, &given));
    }
}

#[test]
fn average_pooling_is_a_linear_map() {
    let mut pool = node("AveragePool", &["c"], "f");
    for (name, v) in [("kernel_shape", [2, 2]), ("strides", [2, 2])] {
        pool = attribute(pool, name, &v);
    }
    let nodes = vec![
        node("Reshape", &["x", "image"], "c"),
        pool,
        node("Reshape", &["f", "flat"], "g"),
        node("MatMul", &["g", "head"], "y"),
    ];
    let weights = vec![
        ints("image", &[4], &[1, 3, 4, 4]),
        ints("flat", &[2], &[1, 12]),
        floats("head", &[12, 3], &numbers(36, 7)),
    ];
    let (_dir, path) = graph(nodes, weights, &[("x", &[1, 6, 8], FLOAT)], 17);
    agrees("average pool", &path);
}

#[test]
fn every_obstacle_is_listed_at_once() {
    let nodes = vec![
        node("MatMul", &["x", "w"], "h"),
        node("Exp", &["h"], "e"),
        node("MatMul", &["e", "w"], "h2"),
        node("Log", &["h2"], "l"),
        node("MatMul", &["l", "w"], "y"),
    ];
    let weights = vec![floats("w", &[8, 8], &numbers(64, 4))];
    let (_dir, path) = graph(nodes, weights, &[("x", &[1, 6, 8], FLOAT)], 17);
    let e = import(&path, &Shapes::default()).unwrap_err();
    let nodes: Vec<&str> = e.obstacles().iter().map(|o| o.node.as_str()).collect();
    assert_eq!(nodes.len(), 2, "{e}");
    assert!(
        nodes.contains(&"e.node") && nodes.contains(&"l.node"),
        "{e}"
    );
}

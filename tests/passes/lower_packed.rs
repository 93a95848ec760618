//! lower-packed: the packed graph computes what the poly graph computes, in every slot.

use std::collections::BTreeMap;

use heron_passes::ir::packed::eval::gather;
use heron_passes::ir::packed::{Kernel, PackedGraph};
use heron_passes::ir::poly::{PolyGraph, PolyOp};
use heron_passes::ir::shape::{Matrix, Shape};
use heron_passes::lower_packed::LowerPacked;
use heron_passes::pass::{Ir, Manager};

use crate::packed_models::{blocks, evaluate, linear_layer, reciprocal, Draws, Model};
use crate::support::snapshot;

/// Lowers for ciphertexts of `slots` slots.
pub fn lower(poly: &PolyGraph, slots: usize, batch: Option<usize>) -> PackedGraph {
    let pass = LowerPacked { slots, batch };
    Manager::new().lower(&pass, poly).unwrap()
}

/// Draws values for every input, and evaluates the poly graph on them: (inputs by port, outputs in order).
pub fn reference(poly: &PolyGraph, packed: &PackedGraph) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let mut draws = Draws(5);
    let mut named = BTreeMap::new();
    let mut inputs = Vec::new();
    for port in &packed.ports {
        let v = packed
            .graph
            .topological()
            .into_iter()
            .find(|v| {
                matches!(packed.graph.node(*v).op.kernel, Kernel::Input { port: p } if packed.ports[p].name == port.name)
            })
            .unwrap();
        let values: Vec<f64> = (0..packed.graph.node(v).shape.len())
            .map(|_| draws.number())
            .collect();
        named.insert(port.name.clone(), values.clone());
        inputs.push(values);
    }
    let values = poly.evaluate(&named).unwrap();
    let outputs = poly
        .outputs
        .iter()
        .map(|(_, v)| values[v].clone())
        .collect();
    (inputs, outputs)
}

/// Largest difference of the outputs, copies of elements in other slots included, over the largest output (or 1).
pub fn difference(poly: &PolyGraph, packed: &PackedGraph) -> f64 {
    let (inputs, expected) = reference(poly, packed);
    let values = packed.evaluate_slots(&inputs, 0.37);
    let (mut worst, mut largest) = (0.0f64, 1.0f64);
    for ((_, v), expected) in packed.graph.outputs.iter().zip(&expected) {
        let (found, spread) = gather(&packed.graph.node(*v).op.layout, &values[v], expected.len());
        worst = worst.max(spread);
        for (f, e) in found.iter().zip(expected) {
            assert!(f.is_finite());
            worst = worst.max((f - e).abs());
            largest = largest.max(e.abs());
        }
    }
    worst / largest
}

fn check(name: &str, poly: &PolyGraph, slots: usize, batch: Option<usize>) -> PackedGraph {
    let packed = lower(poly, slots, batch);
    let found = difference(poly, &packed);
    println!("{name}: difference {found:.2e}, bound 1e-10");
    assert!(found < 1e-10, "{name}\n{}", packed.print());
    packed
}

#[test]
fn linear_layers_of_every_width_compute_the_same() {
    for (rows, cols, out) in [
        (4, 8, 8),
        (4, 8, 32),
        (4, 32, 8),
        (3, 5, 7),
        (1, 8, 8),
        (5, 12, 40),
        (16, 4, 32),
    ] {
        for slots in [512, 2048] {
            let poly = linear_layer(rows, cols, out);
            check(
                &format!("{rows}x{cols} to {out} in {slots}"),
                &poly,
                slots,
                None,
            );
            check("batch 1", &poly, slots, Some(1));
        }
    }
}

#[test]
fn a_value_wider_than_a_ciphertext_takes_several() {
    let poly = linear_layer(8, 40, 72);
    let packed = check("8x40 to 72 in 128", &poly, 128, Some(1));
    assert!(packed.print().contains("ct[5]"), "{}", packed.print());
}

#[test]
fn rows_are_mixed_pooled_and_rotated() {
    for (rows, out_rows) in [(8, 1), (8, 8), (5, 5), (5, 1), (16, 3)] {
        let mut m = Model::new("mix");
        let x = m.input("x", rows, 8);
        let y = m.mixed("y", x, out_rows, 10);
        let z = m.dense("z", y, 3);
        check(
            &format!("{rows} to {out_rows}"),
            &m.finish(z),
            1024,
            Some(4),
        );
    }
}

#[test]
fn attention_computes_the_same_with_and_without_shifted_copies() {
    for (rows, heads, head, causal) in [
        (4, 1, 4, false),
        (8, 4, 4, false),
        (8, 2, 8, true),
        (5, 3, 6, true),
        (1, 2, 4, false),
        (7, 1, 3, false),
    ] {
        for (slots, batch) in [
            (256, Some(1)),
            (1024, Some(1)),
            (1024, Some(4)),
            (4096, None),
        ] {
            let mut m = Model::new("attention");
            let x = m.input("x", rows, heads * head);
            let o = m.attention(x, heads, head, causal);
            let name = format!("{rows} rows {heads} heads of {head} in {slots}/{batch:?}");
            check(&name, &m.finish(o), slots, batch);
        }
    }
}

#[test]
fn wide_heads_sum_features_before_they_are_packed() {
    for (rows, heads, head, causal, slots, batch) in [
        (16, 1, 32, false, 512, Some(1)),
        (16, 2, 32, true, 512, Some(1)),
        (16, 2, 32, false, 4096, Some(1)),
        (12, 2, 24, true, 2048, Some(2)),
        (4, 2, 64, true, 1024, Some(1)),
        (64, 1, 32, true, 2048, Some(1)),
    ] {
        let mut m = Model::new("attention");
        let x = m.input("x", rows, heads * head);
        let o = m.attention(x, heads, head, causal);
        let name = format!("{rows} rows {heads} heads of {head} in {slots}/{batch:?}");
        let packed = check(&name, &m.finish(o), slots, batch);
        let text = packed.print();
        let summed = ["sums of features", "sums by group"];
        assert!(
            summed.iter().any(|note| text.contains(note)),
            "{name}: {text}"
        );
    }
}

/// Attention of `queries` of the last of 16 rows over all of them.
fn attention_of_few(queries: usize, heads: usize, head: usize) -> PolyGraph {
    let mut m = Model::new("few");
    let (keys, cols) = (16, heads * head);
    let x = m.input("x", keys, cols);
    let last = m.mixed("last", x, queries, cols);
    let q = m.dense("q", last, cols);
    let [k, v] = ["k", "v"].map(|name| m.dense(name, x, cols));
    let shape = Shape::Scores {
        heads,
        rows: queries,
        keys,
    };
    let op = PolyOp::Scores { heads, mask: None };
    let s = m.add("s", op, &[q, k], shape);
    let n = m.add("n", PolyOp::Multiply, &[s, s], shape);
    let sum = PolyOp::KeySum {
        scale: 0.4,
        shift: -0.3,
        weights: None,
    };
    let rows = queries;
    let u = m.add("u", sum, &[n], Shape::PerHead { heads, rows });
    let values = PolyOp::Values {
        heads,
        weights: None,
    };
    let matrix = Shape::Matrix { rows, cols };
    let av = m.add("av", values, &[n, v], matrix);
    let o = m.add("o", PolyOp::ScaleHeads, &[av, u], matrix);
    let y = m.dense("y", o, 5);
    m.finish(y)
}

#[test]
fn few_queries_need_few_rotations_of_the_keys() {
    for (queries, rotations) in [(1, 1), (2, 2), (3, 16), (4, 4), (16, 16)] {
        for (heads, head, slots) in [(2, 4, 128), (2, 8, 1024), (1, 32, 512), (4, 16, 512)] {
            let poly = attention_of_few(queries, heads, head);
            let name = format!("{queries} queries of {heads} heads of {head} in {slots}");
            let packed = check(&name, &poly, slots, Some(1));
            let g = packed.geometry;
            let most = rotations * (heads * head).div_ceil(g.lanes * g.windows());
            let products = packed.graph.topological().into_iter().find_map(|v| {
                let op = &packed.graph.node(v).op;
                let scores = op.layout.note() == "partial scores";
                scores.then(|| op.layout.ciphertexts())
            });
            assert!(
                products.is_some_and(|p| p <= most),
                "{name}: {products:?}, {most}"
            );
        }
    }
}

#[test]
fn heads_that_fill_several_ciphertexts_compute_the_same() {
    let mut m = Model::new("attention");
    let x = m.input("x", 8, 24);
    let o = m.attention(x, 6, 4, true);
    let packed = check("6 heads of 4 in 64", &m.finish(o), 64, Some(1));
    assert!(packed.print().contains("ct[3]"), "{}", packed.print());
}

#[test]
fn norms_and_blocks_compute_the_same() {
    for iterate in [false, true] {
        let mut m = Model::new("norm");
        let x = m.input("x", 6, 12);
        let y = m.norm(x, iterate);
        check("norm", &m.finish(y), 512, Some(1));
    }
    check("blocks", &blocks(8, 16, 4, 2), 2048, None);
    check("blocks", &blocks(9, 12, 3, 1), 2048, Some(1));
}

#[test]
fn a_linear_layer_becomes_products_and_rotations() {
    let packed = lower(&linear_layer(4, 8, 8), 64, None);
    snapshot("lower-packed__linear_layer", &packed.print());
}

#[test]
fn attention_becomes_token_rotations_and_packed_scores() {
    let mut m = Model::new("attention");
    let x = m.input("x", 4, 4);
    let o = m.attention(x, 2, 2, false);
    let packed = lower(&m.finish(o), 64, Some(2));
    snapshot("lower-packed__attention", &packed.print());
}

#[test]
fn pooling_adds_whole_tokens() {
    let mut m = Model::new("pool");
    let x = m.input("x", 8, 4);
    let y = m.mixed("y", x, 1, 4);
    let packed = lower(&m.finish(y), 64, Some(1));
    snapshot("linear-lowering__pooling", &packed.print());
}

#[test]
fn a_key_that_is_also_a_query_is_moved_by_an_identity_map() {
    let mut m = Model::new("shared");
    let x = m.input("x", 4, 4);
    let k = m.dense("k", x, 4);
    let shape = Shape::Scores {
        heads: 1,
        rows: 4,
        keys: 4,
    };
    let scores = PolyOp::Scores {
        heads: 1,
        mask: None,
    };
    let s = m.add("s", scores, &[k, k], shape);
    let sum = PolyOp::KeySum {
        scale: 0.5,
        shift: 0.0,
        weights: None,
    };
    let per_head = Shape::PerHead { heads: 1, rows: 4 };
    let u = m.add("u", sum, &[s], per_head);
    let o = m.add(
        "o",
        PolyOp::ScaleHeads,
        &[k, u],
        Shape::Matrix { rows: 4, cols: 4 },
    );
    let packed = check("shared key", &m.finish(o), 32, Some(1));
    snapshot("choose-layout__moves_a_shared_key", &packed.print());
}

#[test]
fn values_of_one_layout_are_left_alone() {
    let mut m = Model::new("sum");
    let x = m.input("x", 4, 4);
    let y = m.input("y", 4, 4);
    let z = m.add(
        "z",
        PolyOp::Add,
        &[x, y],
        Shape::Matrix { rows: 4, cols: 4 },
    );
    let packed = check("sum", &m.finish(z), 16, Some(1));
    snapshot("choose-layout__leaves_alone", &packed.print());
}

#[test]
fn tokens_beyond_the_slots_are_refused() {
    let pass = LowerPacked {
        slots: 8,
        batch: None,
    };
    let error = Manager::new().lower(&pass, &linear_layer(16, 4, 4));
    snapshot("choose-layout__refuses", &error.unwrap_err().to_string());
    let pass = LowerPacked {
        slots: 64,
        batch: Some(32),
    };
    let error = Manager::new().lower(&pass, &linear_layer(4, 4, 4));
    snapshot(
        "choose-layout__refuses_batch",
        &error.unwrap_err().to_string(),
    );
}

#[test]
fn heads_that_do_not_divide_the_features_are_refused() {
    let mut m = Model::new("heads");
    let x = m.input("x", 4, 6);
    let k = m.dense("k", x, 6);
    let shape = Shape::Scores {
        heads: 4,
        rows: 4,
        keys: 4,
    };
    let scores = PolyOp::Scores {
        heads: 4,
        mask: None,
    };
    let s = m.add("s", scores, &[x, k], shape);
    let pass = LowerPacked {
        slots: 64,
        batch: None,
    };
    let error = Manager::new().lower(&pass, &m.finish(s));
    snapshot("lower-packed__refuses", &error.unwrap_err().to_string());
}

#[test]
fn a_division_and_an_inverse_root_have_no_constant_products_inside() {
    let mut m = Model::new("division");
    let x = m.input("x", 2, 2);
    let shape = Shape::Matrix { rows: 2, cols: 2 };
    let r = m.add("r", evaluate(reciprocal(), "1/x"), &[x], shape);
    let packed = check("division", &m.finish(r), 8, None);
    snapshot("lower-evaluate__division", &packed.print());
    let mut m = Model::new("root");
    let x = m.input("x", 2, 2);
    let inverse = crate::packed_models::inverse_sqrt();
    let r = m.add("r", evaluate(inverse, "1/sqrt(x)"), &[x], shape);
    let packed = check("root", &m.finish(r), 8, None);
    snapshot("lower-evaluate__inverse_root", &packed.print());
}

#[test]
fn weights_of_sums_and_values_and_factors_of_scores_are_kept() {
    let mut m = Model::new("weighted");
    let (rows, heads, head) = (6, 2, 4);
    let x = m.input("x", rows, 8);
    let [q, k, v] = ["q", "k", "v"].map(|name| m.dense(name, x, heads * head));
    let keys = rows;
    let scores = Shape::Scores { heads, rows, keys };
    let per_head = Shape::PerHead { heads, rows };
    let cols = heads * head;
    let matrix = Shape::Matrix { rows, cols };
    let mut weights = Matrix::zeros(rows, keys);
    for i in 0..rows {
        for j in 0..=i {
            weights.data[i * keys + j] = 1.0 / (i + 1) as f64;
        }
    }
    let weights = Some(weights);
    let op = PolyOp::Scores { heads, mask: None };
    let s = m.add("s", op, &[q, k], scores);
    let n = m.add("n", PolyOp::Multiply, &[s, s], scores);
    let sum = |weights| PolyOp::KeySum {
        scale: 0.4,
        shift: -0.3,
        weights,
    };
    let u = m.add("u", sum(weights.clone()), &[n], per_head);
    // Normalised scores that are used again.
    let y = m.add("y", PolyOp::ScaleHeads, &[n, u], scores);
    let y2 = m.add("y2", PolyOp::Multiply, &[y, y], scores);
    let u2 = m.add("u2", sum(weights.clone()), &[y2], per_head);
    let values = PolyOp::Values { heads, weights };
    let av = m.add("av", values, &[y2, v], matrix);
    let o = m.add("o", PolyOp::ScaleHeads, &[av, u2], matrix);
    let graph = m.finish(o);
    for (slots, batch) in [(256, None), (1024, Some(2))] {
        check("weighted", &graph, slots, batch);
    }
}

/// Choosing a position of 8 and projecting it to `out` features, with 16 slots per token.
fn next_token(out: usize) -> (PolyGraph, PackedGraph) {
    let mut m = Model::new("next_token");
    let x = m.input("x", 8, 16);
    let last = m.mixed("last", x, 1, 16);
    let y = m.dense("logits", last, out);
    m.graph.outputs.push(("logits".into(), y));
    let packed = lower(&m.graph, 128, Some(1));
    (m.graph, packed)
}

#[test]
fn one_row_takes_the_slots_of_other_tokens_before_more_ciphertexts() {
    for (out, ciphertexts) in [(10, 1), (100, 1), (128, 1), (300, 3)] {
        let (poly, packed) = next_token(out);
        assert!(difference(&poly, &packed) <= 1e-9, "{out} features");
        let (_, y) = packed.graph.outputs[0];
        let layout = &packed.graph.node(y).op.layout;
        assert_eq!(layout.ciphertexts(), ciphertexts, "{out} features");
    }
}

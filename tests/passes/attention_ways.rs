//! lower-attention: every way of making the products of attention computes the same, in every slot.

use std::sync::Arc;

use heron_passes::attention_groups::Groups;
use heron_passes::attention_stages::Products;
use heron_passes::choose_layout::{matrix_layout, Features};
use heron_passes::ir::graph::{Graph, ValueId};
use heron_passes::ir::packed::build::Scope;
use heron_passes::ir::packed::eval::gather;
use heron_passes::ir::packed::layout::{Geometry, Layout};
use heron_passes::ir::packed::{InputPort, Kernel, PackedGraph, Plaintexts};
use heron_passes::ir::shape::{Layer, LayerKind, Matrix, Shape};
use heron_passes::ir::tensor::ClientInput;
use heron_passes::lower_attention::{single_scores, single_values, Attention};
use heron_passes::pass::Ir;

use crate::packed_models::Draws;
use crate::random_graphs::Random;

/// Queries, keys and values of one attention, each an input.
struct Case {
    packed: PackedGraph,
    scope: Scope,
    about: Attention,
    features: Arc<Layout>,
    ciphertexts: usize,
    inputs: [ValueId; 3],
}

fn geometry(tokens: usize, lanes: usize) -> Geometry {
    Geometry {
        slots: 2 * tokens * lanes,
        batch: 2,
        tokens,
        lanes,
    }
}

fn case(g: Geometry, (rows, keys): (usize, usize), heads: usize, width: usize) -> Case {
    let about = Attention {
        heads,
        rows,
        keys,
        width,
        ways: 1,
    };
    let mut graph = Graph::new("attention");
    graph.add_layer(Layer {
        name: "all".into(),
        kind: LayerKind::Other,
        onnx_nodes: vec![],
    });
    let mut packed = PackedGraph {
        graph,
        geometry: g,
        plaintexts: Plaintexts::default(),
        ports: Vec::new(),
        output_factors: Vec::new(),
        approximations: Vec::new(),
        layouts: Vec::new(),
        origins: Vec::new(),
    };
    let cols = heads * width;
    let features = Features {
        heads,
        shifted: false,
    };
    let mut inputs = Vec::new();
    let mut layouts = Vec::new();
    for (port, rows) in [rows, keys, keys].into_iter().enumerate() {
        let scope = Scope {
            name: format!("in{port}"),
            shape: Shape::Matrix { rows, cols },
            layer: 0,
        };
        let count = rows * cols;
        packed.ports.push(InputPort {
            name: scope.name.clone(),
            client: ClientInput::Gather {
                user_shape: vec![count],
                index: (0..count as i64).collect(),
            },
            factor: 1.0,
        });
        let layout = packed.shared(matrix_layout(g, rows, cols, features));
        inputs.push(packed.add(&scope, Kernel::Input { port }, &[], &layout, Some(1.0)));
        layouts.push(layout);
    }
    let shape = Shape::Scores { heads, rows, keys };
    Case {
        packed,
        scope: Scope {
            name: "scores".into(),
            shape,
            layer: 0,
        },
        about,
        ciphertexts: layouts[0].ciphertexts(),
        features: Arc::clone(&layouts[0]),
        inputs: [inputs[0], inputs[1], inputs[2]],
    }
}

/// The largest difference of a value in any slot from what attention is; `mask` is multiplied into scores.
fn difference(case: &Case, scores: ValueId, values: Option<ValueId>, mask: &Matrix) -> f64 {
    let Attention {
        heads,
        rows,
        keys,
        width,
        ..
    } = case.about;
    case.packed.verify().expect("verifies");
    let cols = heads * width;
    let mut draws = Draws(29);
    let [q, k, v] = [rows, keys, keys].map(|r| draws.matrix(r, cols, 1.0));
    let inputs = [&q, &k, &v].map(|m| m.data.clone());
    let slots = case.packed.evaluate_slots(&inputs, 0.37);
    let mut expected = vec![0.0; heads * rows * keys];
    let mut result = vec![0.0; rows * cols];
    for h in 0..heads {
        for i in 0..rows {
            for j in 0..keys {
                let dot: f64 = (0..width)
                    .map(|x| q.at(i, h * width + x) * k.at(j, h * width + x))
                    .sum();
                let score = dot * mask.at(i, j);
                expected[(h * rows + i) * keys + j] = score;
                for x in 0..width {
                    let weighted = score * mask.at(i, j) * v.at(j, h * width + x);
                    result[i * cols + h * width + x] += weighted;
                }
            }
        }
    }
    let mut worst = 0.0f64;
    for (value, expected) in [(Some(scores), &expected), (values, &result)] {
        let Some(value) = value else { continue };
        let layout = case.packed.layout(value);
        let (found, spread) = gather(layout, &slots[&value], expected.len());
        worst = worst.max(spread);
        for (f, e) in found.iter().zip(expected) {
            assert!(f.is_finite(), "an element is nowhere");
            worst = worst.max((f - e).abs());
        }
    }
    worst
}

/// What rotations reach: all tokens, or as many as queries repeat with.
fn rotations(case: &Case) -> usize {
    let tokens = case.packed.geometry.tokens;
    match case.about.rows.is_power_of_two() {
        true => tokens.min(case.about.rows),
        false => tokens,
    }
}

/// Both halves in groups: whether scores and values could be made so, and the difference.
fn grouped(mut case: Case, group: usize, babies: usize, mask: &Matrix) -> Option<(bool, f64)> {
    let groups = Groups {
        geometry: case.packed.geometry,
        ciphertexts: case.ciphertexts,
        rotations: rotations(&case),
        group,
        babies,
    };
    let about = case.about;
    let [q, k, v] = case.inputs;
    let at = (&mut case.packed, &case.scope);
    let scores = groups.scores(at, (q, k), about, Some(mask), Some(1.0));
    let scores = scores.expect("lowers")?;
    let scope = Scope {
        name: "values".into(),
        shape: Shape::Matrix {
            rows: about.rows,
            cols: about.heads * about.width,
        },
        layer: 0,
    };
    let target = Arc::clone(&case.features);
    let at = (&mut case.packed, &scope);
    let values = groups.values(at, (scores, v), about, Some(mask), &target, None);
    let values = values.expect("lowers");
    Some((values.is_some(), difference(&case, scores, values, mask)))
}

fn causal(rows: usize, keys: usize) -> Matrix {
    let mut mask = Matrix::zeros(rows, keys);
    for i in 0..rows {
        for j in 0..keys {
            mask.data[i * keys + j] = f64::from(u8::from(j <= i + keys - rows));
        }
    }
    mask
}

#[test]
fn groups_of_every_size_compute_attention() {
    // Tokens, lanes, rows and keys, heads, width: heads of odd widths, several ciphertexts, fewer rows than tokens.
    for (tokens, lanes, rows, keys, heads, width) in [
        (8usize, 16usize, 8usize, 8usize, 2usize, 8usize),
        (8, 8, 8, 8, 2, 8),
        (16, 8, 16, 16, 3, 8),
        (8, 32, 8, 8, 3, 6),
        (8, 16, 8, 8, 1, 13),
        (16, 16, 11, 11, 2, 7),
        (8, 8, 5, 5, 2, 5),
        (8, 16, 4, 8, 2, 8),
    ] {
        let g = geometry(tokens, lanes);
        let mask = causal(rows, keys);
        let mut group = 2;
        while group <= width.next_power_of_two().min(rows.next_power_of_two()) {
            let sums = rotations(&case(g, (rows, keys), heads, width)) / group;
            for babies in [1, 2, 4, 8].into_iter().filter(|b| *b <= sums) {
                let name = format!("{rows} by {keys}, {heads} heads of {width}: {group}, {babies}");
                let found = grouped(case(g, (rows, keys), heads, width), group, babies, &mask);
                let (both, difference) = found.expect("scores are reached");
                println!("{name}: {difference:.1e}, bound 1e-12");
                // With as many rows as keys all values are reached too.
                assert!(both || rows < keys, "{name}");
                assert!(difference < 1e-12, "{name}");
            }
            group *= 2;
        }
    }
}

#[test]
fn single_products_of_every_inner_stage_compute_attention() {
    for (tokens, lanes, rows, heads, width) in [
        (8, 16, 8, 2, 8),
        (16, 8, 16, 3, 8),
        (8, 32, 8, 3, 6),
        (16, 16, 11, 2, 7),
    ] {
        let mask = causal(rows, rows);
        for inner in [1, 2, 4] {
            let mut case = case(geometry(tokens, lanes), (rows, rows), heads, width);
            let products = Products {
                geometry: case.packed.geometry,
                ciphertexts: case.ciphertexts,
                rotations: rotations(&case),
                inner,
            };
            let about = case.about;
            let [q, k, v] = case.inputs;
            let at = (&mut case.packed, &case.scope);
            let scores = single_scores(at, (q, k), about, products, Some(&mask), None);
            let scores = scores.expect("lowers");
            let scope = Scope {
                name: "values".into(),
                shape: Shape::Matrix {
                    rows,
                    cols: heads * width,
                },
                layer: 0,
            };
            let target = Arc::clone(&case.features);
            let at = (&mut case.packed, &scope);
            let values =
                single_values(at, (scores, v), about, products, Some(&mask), &target, None);
            let values = values.expect("lowers");
            let name = format!("{rows} rows, {heads} heads of {width}: {inner}");
            let worst = difference(&case, scores, Some(values), &mask);
            println!("{name}: {worst:.1e}, bound 1e-12");
            assert!(worst < 1e-12, "{name}");
        }
    }
}

#[test]
fn random_groups_compute_attention_or_say_that_they_do_not_reach_it() {
    let (mut reached, mut refused) = (0, 0);
    for seed in 0..150 {
        let mut r = Random::new(seed);
        let tokens = r.of(&[2usize, 4, 8, 16]);
        let rows = 1 + r.below(tokens);
        let keys = if r.once_in(3) {
            1 + r.below(tokens)
        } else {
            rows
        };
        let (heads, width) = (1 + r.below(4), 2 + r.below(9));
        let block = width.next_power_of_two();
        let g = geometry(tokens, block << r.below(3));
        let case = case(g, (rows, keys), heads, width);
        let most = rotations(&case).min(block);
        if most < 2 {
            continue;
        }
        let group = 2 << r.below(most.ilog2() as usize);
        let babies = 1 << r.below((rotations(&case) / group).ilog2() as usize + 1);
        let mask = match keys >= rows && r.once_in(2) {
            true => causal(rows, keys),
            false => Draws(seed).matrix(rows, keys, 1.0),
        };
        let name = format!("seed {seed}: {rows} by {keys}, {heads} of {width}: {group}, {babies}");
        match grouped(case, group, babies, &mask) {
            Some((both, difference)) => {
                assert!(difference < 1e-12, "{name}: {difference:.1e}");
                reached += usize::from(both);
            }
            None => refused += 1,
        }
    }
    println!("{reached} reached, {refused} refused");
    assert!(reached > 60);
}

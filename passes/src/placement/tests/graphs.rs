//! Packed graphs to place bootstraps in.

use std::sync::Arc;

use crate::ir::graph::{Graph, ValueId};
use crate::ir::packed::build::Scope;
use crate::ir::packed::layout::{Geometry, Layout};
use crate::ir::packed::{InputPort, Kernel, LinearOut, LinearTerm, PackedGraph, Plaintexts};
use crate::ir::shape::{Layer, LayerKind, Shape};
use crate::ir::tensor::ClientInput;

/// A small generator of reproducible numbers in [-1, 1].
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// Slots of the random graphs; the prices are those of the large ring.
const SLOTS: usize = 16;

/// A packed graph of at most 12 values: products, linear maps, rotations, combinations; bundles of one to three ciphertexts, dense
/// or repeating; some values not known to lie in [-1, 1].
pub(super) fn random_graph(seed: u64) -> PackedGraph {
    let mut draws = Draws(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5bd1_e995);
    let mut below = |n: usize| (((draws.next() + 1.0) / 2.0 * n as f64) as usize).min(n - 1);
    let mut graph = Graph::new("random");
    graph.add_layer(Layer {
        name: "all".into(),
        kind: LayerKind::Other,
        onnx_nodes: vec![],
    });
    let mut packed = PackedGraph {
        graph,
        geometry: Geometry {
            slots: SLOTS,
            batch: 1,
            tokens: 4,
            lanes: 4,
        },
        plaintexts: Plaintexts::default(),
        ports: Vec::new(),
        output_factors: vec![1.0],
        approximations: Vec::new(),
        layouts: Vec::new(),
        origins: Vec::new(),
    };
    // Whole slots, or a quarter of them.
    let period = if seed.is_multiple_of(3) {
        SLOTS / 4
    } else {
        SLOTS
    };
    let layout = |n: usize| {
        let cells = (0..n).map(|k| (0..period).map(|s| Some((k * period + s) as u32)).collect());
        Arc::new(Layout::new(cells.collect(), "random"))
    };
    let scope = |i: usize| Scope {
        name: format!("v{i}"),
        shape: Shape::Matrix { rows: 4, cols: 4 },
        layer: 0,
    };
    let n = 1 + below(3);
    let inputs = 1 + below(2);
    let mut values: Vec<ValueId> = Vec::new();
    for port in 0..inputs {
        packed.ports.push(InputPort {
            name: format!("x{port}"),
            client: ClientInput::Gather {
                user_shape: vec![16],
                index: (0..16).collect(),
            },
            factor: 1.0,
        });
        values.push(packed.add(
            &scope(port),
            Kernel::Input { port },
            &[],
            &layout(n),
            Some(1.0),
        ));
    }
    let weights = packed.plaintexts.insert(vec![0.5; SLOTS]);
    let count = 7 + below(6);
    while values.len() < count {
        let i = values.len();
        // Recent values more often, so that paths get long.
        let mut pick = || values[i - 1 - below(i).min(below(i)).min(below(i))];
        let (a, b) = (pick(), pick());
        let bound = (below(4) > 0).then_some(1.0);
        let linear = |babies: usize| {
            let outs = (0..n).map(|k| LinearOut {
                matrix: None,
                giants: Arc::new(vec![(
                    0,
                    (0..babies)
                        .map(|baby| LinearTerm {
                            source: k,
                            baby: baby as i64,
                            plaintext: weights,
                            compact: false,
                        })
                        .collect(),
                )]),
                bias: None,
            });
            Kernel::Linear(Arc::new(outs.collect()))
        };
        let product = Kernel::MulSum {
            pairs: (0..n).map(|k| vec![((0, k), (1, k))]).collect(),
            factor: 1,
            constant: 0.0,
        };
        let combine = |c: f64| Kernel::Combine {
            coefficients: vec![1.0, c],
            constant: 0.0,
        };
        let (kernel, operands) = match below(8) {
            0 | 1 => (linear(1 + below(60)), vec![a]),
            2 => (combine(1.0), vec![a, b]),
            3 => (combine(0.5), vec![a, b]),
            4 => (Kernel::Rotate { steps: vec![1] }, vec![a]),
            _ => (product, vec![a, b]),
        };
        values.push(packed.add(&scope(i), kernel, &operands, &layout(n), bound));
    }
    packed
        .graph
        .outputs
        .push(("y".into(), values[values.len() - 1]));
    packed
}

/// `layers` equal blocks on a residual stream: two branches of products and linear maps, one with a deep side chain, as a transformer's.
pub(super) fn blocks(layers: usize) -> PackedGraph {
    let mut packed = random_graph(1);
    packed.graph = Graph::new("blocks");
    packed.graph.add_layer(Layer {
        name: "all".into(),
        kind: LayerKind::Other,
        onnx_nodes: vec![],
    });
    let weights = packed.plaintexts.insert(vec![0.25; SLOTS]);
    let cells = vec![(0..SLOTS).map(|s| Some(s as u32)).collect()];
    let layout = Arc::new(Layout::new(cells, "blocks"));
    let add = |packed: &mut PackedGraph, kernel, operands: &[ValueId], bound| {
        let scope = Scope {
            name: "v".into(),
            shape: Shape::Matrix { rows: 4, cols: 4 },
            layer: 0,
        };
        packed.add(&scope, kernel, operands, &layout, bound)
    };
    let product = || Kernel::MulSum {
        pairs: vec![vec![((0, 0), (1, 0))]],
        factor: 1,
        constant: 0.0,
    };
    let sum = || Kernel::Combine {
        coefficients: vec![1.0, 1.0],
        constant: 0.0,
    };
    let map = |terms: i64| {
        let terms = (0..terms).map(|baby| LinearTerm {
            source: 0,
            baby: baby % 16,
            plaintext: weights,
            compact: false,
        });
        let out = LinearOut {
            giants: Arc::new(vec![(0, terms.collect())]),
            matrix: None,
            bias: None,
        };
        Kernel::Linear(Arc::new(vec![out]))
    };
    let mut x = add(&mut packed, Kernel::Input { port: 0 }, &[], Some(1.0));
    for _ in 0..layers {
        for branch in 0..2 {
            // The side chain: a square, a sum, and powers of it.
            let square = add(&mut packed, product(), &[x, x], Some(1.0));
            let var = add(&mut packed, map(8), &[square], Some(1.0));
            let mut chain = var;
            for step in 0..4 + branch {
                let next = add(&mut packed, product(), &[chain, chain], None);
                let other = add(
                    &mut packed,
                    product(),
                    &[chain, var],
                    (step == 2).then_some(1.0),
                );
                chain = add(
                    &mut packed,
                    sum(),
                    &[next, other],
                    (step == 3).then_some(1.0),
                );
            }
            let hat = add(&mut packed, product(), &[x, chain], Some(1.0));
            let (q, k) = (
                add(&mut packed, map(31), &[hat], Some(1.0)),
                add(&mut packed, map(31), &[hat], Some(1.0)),
            );
            let scores = add(&mut packed, product(), &[q, k], Some(1.0));
            let back = add(&mut packed, map(16), &[scores], Some(1.0));
            x = add(&mut packed, sum(), &[x, back], Some(1.0));
        }
    }
    packed.graph.outputs.push(("y".into(), x));
    packed
}

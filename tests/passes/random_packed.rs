//! Random packed graphs, from a seed: every kernel, layouts with holes and repetitions, plaintexts of every period.

use std::sync::Arc;

use heron_passes::ir::graph::{Graph, ValueId};
use heron_passes::ir::packed::layout::{Cell, Geometry, Layout};
use heron_passes::ir::packed::{
    is_compact, InputPort, Kernel, LinearOut, LinearTerm, PackedGraph, PackedOp, Part, Plaintexts,
};
use heron_passes::ir::poly::Approximation;
use heron_passes::ir::shape::{Layer, LayerKind, Shape};
use heron_passes::ir::tensor::ClientInput;

use crate::random_graphs::Random;

const GEOMETRIES: [Geometry; 3] = [
    Geometry {
        slots: 16,
        batch: 2,
        tokens: 2,
        lanes: 2,
    },
    Geometry {
        slots: 8,
        batch: 1,
        tokens: 4,
        lanes: 2,
    },
    Geometry {
        slots: 32,
        batch: 4,
        tokens: 1,
        lanes: 2,
    },
];

fn layout(r: &mut Random, n: usize, ciphertexts: usize) -> Layout {
    let period = 1 << r.below(n.ilog2() as usize + 1);
    let style = r.below(3);
    let cells = (0..ciphertexts)
        .map(|c| {
            (0..period)
                .map(|s| -> Cell {
                    match style {
                        0 => Some((c * period + s) as u32),
                        1 => (!r.once_in(3)).then(|| r.below(6) as u32),
                        _ => None,
                    }
                })
                .collect()
        })
        .collect();
    let notes = ["features", "two words", "partial sums", "\"odd\\ note\""];
    Layout::new(cells, r.of(&notes))
}

fn linear(r: &mut Random, g: &mut PackedGraph, sources: usize, outs: usize) -> Kernel {
    let n = g.geometry.virtual_slots();
    let mut vector = |r: &mut Random| {
        let length = 1 << r.below(n.ilog2() as usize + 1);
        let values = match r.below(3) {
            0 => vec![0.0; length],
            _ => r.0.matrix(1, length, 1.0).data,
        };
        let id = g.plaintexts.insert(values);
        (id, is_compact(g.plaintexts.period(id), n))
    };
    let outs = (0..outs).map(|_| LinearOut {
        giants: Arc::new(
            (0..1 + r.below(2))
                .map(|i| {
                    let terms = (0..r.below(4)).map(|_| {
                        let (plaintext, compact) = vector(r);
                        LinearTerm {
                            source: r.below(sources),
                            baby: r.below(2 * n) as i64 - n as i64,
                            plaintext,
                            compact,
                        }
                    });
                    (3 * i as i64, terms.collect())
                })
                .collect(),
        ),
        matrix: None,
        bias: r.once_in(2).then(|| vector(r).0),
    });
    Kernel::Linear(Arc::new(outs.collect()))
}

/// A packed graph of about `size` values that verifies.
pub fn packed(seed: u64, size: usize) -> PackedGraph {
    let mut r = Random::new(seed);
    let mut graph = Graph::new(r.of(&["t", "two words", "a/b.c-d"]));
    for i in 0..1 + r.below(3) {
        graph.add_layer(Layer {
            name: format!("layer {i}"),
            kind: r.of(&LayerKind::ALL),
            onnx_nodes: vec![],
        });
    }
    let mut g = PackedGraph {
        graph,
        geometry: r.of(&GEOMETRIES),
        plaintexts: Plaintexts::default(),
        ports: Vec::new(),
        output_factors: Vec::new(),
        approximations: vec![(
            0,
            Approximation {
                function: "1/x".into(),
                interval: (r.0.next(), 2.0),
                method: "own method".into(),
                degree_or_iterations: r.below(9),
                max_error: 1e-7,
            },
        )],
        layouts: Vec::new(),
        origins: Vec::new(),
    };
    let n = g.geometry.virtual_slots();
    let mut made: Vec<ValueId> = Vec::new();
    while made.len() < size {
        let cts = 1 + r.below(3);
        let count = |g: &PackedGraph, v: ValueId| g.layout(v).ciphertexts();
        let (kernel, operands, layout) = match r.below(4) {
            _ if made.len() < 2 => {
                let port = g.ports.len();
                g.ports.push(InputPort {
                    name: format!("input {port}"),
                    client: ClientInput::Gather {
                        user_shape: vec![40],
                        index: (0..40).map(|_| r.below(41) as i64 - 1).collect(),
                    },
                    factor: r.0.next(),
                });
                (Kernel::Input { port }, vec![], layout(&mut r, n, cts))
            }
            0 => {
                let operands: Vec<ValueId> = (0..1 + r.below(2)).map(|_| r.of(&made)).collect();
                let sources = operands.iter().map(|v| count(&g, *v)).sum();
                let kernel = linear(&mut r, &mut g, sources, cts);
                (kernel, operands, layout(&mut r, n, cts))
            }
            1 => {
                let v = r.of(&made);
                let steps: Vec<i64> = (0..1 + r.below(3)).map(|_| r.below(9) as i64 - 4).collect();
                let cts = steps.len() * count(&g, v);
                (Kernel::Rotate { steps }, vec![v], layout(&mut r, n, cts))
            }
            2 => {
                let operands: Vec<ValueId> = (0..1 + r.below(2)).map(|_| r.of(&made)).collect();
                let part = |r: &mut Random, g: &PackedGraph| -> Part {
                    let o = r.below(operands.len());
                    (o, r.below(g.layout(operands[o]).ciphertexts()))
                };
                let pairs = (0..cts)
                    .map(|_| {
                        (0..1 + r.below(3))
                            .map(|_| (part(&mut r, &g), part(&mut r, &g)))
                            .collect()
                    })
                    .collect();
                let kernel = Kernel::MulSum {
                    pairs,
                    factor: r.of(&[1, 2, -3]),
                    constant: r.of(&[0.0, -0.0, -1.0, 0.1]),
                };
                (kernel, operands, layout(&mut r, n, cts))
            }
            _ => {
                let first = r.of(&made);
                let layout = (**g.layout(first)).clone();
                let alike: Vec<ValueId> = made
                    .iter()
                    .copied()
                    .filter(|v| g.layout(*v).same_cells(&layout))
                    .collect();
                let operands: Vec<ValueId> = (0..1 + r.below(3)).map(|_| r.of(&alike)).collect();
                let coefficients = operands.iter().map(|_| r.of(&[1.0, -2.0, 1.0 / 3.0]));
                let kernel = Kernel::Combine {
                    coefficients: coefficients.collect(),
                    constant: r.of(&[0.0, -0.0, 0.7]),
                };
                (kernel, operands, layout)
            }
        };
        let layout = g.shared(layout);
        let bound = (!r.once_in(4)).then(|| r.0.next().abs());
        let op = PackedOp {
            kernel,
            layout,
            bound,
        };
        let name = r.of(&["v", "two words", "x.y"]);
        let layer = r.below(g.graph.layers.len());
        let shape = Shape::Matrix { rows: 2, cols: 3 };
        made.push(g.graph.add(name, op, &operands, shape, layer));
    }
    for i in 0..r.below(4) {
        let v = r.of(&made);
        g.origins.push((format!("{i} of \"poly\""), v));
    }
    for i in 0..1 + r.below(2) {
        let v = r.of(&made);
        g.graph.outputs.push((format!("output {i}"), v));
        g.output_factors.push(r.of(&[1.0, 0.7]));
    }
    g
}

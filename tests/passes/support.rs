//! What the tests of passes share: small models, random inputs, differences of texts.

use std::collections::BTreeMap;

use heron_passes::budget::Budget;
use heron_passes::ir::graph::ValueId;
use heron_passes::ir::poly::{PolyGraph, PolyOp};
use heron_passes::ir::shape::{Interval, Layer, LayerKind, Matrix, Shape};
use heron_passes::ir::tensor::{ClientInput, Linear, LinearTerm, RowMap, TensorGraph, TensorOp};
use heron_passes::pass::Lower;
use heron_passes::pass::{Pass, PassCx};
use heron_passes::sites::SiteRanges;
use heron_passes::substitute_polynomials::SubstitutePolynomials;
use heron_passes::to_poly::Named;

/// A small generator of reproducible numbers in [-1, 1].
pub struct Draws(pub u64);

impl Draws {
    /// The next number.
    pub fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// A matrix of numbers in [-size, size].
    pub fn matrix(&mut self, rows: usize, cols: usize, size: f64) -> Matrix {
        Matrix {
            rows,
            cols,
            data: (0..rows * cols).map(|_| size * self.next()).collect(),
        }
    }
}

/// A linear map with one dense term.
pub fn dense(weight: Matrix, bias: Option<Matrix>) -> Linear {
    Linear {
        terms: vec![LinearTerm {
            rows: RowMap::Identity,
            weight: weight.into(),
            post: None,
        }],
        bias,
    }
}

/// An empty graph with one layer tag.
pub fn graph<O>(name: &str) -> heron_passes::ir::graph::Graph<O> {
    let mut g = heron_passes::ir::graph::Graph::new(name);
    g.add_layer(Layer {
        name: name.into(),
        kind: LayerKind::Other,
        onnx_nodes: vec![],
    });
    g
}

/// A matrix shape.
pub fn matrix(rows: usize, cols: usize) -> Shape {
    Shape::Matrix { rows, cols }
}

/// The client gives the values as they are.
pub fn as_given(len: usize) -> ClientInput {
    ClientInput::Gather {
        user_shape: vec![len],
        index: (0..len as i64).collect(),
    }
}

/// An input of a poly graph.
pub fn poly_input(g: &mut PolyGraph, name: &str, rows: usize, cols: usize) -> ValueId {
    let op = PolyOp::Input {
        name: name.into(),
        client: as_given(rows * cols),
        factor: 1.0,
    };
    g.add(name, op, &[], matrix(rows, cols), 0)
}

/// Inputs of a poly graph, drawn.
pub fn draw_inputs(g: &PolyGraph, draws: &mut Draws) -> Named {
    let mut inputs = BTreeMap::new();
    for v in g.topological() {
        if let PolyOp::Input { name, .. } = &g.node(v).op {
            inputs.insert(
                name.clone(),
                (0..g.node(v).shape.len()).map(|_| draws.next()).collect(),
            );
        }
    }
    inputs
}

/// Largest difference of outputs over 64 draws, each divided by its factor.
pub fn difference(a: &PolyGraph, b: &PolyGraph, factors: &[f64]) -> f64 {
    let mut draws = Draws(7);
    let mut worst = 0f64;
    for _ in 0..64 {
        let inputs = draw_inputs(a, &mut draws);
        let (x, y) = (a.evaluate(&inputs).unwrap(), b.evaluate(&inputs).unwrap());
        for (i, ((_, va), (_, vb))) in a.outputs.iter().zip(&b.outputs).enumerate() {
            let factor = factors.get(i).copied().unwrap_or(1.0);
            for (p, q) in x[va].iter().zip(&y[vb]) {
                worst = worst.max((p - q / factor).abs());
            }
        }
    }
    worst
}

/// Lines taken away and added, by longest common subsequence.
pub fn diff(before: &str, after: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (squeezed(before), squeezed(after));
    let mut length = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            length[i][j] = if a[i] == b[j] {
                length[i + 1][j + 1] + 1
            } else {
                length[i + 1][j].max(length[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, String::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
        } else if i < a.len() && (j == b.len() || length[i + 1][j] >= length[i][j + 1]) {
            out += &format!("- {}\n", a[i].trim());
            i += 1;
        } else {
            out += &format!("+ {}\n", b[j].trim());
            j += 1;
        }
    }
    out
}

fn squeezed(text: &str) -> Vec<&str> {
    text.lines().map(str::trim_end).collect()
}

/// Runs a pass on a copy, checks that values stay equal, and gives the difference for a snapshot.
pub fn run_pass<P: Pass<Ir = PolyGraph>>(pass: &P, g: &PolyGraph) -> String {
    let mut after = g.clone();
    let changed = pass.run(&mut after, &mut PassCx::default()).unwrap();
    after.verify().unwrap();
    let worst = difference(g, &after, &[]);
    assert!(worst <= 1e-12, "values differ by {worst:.1e}");
    let columns = |g: &PolyGraph| {
        g.to_string()
            .split('\n')
            .map(collapse)
            .collect::<Vec<_>>()
            .join("\n")
    };
    format!(
        "changed: {changed:?}, equal on 64 random draws (tolerance 1e-12)\n{}",
        diff(&columns(g), &columns(&after))
    )
}

/// Runs of blanks made one: columns move when a line gets longer.
fn collapse(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Compares with `snapshots/<name>.snap`.
pub fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// One pre-LN attention block in the model's units: 4 tokens of width 4, one head, p = 4, residual, final LayerNorm and head.
pub fn toy_block(power: u32) -> (TensorGraph, SiteRanges) {
    let mut draws = Draws(3);
    let mut g: TensorGraph = graph("toy_block");
    let m = matrix(4, 4);
    let scores = Shape::Scores {
        heads: 1,
        rows: 4,
        keys: 4,
    };
    let x = g.add(
        "x",
        TensorOp::Input {
            name: "x".into(),
            client: as_given(16),
        },
        &[],
        m,
        0,
    );
    let embed = dense(draws.matrix(4, 4, 1.0), Some(draws.matrix(4, 4, 0.5)));
    let e = g.add("e", TensorOp::Linear(embed), &[x], m, 0);
    let norm = TensorOp::LayerNorm {
        gamma: vec![1.0, 0.8, 1.2, 0.9],
        beta: vec![0.1; 4],
        epsilon: 0.1,
        centre: true,
    };
    let h = g.add("ln1", norm.clone(), &[e], m, 0);
    let mut project = |name: &str, g: &mut TensorGraph| {
        let linear = dense(draws.matrix(4, 4, 0.7), Some(draws.matrix(1, 4, 0.2)));
        g.add(name, TensorOp::Linear(linear), &[h], m, 0)
    };
    let (q, k, v) = (
        project("q", &mut g),
        project("k", &mut g),
        project("v", &mut g),
    );
    let s = g.add(
        "s",
        TensorOp::Scores {
            heads: 1,
            scale: 0.5,
            mask: None,
        },
        &[q, k],
        scores,
        0,
    );
    let p = g.add(
        "p",
        TensorOp::PowerSoftmax {
            power,
            epsilon: 0.1,
        },
        &[s],
        scores,
        0,
    );
    let o = g.add("o", TensorOp::Values { heads: 1 }, &[p, v], m, 0);
    let w = dense(draws.matrix(4, 4, 0.5), None);
    let a = g.add("a", TensorOp::Linear(w), &[o], m, 0);
    let r = g.add("r", TensorOp::Add, &[e, a], m, 0);
    let f = g.add("ln2", norm, &[r], m, 0);
    let head = dense(draws.matrix(4, 3, 1.0), Some(draws.matrix(1, 3, 0.1)));
    let y = g.add("y", TensorOp::Linear(head), &[f], matrix(4, 3), 0);
    g.outputs.push(("y".into(), y));
    let mut sites = SiteRanges(
        [h, p, f]
            .into_iter()
            .map(|v| (v, Interval::new(0.1, 1.0)))
            .collect(),
        BTreeMap::new(),
    );
    if power == 4 {
        // A block's range is measured once those before it are known.
        for v in [h, p, f] {
            let found = measured(&g, &sites);
            sites.0.insert(v, found.0[&v]);
        }
    }
    (g, sites)
}

/// The ranges of the arguments of the toy block's functions over drawn inputs, with the blocks before them approximated on `sites`.
fn measured(tensor: &TensorGraph, sites: &SiteRanges) -> SiteRanges {
    let budget = Budget::default().tightened(100.0);
    let poly = SubstitutePolynomials { sites, budget }
        .lower(tensor, &mut PassCx::default())
        .unwrap();
    let mut draws = Draws(11);
    let mut found = SiteRanges::default();
    for _ in 0..40 {
        let values = poly.evaluate(&draw_inputs(&poly, &mut draws)).unwrap();
        for v in sites.0.keys() {
            let name = &tensor.node(*v).name;
            let (inner, divisor) = if name == "p" {
                ("p_pow4".to_string(), 1.0)
            } else {
                (format!("{name}_square"), 4.0)
            };
            let summed = poly
                .topological()
                .into_iter()
                .find(|v| poly.node(*v).name == inner);
            for row in summed.map_or(&[][..], |v| &values[&v][..]).chunks(4) {
                let z = row.iter().sum::<f64>() / divisor + 0.1;
                let range = found.0.entry(*v).or_insert(Interval::new(z, z));
                *range = Interval::new(range.lo.min(z), range.hi.max(z));
            }
        }
    }
    found.0.values_mut().for_each(|r| *r = r.rounded_outward());
    found
}

/// An attention head's weights, n and r from inputs, p = n · r; returns (graph, p, v).
pub fn attention() -> (PolyGraph, ValueId, ValueId) {
    let mut g: PolyGraph = graph("t");
    let q = poly_input(&mut g, "q", 4, 4);
    let k = poly_input(&mut g, "k", 4, 4);
    let v = poly_input(&mut g, "v", 4, 4);
    let scores = Shape::Scores {
        heads: 2,
        rows: 4,
        keys: 4,
    };
    let n = g.add(
        "n",
        PolyOp::Scores {
            heads: 2,
            mask: None,
        },
        &[q, k],
        scores,
        0,
    );
    let r = g.add(
        "r",
        PolyOp::KeySum {
            scale: 0.5,
            shift: 1.0,
            weights: None,
        },
        &[n],
        Shape::PerHead { heads: 2, rows: 4 },
        0,
    );
    let p = g.add("p", PolyOp::ScaleHeads, &[n, r], scores, 0);
    (g, p, v)
}

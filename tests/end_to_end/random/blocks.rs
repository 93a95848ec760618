//! A transformer of a [`Spec`], node by node. Weights are scaled so that activations are as in trained models: scores around 1
//! whose spread shrinks with the power, as range penalties teach, and residual streams of about unit variance.

use super::draw::{Activation, Epsilon, Head, Mask, Norm, Spec};
use super::graph::Onnx;

/// Width of float inputs.
pub const FEATURES: usize = 6;

/// Builds the graph; returns its last value and the rank of it.
pub fn transformer(spec: &Spec, g: &mut Onnx) -> (String, usize) {
    let (t, d) = (spec.tokens, spec.width);
    let embedded = match spec.vocabulary {
        Some(v) => {
            let table = g.random(&[v, d], 1.0, 0.0);
            g.with("Gather", &[&table, "x"], &[("axis", &[0])])
        }
        None => g.dense("x", FEATURES, d, 1.0),
    };
    let positions = g.random(&[1, t, d], 0.5, 0.0);
    let mut x = g.op("Add", &[&embedded, &positions]);
    for _ in 0..spec.layers {
        for part in 0..2 {
            let inner = if spec.norm_first {
                norm(spec, g, &x)
            } else {
                x.clone()
            };
            let out = if part == 0 {
                attention(spec, g, &inner)
            } else {
                mlp(spec, g, &inner)
            };
            x = g.op("Add", &[&x, &out]);
            if !spec.norm_first {
                x = norm(spec, g, &x);
            }
        }
    }
    if spec.norm_first {
        x = norm(spec, g, &x);
    }
    match spec.head {
        Head::Mean => {
            let pooled = g.with("ReduceMean", &[&x], &[("axes", &[1]), ("keepdims", &[0])]);
            (g.dense(&pooled, d, spec.classes, 1.0), 2)
        }
        Head::Cls => {
            let zero = g.ints(&[0]);
            let first = g.with("Gather", &[&x, &zero], &[("axis", &[1])]);
            let one = g.ints(&[1]);
            let row = g.op("Squeeze", &[&first, &one]);
            (g.dense(&row, d, spec.classes, 1.0), 2)
        }
        Head::All => (g.dense(&x, d, spec.classes, 1.0), 3),
    }
}

/// Over few columns a variance spreads widely, and trained models hold it up: a larger ε stands for that.
fn norm(spec: &Spec, g: &mut Onnx, x: &str) -> String {
    let d = spec.width;
    let epsilon = if d <= 8 { 0.2 } else { 1e-3 };
    let gamma = g.random(&[d], 0.1, 1.0);
    let beta = g.random(&[d], 0.1, 0.0);
    if spec.norm == Norm::Layer {
        return g.layer_norm(x, &gamma, &beta, epsilon);
    }
    let mean =
        |g: &mut Onnx, v: &str| g.with("ReduceMean", &[v], &[("axes", &[-1]), ("keepdims", &[1])]);
    let centred = if spec.norm == Norm::LayerParts {
        let m = mean(g, x);
        g.op("Sub", &[x, &m])
    } else {
        x.to_string()
    };
    let two = g.scalar(2.0);
    let square = g.op("Pow", &[&centred, &two]);
    let variance = mean(g, &square);
    let eps = g.scalar(epsilon);
    let shifted = g.op("Add", &[&variance, &eps]);
    let root = g.op("Sqrt", &[&shifted]);
    let hat = g.op("Div", &[&centred, &root]);
    let scaled = g.op("Mul", &[&hat, &gamma]);
    if spec.norm == Norm::LayerParts {
        g.op("Add", &[&scaled, &beta])
    } else {
        scaled
    }
}

/// [1, T, heads·h] → [1, heads, T, h].
fn split_heads(g: &mut Onnx, x: &str, t: usize, heads: usize, h: usize) -> String {
    let shape = g.ints(&[1, t as i64, heads as i64, h as i64]);
    let split = g.op("Reshape", &[x, &shape]);
    g.with("Transpose", &[&split], &[("perm", &[0, 2, 1, 3])])
}

/// A projection for queries or keys: small random part, and a part in common that puts scores near 1.
fn project(spec: &Spec, g: &mut Onnx, x: &str, heads: usize) -> String {
    let (d, h) = (spec.width, spec.head_width());
    let spread = 0.8 / f64::from(spec.power);
    let w = g.random(&[d, heads * h], spread / (d as f64).sqrt(), 0.0);
    let common = (h as f64).powf(-0.25);
    let b = g.random(&[heads * h], 0.05, common);
    let product = g.op("MatMul", &[x, &w]);
    g.op("Add", &[&product, &b])
}

/// x cos + rotated(x) sin on [1, heads, T, h], halves rotated (as in NeoX and Llama).
fn rotary(g: &mut Onnx, x: &str, t: usize, h: usize) -> String {
    let half = h / 2;
    let angle = |i: usize| {
        let (row, k) = (i / h, (i % h) % half);
        row as f64 * 0.3 / 10f64.powf(2.0 * k as f64 / h as f64)
    };
    let cos: Vec<f64> = (0..t * h).map(|i| angle(i).cos()).collect();
    let sin: Vec<f64> = (0..t * h).map(|i| angle(i).sin()).collect();
    let (cos, sin) = (g.constant(&[t, h], &cos), g.constant(&[t, h], &sin));
    let part = |g: &mut Onnx, from: usize, to: usize| {
        let (from, to, axis) = (g.ints(&[from as i64]), g.ints(&[to as i64]), g.ints(&[3]));
        g.op("Slice", &[x, &from, &to, &axis])
    };
    let (low, high) = (part(g, 0, half), part(g, half, h));
    let negative = g.op("Neg", &[&high]);
    let turned = g.with("Concat", &[&negative, &low], &[("axis", &[-1])]);
    let (a, b) = (g.op("Mul", &[x, &cos]), g.op("Mul", &[&turned, &sin]));
    g.op("Add", &[&a, &b])
}

/// Each of the groups for several query heads: [1, kv, T, h] → [1, heads, T, h].
fn repeated(g: &mut Onnx, x: &str, spec: &Spec) -> String {
    let (t, h) = (spec.tokens as i64, spec.head_width() as i64);
    let (kv, each) = (spec.kv_heads as i64, (spec.heads / spec.kv_heads) as i64);
    if each == 1 {
        return x.to_string();
    }
    let axis = g.ints(&[2]);
    let open = g.op("Unsqueeze", &[x, &axis]);
    let shape = g.ints(&[1, kv, each, t, h]);
    let wide = g.op("Expand", &[&open, &shape]);
    let shape = g.ints(&[1, kv * each, t, h]);
    g.op("Reshape", &[&wide, &shape])
}

fn attention(spec: &Spec, g: &mut Onnx, x: &str) -> String {
    let (t, d, h) = (spec.tokens, spec.width, spec.head_width());
    let inner = spec.heads * h;
    let kv = spec.kv_heads * h;
    let [q, k, v] = if spec.fused_qkv {
        let (q, k) = (
            project_weight(spec, g, spec.heads),
            project_weight(spec, g, spec.heads),
        );
        let v = (
            g.random(&[d, inner], 1.0 / (d as f64).sqrt(), 0.0),
            g.random(&[inner], 0.1, 0.0),
        );
        let w = g.with("Concat", &[&q.0, &k.0, &v.0], &[("axis", &[-1])]);
        let b = g.with("Concat", &[&q.1, &k.1, &v.1], &[("axis", &[-1])]);
        let product = g.op("MatMul", &[x, &w]);
        let all = g.op("Add", &[&product, &b]);
        let parts = g.split(&all, 3, inner);
        [parts[0].clone(), parts[1].clone(), parts[2].clone()]
    } else {
        [
            project(spec, g, x, spec.heads),
            project(spec, g, x, spec.kv_heads),
            g.dense(x, d, kv, 1.0),
        ]
    };
    let mut q = split_heads(g, &q, t, spec.heads, h);
    let mut k = split_heads(g, &k, t, spec.kv_heads, h);
    let v = split_heads(g, &v, t, spec.kv_heads, h);
    if spec.rotary {
        q = rotary(g, &q, t, h);
        k = rotary(g, &k, t, h);
    }
    let (k, v) = (repeated(g, &k, spec), repeated(g, &v, spec));
    let transposed = g.with("Transpose", &[&k], &[("perm", &[0, 1, 3, 2])]);
    let product = g.op("MatMul", &[&q, &transposed]);
    let root = g.scalar((h as f64).sqrt());
    let scores = g.op("Div", &[&product, &root]);
    let weights = power_softmax(spec, g, &scores);
    let mixed = g.op("MatMul", &[&weights, &v]);
    let order = g.with("Transpose", &[&mixed], &[("perm", &[0, 2, 1, 3])]);
    let shape = g.ints(&[1, t as i64, inner as i64]);
    let joined = g.op("Reshape", &[&order, &shape]);
    g.dense(&joined, inner, d, 0.7)
}

/// Weight and bias as in [`project`], to be joined with others.
fn project_weight(spec: &Spec, g: &mut Onnx, heads: usize) -> (String, String) {
    let (d, h) = (spec.width, spec.head_width());
    let spread = 0.8 / f64::from(spec.power);
    let w = g.random(&[d, heads * h], spread / (d as f64).sqrt(), 0.0);
    let b = g.random(&[heads * h], 0.05, (h as f64).powf(-0.25));
    (w, b)
}

fn mask(spec: &Spec, g: &mut Onnx) -> Option<(String, bool)> {
    let t = spec.tokens;
    let (before, sees): (bool, Box<dyn Fn(usize, usize) -> bool>) = match spec.mask {
        Mask::None => return None,
        Mask::Causal { before } => (before, Box::new(|i, j| j <= i)),
        Mask::Padding { before } => {
            let kept = t - (t / 4).max(1);
            (before, Box::new(move |_, j| j < kept.max(1)))
        }
    };
    let values: Vec<f64> = (0..t * t)
        .map(|at| f64::from(u8::from(sees(at / t, at % t))))
        .collect();
    Some((g.constant(&[1, 1, t, t], &values), before))
}

fn power_softmax(spec: &Spec, g: &mut Onnx, scores: &str) -> String {
    let mask = mask(spec, g);
    let mut s = scores.to_string();
    if let Some((m, true)) = &mask {
        s = g.op("Mul", &[&s, m]);
    }
    let mut power = if spec.power_as_products {
        let mut product = s.clone();
        for _ in 1..spec.power {
            product = g.op("Mul", &[&product, &s]);
        }
        product
    } else {
        let p = g.scalar(f64::from(spec.power));
        g.op("Pow", &[&s, &p])
    };
    if let Some((m, false)) = &mask {
        power = g.op("Mul", &[&power, m]);
    }
    let length = spec.tokens as f64;
    let last = g.ints(&[-1]);
    let sum = match spec.epsilon {
        Epsilon::Sum => g.with("ReduceSum", &[&power, &last], &[("keepdims", &[1])]),
        _ => g.with(
            "ReduceMean",
            &[&power],
            &[("axes", &[-1]), ("keepdims", &[1])],
        ),
    };
    let eps = g.scalar(0.05);
    let shifted = g.op("Add", &[&sum, &eps]);
    let count = g.scalar(length);
    match spec.epsilon {
        Epsilon::Sum => g.op("Div", &[&power, &shifted]),
        Epsilon::Mean => {
            let whole = g.op("Mul", &[&shifted, &count]);
            g.op("Div", &[&power, &whole])
        }
        Epsilon::MeanThenLength => {
            let each = g.op("Div", &[&power, &shifted]);
            g.op("Div", &[&each, &count])
        }
    }
}

fn activation(spec: &Spec, g: &mut Onnx, x: &str) -> String {
    match spec.activation {
        Activation::GeluErf => {
            let root = g.scalar(std::f64::consts::SQRT_2);
            let scaled = g.op("Div", &[x, &root]);
            let erf = g.op("Erf", &[&scaled]);
            let one = g.scalar(1.0);
            let sum = g.op("Add", &[&erf, &one]);
            let product = g.op("Mul", &[x, &sum]);
            let half = g.scalar(0.5);
            g.op("Mul", &[&product, &half])
        }
        Activation::GeluTanh => {
            let (three, small, root) = (
                g.scalar(3.0),
                g.scalar(0.044_715),
                g.scalar((2.0 / std::f64::consts::PI).sqrt()),
            );
            let cube = g.op("Pow", &[x, &three]);
            let scaled = g.op("Mul", &[&cube, &small]);
            let sum = g.op("Add", &[x, &scaled]);
            let inner = g.op("Mul", &[&sum, &root]);
            let tanh = g.op("Tanh", &[&inner]);
            let (one, half) = (g.scalar(1.0), g.scalar(0.5));
            let plus = g.op("Add", &[&tanh, &one]);
            let halved = g.op("Mul", &[x, &half]);
            g.op("Mul", &[&halved, &plus])
        }
        Activation::QuickGelu => {
            let factor = g.scalar(1.702);
            let scaled = g.op("Mul", &[x, &factor]);
            let gate = g.op("Sigmoid", &[&scaled]);
            g.op("Mul", &[x, &gate])
        }
        Activation::Silu => {
            let gate = g.op("Sigmoid", &[x]);
            g.op("Mul", &[x, &gate])
        }
        Activation::Relu => g.op("Relu", &[x]),
        Activation::Tanh => g.op("Tanh", &[x]),
    }
}

fn mlp(spec: &Spec, g: &mut Onnx, x: &str) -> String {
    let up = g.dense(x, spec.width, spec.hidden, 1.0);
    let mut active = activation(spec, g, &up);
    if spec.gated {
        let other = g.dense(x, spec.width, spec.hidden, 1.0);
        active = g.op("Mul", &[&active, &other]);
    }
    g.dense(&active, spec.hidden, spec.width, 0.7)
}

//! substitute-softmax: plain softmax by normalise-and-square or cumulants, compared with the exact one.

use std::collections::BTreeMap;

use heron_compiler::softmax_variant::{softmax_variant, twin, Setting, LARGEST};
use heron_passes::budget::Budget;
use heron_passes::calibrate_ranges::calibrate_ranges;
use heron_passes::cost::prices::Target;
use heron_passes::ir::graph::ValueId;
use heron_passes::ir::packed::PackedGraph;
use heron_passes::ir::poly::PolyOp;
use heron_passes::ir::shape::{Matrix, Shape};
use heron_passes::ir::tensor::{TensorGraph, TensorOp};
use heron_passes::lower_packed::LowerPacked;
use heron_passes::pass::{Lower, Manager, PassCx};
use heron_passes::substitute_polynomials::SubstitutePolynomials;
use heron_passes::to_poly::{to_poly, Named, PolyModel};

use heron_schedule::params::{ParameterSet, Profile};

use crate::lower_packed::difference;
use crate::support::{as_given, dense, graph, matrix, snapshot, toy_block, Draws};

const TOKENS: usize = 8;

/// One attention block of two heads of width 4 on 8 tokens whose scores spread with `spread`.
struct Attention {
    spread: f64,
    causal: bool,
    encrypted: bool,
}

fn plain(spread: f64) -> Attention {
    Attention {
        spread,
        causal: false,
        encrypted: false,
    }
}

impl Attention {
    fn tensor(&self) -> TensorGraph {
        let mut draws = Draws(3);
        let mut g: TensorGraph = graph("attention");
        let m = matrix(TOKENS, 8);
        let input = |g: &mut TensorGraph, name: &str, rows: usize, cols: usize| {
            let op = TensorOp::Input {
                name: name.into(),
                client: as_given(rows * cols),
            };
            g.add(name, op, &[], matrix(rows, cols), 0)
        };
        let x = input(&mut g, "x", TOKENS, 8);
        let mut project = |g: &mut TensorGraph, name: &str| {
            let linear = dense(draws.matrix(8, 8, 0.6), Some(draws.matrix(1, 8, 0.2)));
            g.add(name, TensorOp::Linear(linear), &[x], m, 0)
        };
        let [q, k, v] = ["q", "k", "v"].map(|n| project(&mut g, n));
        let shape = Shape::Scores {
            heads: 2,
            rows: TOKENS,
            keys: TOKENS,
        };
        let scores = |scale| TensorOp::Scores {
            heads: 2,
            scale,
            mask: None,
        };
        let s = g.add("s", scores(self.spread), &[q, k], shape, 0);
        let mut operands = vec![s];
        if self.encrypted {
            // 1 · bit of the key, by head.
            let a = input(&mut g, "ones", TOKENS, 2);
            let b = input(&mut g, "bits", TOKENS, 2);
            operands.push(g.add("m", scores(1.0), &[a, b], shape, 0));
        }
        let mask = self.causal.then(|| {
            let mut m = Matrix::zeros(TOKENS, TOKENS);
            for i in 0..TOKENS {
                for j in 0..=i {
                    m.data[i * TOKENS + j] = 1.0;
                }
            }
            m
        });
        let p = g.add("p", TensorOp::Softmax { mask }, &operands, shape, 0);
        let o = g.add("o", TensorOp::Values { heads: 2 }, &[p, v], m, 0);
        let linear = dense(draws.matrix(8, 3, 0.5), None);
        let y = g.add("y", TensorOp::Linear(linear), &[o], matrix(TOKENS, 3), 0);
        g.outputs.push(("y".into(), y));
        g
    }

    fn inputs(&self, count: usize, seed: u64) -> Vec<Named> {
        let mut draws = Draws(seed);
        (0..count)
            .map(|_| {
                let mut named = BTreeMap::new();
                let x = (0..TOKENS * 8).map(|_| 2.0 * draws.next()).collect();
                named.insert("x".to_string(), x);
                if self.encrypted {
                    // The first key is always there.
                    let bits: Vec<f64> = (0..TOKENS)
                        .flat_map(|j| [f64::from(j == 0 || draws.next() > -0.4); 2])
                        .collect();
                    named.insert("ones".into(), vec![1.0; 2 * TOKENS]);
                    named.insert("bits".into(), bits);
                }
                named
            })
            .collect()
    }

    fn compile(&self, tolerance: f64) -> Result<(PolyModel, TensorGraph), String> {
        let mut tensor = self.tensor();
        tensor.verify().unwrap();
        let inputs = self.inputs(48, 5);
        let sites = calibrate_ranges(&mut tensor, &inputs).map_err(|e| e.to_string())?;
        let reference = outputs(&tensor, &inputs);
        let model = to_poly(
            &tensor,
            &sites,
            &inputs,
            &reference,
            Budget::default(),
            tolerance,
            &mut Manager::new(),
        )
        .map_err(|e| e.to_string())?;
        Ok((model, tensor))
    }
}

fn outputs(tensor: &TensorGraph, inputs: &[Named]) -> Vec<Named> {
    inputs
        .iter()
        .map(|x| {
            let y = tensor.outputs_for(x).unwrap().remove(0);
            BTreeMap::from([("y".to_string(), y)])
        })
        .collect()
}

/// Largest difference over the standard deviation, on inputs that calibration has not seen.
fn fresh_error(case: &Attention, model: &PolyModel, tensor: &TensorGraph) -> f64 {
    let inputs = case.inputs(48, 77);
    let (mut worst, mut sum, mut squares, mut n) = (0f64, 0.0, 0.0, 0.0);
    for (x, y) in inputs.iter().zip(outputs(tensor, &inputs)) {
        let found = &model.graph.evaluate(x).unwrap()[&model.graph.outputs[0].1];
        for (a, b) in found.iter().zip(&y["y"]) {
            worst = worst.max((a / model.outputs[0].0 - b).abs());
            sum += b;
            squares += b * b;
            n += 1.0;
        }
    }
    worst / (squares / n - (sum / n) * (sum / n)).sqrt()
}

fn pack(model: &PolyModel, slots: usize) -> PackedGraph {
    let pass = LowerPacked {
        slots,
        batch: Some(1),
    };
    Manager::new().lower(&pass, &model.graph).unwrap()
}

/// Levels on the longest path from `from` (the last packed value of that name) to any value.
fn levels(packed: &PackedGraph, from: &str) -> u32 {
    let mut depth: BTreeMap<ValueId, u32> = BTreeMap::new();
    let order = packed.graph.topological();
    let start = order
        .iter()
        .rev()
        .find(|v| {
            packed
                .graph
                .node(**v)
                .name
                .trim_end_matches(|c: char| c == '_' || c.is_ascii_digit())
                == from
        })
        .copied()
        .unwrap();
    depth.insert(start, 0);
    for v in order {
        let kernel = &packed.graph.node(v).op.kernel;
        let longest = packed
            .graph
            .operands(v)
            .iter()
            .enumerate()
            .filter_map(|(i, o)| Some(depth.get(o)? + kernel.levels(i)))
            .max();
        if let Some(d) = longest {
            depth.insert(v, d);
        }
    }
    depth.values().copied().max().unwrap()
}

fn approximation(model: &PolyModel) -> (String, usize, f64) {
    let found = model
        .graph
        .topological()
        .into_iter()
        .find_map(|v| match &model.graph.node(v).op {
            PolyOp::Evaluate { approximation, .. } if approximation.function == "softmax" => {
                Some((
                    approximation.method.clone(),
                    approximation.degree_or_iterations,
                    approximation.max_error,
                ))
            }
            _ => None,
        });
    found.unwrap()
}

#[test]
fn error_stays_within_the_tolerance_from_flat_to_widely_spread_scores() {
    let mut table = String::new();
    for spread in [0.001, 0.02, 0.1, 0.5, 2.0, 6.0] {
        let case = plain(spread);
        let (model, tensor) = case.compile(1e-2).unwrap();
        let fresh = fresh_error(&case, &model, &tensor);
        let (method, depth, bound) = approximation(&model);
        println!("scale {spread}: {method}, depth {depth}, bound {bound:.1e}, error {:.1e}, on other inputs {fresh:.1e}", model.error);
        assert!(model.error <= 2.5e-3, "{}", model.error);
        assert!(fresh <= 1e-2, "scale {spread}: {fresh}");
        table += &format!("scale {spread}: {method}, depth {depth}\n");
    }
    snapshot("substitute-softmax__methods", &table);
}

#[test]
fn masked_keys_count_nothing_in_poly_and_packed_graphs() {
    for spread in [0.02, 1.0] {
        let case = Attention {
            causal: true,
            ..plain(spread)
        };
        let (model, tensor) = case.compile(1e-2).unwrap();
        let fresh = fresh_error(&case, &model, &tensor);
        println!(
            "causal, scale {spread}: {:?}, on other inputs {fresh:.1e}",
            approximation(&model)
        );
        assert!(fresh <= 1e-2, "{fresh}");
    }
    let case = Attention {
        encrypted: true,
        ..plain(1.0)
    };
    let (model, tensor) = case.compile(1e-2).unwrap();
    let fresh = fresh_error(&case, &model, &tensor);
    assert!(approximation(&model).0.starts_with("normalise"));
    assert!(fresh <= 1e-2, "{fresh}");
}

#[test]
fn packed_graph_takes_the_levels_of_the_plan() {
    for (spread, causal) in [(0.02, false), (0.5, false), (6.0, false), (1.0, true)] {
        let case = Attention {
            causal,
            ..plain(spread)
        };
        let (model, _) = case.compile(1e-2).unwrap();
        let packed = pack(&model, 512);
        assert!(difference(&model.graph, &packed) <= 1e-9);
        let (method, depth, _) = approximation(&model);
        let found = levels(&packed, "s");
        println!("scale {spread}: {method}: plan {depth}, packed {found}");
        // The head after A·V takes one more.
        assert_eq!(found as usize, depth + 1);
    }
}

fn lower(case: &Attention, seen: &[Named], budget: Budget) -> Result<String, String> {
    let mut tensor = case.tensor();
    let sites = calibrate_ranges(&mut tensor, seen).map_err(|e| e.to_string())?;
    SubstitutePolynomials {
        sites: &sites,
        budget,
    }
    .lower(&tensor, &mut PassCx::default())
    .map(|g| g.to_string())
    .map_err(|e| e.to_string())
}

#[test]
fn takes_a_softmax_to_pieces() {
    let case = plain(0.5);
    let text = lower(&case, &case.inputs(16, 5), Budget::default()).unwrap();
    snapshot("substitute-softmax__normalise_and_square", &text);
    let case = Attention {
        causal: true,
        ..plain(0.01)
    };
    let text = lower(&case, &case.inputs(16, 5), Budget::default()).unwrap();
    snapshot("substitute-softmax__cumulants", &text);
}

#[test]
fn refuses_hopeless_scores_by_name() {
    let wide = plain(200.0);
    let refused = lower(&wide, &wide.inputs(16, 5), Budget::default()).unwrap_err();
    snapshot("substitute-softmax__refuses", &refused);
}

#[test]
fn variant_replaces_every_power_softmax_and_is_null_where_there_is_none() {
    let (tensor, _) = toy_block(4);
    let mut draws = Draws(9);
    let users: Vec<Named> = (0..8)
        .map(|_| {
            let x = (0..16).map(|_| draws.next()).collect();
            BTreeMap::from([("x".to_string(), x)])
        })
        .collect();
    let params = ParameterSet::new(Profile::Toy).unwrap();
    let client = heron_schedule::client::ClientGraph::default();
    let setting = |parameters| Setting {
        target: Target::Cpu,
        client: &client,
        users: &users,
        inputs: &users,
        tolerance: 1e-2,
        params: &params,
        batch: Some(1),
        parameters,
    };
    let found = softmax_variant(&tensor, &setting(100));
    println!("{found}");
    assert!(found["multiplicative_depth"].as_u64().unwrap() > 10);
    assert!(found["estimate_seconds"].as_f64().unwrap() > 0.0);
    let large = softmax_variant(&tensor, &setting(LARGEST + 1));
    assert!(
        large["bootstraps"].is_null() && large["note"].as_str().unwrap().contains("not computed")
    );
    let replaced = twin(&tensor).unwrap();
    replaced.verify().unwrap();
    assert!(softmax_variant(&replaced, &setting(100)).is_null());
}

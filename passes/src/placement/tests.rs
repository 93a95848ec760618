//! Placement against an independent search: on random graphs, lower bound ≤ optimum ≤ what the compiler chooses ≤ 1.05 × optimum.
//! The search knows the rules of levelled graphs and the price of an operation; it shares nothing else with the compiler.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::assign_levels::{AssignLevels, Placing};
use crate::cost::{BootstrapKind, CostTable};
use crate::ir::graph::{Graph, ValueId};
use crate::ir::levelled::LevelledGraph;
use crate::ir::packed::build::Scope;
use crate::ir::packed::layout::{Geometry, Layout};
use crate::ir::packed::{InputPort, Kernel, LinearOut, LinearTerm, PackedGraph, Plaintexts};
use crate::ir::shape::{Layer, LayerKind, Shape};
use crate::ir::tensor::ClientInput;
use crate::linear_siblings::families;
use crate::pass::{Ir, Lower, Manager, PassCx, PassError};
use crate::place_bootstraps::solve;
use crate::placement::bound::lower_bound;
use crate::placement::{value_seconds, Objective, Problem};

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
fn random_graph(seed: u64) -> PackedGraph {
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

/// One value as the search sees it.
struct Vertex {
    /// (operand, levels, whether it must be at exactly that level)
    operands: Vec<(usize, u32, bool)>,
    /// Price by level of the operation, and of one adjustment to a level.
    operation: Vec<f64>,
    adjustment: Vec<f64>,
    addition: Vec<f64>,
    /// Price by level after a bootstrap.
    bootstrap: Option<Vec<f64>>,
}

/// All levelled graphs of a packed one, by exhaustion: each value's level and each value's bootstrap.
struct Search {
    vertices: Vec<Vertex>,
    /// Least price of all vertices before each.
    before: Vec<f64>,
    best: f64,
    top: u32,
    from: u32,
    /// Level of the operation, and level offered, of the values chosen so far.
    chosen: Vec<(u32, u32)>,
}

impl Search {
    /// Prices in seconds, or only bootstraps.
    fn new(packed: &PackedGraph, costs: &CostTable, count_only: bool) -> Self {
        let graph = &packed.graph;
        let mut alive: BTreeSet<ValueId> = graph.outputs.iter().map(|(_, v)| *v).collect();
        for v in graph.topological().into_iter().rev() {
            if alive.contains(&v) {
                alive.extend(graph.operands(v));
            }
        }
        let order: Vec<ValueId> = graph
            .topological()
            .into_iter()
            .filter(|v| alive.contains(v))
            .collect();
        let mut vertices = Vec::new();
        for v in &order {
            let op = &graph.node(*v).op;
            let n = op.layout.ciphertexts();
            let levels = || 0..=costs.top;
            let free = |x: f64| if count_only { 0.0 } else { x };
            let allowed = op.bound.is_some_and(|b| b <= 1.05)
                && !op.layout.is_unnamed()
                && !matches!(op.kernel, Kernel::Input { .. });
            // A bundle one way or the other, whichever costs less to the top.
            let repeats = op.layout.period() * packed.geometry.batch;
            let log_slots = repeats.max(2).ilog2();
            let pairs = |l| {
                (n / 2) as f64 * costs.bootstrap(BootstrapKind::ComplexPair, l)
                    + (n % 2) as f64 * costs.bootstrap(BootstrapKind::Full, l)
            };
            let alone = |l| n as f64 * costs.bootstrap(BootstrapKind::Sparse { log_slots }, l);
            let sparse = log_slots + 2 <= costs.log_n && alone(costs.top) <= pairs(costs.top);
            let price = |l| match (count_only, sparse) {
                (true, true) => n as f64,
                (true, false) => n.div_ceil(2) as f64,
                (false, true) => alone(l),
                (false, false) => pairs(l),
            };
            let operands = graph.operands(*v).into_iter().enumerate();
            vertices.push(Vertex {
                operands: operands
                    .map(|(i, o)| {
                        let at = order.iter().position(|w| *w == o).unwrap();
                        let exact = !matches!(op.kernel, Kernel::Combine { .. });
                        (at, op.kernel.levels(i), exact)
                    })
                    .collect(),
                operation: levels()
                    .map(|l| free(costs.kernel(&op.kernel, n, l)))
                    .collect(),
                adjustment: levels().map(|l| free(costs.adjustment(n, l))).collect(),
                addition: levels()
                    .map(|l| free(n as f64 * costs.combine(l)))
                    .collect(),
                bootstrap: allowed.then(|| levels().map(price).collect()),
            });
        }
        let mut before = vec![0.0];
        for v in &vertices {
            let least = v.operation.iter().copied().fold(f64::INFINITY, f64::min);
            before.push(before[before.len() - 1] + least);
        }
        Search {
            chosen: vec![(0, 0); vertices.len()],
            vertices,
            before,
            best: f64::INFINITY,
            top: costs.top,
            from: costs.chain.bootstrap_from.unwrap(),
        }
    }

    /// Values from `at` downwards, given what readers ask of each: (level, exactly).
    fn descend(&mut self, at: usize, asked: &mut Vec<Vec<(u32, bool)>>, price: f64) {
        if price + self.before[at] >= self.best {
            return;
        }
        let Some(at) = at.checked_sub(1) else {
            self.best = self.best.min(price + self.taken_from_above());
            return;
        };
        let most = asked[at].iter().map(|a| a.0).max().unwrap_or(0);
        for level in 0..=self.top {
            // Not bootstrapped, or bootstrapped to some level above.
            for out in level..=self.top {
                if out < most {
                    continue;
                }
                let vertex = &self.vertices[at];
                let bootstrap = match (&vertex.bootstrap, out > level) {
                    (_, false) => 0.0,
                    (Some(prices), true) if level >= self.from => prices[out as usize],
                    _ => continue,
                };
                let lowered: BTreeSet<u32> = asked[at]
                    .iter()
                    .filter(|(l, exact)| *exact && *l != level && *l != out)
                    .map(|(l, _)| *l)
                    .collect();
                let down = |l: &u32| vertex.adjustment[*l as usize] + vertex.addition[*l as usize];
                let adjustments: f64 = lowered.iter().map(down).sum();
                let operands = vertex.operands.clone();
                if operands.iter().any(|(_, d, _)| level + d > self.top) {
                    continue;
                }
                let price = price + vertex.operation[level as usize] + bootstrap + adjustments;
                for (o, d, exact) in &operands {
                    asked[*o].push((level + d, *exact));
                }
                self.chosen[at] = (level, out);
                self.descend(at, asked, price);
                for (o, _, _) in &operands {
                    asked[*o].pop();
                }
            }
        }
    }

    /// Combinations bring down terms that they do not multiply, those of one level together.
    fn taken_from_above(&self) -> f64 {
        let mut total = 0.0;
        for (vertex, (level, _)) in self.vertices.iter().zip(&self.chosen) {
            let free = vertex
                .operands
                .iter()
                .filter(|(_, d, exact)| *d == 0 && !exact);
            let offered = free.map(|(o, _, _)| match self.chosen[*o] {
                (own, _) if own >= *level => own,
                (_, out) => out,
            });
            let above: BTreeSet<u32> = offered.filter(|l| l > level).collect();
            total += above.len() as f64 * vertex.adjustment[*level as usize];
        }
        total
    }

    /// The least price; `None` where nothing fits.
    fn run(mut self) -> Option<f64> {
        let mut asked = vec![Vec::new(); self.vertices.len()];
        self.descend(self.vertices.len(), &mut asked, 0.0);
        self.best.is_finite().then_some(self.best)
    }
}

fn assign(
    packed: &PackedGraph,
    costs: CostTable,
    placing: Placing,
) -> Result<LevelledGraph, PassError> {
    Manager::new().lower(&AssignLevels { costs, placing }, packed)
}

/// Seconds of what was made, value by value.
fn total(graph: &LevelledGraph) -> f64 {
    value_seconds(graph).map(|(_, s)| s).sum()
}

fn count(graph: &LevelledGraph) -> usize {
    let (full, pairs, sparse) = graph.bootstraps();
    full + pairs + sparse
}

/// Prices with `levels` levels between bootstraps that begin at level `from`.
fn prices(levels: u32, from: u32) -> CostTable {
    let mut costs = CostTable::bootstrapped(16, from + levels);
    costs.chain.bootstrap_from = Some(from);
    costs
}

#[test]
fn bounds_and_choices_enclose_the_optimum_of_random_graphs() {
    let (mut solved, mut refused, mut bootstrapped, mut shared) = (0, 0, 0, 0);
    let (mut worst, mut loosest, mut loosest_count) = (1f64, 1f64, 0usize);
    let mut seed = 0;
    while solved < 240 {
        seed += 1;
        let packed = random_graph(seed);
        packed.verify().unwrap();
        let costs = prices(1 + (seed % 3) as u32, (seed % 2) as u32);
        let optimum = Search::new(&packed, &costs, false).run();
        let fewest = Search::new(&packed, &costs, true).run();
        let graph = assign(&packed, costs, Placing::Best);
        let (Some(optimum), Some(fewest)) = (optimum, fewest) else {
            // The compiler refuses exactly what has no placement.
            assert!(graph.is_err(), "seed {seed}\n{}", packed.print());
            refused += 1;
            continue;
        };
        let graph = graph.unwrap();
        let bound = lower_bound(&Problem::new(&packed, &costs), 400);
        // What is placed shares no rotations; what is made of it may, and then costs less.
        let (cost, made) = (graph.placement.cost_seconds, total(&graph));
        assert!(
            made <= cost * (1.0 + 1e-9),
            "seed {seed}: {made} s of {cost} s"
        );
        let alone = families(&graph).is_empty();
        assert!(!alone || cost - made <= 1e-9 * cost);
        shared += usize::from(!alone);
        let case = || {
            format!("seed {seed}: bound {bound:?}, optimum {optimum} s, {fewest} bootstraps, compiler {cost} s\n{}", graph.print())
        };
        assert!(bound.seconds <= optimum * (1.0 + 1e-9), "{}", case());
        assert!(optimum <= cost * (1.0 + 1e-9), "{}", case());
        assert!(cost <= 1.05 * optimum, "{}", case());
        // And for the count alone.
        let few = assign(&packed, costs, Placing::FewestBootstraps).unwrap();
        assert!(bound.bootstraps as f64 <= fewest, "{}", case());
        assert!(fewest <= count(&graph) as f64, "{}", case());
        assert!(
            fewest <= count(&few) as f64 && count(&few) as f64 <= 1.05 * fewest,
            "{}",
            case()
        );
        solved += 1;
        bootstrapped += usize::from(fewest > 0.0);
        worst = worst.max(cost / optimum);
        loosest = loosest.max(optimum / bound.seconds);
        loosest_count = loosest_count.max(fewest as usize - bound.bootstraps);
    }
    println!("maps share rotations in {shared}");
    assert!(shared > 0);
    println!(
        "{solved} graphs, {bootstrapped} with bootstraps, {refused} without a placement: compiler at most {worst:.4} x optimum (bound 1.05), optimum at most {loosest:.3} x lower bound, at most {loosest_count} bootstraps above its bound"
    );
    assert!(bootstrapped >= 100);
}

#[test]
fn reference_policies_make_valid_graphs_that_cost_no_less() {
    let mut made = 0;
    for seed in 1..=60 {
        let packed = random_graph(seed);
        let costs = prices(3, 1);
        let Ok(best) = assign(&packed, costs, Placing::Best) else {
            continue;
        };
        for placing in Placing::ALL {
            // The manager verifies what comes out.
            let Ok(graph) = assign(&packed, costs, placing) else {
                continue;
            };
            let stated = best
                .placement
                .policies
                .iter()
                .find(|p| p.name == placing.name())
                .unwrap();
            assert_eq!(stated.bootstraps, count(&graph), "{}", graph.print());
            let cost = graph.placement.cost_seconds;
            assert!((stated.cost_seconds - cost).abs() <= 1e-9 * cost);
            // Adjustments are not in the dynamic program: by them alone a policy may come out ahead.
            let text = graph.print();
            assert!(cost * 1.01 >= best.placement.cost_seconds, "{text}");
            made += 1;
        }
    }
    assert!(made >= 120, "{made}");
}

/// Every operation is as low as the lowest that its readers allow: one level less for any value is not valid.
#[test]
fn operations_run_at_the_lowest_level_their_readers_allow() {
    for seed in 1..=40 {
        let packed = random_graph(seed);
        let costs = prices(3, 1);
        let Ok(graph) = AssignLevels {
            costs,
            placing: Placing::Best,
        }
        .lower(&packed, &mut PassCx::default()) else {
            continue;
        };
        for v in graph.graph.topological() {
            let level = graph.graph.node(v).op.level;
            if level == 0 || graph.graph.operands(v).is_empty() {
                continue;
            }
            let mut lower = graph.clone();
            lower.graph.node_mut(v).op.level = level - 1;
            assert!(
                lower.verify().is_err(),
                "%{} of\n{}",
                graph.graph.node(v).name,
                graph.print()
            );
        }
    }
}

/// `layers` equal blocks on a residual stream: two branches of products and linear maps, one with a deep side chain, as a transformer's.
fn blocks(layers: usize) -> PackedGraph {
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

#[test]
fn equal_layers_are_solved_once() {
    let costs = prices(9, 3);
    let mut tables = Vec::new();
    let mut seconds = Vec::new();
    for layers in [1, 2, 12, 24] {
        let packed = blocks(layers);
        packed.verify().unwrap();
        let problem = Problem::new(&packed, &costs);
        let start = std::time::Instant::now();
        let found = solve(&problem, Objective::Seconds).unwrap();
        let took = start.elapsed();
        assert!(found.exact);
        problem.check(&found.levels).unwrap();
        let bound = lower_bound(&problem, 100).seconds;
        let price = problem.seconds(&found.levels);
        println!(
            "{layers} layers, {} values: {took:.1?} for {:?} regions (all, solved), {price:.2} s, bound {bound:.2} s, {} bootstraps",
            problem.sites.len(),
            found.regions,
            problem.bootstraps(&found.levels)
        );
        assert!(found.regions.0 >= 2 * layers);
        tables.push(found.regions.1);
        seconds.push(price);
    }
    // No table is added by a layer beyond the second.
    assert!(tables[1..].iter().all(|t| *t == tables[1]), "{tables:?}");
    // Each further layer costs the same: the optimum is periodic.
    assert!(seconds[3] > 1.9 * seconds[2] && seconds[3] < 2.1 * seconds[2]);
}

//! Placement against an independent search: on random graphs, lower bound ≤ optimum ≤ what the compiler chooses ≤ 1.05 × optimum.
//! The search knows the rules of levelled graphs and the price of an operation; it shares nothing else with the compiler.

mod graphs;
mod search;

use crate::assign_levels::{AssignLevels, Placing};
use crate::cost::CostTable;
use crate::ir::levelled::LevelledGraph;
use crate::ir::packed::PackedGraph;
use crate::linear_siblings::families;
use crate::pass::{Ir, Lower, Manager, PassCx, PassError};
use crate::place_bootstraps::solve;
use crate::placement::bound::lower_bound;
use crate::placement::{value_seconds, Objective, Problem};
use graphs::{blocks, random_graph};
use search::Search;

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

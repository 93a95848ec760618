//! Graphs as text: print → parse → print gives the same text, the graph read means the same, and no text makes the parser panic.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::str::FromStr;

use heron_passes::assign_levels::{AssignLevels, Placing};
use heron_passes::cost::{ChainCost, CostTable};
use heron_passes::ir::graph::ValueId;
use heron_passes::ir::levelled::LevelledGraph;
use heron_passes::ir::packed::PackedGraph;
use heron_passes::ir::poly::{PolyGraph, PolyOp};
use heron_passes::ir::tensor::{ClientInput, TensorGraph, TensorOp};
use heron_passes::pass::{Ir, Lower, Manager, PassCx};

use crate::random_graphs::{self, Random};
use crate::random_packed;
use crate::support::{draw_inputs, snapshot, toy_block, Draws};

/// Reads the full text of a graph and checks that it prints alike, in both forms.
pub fn round_trip<G: Ir + FromStr>(graph: &G) -> G
where
    G::Err: Debug + ToString,
{
    let text = graph.full();
    let read: G = match text.parse() {
        Ok(read) => read,
        Err(e) => panic!("{}\n{text}", G::Err::to_string(&e)),
    };
    assert!(read.full() == text, "{}\n{text}", read.full());
    assert_eq!(read.print(), graph.print());
    assert_eq!(read.verify(), graph.verify());
    read
}

/// What a user may give a tensor graph.
fn user_inputs(g: &TensorGraph, draws: &mut Draws) -> BTreeMap<String, Vec<f64>> {
    let nodes = g.topological().into_iter().map(|v| g.node(v).op.clone());
    nodes
        .filter_map(|op| match op {
            TensorOp::Input { name, client } => Some((name, client)),
            _ => None,
        })
        .map(|(name, client)| match client {
            ClientInput::Gather { user_shape, .. } => {
                let n = user_shape.iter().product();
                (name, (0..n).map(|_| draws.next()).collect())
            }
            ClientInput::Embedding { user_shape, table } => {
                let n: usize = user_shape.iter().product();
                let ids = (0..n).map(|i| (i % table.rows()) as f64).collect();
                (name, ids)
            }
        })
        .collect()
}

/// Values by name, as bits.
fn bits<K>(
    values: BTreeMap<K, Vec<f64>>,
    name: impl Fn(&K) -> String,
) -> BTreeMap<String, Vec<u64>> {
    let bits = |v: Vec<f64>| v.into_iter().map(f64::to_bits).collect();
    values
        .into_iter()
        .map(|(k, v)| (name(&k), bits(v)))
        .collect()
}

fn tensor_values(
    g: &TensorGraph,
    inputs: &BTreeMap<String, Vec<f64>>,
) -> BTreeMap<String, Vec<u64>> {
    let found = g.evaluate(inputs).unwrap();
    bits(found.values, |v| g.node(*v).name.clone())
}

fn poly_values(g: &PolyGraph, inputs: &BTreeMap<String, Vec<f64>>) -> BTreeMap<String, Vec<u64>> {
    bits(g.evaluate(inputs).unwrap(), |v| g.node(*v).name.clone())
}

#[test]
fn random_tensor_graphs_read_back_and_mean_the_same() {
    for seed in 0..200 {
        let g = random_graphs::tensor(seed, 3 + seed as usize % 20);
        g.verify().unwrap();
        let read = round_trip(&g);
        let inputs = user_inputs(&g, &mut Draws(seed));
        assert_eq!(tensor_values(&read, &inputs), tensor_values(&g, &inputs));
    }
}

#[test]
fn random_poly_graphs_read_back_and_mean_the_same() {
    for seed in 0..200 {
        let g = random_graphs::poly(seed, 3 + seed as usize % 20);
        g.verify().unwrap();
        let read = round_trip(&g);
        let inputs = draw_inputs(&g, &mut Draws(seed));
        assert_eq!(poly_values(&read, &inputs), poly_values(&g, &inputs));
    }
}

/// Slot vectors of every value, as bits.
fn slots(values: BTreeMap<ValueId, Vec<Vec<f64>>>, graph: &PackedGraph) -> Vec<(String, Vec<u64>)> {
    let name = |v: &ValueId| graph.graph.node(*v).name.clone();
    let bits = |cts: &Vec<Vec<f64>>| cts.iter().flatten().map(|x| x.to_bits()).collect();
    values.iter().map(|(v, x)| (name(v), bits(x))).collect()
}

/// Elements for every port.
fn port_inputs(ports: usize) -> Vec<Vec<f64>> {
    let mut draws = Draws(5);
    (0..ports)
        .map(|_| (0..64).map(|_| draws.next()).collect())
        .collect()
}

#[test]
fn random_packed_graphs_read_back_and_mean_the_same() {
    for seed in 0..200 {
        let mut g = random_packed::packed(seed, 3 + seed as usize % 15);
        g.renumber();
        g.verify().unwrap();
        let read = round_trip(&g);
        let inputs = port_inputs(g.ports.len());
        assert_eq!(
            slots(read.evaluate_slots(&inputs, 0.3), &read),
            slots(g.evaluate_slots(&inputs, 0.3), &g)
        );
    }
}

#[test]
fn levelled_graphs_of_random_packed_graphs_read_back_and_mean_the_same() {
    let (mut made, mut kinds) = (0, std::collections::BTreeSet::new());
    for seed in 0..200 {
        let packed = random_packed::packed(seed, 3 + seed as usize % 15);
        let mut costs = CostTable::bootstrapped(packed.geometry.slots.ilog2() + 1, 3);
        costs.chain.bootstrap_from = Some(0);
        if seed % 4 == 3 {
            costs.top = 20;
            costs.chain = ChainCost {
                one_limb_levels: seed % 8 == 3,
                special: 4,
                digit: 3,
                bootstrap_from: None,
            };
        }
        let placing = Placing::Best;
        let pass = AssignLevels { costs, placing };
        // Where values have no bound, levels may run out.
        let Ok(g) = Manager::new().lower(&pass, &packed) else {
            continue;
        };
        made += 1;
        let read = round_trip(&g);
        assert_eq!(read.placement, g.placement);
        let inputs = port_inputs(g.ports.len());
        let (a, b) = (
            read.evaluate_slots(&inputs, 0.3),
            g.evaluate_slots(&inputs, 0.3),
        );
        assert_eq!(a.len(), b.len());
        for (v, x) in &b {
            let same = |(p, q): (&f64, &f64)| p.to_bits() == q.to_bits();
            assert!(a[v].iter().flatten().zip(x.iter().flatten()).all(same));
            let kernel = g.graph.node(*v).op.kernel.to_string();
            kinds.extend(kernel.split(' ').next().map(String::from));
        }
    }
    println!("{made} of 200 graphs had a placement, with {kinds:?}");
    assert!(made > 50 && kinds.len() == 6);
}

#[test]
fn random_graphs_have_every_operation() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let g = random_graphs::tensor(seed, 3 + seed as usize % 20);
        for v in g.topological() {
            let text = g.text(v);
            seen.insert(format!("tensor {}", text.split(' ').next().unwrap()));
        }
        let g = random_graphs::poly(seed, 3 + seed as usize % 20);
        for v in g.topological() {
            let how = match &g.node(v).op {
                PolyOp::Evaluate { approximation, .. } => approximation.function.clone(),
                _ => g.text(v).split(' ').next().unwrap().to_string(),
            };
            seen.insert(format!("poly {how}"));
        }
    }
    let all: Vec<String> = seen.into_iter().collect();
    snapshot("text__random_operations", &all.join("\n"));
}

/// Reads texts that are cut short and texts with bytes changed; returns how many were read all the same.
pub fn torture<G: Ir + FromStr>(text: &str, seed: u64, tries: usize) -> usize {
    let mut r = Random::new(seed);
    let mut read = 0;
    for _ in 0..tries {
        let cut = r.below(text.len());
        if let Some(cut) = text.get(..cut) {
            read += usize::from(cut.parse::<G>().is_ok());
        }
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..1 + r.below(3) {
            let at = r.below(bytes.len());
            match r.below(4) {
                0 => bytes[at] ^= 1 << r.below(8),
                1 => bytes[at] = r.of(b"0123456789-+.e%@{}[]\"#,:= \n*xh\\"),
                2 => {
                    bytes.remove(at);
                }
                _ => {
                    let to = r.below(bytes.len());
                    bytes.swap(at, to);
                }
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(g) = text.parse::<G>() {
            // What is read is printed, verified and numbered without trouble.
            let mut g = g;
            let _ = (g.verify(), g.full(), g.print());
            g.renumber();
            read += 1;
        }
    }
    read
}

#[test]
fn no_text_makes_the_parsers_panic() {
    let mut read = 0;
    for seed in 0..40 {
        let tensor = random_graphs::tensor(seed, 8).full();
        read += torture::<TensorGraph>(&tensor, seed, 100);
        read += torture::<PolyGraph>(&random_graphs::poly(seed, 8).full(), seed, 100);
        assert!(tensor.parse::<PolyGraph>().is_err());
        let packed = random_packed::packed(seed, 6);
        read += torture::<PackedGraph>(&packed.full(), seed, 100);
        let costs = CostTable::bootstrapped(5, 6);
        let placing = Placing::Best;
        if let Ok(g) = (AssignLevels { costs, placing }).lower(&packed, &mut PassCx::default()) {
            read += torture::<LevelledGraph>(&g.full(), seed, 100);
        }
    }
    println!("{read} of up to 32000 spoilt texts were read all the same");
    assert!(read > 0);
}

#[test]
fn the_full_text_of_a_block_reads_well() {
    let (mut g, sites) = toy_block(4);
    sites.write(&mut g);
    let text = round_trip(&g).full();
    // The constants are raw numbers, not for snapshots; but of which size they are.
    let numbers = |line: &&str| !line.starts_with("    ");
    let lines: Vec<&str> = text.lines().filter(numbers).collect();
    snapshot("text__toy_block", &lines.join("\n"));
}

//! Client programs: what they compute, what they refuse, and that files keep them.

use super::{ClientError, ClientGraph, Function, Operation, Source, Step};
use crate::proto::{Port, Program};
use crate::weights::WeightsBuilder;
use std::collections::BTreeMap;
use std::sync::Arc;

fn step(operation: Operation, operands: &[u32]) -> Step {
    Step {
        operation,
        operands: operands.to_vec(),
    }
}

/// RoBERTa's position ids (a running count of real tokens, plus the padding id 1) looked up, and an additive mask turned 0/1.
fn graph() -> ClientGraph {
    let arrange = |factor: Vec<f64>, summand: Vec<f64>| Operation::Arrange {
        element: vec![],
        factor,
        summand,
    };
    ClientGraph {
        sources: vec![Source {
            name: "ids".into(),
            shape: vec![4],
            integer: true,
        }],
        steps: vec![
            step(Operation::Source(0), &[]),
            step(arrange(vec![], vec![-1.0]), &[0]),
            step(Operation::Apply(Function::IsTrue), &[1]),
            step(Operation::CumulativeSum { length: 4 }, &[2]),
            step(Operation::Apply(Function::Multiply), &[3, 2]),
            step(arrange(vec![], vec![1.0]), &[4]),
            step(
                Operation::Lookup {
                    table: Arc::new((0..12).map(f64::from).collect()),
                    cols: 2,
                },
                &[5],
            ),
            step(arrange(vec![1e30], vec![-1e30]), &[2]),
            step(Operation::Apply(Function::Kept), &[7]),
        ],
        results: vec![("positions".into(), 6), ("mask".into(), 8)],
    }
}

fn given(ids: &[f64]) -> BTreeMap<String, Vec<f64>> {
    [("ids".to_string(), ids.to_vec())].into()
}

#[test]
fn padding_gets_the_padding_position_and_is_masked() {
    let mut all = given(&[7.0, 9.0, 8.0, 1.0]);
    graph().extend(&mut all).unwrap();
    assert_eq!(all["positions"], [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 2.0, 3.0]);
    assert_eq!(all["mask"], [1.0, 1.0, 1.0, 0.0]);
    assert_eq!(all["ids"], [7.0, 9.0, 8.0, 1.0]);
}

#[test]
fn ids_outside_their_table_and_wrong_sizes_are_refused_with_the_input() {
    let mut small = graph();
    small.steps[6].operation = Operation::Lookup {
        table: Arc::new(vec![0.0; 4]),
        cols: 1,
    };
    let e = small.evaluate(&given(&[7.0, 9.0, 8.0, 5.0])).unwrap_err();
    assert_eq!(e.to_string(), "id 4 is not in 0..4; inputs: `ids`");
    let e = graph().evaluate(&given(&[1.0])).unwrap_err();
    assert_eq!(e.to_string(), "input `ids`: expected 4 values, found 1");
    assert_eq!(
        graph().evaluate(&BTreeMap::new()),
        Err(ClientError::Missing("ids".into()))
    );
}

#[test]
fn a_mask_that_neither_keeps_nor_removes_is_refused() {
    let mut soft = graph();
    soft.steps[7].operation = Operation::Arrange {
        element: vec![],
        factor: vec![5.0],
        summand: vec![-5.0],
    };
    let e = soft.evaluate(&given(&[7.0, 9.0, 8.0, 1.0])).unwrap_err();
    assert!(
        e.to_string().contains("holds -5") && e.to_string().contains("`ids`"),
        "{e}"
    );
}

fn program(graph: &ClientGraph) -> (Program, crate::Weights) {
    let mut builder = WeightsBuilder::new();
    let client = graph.to_proto(&mut builder);
    let (plaintexts, weights) = builder.finish();
    let port = |name: &str, n: u32| Port {
        name: name.into(),
        shape: vec![n],
        ..Port::default()
    };
    let program = Program {
        inputs: vec![port("positions", 8), port("mask", 4)],
        client: Some(client),
        plaintexts,
        ..Program::default()
    };
    (program, weights)
}

#[test]
fn a_file_keeps_the_graph_and_names_what_the_user_gives() {
    let (program, weights) = program(&graph());
    assert_eq!(ClientGraph::read(&program, &weights), Ok(graph()));
    assert_eq!(super::user_inputs(&program), [("ids".to_string(), vec![4])]);
    assert_eq!(graph().vocabularies(), BTreeMap::new());
}

#[test]
fn damaged_graphs_are_refused_before_they_run() {
    type Damage = Box<dyn Fn(&mut crate::proto::ClientGraph)>;
    let damages: Vec<(&str, Damage)> = vec![
        ("not before it", Box::new(|c| c.steps[2].operand = vec![2])),
        (
            "no such operation",
            Box::new(|c| c.steps[2].operation = "jump".into()),
        ),
        (
            "no such function",
            Box::new(|c| c.steps[2].number = vec![99]),
        ),
        ("do not fit", Box::new(|c| c.steps[1].element = vec![0, 4])),
        (
            "fill the operand",
            Box::new(|c| c.steps[3].number = vec![3]),
        ),
        ("no such source", Box::new(|c| c.steps[0].number = vec![1])),
        ("fill the table", Box::new(|c| c.steps[6].number[1] = 5)),
        (
            "elements expected",
            Box::new(|c| c.sources[0].shape = vec![1 << 14, 1 << 14]),
        ),
        ("no port", Box::new(|c| c.results[0].port = "other".into())),
        ("fit its port", Box::new(|c| c.results[0].value = 0)),
    ];
    for (word, damage) in damages {
        let (mut p, weights) = program(&graph());
        damage(p.client.as_mut().unwrap());
        let found = ClientGraph::read(&p, &weights).unwrap_err();
        assert!(found.contains(word), "{word}: {found}");
    }
}

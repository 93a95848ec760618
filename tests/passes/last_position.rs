use heron_passes::ir::graph::ValueId;
use heron_passes::ir::shape::{Matrix, Shape};
use heron_passes::ir::tensor::{RowMap, TensorGraph, TensorOp};
use heron_passes::last_position::LastPosition;
use heron_passes::pass::{Changed, Pass, PassCx, PassError};

use crate::support::{dense, diff, snapshot, toy_block, Draws};

/// The toy block without ranges, and its first input's values by name.
fn block() -> TensorGraph {
    toy_block(4).0
}

fn find(g: &TensorGraph, name: &str) -> ValueId {
    let found = g
        .topological()
        .into_iter()
        .find(|v| g.node(*v).name == name);
    found.unwrap_or_else(|| panic!("no value %{name}"))
}

fn cut(g: &TensorGraph) -> Result<TensorGraph, PassError> {
    let mut after = g.clone();
    let changed = LastPosition.run(&mut after, &mut PassCx::default())?;
    assert_eq!(changed, Changed::Yes);
    after.verify().unwrap();
    Ok(after)
}

/// Insists that the outputs of the one graph are the ends of those of the other.
fn ends_agree(whole: &TensorGraph, last: &TensorGraph) {
    let mut draws = Draws(5);
    for _ in 0..16 {
        let x: Vec<f64> = (0..16).map(|_| draws.next()).collect();
        let given = [("x".to_string(), x)].into();
        let all = whole.outputs_for(&given).unwrap();
        let found = last.outputs_for(&given).unwrap();
        for (all, found) in all.iter().zip(found) {
            assert_eq!(all[all.len() - found.len()..], found);
        }
    }
}

#[test]
fn computes_what_follows_attention_for_the_last_position() {
    let before = block();
    let after = cut(&before).unwrap();
    ends_agree(&before, &after);
    let shape = after.node(find(&after, "y")).shape;
    assert_eq!(shape, Shape::Matrix { rows: 1, cols: 3 });
    let squeeze = |g: &TensorGraph| {
        let lines = g.to_string();
        let lines = lines
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.collect::<Vec<_>>().join("\n")
    };
    snapshot(
        "last-position__toy_block",
        &diff(&squeeze(&before), &squeeze(&after)),
    );
}

#[test]
fn one_query_is_left_of_the_last_attention_and_all_keys_and_values() {
    let after = cut(&block()).unwrap();
    for (name, expected) in [("e", 4), ("ln1", 4), ("k", 4), ("v", 4), ("q", 1), ("o", 1)] {
        let Shape::Matrix { rows, .. } = after.node(find(&after, name)).shape else {
            panic!("%{name} is no matrix");
        };
        assert_eq!(rows, expected, "%{name}");
    }
}

#[test]
fn an_attention_whose_scores_are_read_elsewhere_keeps_all_queries() {
    let mut before = block();
    let values = find(&before, "o");
    let softmax = before.operands(values)[0];
    before.outputs.push(("weights".into(), softmax));
    let after = cut(&before).unwrap();
    ends_agree(&before, &after);
    let Shape::Matrix { rows, .. } = after.node(find(&after, "o")).shape else {
        panic!("%o is no matrix");
    };
    assert_eq!(rows, 4);
}

#[test]
fn leaves_an_output_of_one_row_alone() {
    let mut before = block();
    let x = find(&before, "r");
    let mut mean = dense(Draws(2).matrix(4, 2, 1.0), None);
    mean.terms[0].rows = RowMap::Mix(Matrix {
        rows: 1,
        cols: 4,
        data: vec![0.25; 4],
    });
    let shape = Shape::Matrix { rows: 1, cols: 2 };
    let pooled = before.add("pooled", TensorOp::Linear(mean), &[x], shape, 0);
    before.outputs.push(("pooled".into(), pooled));
    let after = cut(&before).unwrap();
    ends_agree(&before, &after);
    let rows = |g: &TensorGraph| match g.node(find(g, "r")).shape {
        Shape::Matrix { rows, .. } => rows,
        _ => 0,
    };
    assert_eq!(rows(&after), 4, "the mean needs every position");
}

#[test]
fn factors_and_summands_per_position_are_those_of_the_last() {
    let mut before = block();
    let x = find(&before, "o");
    let mut draws = Draws(9);
    let mut turned = dense(draws.matrix(4, 4, 1.0), Some(draws.matrix(4, 4, 1.0)));
    turned.terms[0].post = Some(draws.matrix(4, 4, 1.0));
    let mut mixed = turned.terms[0].clone();
    mixed.rows = RowMap::Mix(draws.matrix(4, 4, 1.0));
    turned.terms.push(mixed);
    let shape = before.node(x).shape;
    let y = before.add("turned", TensorOp::Linear(turned), &[x], shape, 0);
    let z = before.add("product", TensorOp::Multiply, &[y, x], shape, 0);
    before.outputs = vec![("z".into(), z), ("o".into(), x)];
    ends_agree(&before, &cut(&before).unwrap());
}

#[test]
fn refuses_a_graph_without_positions_in_its_outputs() {
    let once = cut(&block()).unwrap();
    let refused = cut(&once).unwrap_err();
    snapshot("last-position__refuses", &refused.to_string());
}

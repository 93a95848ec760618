//! What the client of a poly graph encrypts, from what the client of the tensor graph would.
//!
//! `fold-centring` changes embedding tables, which the client looks rows up in. Whoever evaluates a poly graph on calibration inputs must
//! give it rows of its own tables, or ranges and errors are those of another model.

use std::collections::{BTreeMap, HashMap};

use crate::ir::poly::{PolyGraph, PolyOp};
use crate::ir::tensor::{ClientInput, TensorGraph, TensorOp};
use crate::ir::weight::Weight;
use crate::to_poly::Named;

fn bits(row: &[f64]) -> Vec<u64> {
    row.iter().map(|x| x.to_bits()).collect()
}

/// Rows of inputs, and where in a table they are.
type Rows = HashMap<Vec<u64>, Option<usize>>;

/// Where the rows of input `name` are in a table: the last place of each.
fn rows_of(table: &Weight, name: &str, inputs: &[Named]) -> Rows {
    let cols = table.cols().max(1);
    let given = inputs.iter().filter_map(|i| i.get(name));
    let mut found: Rows = given
        .flat_map(|v| v.chunks_exact(cols).map(|row| (bits(row), None)))
        .collect();
    table.for_panels(|from, panel| {
        for (i, row) in panel.chunks_exact(cols).enumerate() {
            if let Some(place) = found.get_mut(&bits(row)) {
                *place = Some(from + i);
            }
        }
    });
    found
}

/// `inputs`, prepared by the tables of `tensor`, as the tables of `poly` give them. A row that is in no table of the tensor graph stays.
pub fn prepared(tensor: &TensorGraph, poly: &PolyGraph, inputs: &[Named]) -> Vec<Named> {
    let mut changed: BTreeMap<&str, (Rows, &Weight)> = BTreeMap::new();
    for v in poly.topological() {
        let PolyOp::Input {
            name,
            client: ClientInput::Embedding { table: new, .. },
            ..
        } = &poly.node(v).op
        else {
            continue;
        };
        let nodes = tensor.topological().into_iter();
        let old = nodes
            .filter_map(|v| match &tensor.node(v).op {
                TensorOp::Input {
                    name: other,
                    client: ClientInput::Embedding { table, .. },
                } if other == name => Some(table),
                _ => None,
            })
            .next();
        if let Some(old) = old.filter(|old| *old != new) {
            changed.insert(name, (rows_of(old, name, inputs), new));
        }
    }
    let mut inputs = inputs.to_vec();
    for input in &mut inputs {
        for (name, (known, new)) in &changed {
            let Some(values) = input.get_mut(*name) else {
                continue;
            };
            for row in values.chunks_exact_mut(new.cols().max(1)) {
                if let Some(Some(i)) = known.get(&bits(row)) {
                    row.copy_from_slice(&new.panel(*i..i + 1));
                }
            }
        }
    }
    inputs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::shape::{Layer, LayerKind, Matrix, Shape};

    #[test]
    fn rows_follow_a_changed_table_and_others_stay() {
        let shape = Shape::Matrix { rows: 2, cols: 2 };
        let layer = Layer {
            name: "x".into(),
            kind: LayerKind::Embed,
            onnx_nodes: Vec::new(),
        };
        let client = |data: Vec<f64>| ClientInput::Embedding {
            user_shape: vec![2],
            table: Matrix {
                rows: 3,
                cols: 2,
                data,
            }
            .into(),
        };
        let mut tensor = TensorGraph::new("t");
        tensor.add_layer(layer.clone());
        let op = TensorOp::Input {
            name: "x".into(),
            client: client(vec![1.0, 3.0, 5.0, 5.0, 2.0, 6.0]),
        };
        tensor.add("x", op, &[], shape, 0);
        let mut poly = PolyGraph::new("p");
        poly.add_layer(layer);
        let op = PolyOp::Input {
            name: "x".into(),
            client: client(vec![-1.0, 1.0, 0.0, 0.0, -2.0, 2.0]),
            factor: 1.0,
        };
        poly.add("x", op, &[], shape, 0);
        let given: Named = [("x".to_string(), vec![2.0, 6.0, 7.0, 7.0])].into();
        let found = prepared(&tensor, &poly, &[given]);
        assert_eq!(found[0]["x"], [-2.0, 2.0, 7.0, 7.0]);
    }
}

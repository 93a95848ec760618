//! What the client of a poly graph encrypts, from what the client of the tensor graph would.
//!
//! `fold-centring` changes embedding tables, which the client looks rows up in. Whoever evaluates a poly graph on calibration inputs must
//! give it rows of its own tables, or ranges and errors are those of another model.

use std::collections::BTreeMap;

use crate::ir::poly::{PolyGraph, PolyOp};
use crate::ir::shape::Matrix;
use crate::ir::tensor::{ClientInput, TensorGraph, TensorOp};
use crate::to_poly::Named;

fn bits(row: &[f64]) -> Vec<u64> {
    row.iter().map(|x| x.to_bits()).collect()
}

/// `inputs`, prepared by the tables of `tensor`, as the tables of `poly` give them. A row that is in no table of the tensor graph stays.
pub fn prepared(tensor: &TensorGraph, poly: &PolyGraph, inputs: &[Named]) -> Vec<Named> {
    let mut changed: BTreeMap<&str, (BTreeMap<Vec<u64>, usize>, &Matrix)> = BTreeMap::new();
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
            let rows = old.data.chunks_exact(old.cols.max(1)).enumerate();
            changed.insert(name, (rows.map(|(i, row)| (bits(row), i)).collect(), new));
        }
    }
    let mut inputs = inputs.to_vec();
    for input in &mut inputs {
        for (name, (known, new)) in &changed {
            let Some(values) = input.get_mut(*name) else {
                continue;
            };
            for row in values.chunks_exact_mut(new.cols.max(1)) {
                let found = known.get(&bits(row));
                let found = found.and_then(|i| new.data.chunks_exact(new.cols.max(1)).nth(*i));
                if let Some(found) = found {
                    row.copy_from_slice(found);
                }
            }
        }
    }
    inputs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::shape::{Layer, LayerKind, Shape};

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
            },
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

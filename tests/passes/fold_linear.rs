use heron_passes::fold_linear::FoldLinear;
use heron_passes::ir::poly::{PolyGraph, PolyOp};
use heron_passes::ir::shape::{Matrix, Shape};
use heron_passes::ir::tensor::{Linear, LinearTerm, RowMap};

use crate::support::{dense, graph, matrix, poly_input, run_pass, snapshot, Draws};

#[test]
fn composes_maps_and_takes_constants_in() {
    let mut draws = Draws(1);
    let mut g: PolyGraph = graph("t");
    let x = poly_input(&mut g, "x", 4, 4);
    let a = dense(draws.matrix(4, 4, 1.0), Some(draws.matrix(4, 4, 1.0)));
    let a = g.add("a", PolyOp::Linear(a), &[x], matrix(4, 4), 0);
    let half = g.add(
        "half",
        PolyOp::Affine {
            scale: 0.5,
            shift: 0.25,
        },
        &[a],
        matrix(4, 4),
        0,
    );
    let pool = RowMap::Mix(Matrix {
        rows: 1,
        cols: 4,
        data: vec![0.25; 4],
    });
    let term = LinearTerm {
        rows: pool,
        weight: draws.matrix(4, 3, 1.0).into(),
        post: Some(draws.matrix(1, 3, 1.0)),
    };
    let linear = Linear {
        terms: vec![term],
        bias: Some(draws.matrix(1, 3, 1.0)),
    };
    let y = g.add("y", PolyOp::Linear(linear), &[half], matrix(1, 3), 0);
    g.outputs.push(("y".into(), y));
    snapshot("fold-linear__composes", &run_pass(&FoldLinear, &g));
}

#[test]
fn carries_a_factor_past_products_into_the_next_map() {
    let mut draws = Draws(1);
    let mut g: PolyGraph = graph("t");
    let x = poly_input(&mut g, "x", 4, 4);
    let r = g.add(
        "r",
        PolyOp::ColumnSum {
            scale: 0.1,
            shift: 1.0,
        },
        &[x],
        Shape::PerRow { rows: 4 },
        0,
    );
    let y = g.add("y", PolyOp::ScaleRows, &[x, r], matrix(4, 4), 0);
    let unit = g.add(
        "unit",
        PolyOp::Affine {
            scale: 3.0,
            shift: 0.0,
        },
        &[y],
        matrix(4, 4),
        0,
    );
    let z = g.add("z", PolyOp::Multiply, &[unit, unit], matrix(4, 4), 0);
    let w = g.add(
        "w",
        PolyOp::Linear(dense(draws.matrix(4, 2, 1.0), None)),
        &[z],
        matrix(4, 2),
        0,
    );
    g.outputs.push(("w".into(), w));
    snapshot("fold-linear__past_products", &run_pass(&FoldLinear, &g));
}

#[test]
fn leaves_a_map_with_another_reader_alone() {
    let mut draws = Draws(1);
    let mut g: PolyGraph = graph("t");
    let x = poly_input(&mut g, "x", 4, 4);
    let a = g.add(
        "a",
        PolyOp::Linear(dense(draws.matrix(4, 4, 1.0), None)),
        &[x],
        matrix(4, 4),
        0,
    );
    let b = g.add(
        "b",
        PolyOp::Linear(dense(draws.matrix(4, 4, 1.0), None)),
        &[a],
        matrix(4, 4),
        0,
    );
    let c = g.add("c", PolyOp::Multiply, &[a, b], matrix(4, 4), 0);
    g.outputs.push(("c".into(), c));
    snapshot("fold-linear__leaves_alone", &run_pass(&FoldLinear, &g));
}

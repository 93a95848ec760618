//! row-sums: sums by rotations that double compute the same as linear maps, in every slot.

use heron_passes::ir::packed::{Kernel, PackedGraph};
use heron_passes::ir::poly::PolyOp;
use heron_passes::ir::shape::Shape;

use crate::lower_packed::{difference, lower};
use crate::packed_models::Model;

/// Rows of `cols` numbers scaled by a sum of their squares.
fn scaled_rows(rows: usize, cols: usize, slots: usize) -> (f64, PackedGraph) {
    let mut m = Model::new("sums");
    let x = m.input("x", rows, cols);
    let square = m.add("y", PolyOp::Multiply, &[x, x], Shape::Matrix { rows, cols });
    let sum = PolyOp::ColumnSum {
        scale: 0.7,
        shift: -0.2,
    };
    let s = m.add("s", sum, &[square], Shape::PerRow { rows });
    let o = m.add(
        "o",
        PolyOp::ScaleRows,
        &[x, s],
        Shape::Matrix { rows, cols },
    );
    let poly = m.finish(o);
    let packed = lower(&poly, slots, Some(1));
    (difference(&poly, &packed), packed)
}

/// Results of linear maps with more than one product.
fn wide_maps(packed: &PackedGraph) -> usize {
    let values = packed.graph.topological().into_iter();
    let outs = values.filter_map(|v| match &packed.graph.node(v).op.kernel {
        Kernel::Linear(outs) => Some(outs.clone()),
        _ => None,
    });
    let terms = |o: &heron_passes::ir::packed::LinearOut| o.giants.iter().map(|g| g.1.len()).sum();
    outs.flat_map(|outs| outs.iter().map(terms).collect::<Vec<usize>>())
        .filter(|terms| *terms > 1)
        .count()
}

#[test]
fn rows_that_fill_their_lanes_are_summed_without_a_map_of_lanes() {
    for (rows, cols, slots) in [(16, 64, 1024), (16, 64, 512), (11, 32, 512), (1, 64, 64)] {
        let (worst, packed) = scaled_rows(rows, cols, slots);
        let wide = wide_maps(&packed);
        println!("{rows} rows of {cols} in {slots}: {worst:.1e}, bound 1e-12; {wide} wide maps");
        assert!(worst < 1e-12);
    }
    let (_, packed) = scaled_rows(16, 64, 1024);
    assert_eq!(wide_maps(&packed), 0);
}

#[test]
fn rows_with_holes_are_summed_by_a_map() {
    let (worst, packed) = scaled_rows(16, 50, 1024);
    assert!(worst < 1e-12);
    assert!(wide_maps(&packed) > 0);
}

#[test]
fn weights_of_heads_that_fill_their_lanes_are_summed_without_a_map_of_lanes() {
    for (rows, heads, head, slots) in [(16, 2, 16, 512), (16, 4, 16, 512), (11, 2, 16, 512)] {
        let mut m = Model::new("attention");
        let x = m.input("x", rows, heads * head);
        let o = m.attention(x, heads, head, true);
        let poly = m.finish(o);
        let packed = lower(&poly, slots, Some(1));
        let worst = difference(&poly, &packed);
        println!("{rows} rows, {heads} heads of {head}: {worst:.1e}, bound 1e-10");
        assert!(worst < 1e-10);
    }
}

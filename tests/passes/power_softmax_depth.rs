//! The depth of PowerSoftmax on a trained model, counted on its packed graph, whose levels the verifier of the levelled graph checks.

use std::collections::BTreeMap;
use std::path::Path;

use heron_compiler::pipeline::lower_poly;
use heron_compiler::{calibration, onnx};
use heron_passes::budget::Budget;
use heron_passes::calibrate_ranges::calibrate_ranges;
use heron_passes::cost::prices::Target;
use heron_passes::defer_normalisation::DeferNormalisation;
use heron_passes::fold_centring::FoldCentring;
use heron_passes::fold_linear::FoldLinear;
use heron_passes::ir::graph::ValueId;
use heron_passes::ir::packed::PackedGraph;
use heron_passes::ir::poly::PolyOp;
use heron_passes::ir::tensor::TensorOp;
use heron_passes::lower_packed::LowerPacked;
use heron_passes::normalise::{AnnotateRanges, Normalise};
use heron_passes::pass::Manager;
use heron_passes::substitute_polynomials::SubstitutePolynomials;
use heron_schedule::params::{ParameterSet, Profile};

/// Levels of the longest path from `from` to `to` that goes around `without`.
fn levels(packed: &PackedGraph, from: ValueId, to: ValueId, without: ValueId) -> Option<u32> {
    let mut depth: BTreeMap<ValueId, u32> = BTreeMap::from([(from, 0)]);
    for v in packed.graph.topological() {
        if v == from || v == without {
            continue;
        }
        let kernel = &packed.graph.node(v).op.kernel;
        let operands = packed.graph.operands(v);
        let paths = operands
            .iter()
            .enumerate()
            .filter_map(|(i, o)| Some(depth.get(o)? + kernel.levels(i)));
        if let Some(longest) = paths.max() {
            depth.insert(v, longest);
        }
    }
    depth.get(&to).copied()
}

#[test]
fn digits_vit_takes_at_most_twelve_levels_from_scores_to_the_product_with_the_inverse_at_14_bits() {
    let model = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../models/digits-vit/digits-vit.onnx"
    ));
    let (_, arrays) = calibration::read(model, None).unwrap();
    let shapes = onnx::Shapes::default();
    let imported = onnx::import_with_arrays(model, &shapes, Some(&arrays)).unwrap();
    let users = calibration::user_inputs(&imported.inputs, &arrays).unwrap();
    let mut tensor = imported.graph;
    let sites = calibrate_ranges(&mut tensor, &users).unwrap();
    let budget = Budget {
        reciprocal: 2f64.powi(-14),
        ..Budget::default()
    };
    let mut manager = Manager::new();
    let pass = SubstitutePolynomials {
        sites: &sites,
        budget,
    };
    let mut poly = manager.lower(&pass, &tensor).unwrap();
    manager.run(&DeferNormalisation, &mut poly).unwrap();
    manager.run(&FoldCentring, &mut poly).unwrap();
    manager.run(&FoldLinear, &mut poly).unwrap();
    let inputs: Vec<BTreeMap<String, Vec<f64>>> = users
        .iter()
        .map(|user| {
            let mut all = BTreeMap::new();
            for v in tensor.topological() {
                if let TensorOp::Input { name, client } = &tensor.node(v).op {
                    all.insert(name.clone(), client.prepare(name, &user[name]).unwrap());
                }
            }
            all
        })
        .collect();
    manager
        .run(
            &AnnotateRanges {
                inputs: &inputs,
                results: None,
            },
            &mut poly,
        )
        .unwrap();
    manager.run(&Normalise, &mut poly).unwrap();
    let params = ParameterSet::new(Profile::Secure).unwrap();
    let pass = LowerPacked {
        slots: params.slots(),
        batch: None,
    };
    let packed = manager.lower(&pass, &poly).unwrap();
    // The levels of every operation are those that the levelled graph is verified with.
    lower_poly(&poly, (&params, Target::Cpu), None, &mut manager).unwrap();
    let origin = |v: ValueId| {
        let name = &poly.node(v).name;
        packed.origins.iter().find(|(n, _)| n == name).unwrap().1
    };
    let mut blocks = 0;
    for scaled in poly.topological() {
        if poly.node(scaled).op != PolyOp::ScaleHeads {
            continue;
        }
        let [values, inverse] = poly.operands(scaled)[..] else {
            panic!("a scaling of two operands");
        };
        let PolyOp::Evaluate { approximation, .. } = &poly.node(inverse).op else {
            panic!("an inverse is evaluated");
        };
        assert!(approximation.max_error <= 2f64.powi(-14));
        let mut scores = values;
        while !matches!(poly.node(scores).op, PolyOp::Scores { .. }) {
            scores = poly.operands(scores)[0];
        }
        let found = levels(&packed, origin(scores), origin(scaled), origin(values)).unwrap();
        println!(
            "%{}: {found} levels, 1/x within {:.1e} on [{:.3}, {:.3}]",
            poly.node(scaled).name,
            approximation.max_error,
            approximation.interval.0,
            approximation.interval.1
        );
        // Two squarings, the sum and the product are four of them: none is lost, none is forgotten.
        assert!((5..=12).contains(&found), "{found}");
        blocks += 1;
    }
    assert_eq!(blocks, 2);
}

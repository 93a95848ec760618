//! `heron opt`: passes on text give what the pipeline gives, and refuse by name.

use heron_passes::assign_levels::{AssignLevels, Placing};
use heron_passes::budget::Budget;
use heron_passes::cost::CostTable;
use heron_passes::last_position::LastPosition;
use heron_passes::lower_packed::LowerPacked;
use heron_passes::pass::{Lower, Manager, Stage};
use heron_passes::registry::{run, OptError, Settings, PASSES};
use heron_passes::sites::SiteRanges;
use heron_passes::substitute_polynomials::SubstitutePolynomials;
use heron_passes::to_poly::{to_poly, Named};

use crate::support::{draw_inputs, snapshot, toy_block, Draws};

const SETTINGS: Settings = Settings {
    slots: 512,
    batch: None,
    log_n: 10,
    top: 11,
    tighten: 1.0,
};

/// Every stage of the toy block, cut to its last position, as the manager dumps it: (pass, rung, text), the tensor graph first.
fn dumped() -> Vec<(String, String, String)> {
    let (mut tensor, sites) = toy_block(4);
    sites.write(&mut tensor);
    let mut stages = Vec::new();
    let mut manager = Manager::new().with_sink(Box::new(|s: Stage| {
        stages.push((s.pass.to_string(), s.stage.to_string(), s.text.to_string()))
    }));
    manager.enter("onnx", &tensor).unwrap();
    manager.run(&LastPosition, &mut tensor).unwrap();
    let sites = &SiteRanges::of(&tensor);
    let fine = SubstitutePolynomials {
        sites,
        budget: Budget::default().tightened(1e4),
    };
    let fine = fine.lower(&tensor, &mut Default::default()).unwrap();
    let mut draws = Draws(11);
    let inputs: Vec<Named> = (0..20).map(|_| draw_inputs(&fine, &mut draws)).collect();
    let outputs: Vec<Named> = inputs
        .iter()
        .map(|i| {
            let values = fine.evaluate(i).unwrap();
            let outputs = fine.outputs.iter();
            outputs
                .map(|(name, v)| (name.clone(), values[v].clone()))
                .collect()
        })
        .collect();
    let poly = to_poly(
        &tensor,
        sites,
        &inputs,
        &outputs,
        Budget::default(),
        1e-1,
        &mut manager,
    )
    .unwrap();
    let pass = LowerPacked {
        slots: SETTINGS.slots,
        batch: None,
    };
    let packed = manager.lower(&pass, &poly.graph).unwrap();
    let costs = CostTable::bootstrapped(SETTINGS.log_n, SETTINGS.top);
    let placing = Placing::Best;
    manager
        .lower(&AssignLevels { costs, placing }, &packed)
        .unwrap();
    drop(manager);
    stages
}

#[test]
fn every_pass_on_a_dumped_text_gives_the_dumped_result() {
    let stages = dumped();
    let mut ran = Vec::new();
    for pair in stages.windows(2) {
        let ((_, _, before), (pass, stage, after)) = (&pair[0], &pair[1]);
        if !PASSES.iter().any(|e| e.name == pass) {
            continue;
        }
        let found = run(pass, before, &SETTINGS).unwrap();
        assert_eq!(found.stage, stage);
        assert!(found.text == *after, "{pass}:\n{}\n{after}", found.text);
        ran.push(pass.clone());
    }
    let all: Vec<&str> = PASSES.iter().map(|e| e.name).collect();
    assert_eq!(ran, all[1..], "every pass but verify, in its order");
    for (_, stage, text) in &stages {
        let found = run("verify", text, &SETTINGS).unwrap();
        assert!(found.stage == stage && found.text == *text);
    }
}

#[test]
fn a_pass_that_is_not_there_and_a_text_of_another_rung_are_refused_by_name() {
    let text = "poly t {\n  %x = input x [2] as given, factor 1 : [1,2]\n  output x = %x\n}\n";
    let unknown = run("fold-everything", text, &SETTINGS).unwrap_err();
    let rung = run("assign-levels", text, &SETTINGS).unwrap_err();
    let invalid = run("verify", &text.replace("  output x = %x\n", ""), &SETTINGS).unwrap_err();
    assert!(matches!(unknown, OptError::Unknown { .. }));
    assert!(matches!(rung, OptError::Rung { .. }));
    assert!(matches!(invalid, OptError::Invalid { .. }));
    let spoilt = run("verify", &text.replace("[1,2]", "[1,2"), &SETTINGS).unwrap_err();
    let refused = run("normalise", text, &SETTINGS).unwrap_err();
    let all = [unknown, rung, invalid, spoilt, refused].map(|e| e.to_string());
    snapshot("opt__refuses", &all.join("\n\n"));
}

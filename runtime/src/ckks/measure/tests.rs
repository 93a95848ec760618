//! What is measured is computed, and lines say where.

use super::*;
use heron_schedule::params::Profile;

#[test]
fn places_are_the_top_and_the_levels_nearest_those_of_other_libraries() {
    let found = places(Profile::Secure).expect("places");
    let log_q = |p: &Place| p.params.row(p.level).expect("row").log2_modulus;
    let [top, large, small] = found.as_slice() else {
        panic!("{} places", found.len());
    };
    assert!(top.params.can_bootstrap() && top.level == top.params.top_usable());
    assert!(!large.params.can_bootstrap() && (log_q(large) - 1140.0).abs() < 21.0);
    assert!(!small.params.can_bootstrap() && (log_q(small) - 465.0).abs() < 21.0);
    assert!(small.matrix.is_some() && top.matrix.is_none());
    assert_eq!(places(Profile::Standard).expect("places").len(), 1);
}

/// The product of matrices refuses to be timed if it is wrong. Toy parameters: not secure.
#[test]
fn every_operation_has_a_line_that_says_where_it_was_measured() {
    let place = places(Profile::ToyLevelled)
        .expect("places")
        .pop()
        .expect("a place");
    let lab = Lab::new(place, 0.01, RandomSource::from_seed([5; 32])).expect("lab");
    let mut lines = Vec::new();
    let report = &mut |m: &Measurement| -> Result<(), CkksError> {
        assert!(m.least_seconds > 0.0 && m.least_seconds <= m.median_seconds && m.runs >= 3);
        lines.push(lab.line(m)?);
        Ok(())
    };
    lab.measure(&|_| true, report).expect("measurements");
    let ops: Vec<&str> = lines.iter().filter_map(|l| l.split('"').nth(7)).collect();
    assert_eq!(ops.len(), 15, "{ops:?}");
    for field in [
        "log_q",
        "digits",
        "special_limbs",
        "chain",
        "median_s",
        "min_s",
        "runs",
    ] {
        let name = format!("\"{field}\":");
        assert!(lines.iter().all(|l| l.contains(&name)), "{field}");
    }
    assert!(lines
        .iter()
        .any(|l| l.contains("rotate_hoisted") && l.contains("each_s")));
    assert!(lines
        .iter()
        .any(|l| l.contains("matrix_128\"") && l.contains("encode_s")));
}

//! What `heron bench --backend cuda` does, in the simulator: everything it times is computed there, and decrypts to what it should.

use super::super::simulator::Simulator;
use super::super::{DeviceError, Gpu};
use crate::bootstrap::measure::{Bench, Slots};
use crate::bootstrap::{Kind, Tuning};
use crate::ckks::measure::{Lab, Measurement, Place};
use crate::ckks::CkksError;
use crate::ring::RandomSource;
use crate::rlwe::RlweContext;
use heron_schedule::params::{ParameterSet, Profile};
use std::sync::Arc;

fn simulated(context: &Arc<RlweContext>) -> Result<Gpu, DeviceError> {
    Gpu::new(Arc::new(Simulator::new(1)), Arc::clone(context))
}

/// The product of matrices refuses to be timed if it is wrong.
#[test]
fn every_operation_is_timed_on_the_device_that_its_line_names() {
    let params = ParameterSet::with_ring(Profile::ToySecure, 9).expect("profile");
    let place = Place::top(params).with_matrix(16);
    let random = RandomSource::from_seed([5; 32]);
    let lab = Lab::on(place, 0.01, random, simulated).expect("lab");
    let mut lines = Vec::new();
    lab.measure(&|_| true, &mut |m: &Measurement| {
        lines.push(lab.line(m)?);
        Ok::<(), CkksError>(())
    })
    .expect("measurements");
    assert_eq!(lines.len(), 15, "{lines:?}");
    for line in &lines {
        let client = ["encrypt", "decrypt"].iter().any(|op| line.contains(op));
        let backend = if client { "cpu" } else { "cuda" };
        assert!(
            line.contains(&format!("\"backend\":\"{backend}\"")),
            "{line}"
        );
        let named = line.contains("\"device\":\"simulator, seed 1\"");
        assert_eq!(named, !client, "{line}");
    }
}

#[test]
fn a_bootstrap_is_timed_on_the_device_and_keeps_its_precision() {
    let params = ParameterSet::with_ring(Profile::ToySecure, 9).expect("profile");
    let random = RandomSource::from_seed([6; 32]);
    let bench = Bench::on(params, Tuning::STANDARD, &[Kind::Full], random, simulated);
    let bench = bench.expect("bench");
    let m = bench
        .measure(Kind::Full, Slots::Real, 1)
        .expect("bootstraps");
    println!("worst {:.1} bits, mean {:.1}", m.worst_bits, m.mean_bits);
    assert!(m.worst_bits > 15.0 && m.mean_bits > m.worst_bits);
    assert!(m.bits_after_products > 12.0, "{}", m.bits_after_products);
    let (median, least) = bench.together(4, 2).expect("bootstraps");
    assert!(least > 0.0 && least <= median);
    assert!(bench.backend().failure().is_none() && bench.backend().most_bytes() > bench.key_bytes);
}

//! Plaintexts made on the device of their integer coefficients.

use super::super::simulator::{Build, Simulator};
use super::super::Gpu;
use super::{same, Both};
use crate::ckks::encoding::{Coefficients, Complex, EncodedPolynomial, Encoder};
use crate::ckks::{Basis, Plaintext, Transfer};
use heron_schedule::params::{Level, Scale};
use std::sync::Arc;

const LEVEL: Level = Level(3);

fn encoded(both: &Both, period: usize, scale: Scale) -> EncodedPolynomial {
    let encoder = Encoder::for_ring(both.context.ring()).expect("encoder");
    let value = |i: usize| Complex::new((i as f64 * 0.7).sin(), (i as f64 * 0.3).cos() - 0.5);
    let slots: Vec<Complex> = (0..period).map(value).collect();
    encoder.encode(&slots, scale).expect("encodes")
}

/// What the device makes of it, against the host.
fn compared(
    both: &Both,
    encoded: &EncodedPolynomial,
    scale: Scale,
    compress: bool,
) -> Result<usize, String> {
    let place = (LEVEL, scale);
    let basis = Basis::Extended;
    let on_cpu = Plaintext::made_on(&both.cpu, &both.context, encoded, place, basis, compress);
    let on_gpu = Plaintext::made_on(&both.gpu, &both.context, encoded, place, basis, compress);
    let (on_cpu, on_gpu) = (on_cpu.expect("encodes"), on_gpu.expect("encodes"));
    same(&both.gpu, on_gpu.poly(), on_cpu.poly())?;
    Ok(on_cpu.poly().degree())
}

#[test]
fn plaintexts_equal_the_hosts_for_every_period_and_size_of_coefficients() {
    for (log_n, seed) in [(8, 1), (10, 2), (12, 3)] {
        let both = Both::new(log_n, seed);
        let scale = both.context.params().scale(LEVEL).expect("scale");
        let large = scale.times(scale).expect("a scale");
        let slots = 1usize << (log_n - 1);
        let mut lengths = Vec::new();
        for log_period in (0..log_n).step_by(2) {
            let period = slots >> log_period;
            for scale in [scale, large] {
                let encoded = encoded(&both, period, scale);
                let wide = matches!(encoded.coefficients(), Coefficients::Wide(_));
                assert_eq!(wide, scale == large, "coefficients of both sizes are tried");
                let what = format!("N = 2^{log_n}, {period} slots");
                let whole = compared(&both, &encoded, scale, false);
                assert_eq!(whole, Ok(1 << log_n), "{what}");
                lengths.push(compared(&both, &encoded, scale, true).expect(&what));
            }
        }
        lengths.dedup();
        // The smallest ring has no smaller one.
        assert_eq!(lengths.len() > 1, log_n > 8, "{lengths:?}");
    }
}

#[test]
fn plaintexts_of_fewer_limbs_than_words_are_the_hosts() {
    let both = Both::new(8, 4);
    let scale = both.context.params().scale(LEVEL).expect("scale");
    let large = scale.times(scale).expect("a scale");
    let encoded = encoded(&both, 1 << 7, large);
    for count in 1..6 {
        let limbs = both.limbs(0, count);
        let expected = both.cpu.encode(&both.context, &encoded, &limbs, 0);
        let found = both.gpu.encode(&both.context, &encoded, &limbs, 0);
        let (found, expected) = (found.expect("encodes"), expected.expect("encodes"));
        assert_eq!(same(&both.gpu, &found, &expected), Ok(()), "{count} limbs");
    }
}

#[test]
fn an_altered_transform_of_a_compressed_plaintext_is_noticed() {
    let tried = |build| {
        let both = Both::built(10, build, 5);
        let scale = both.context.params().scale(LEVEL).expect("scale");
        compared(&both, &encoded(&both, 64, scale), scale, true)
    };
    assert_eq!(tried(Build::Plain), Ok(256));
    assert!(tried(Build::WithoutBarriers).is_err());
}

/// Those of one period and one size of coefficients take the launches of one.
#[test]
fn plaintexts_made_together_equal_the_hosts_whatever_their_shapes() {
    let both = Both::new(10, 6);
    let device = Arc::new(Simulator::new(7));
    let gpu = Gpu::new(Arc::clone(&device) as _, Arc::clone(&both.context)).expect("tables");
    let scale = both.context.params().scale(LEVEL).expect("scale");
    let large = scale.times(scale).expect("a scale");
    let shapes = [
        (512, scale),
        (64, scale),
        (512, large),
        (64, scale),
        (512, scale),
        (64, large),
        (1, scale),
        (512, scale),
    ];
    let encoded = shapes.map(|(period, scale)| encoded(&both, period, scale));
    for (compress, launches) in [(false, 3 * 5), (true, 2 * 3 + 3 * 2)] {
        let place = (LEVEL, scale);
        let basis = Basis::Extended;
        let context = &both.context;
        let on_cpu = Plaintext::made_each_on(&both.cpu, context, &encoded, place, basis, compress);
        let before = device.launches();
        let on_gpu = Plaintext::made_each_on(&gpu, context, &encoded, place, basis, compress);
        assert_eq!(device.launches() - before, launches, "{compress}");
        let (on_cpu, on_gpu) = (on_cpu.expect("encodes"), on_gpu.expect("encodes"));
        assert_eq!(on_gpu.len(), shapes.len());
        for (i, (found, expected)) in on_gpu.iter().zip(&on_cpu).enumerate() {
            assert_eq!(same(&gpu, found.poly(), expected.poly()), Ok(()), "{i}");
        }
    }
}

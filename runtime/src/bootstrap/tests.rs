//! The circuit on encrypted toys (not secure), each step against its f64 oracle.

use super::scales::Tuning;
use super::{footprint, requirements, Bootstrapper, Kind};
use crate::ckks::encoding::{Complex, Encoder};
use crate::ckks::{Ciphertext, Evaluator, Plaintext};
use crate::client::ClientKey;
use crate::ring::RandomSource;
use crate::rlwe::RlweContext;
use heron_schedule::params::{Level, ParameterSet, Profile};
use std::sync::Arc;

struct Lab {
    context: Arc<RlweContext>,
    encoder: Encoder,
    client: ClientKey,
    evaluator: Evaluator,
    bootstrapper: Bootstrapper,
    random: RandomSource,
}

impl Lab {
    fn new(log_n: u32, kinds: &[Kind]) -> Lab {
        let params = ParameterSet::with_ring(Profile::ToySecure, log_n).unwrap();
        Lab::with(params, kinds)
    }

    fn with(params: ParameterSet, kinds: &[Kind]) -> Lab {
        let (log_n, tuning) = (params.log_n(), Tuning::STANDARD);
        let context = RlweContext::new(params).unwrap();
        let random = RandomSource::from_seed([3; 32]);
        let client = ClientKey::generate(Arc::clone(&context), &random.derive("client", &[]));
        let request = requirements(context.params(), tuning, kinds).unwrap();
        let keys = client
            .evaluation_keys(&request, &random.derive("keys", &[]))
            .unwrap();
        let evaluator = Evaluator::new(Arc::clone(&context), Arc::new(keys));
        let bootstrapper = Bootstrapper::new(&context, evaluator.backend(), tuning, kinds).unwrap();
        Lab {
            encoder: Encoder::new(log_n).unwrap(),
            context,
            client,
            evaluator,
            bootstrapper,
            random,
        }
    }

    /// 2^log_slots values with both parts uniform in [-size, size].
    fn values(&self, log_slots: u32, size: f64, seed: u64) -> Vec<Complex> {
        let mut words = vec![0u32; 2 << log_slots];
        let q = (1 << 28) - 57;
        self.random
            .derive("slots", &[seed])
            .uniform_limb(q, &mut words);
        let unit = |w: u32| size * (f64::from(w) / f64::from(q) * 2.0 - 1.0);
        words
            .chunks(2)
            .map(|w| Complex::new(unit(w[0]), unit(w[1])))
            .collect()
    }

    fn encrypt(&self, slots: &[Complex], level: Level, seed: u64) -> Ciphertext {
        let ring = self.context.ring();
        let scale = self.context.params().scale(level).unwrap();
        let limbs = &self.context.row(level).unwrap().limbs;
        let mut poly = self
            .encoder
            .encode_to_poly(ring, limbs, slots, scale)
            .unwrap();
        ring.to_evaluation(&mut poly);
        let message = Plaintext::from_parts(poly, level, scale);
        self.client
            .encrypt(&message, &self.random.derive("encrypt", &[seed]))
            .unwrap()
    }

    fn decrypt(&self, ct: &Ciphertext, log_slots: u32) -> Vec<Complex> {
        let (poly, scale) = self.client.decrypt(ct).unwrap();
        self.encoder
            .decode_poly(self.context.ring(), &poly, scale, log_slots)
            .unwrap()
    }
}

fn real(values: &[Complex]) -> Vec<Complex> {
    values.iter().map(|v| Complex::new(v.re, 0.0)).collect()
}

fn imaginary(values: &[Complex]) -> Vec<Complex> {
    values.iter().map(|v| Complex::new(v.im, 0.0)).collect()
}

/// Largest and root-mean-square distance.
fn distance(a: &[Complex], b: &[Complex]) -> (f64, f64) {
    assert_eq!(a.len(), b.len());
    let squares = a
        .iter()
        .zip(b)
        .map(|(a, b)| (a.re - b.re).powi(2) + (a.im - b.im).powi(2));
    let squares: Vec<f64> = squares.collect();
    let worst = squares.iter().fold(0f64, |m, &s| m.max(s)).sqrt();
    let mean = squares.iter().sum::<f64>() / squares.len() as f64;
    (worst, mean.sqrt())
}

/// Root mean square of a slot's error, the sum of:
/// - EvalMod: 2^-37.0 of q0 at N = 2^16 (the parameter sheet's model at these scales, with the rounding of a doubled product counted
///   once, as it is doubled before the division), smaller with the root of N, times the ratio;
/// - CoeffsToSlots' diagonals, rounded to integers: sqrt(N/6) of their scale relative to t/q0, whose deviation is sqrt(33/12), per stage;
/// - the sine's cubic term, whose square has the mean size⁶/7 for uniform values;
/// - rescaling in SlotsToCoeffs, whose coefficients are slots afterwards, in units of the scale of row 0.
fn predicted_rms(lab: &Lab, size: f64) -> f64 {
    let n = f64::from(1u32 << lab.context.params().log_n());
    let ratio = lab.bootstrapper.plan().ratio;
    let noise = 2f64.powf(-37.0) * (n / 65536.0).sqrt() * ratio;
    let cts = lab.bootstrapper.plan().cts.iter();
    let diagonals = cts.map(|p| n / 6.0 * 33.0 / 12.0 * (ratio / p.to_f64()).powi(2));
    let diagonals = diagonals.sum::<f64>().sqrt();
    let cubic = std::f64::consts::TAU.powi(2) / 6.0 * size.powi(3) / 7f64.sqrt() / ratio.powi(2);
    let rounding = (193f64 / 12.0).sqrt() * 2f64.powi(-39);
    noise.hypot(diagonals).hypot(cubic).hypot(rounding)
}

fn check(what: &str, lab: &Lab, got: &[Complex], expected: &[Complex], size: f64) {
    let (worst, rms) = distance(got, expected);
    let predicted = predicted_rms(lab, size);
    println!(
        "{what}: rms 2^{:.2} (predicted 2^{:.2}), worst 2^{:.2} (bound 2^{:.2})",
        rms.log2(),
        predicted.log2(),
        worst.log2(),
        (16.0 * predicted).log2()
    );
    assert!(
        rms < 2.5 * predicted,
        "{what}: {rms:e} against {predicted:e}"
    );
    // EvalMod's noise grows towards I = 0, so its tail is longer than a Gaussian's.
    assert!(worst < 16.0 * predicted, "{what}: {worst:e}");
}

#[test]
fn full_bootstrap_returns_real_slots_at_the_highest_usable_level() {
    let lab = Lab::new(11, &[Kind::Full]);
    let params = lab.context.params();
    let top = params.top_usable();
    let values = lab.values(10, 1.0, 1);
    // The imaginary parts are dropped.
    let ct = lab.encrypt(&values, params.bootstrap_level(), 1);
    let out = lab.bootstrapper.full(&lab.evaluator, &ct, top).unwrap();
    assert_eq!(
        (out.level(), out.scale()),
        (top, params.scale(top).unwrap())
    );
    let got = lab.decrypt(&out, 10);
    check("full, real", &lab, &got, &real(&values), 1.0);
}

#[test]
fn every_chain_that_secure_may_choose_bootstraps_as_precisely() {
    let sets = ParameterSet::bootstrapping(Profile::ToySecure, 11);
    for params in sets {
        let what = format!("{} levels", params.levels_between_bootstraps());
        let top = params.top_usable();
        let lab = Lab::with(params, &[Kind::Full]);
        let values = real(&lab.values(10, 1.0, 3));
        let ct = lab.encrypt(&values, lab.bootstrapper.rows().input, 1);
        let out = lab.bootstrapper.full(&lab.evaluator, &ct, top).unwrap();
        check(&what, &lab, &lab.decrypt(&out, 10), &values, 1.0);
    }
}

#[test]
fn complex_bootstrap_returns_both_parts_from_any_level_above() {
    let lab = Lab::new(11, &[Kind::Complex]);
    let values = lab.values(10, 1.0, 1);
    let ct = lab.encrypt(&values, Level(6), 1);
    let out = lab
        .bootstrapper
        .complex(&lab.evaluator, &ct, Level(5))
        .unwrap();
    let got = lab.decrypt(&out, 10);
    check("complex, real", &lab, &real(&got), &real(&values), 1.0);
    let (got, values) = (imaginary(&got), imaginary(&values));
    check("complex, imaginary", &lab, &got, &values, 1.0);
}

#[test]
fn pair_bootstrap_keeps_two_real_ciphertexts_apart() {
    let lab = Lab::new(11, &[Kind::ComplexPair]);
    let values = lab.values(10, 1.0, 2);
    let a = lab.encrypt(&real(&values), Level(3), 1);
    let b = lab.encrypt(&imaginary(&values), Level(5), 2);
    let (a, b) = lab
        .bootstrapper
        .pair(&lab.evaluator, &a, &b, Level(9))
        .unwrap();
    assert_eq!(a.level(), Level(9));
    let (a, b) = (lab.decrypt(&a, 10), lab.decrypt(&b, 10));
    check("pair, first", &lab, &a, &real(&values), 1.0);
    check("pair, second", &lab, &b, &imaginary(&values), 1.0);
}

#[test]
fn sparse_bootstrap_returns_periodic_slots() {
    let periods = [9, 8, 5, 1];
    let kinds: Vec<Kind> = periods
        .iter()
        .map(|&log_slots| Kind::Sparse { log_slots })
        .collect();
    let lab = Lab::new(11, &kinds);
    let top = lab.context.params().top_usable();
    for log_slots in periods {
        let values = real(&lab.values(log_slots, 1.0, u64::from(log_slots)));
        let ct = lab.encrypt(&values, Level(4), 7);
        let out = lab
            .bootstrapper
            .sparse(&lab.evaluator, &ct, log_slots, top)
            .unwrap();
        let whole: Vec<Complex> = values.iter().copied().cycle().take(1 << 10).collect();
        let what = format!("period 2^{log_slots}");
        check(&what, &lab, &lab.decrypt(&out, 10), &whole, 1.0);
    }
}

#[test]
fn steps_agree_with_their_oracles_on_decrypted_intermediates() {
    let lab = Lab::new(10, &[Kind::Full]);
    let (b, ev) = (&lab.bootstrapper, &lab.evaluator);
    let values = real(&lab.values(9, 1.0, 4));
    let ct = lab.encrypt(&values, b.rows().input, 4);
    let reversed = |i: usize| i.reverse_bits() >> (usize::BITS - 9);

    let bottom = b.slots_to_coeffs(ev, vec![ct], Kind::Full).unwrap();
    assert_eq!(bottom[0].level(), Level(0));
    let mut message = lab.decrypt(&bottom[0], 9);
    lab.encoder.transform().special_ifft(&mut message).unwrap();
    let expected: Vec<Complex> = (0..1 << 9).map(|i| values[reversed(i)]).collect();
    let (worst, _) = distance(&message, &expected);
    // Encryption noise, 3.2·sqrt(N/2)/2^40 = 2^-33.8 for a slot, eight times.
    println!("SlotsToCoeffs: worst 2^{:.2}, bound 2^-30.8", worst.log2());
    assert!(worst < 2f64.powf(-30.8));

    let raised = b.mod_raise(ev, bottom).unwrap();
    // Values of t/q0 = I + message/ratio in coefficients.
    let mut t = lab.decrypt(&raised[0], 9);
    lab.encoder.transform().special_ifft(&mut t).unwrap();
    let ratio = b.plan().ratio;
    let mut largest = 0f64;
    for (t, m) in t.iter().zip(&message) {
        for (t, m) in [(t.re, m.re), (t.im, m.im)] {
            largest = largest.max(t.round().abs());
            let distance = (t - t.round() - m / ratio).abs();
            assert!(
                distance < 2f64.powi(-40),
                "ModRaise: 2^{:.1}",
                distance.log2()
            );
        }
    }
    println!("ModRaise: largest integer part {largest}, bound 16");
    assert!((1.0..=16.0).contains(&largest));

    let slots = b.coeffs_to_slots(ev, raised, Kind::Full).unwrap();
    let real_part = b.real_part(ev, &slots).unwrap();
    let mut y = real_part[0].clone();
    y.set_scale(b.plan().y);
    let found = lab.decrypt(&y, 9);
    let width = super::cosine::Cosine::STANDARD.half_width();
    let worst = (0..1 << 9)
        .map(|i| (found[i].re - t[reversed(i)].re / width).abs())
        .fold(0.0, f64::max);
    // Rescalings at 2^54 and diagonals to 2^-46 of values up to 1, summed over three stages of up to 15 terms.
    println!("CoeffsToSlots: worst 2^{:.2}, bound 2^-40", worst.log2());
    assert!(worst < 2f64.powi(-40));

    let reduced = b.reduce(ev, real_part).unwrap();
    let found = lab.decrypt(&reduced[0], 9);
    let sine = |x: f64| ratio / std::f64::consts::TAU * (std::f64::consts::TAU * x).sin();
    let worst = (0..1 << 9)
        .map(|i| (found[i].re - sine(t[reversed(i)].re)).abs())
        .fold(0.0, f64::max);
    let bound = 16.0 * predicted_rms(&lab, 0.0);
    println!(
        "EvalMod: worst 2^{:.2}, bound 2^{:.2}",
        worst.log2(),
        bound.log2()
    );
    assert!(worst < bound);
}

#[test]
fn values_up_to_four_meet_the_cubic_term_and_no_more() {
    let lab = Lab::new(11, &[Kind::Full]);
    let top = lab.context.params().top_usable();
    let noise = 16.0 * predicted_rms(&lab, 0.0);
    let turn = std::f64::consts::TAU / lab.bootstrapper.plan().ratio;
    for size in [0.9, 2.0, 4.0] {
        // A constant vector is no worse than a random one.
        let mut values = vec![Complex::new(size, 0.0); 1 << 10];
        values[77].re = -1.0;
        let ct = lab.encrypt(&values, lab.bootstrapper.rows().input, 5);
        let out = lab.bootstrapper.full(&lab.evaluator, &ct, top).unwrap();
        let got = lab.decrypt(&out, 10);
        for (i, (v, got)) in values.iter().zip(&got).enumerate() {
            let sine = (turn * v.re).sin() / turn;
            let error = (got.re - sine).abs();
            assert!(error < noise, "slot {i} of size {size}: {error:e}");
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let lab = Lab::new(10, &[Kind::Full]);
    let top = lab.context.params().top_usable();
    let ct = lab.encrypt(&lab.values(9, 1.0, 9), Level(3), 9);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| lab.bootstrapper.full(&lab.evaluator, &ct, top).unwrap())
    };
    let (one, two) = (run(1), run(2));
    for (a, b) in one.polys().iter().zip(two.polys()) {
        assert_eq!(a.data(), b.data());
    }
}

#[test]
fn unprepared_kinds_and_impossible_levels_are_refused() {
    let lab = Lab::new(10, &[Kind::Sparse { log_slots: 4 }]);
    let ct = lab.encrypt(&lab.values(4, 1.0, 1), Level(3), 1);
    let (b, ev) = (&lab.bootstrapper, &lab.evaluator);
    let refused = b
        .full(ev, &ct, Level(3))
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(refused.contains("not prepared for full slots"), "{refused}");
    assert!(b.sparse(ev, &ct, 5, Level(3)).is_err());
    let refused = b
        .sparse(ev, &ct, 4, Level(17))
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(refused.contains("@17"), "{refused}");
    let params = lab.context.params();
    for log_slots in [0, 9] {
        let kinds = [Kind::Sparse { log_slots }];
        assert!(requirements(params, Tuning::STANDARD, &kinds).is_err());
    }
}

#[test]
fn keys_of_all_kinds_fit_six_gigabytes_at_secure() {
    let params = ParameterSet::new(Profile::Secure).unwrap();
    let special = params.special().len();
    let bytes = |kinds: &[Kind]| -> (usize, f64) {
        let request = requirements(&params, Tuning::STANDARD, kinds).unwrap();
        let mut total = 0usize;
        for (kind, rows) in request.iter() {
            let mut limbs: Vec<_> = rows
                .flat_map(|row| params.limbs(row).unwrap().to_vec())
                .collect();
            limbs.sort_unstable();
            limbs.dedup();
            let live = |d: &&Vec<_>| d.iter().any(|l| limbs.contains(l));
            let (digits, special) = match kind {
                crate::rlwe::KeyKind::DenseToSparse => (1, params.encapsulation().len()),
                _ => (params.digits().iter().filter(live).count(), special),
            };
            total += (digits * 2 * (limbs.len() + special) * 4) << params.log_n();
        }
        (request.len(), total as f64 / 2f64.powi(30))
    };
    let sparse = |log_slots| Kind::Sparse { log_slots };
    for kinds in [
        vec![Kind::Full],
        vec![sparse(14)],
        vec![sparse(9)],
        vec![
            Kind::Full,
            Kind::ComplexPair,
            sparse(14),
            sparse(13),
            sparse(9),
        ],
    ] {
        let (count, gibibytes) = bytes(&kinds);
        println!("{count} keys, {gibibytes:.2} GiB for {kinds:?}");
        assert!(gibibytes * 1.0737 < 6.0);
    }
}

#[test]
fn the_footprint_counts_the_bytes_of_the_encoded_matrices() {
    let kinds = [Kind::Full, Kind::Sparse { log_slots: 5 }];
    let lab = Lab::new(11, &kinds);
    let found = footprint(lab.context.params(), Tuning::STANDARD, &kinds).unwrap();
    let words = lab.bootstrapper.diagonals().map(|p| p.data().len() as u64);
    assert_eq!(found.matrices, 4 * words.sum::<u64>());
    assert!(found.work.len() >= 6 && found.work.iter().all(|w| w.bytes > 0));
    let none = footprint(lab.context.params(), Tuning::STANDARD, &[]).unwrap();
    assert!(none.matrices == 0 && none.work.is_empty());
}

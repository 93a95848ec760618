//! Encoding against its definition, its error bounds, and its own bits.

use super::*;
use crate::ring::{Form, InstructionSet, LimbId, RingContext};
use heron_schedule::params::{Level, ParameterSet, Profile, Scale};

/// Uniform in [-1, 1), the same on every machine.
struct Uniform(u64);
impl Uniform {
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let x = self.0 ^ self.0 >> 29;
        (x >> 11) as f64 / 2f64.powi(52) - 1.0
    }
    fn complex(&mut self, count: usize) -> Vec<Complex> {
        (0..count)
            .map(|_| Complex::new(self.next(), self.next()))
            .collect()
    }
}

fn largest_difference(a: &[Complex], b: &[Complex]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a.re - b.re).hypot(a.im - b.im))
        .fold(0.0, f64::max)
}

fn scale(log2: i32) -> Scale {
    Scale::power_of_two(log2).unwrap()
}

fn narrow(p: &EncodedPolynomial) -> &[i64] {
    match p.coefficients() {
        Coefficients::Narrow(c) => c,
        Coefficients::Wide(_) => panic!("expected narrow coefficients"),
    }
}

#[test]
fn slots_are_the_values_at_the_roots() {
    let (log_n, n) = (6u32, 64usize);
    let transform = SlotTransform::new(log_n - 1).unwrap();
    let mut u = Uniform(1);
    let coefficients = u.complex(n / 2);
    let mut slots = coefficients.clone();
    transform.special_fft(&mut slots).unwrap();
    let mut power = 1usize;
    for slot in slots {
        // m(ζ^power) with m_k = Re c_k, m_(k+n/2) = Im c_k.
        let (mut re, mut im) = (0.0, 0.0);
        for (k, c) in coefficients.iter().enumerate() {
            for (m, k) in [(c.re, k), (c.im, k + n / 2)] {
                let angle = std::f64::consts::PI * ((power * k) % (2 * n)) as f64 / n as f64;
                re += m * angle.cos();
                im += m * angle.sin();
            }
        }
        let error = (slot.re - re).hypot(slot.im - im);
        assert!(error < 1e-12, "error {error:e}, bound 1e-12");
        power = power * 5 % (2 * n);
    }
}

#[test]
fn the_inverse_transform_undoes_the_transform() {
    let transform = SlotTransform::new(15).unwrap();
    for log_slots in [0, 1, 2, 3, 6, 7, 8, 11, 14, 15] {
        let values = Uniform(2).complex(1 << log_slots);
        let mut there = values.clone();
        transform.special_ifft(&mut there).unwrap();
        transform.special_fft(&mut there).unwrap();
        let error = largest_difference(&there, &values);
        let bound = 2f64.powi(-51) * f64::from(log_slots + 1);
        assert!(
            error <= bound,
            "2^{log_slots} slots: error {error:e}, bound {bound:e}"
        );
    }
    assert!(transform.special_fft(&mut [Complex::default(); 3]).is_err());
    assert!(transform.special_fft(&mut []).is_err());
}

#[test]
fn fused_passes_and_all_instruction_sets_give_the_bits_of_single_stages() {
    let transform = SlotTransform::new(15).unwrap();
    for log_slots in [0, 1, 4, 6, 7, 8, 9, 10, 15] {
        let values = Uniform(3).complex(1 << log_slots);
        let parts = || -> (Vec<f64>, Vec<f64>) { values.iter().map(|v| (v.re, v.im)).unzip() };
        let bits = |x: &(Vec<f64>, Vec<f64>)| -> Vec<u64> {
            x.0.iter().chain(&x.1).map(|v| v.to_bits()).collect()
        };
        let (mut forward, mut inverse) = (parts(), parts());
        stages::forward(&transform, &mut forward.0, &mut forward.1);
        stages::inverse(&transform, &mut inverse.0, &mut inverse.1);
        for set in InstructionSet::all_available() {
            let mut x = parts();
            transform.forward_parts(set, &mut x.0, &mut x.1);
            assert!(
                bits(&x) == bits(&forward),
                "forward, 2^{log_slots} slots, {set:?}"
            );
            let mut x = parts();
            transform.inverse_parts(set, &mut x.0, &mut x.1);
            assert!(
                bits(&x) == bits(&inverse),
                "inverse, 2^{log_slots} slots, {set:?}"
            );
        }
    }
}

#[test]
fn stage_diagonals_multiply_out_to_the_transform() {
    let log_slots = 6;
    let transform = SlotTransform::new(10).unwrap();
    let apply = |diagonals: &[StageDiagonal], x: &[Complex]| -> Vec<Complex> {
        (0..x.len())
            .map(|i| {
                diagonals.iter().fold(Complex::default(), |sum, d| {
                    let v = x[(i as i64 + d.offset).rem_euclid(x.len() as i64) as usize];
                    let w = d.values[i];
                    Complex::new(
                        sum.re + w.re * v.re - w.im * v.im,
                        sum.im + w.re * v.im + w.im * v.re,
                    )
                })
            })
            .collect()
    };
    let values = Uniform(4).complex(1 << log_slots);
    let mut expected = values.clone();
    transform.special_fft(&mut expected).unwrap();
    let mut x: Vec<_> = (0..values.len())
        .map(|i| values[i.reverse_bits() >> (64 - log_slots)])
        .collect();
    for log_len in 1..=log_slots {
        let d = transform.stage_diagonals(log_len, log_slots, false);
        assert_eq!(d.len(), if log_len == log_slots { 2 } else { 3 });
        let y = apply(&d, &x);
        let back = apply(&transform.stage_diagonals(log_len, log_slots, true), &y);
        assert!(largest_difference(&back, &x) < 1e-14);
        x = y;
    }
    let error = largest_difference(&x, &expected);
    assert!(error < 1e-13, "error {error:e}, bound 1e-13");
    assert!(
        transform.stage_diagonals(0, 3, false).is_empty()
            && transform.stage_diagonals(4, 3, true).is_empty()
    );
}

#[test]
fn encoding_then_decoding_stays_within_the_rounding_error() {
    let set = ParameterSet::new(Profile::Toy).unwrap();
    let encoder = Encoder::new(set.log_n()).unwrap();
    let ring = RingContext::new(set.log_n(), set.primes()).unwrap();
    let n = f64::from(1u32 << set.log_n());
    for (level, log_slots) in [(0u8, 11u32), (1, 11), (3, 11), (9, 11), (1, 6), (2, 0)] {
        let scale = set.scale(Level(level)).unwrap();
        let limbs: Vec<_> = set
            .limbs(Level(level))
            .unwrap()
            .iter()
            .map(|l| LimbId(l.0))
            .collect();
        let slots = Uniform(5).complex(1 << log_slots);
        let poly = encoder
            .encode_to_poly(&ring, &limbs, &slots, scale)
            .unwrap();
        let got = encoder.decode_poly(&ring, &poly, scale, log_slots).unwrap();
        let error = largest_difference(&got, &slots);
        // Each of 2·2^log_slots coefficients is off by a uniform in ±1/2: six standard deviations, and the transforms' rounding.
        let bound =
            6.0 * (2f64.powi(log_slots as i32 + 1) / 12.0).sqrt() / scale.to_f64() + 2f64.powi(-47);
        assert!(
            error <= bound,
            "level {level}, 2^{log_slots} slots: error {error:e}, bound {bound:e}"
        );
        // Seen in the whole ring, fewer slots repeat.
        let whole = encoder
            .decode_poly(&ring, &poly, scale, set.log_n() - 1)
            .unwrap();
        let repeated: Vec<_> = (0..whole.len()).map(|i| slots[i % slots.len()]).collect();
        let error = largest_difference(&whole, &repeated);
        assert!(
            error <= bound * 1.01,
            "level {level}, 2^{log_slots} slots repeated: error {error:e}, bound {bound:e}"
        );
        assert!(bound < n / scale.to_f64());
    }
}

#[test]
fn the_product_of_encodings_is_the_slotwise_product() {
    let set = ParameterSet::new(Profile::Toy).unwrap();
    let encoder = Encoder::new(set.log_n()).unwrap();
    let ring = RingContext::new(set.log_n(), set.primes()).unwrap();
    let limbs: Vec<_> = set
        .limbs(Level(2))
        .unwrap()
        .iter()
        .map(|l| LimbId(l.0))
        .collect();
    let mut u = Uniform(6);
    let (a, b) = (u.complex(encoder.slots()), u.complex(encoder.slots()));
    let (da, db) = (scale(40), scale(45));
    let mut p = encoder.encode_to_poly(&ring, &limbs, &a, da).unwrap();
    let mut q = encoder.encode_to_poly(&ring, &limbs, &b, db).unwrap();
    ring.to_evaluation(&mut p);
    ring.to_evaluation(&mut q);
    let mut product = ring.mul(&p, &q);
    ring.to_coefficient(&mut product);
    let got = encoder
        .decode_poly(&ring, &product, da.times(db).unwrap(), set.log_n() - 1)
        .unwrap();
    let expected: Vec<_> = a
        .iter()
        .zip(&b)
        .map(|(a, b)| Complex::new(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re))
        .collect();
    let error = largest_difference(&got, &expected);
    let rounding = (2f64.powi(12) / 12.0).sqrt();
    let bound = 6.0 * 2f64.sqrt() * (rounding / da.to_f64() + rounding / db.to_f64());
    assert!(error <= bound, "error {error:e}, bound {bound:e}");
}

#[test]
fn the_automorphism_of_five_to_the_r_rotates_slots_left_by_r() {
    let set = ParameterSet::with_ring(Profile::Toy, 9).unwrap();
    let encoder = Encoder::new(9).unwrap();
    let ring = RingContext::new(9, set.primes()).unwrap();
    let limbs = [LimbId(0), LimbId(1)];
    let slots = Uniform(7).complex(256);
    let poly = encoder
        .encode_to_poly(&ring, &limbs, &slots, scale(40))
        .unwrap();
    for r in [1i64, 5, -3] {
        let rotated = ring.automorphism(&poly, crate::ring::GaloisElement::rotation(r, 9));
        let got = encoder.decode_poly(&ring, &rotated, scale(40), 8).unwrap();
        let expected: Vec<_> = (0..256)
            .map(|i| slots[(i + r).rem_euclid(256) as usize])
            .collect();
        assert!(largest_difference(&got, &expected) < 2f64.powi(-34));
    }
    let conjugated = ring.automorphism(&poly, crate::ring::GaloisElement::conjugation(9));
    let got = encoder
        .decode_poly(&ring, &conjugated, scale(40), 8)
        .unwrap();
    let expected: Vec<_> = slots.iter().map(|z| Complex::new(z.re, -z.im)).collect();
    assert!(largest_difference(&got, &expected) < 2f64.powi(-34));
}

#[test]
fn periodic_vectors_lie_in_the_subring() {
    let encoder = Encoder::new(10).unwrap();
    let slots = Uniform(8).complex(16);
    let repeated: Vec<_> = (0..512).map(|i| slots[i % 16]).collect();
    let small = encoder.encode(&slots, scale(40)).unwrap();
    let large = encoder.encode(&repeated, scale(40)).unwrap();
    assert_eq!((small.log_stride(), large.log_stride()), (5, 0));
    for (k, &c) in narrow(&large).iter().enumerate() {
        let expected = if k % 32 == 0 {
            narrow(&small)[k / 32]
        } else {
            0
        };
        // The longer transform may round a value near a tie the other way.
        assert!(
            (c - expected).abs() <= 1,
            "coefficient {k}: {c}, expected {expected}"
        );
        assert!(
            k % 32 == 0 || c == 0,
            "coefficient {k} is {c}, outside the subring"
        );
    }
    let (mut a, mut b) = (vec![1; 1024], vec![2; 1024]);
    small.reduce_into(786433, &mut a);
    for (k, word) in b.iter_mut().enumerate() {
        *word = if k % 32 == 0 {
            narrow(&small)[k / 32].rem_euclid(786433) as u32
        } else {
            0
        };
    }
    assert_eq!(a, b);
}

#[test]
fn constants_are_two_coefficients() {
    let encoder = Encoder::new(12).unwrap();
    let value = Complex::new(0.3, -1.75);
    let c = encoder.encode_constant(value, scale(40)).unwrap();
    assert_eq!(narrow(&c), [(0.3 * 2f64.powi(40)).round() as i64, -7 << 38]);
    let (p, q) = (67239937u32, 106037249u32);
    let (mut a, mut b) = (vec![0; 4096], vec![0; 4096]);
    c.reduce_into(p, &mut a);
    c.reduce_into(q, &mut b);
    let got = encoder.decode(&[&a, &b], &[p, q], scale(40), 11).unwrap();
    let error = largest_difference(&got, &vec![value; 2048]);
    assert!(error <= 2f64.powi(-40), "error {error:e}, bound 2^-40");
    let wide = encoder.encode_constant(value, scale(100)).unwrap();
    assert!(matches!(wide.coefficients(), Coefficients::Wide(c) if c[1] == -7 << 98));
    assert_eq!(wide.bits(), 101);
    assert!(encoder.encode_constant(value, scale(126)).is_err());
    assert!(encoder
        .encode_constant(Complex::new(f64::NAN, 0.0), scale(40))
        .is_err());
}

#[test]
fn large_scales_keep_every_bit_of_the_slots() {
    let encoder = Encoder::new(9).unwrap();
    let ring = RingContext::new(
        9,
        ParameterSet::with_ring(Profile::Toy, 9).unwrap().primes(),
    )
    .unwrap();
    let limbs: Vec<_> = (0..6).map(LimbId).collect();
    let slots = Uniform(9).complex(256);
    for log2 in [45, 58, 62, 75, 110] {
        let poly = encoder
            .encode_to_poly(&ring, &limbs, &slots, scale(log2))
            .unwrap();
        let got = encoder.decode_poly(&ring, &poly, scale(log2), 8).unwrap();
        let error = largest_difference(&got, &slots);
        let bound = 2f64.powi(-47) + 6.0 * (512.0f64 / 12.0).sqrt() / 2f64.powi(log2);
        assert!(
            error <= bound,
            "scale 2^{log2}: error {error:e}, bound {bound:e}"
        );
    }
}

#[test]
fn the_bits_of_an_encoding_never_change() {
    let digest = |set: InstructionSet| {
        let mut hasher = blake3::Hasher::new();
        for (log_n, log_slots) in [(16u32, 15u32), (16, 9), (12, 11), (12, 3)] {
            let encoder = Encoder::new(log_n).unwrap();
            for scale in [
                scale(40),
                scale(56),
                scale(70),
                Scale::from_f64(1.1e12 / 3.0).unwrap(),
            ] {
                let slots = Uniform(u64::from(log_n + log_slots)).complex(1 << log_slots);
                let (re, im) = slots.iter().map(|z| (z.re, z.im)).unzip();
                let p = encoder.encode_parts(re, im, scale, set).unwrap();
                match p.coefficients() {
                    Coefficients::Narrow(c) => c.iter().for_each(|c| {
                        hasher.update(&i128::from(*c).to_le_bytes());
                    }),
                    Coefficients::Wide(c) => c.iter().for_each(|c| {
                        hasher.update(&c.to_le_bytes());
                    }),
                }
                let mut words = vec![0u32; 1 << log_n];
                p.reduce_into(142344193, &mut words);
                words.iter().for_each(|w| {
                    hasher.update(&w.to_le_bytes());
                });
            }
        }
        hasher.finalize().to_hex().to_string()
    };
    for set in InstructionSet::all_available() {
        assert_eq!(digest(set), KNOWN_ENCODINGS, "{set:?}");
    }
}

/// The same bytes came from an independent 40-line Python program with correctly rounded twiddles (mpmath), written from the module's text.
const KNOWN_ENCODINGS: &str = "becf8a46f1ddb252ac018a99dd896bf949a611bd005d1b54394bdcfa14656a1a";

#[test]
fn threads_do_not_change_an_encoding() {
    let encoder = Encoder::new(12).unwrap();
    let encode = |seed: u64| {
        encoder
            .encode(&Uniform(seed).complex(2048), scale(40))
            .unwrap()
    };
    let alone: Vec<_> = (0..8).map(encode).collect();
    let together: Vec<_> = std::thread::scope(|s| {
        let handles: Vec<_> = (0..8).map(|seed| s.spawn(move || encode(seed))).collect();
        handles.into_iter().map(|h| h.join().unwrap()).collect()
    });
    assert!(alone == together);
}

#[test]
fn vectors_that_cannot_be_encoded_are_refused() {
    let encoder = Encoder::new(8).unwrap();
    let ok = vec![0.5; 128];
    assert!(encoder.encode_real(&ok, scale(40)).is_ok());
    for length in [0, 3, 127, 256] {
        assert!(matches!(
            encoder.encode_real(&vec![0.5; length], scale(40)),
            Err(EncodingError::SlotCount { .. })
        ));
    }
    for bad in [f64::NAN, f64::INFINITY] {
        let mut v = ok.clone();
        v[77] = bad;
        assert!(matches!(
            encoder.encode_real(&v, scale(40)),
            Err(EncodingError::NotFinite { slot: 77, .. })
        ));
    }
    assert!(matches!(
        encoder.encode_real(&ok, scale(130)),
        Err(EncodingError::TooLarge { .. })
    ));
    assert!(Encoder::new(2).is_err() && Encoder::new(18).is_err());
    let limb = vec![5u32; 256];
    assert!(matches!(
        encoder.decode(&[&limb], &[], scale(40), 7),
        Err(EncodingError::Residues { .. })
    ));
    assert!(matches!(
        encoder.decode(&[&limb[..9]], &[786433], scale(40), 7),
        Err(EncodingError::Residues { .. })
    ));
    assert!(matches!(
        encoder.decode(&[&limb], &[3], scale(40), 7),
        Err(EncodingError::Modulus { .. })
    ));
    assert!(matches!(
        encoder.decode(&[&limb], &[786433], scale(40), 8),
        Err(EncodingError::SlotCount { .. })
    ));
    let ring = RingContext::new(9, &[786433]).unwrap();
    let p = encoder.encode_real(&ok, scale(10)).unwrap();
    assert!(p.to_poly(&ring, &[LimbId(0)]).is_err() && p.to_poly(&ring, &[LimbId(1)]).is_err());
    let evaluation = crate::ring::RnsPoly::zero(&ring, &[LimbId(0)], Form::Evaluation);
    assert!(matches!(
        encoder.decode_poly(&ring, &evaluation, scale(10), 3),
        Err(EncodingError::EvaluationForm)
    ));
}

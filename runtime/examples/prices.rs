//! The numbers of the compiler's cost table: `prices [PROFILE] [LEVELS…]`, one JSON line each, milliseconds of wall time (least and median).
//! Set RAYON_NUM_THREADS for the number of threads, and leave the machine alone meanwhile.
//!
//! Linear maps are timed as a whole with plaintexts encoded when they are used, as a server does; what one product, one baby and one
//! giant cost are differences.

use heron_runtime::backend::Backend;
use heron_runtime::ckks::encoding::Encoder;
use heron_runtime::ckks::linear::{DiagonalSource, GiantStep, LinearOutput, LinearTerm};
use heron_runtime::ckks::{Basis, Ciphertext, CkksError, Evaluator, Plaintext, RotationStep};
use heron_runtime::client::ClientKey;
use heron_runtime::ring::{GaloisElement, RandomSource};
use heron_runtime::rlwe::{KeyKind, KeyRequest, RlweContext};
use heron_schedule::params::{Level, ParameterSet, Scale};
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

/// Slots after which the weights of many features in few tokens' lanes repeat.
const PERIOD: usize = 256;
/// Rotations there are keys for.
const STEPS: i64 = 8;

struct Encoded<'a> {
    evaluator: &'a Evaluator,
    encoder: &'a Encoder,
    slots: &'a [f64],
    scale: Scale,
}

impl<P> DiagonalSource<P> for Encoded<'_>
where
    heron_runtime::backend::Cpu: Backend<Poly = P>,
{
    fn diagonal(
        &self,
        _: usize,
        level: Level,
        basis: Basis,
    ) -> Result<Arc<Plaintext<P>>, CkksError> {
        let context = self.evaluator.context();
        let plain = Plaintext::encode_real_compressed(
            context,
            self.encoder,
            self.slots,
            level,
            self.scale,
            basis,
        )?;
        let poly = self.evaluator.backend().upload(plain.poly());
        Ok(Arc::new(Plaintext::from_parts(poly, level, self.scale)))
    }

    fn words(&self, _: usize) -> Option<usize> {
        Some(2 * self.slots.len())
    }
}

/// `giants` giant steps of `terms` terms each, over `babies` rotations of one source.
fn map(babies: i64, giants: i64, terms: i64) -> Vec<LinearOutput> {
    let giants = (0..giants).map(|g| GiantStep {
        step: RotationStep(g),
        terms: (0..terms)
            .map(|t| LinearTerm {
                source: 0,
                baby: RotationStep(1 + t % babies),
                diagonal: 0,
            })
            .collect(),
    });
    vec![LinearOutput {
        giants: giants.collect(),
    }]
}

/// Least and median milliseconds.
fn time<T>(op: &str, level: Level, runs: usize, mut f: impl FnMut() -> T) -> f64 {
    drop(f());
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            drop(f());
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let (least, median) = (times[0], times[times.len() / 2]);
    say(op, level, least, median);
    median
}

fn say(op: &str, level: Level, least: f64, median: f64) {
    println!(
        "{{\"op\":\"{op}\",\"threads\":{},\"level\":{},\"least_ms\":{least:.3},\"median_ms\":{median:.3}}}",
        rayon::current_num_threads(),
        level.0
    );
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let profile = arguments.next().unwrap_or_else(|| "secure".into());
    let params = ParameterSet::new(profile.parse()?)?;
    let mut levels: Vec<Level> = arguments
        .map(|a| a.parse().map(Level))
        .collect::<Result<_, _>>()?;
    if levels.is_empty() {
        levels = [1, 4, 8, 12, params.top_usable().0].map(Level).to_vec();
    }
    let log_n = params.log_n();
    let context = RlweContext::new(params)?;
    let encoder = Encoder::new(log_n)?;
    let random = RandomSource::from_entropy()?;
    let client = ClientKey::generate(Arc::clone(&context), &random);
    let slots: Vec<f64> = (0..encoder.slots())
        .map(|i| (i as f64 * 0.618).fract() * 2.0 - 1.0)
        .collect();
    for level in levels {
        let mut request = KeyRequest::new();
        request.add(KeyKind::Relinearisation, level);
        for s in 1..=STEPS {
            request.add(KeyKind::Galois(GaloisElement::rotation(s, log_n)), level);
        }
        let keys =
            client.evaluation_keys(&request, &random.derive("keys", &[u64::from(level.0)]))?;
        let evaluator = Evaluator::new(Arc::clone(&context), Arc::new(keys));
        let scale = context.params().scale(level)?;
        let plaintext =
            Plaintext::encode_real(&context, &encoder, &slots, level, scale, Basis::Row)?;
        let c: Ciphertext =
            client.encrypt(&plaintext, &random.derive("c", &[u64::from(level.0)]))?;
        let steps: Vec<RotationStep> = (1..=STEPS).map(RotationStep).collect();
        time("rotate", level, 7, || evaluator.rotate(&c, steps[0]));
        let one = time("rotate_hoisted_1", level, 5, || {
            evaluator.rotate_hoisted(&c, &steps[..1])
        });
        let all = time("rotate_hoisted_8", level, 5, || {
            evaluator.rotate_hoisted(&c, &steps)
        });
        let each = (all - one) / (STEPS - 1) as f64;
        say("hoisted_each", level, each, each);
        time("encode_extended", level, 5, || {
            Plaintext::encode_real(&context, &encoder, &slots, level, scale, Basis::Extended)
        });
        time("add", level, 9, || evaluator.add(&c, &c));
        if level.0 == 0 {
            continue;
        }
        let one = time("mul_sum_1", level, 5, || {
            evaluator.mul_sum(&[(&c, &c)], 1, 0.0)
        });
        let many = time("mul_sum_9", level, 5, || {
            evaluator.mul_sum(&[(&c, &c); 9], 1, 0.0)
        });
        say(
            "product_each",
            level,
            (many - one) / 8.0,
            (many - one) / 8.0,
        );
        time("rescale", level, 9, || evaluator.rescale(&c));
        time("adjust_by_1", level, 9, || {
            evaluator.adjust(&c, Level(level.0 - 1), 0.5)
        });
        time("adjust_to_0", level, 9, || {
            evaluator.adjust(&c, Level(0), 1.0)
        });
        let diagonals = Encoded {
            evaluator: &evaluator,
            encoder: &encoder,
            slots: &slots,
            scale: context.params().plaintext_scale(level)?,
        };
        let run = |name: &str, babies, giants, terms| {
            let outputs = map(babies, giants, terms);
            time(name, level, 3, || {
                evaluator.linear(&[&c], &outputs, &diagonals)
            })
        };
        let least = run("linear_1_1_4", 1, 1, 4);
        let babies = run("linear_8_1_8", 8, 1, 8);
        let terms = run("linear_8_1_64", 8, 1, 64);
        let giants = run("linear_8_8_8", 8, 8, 8);
        let product = (terms - babies) / 56.0;
        let baby = (babies - least - 4.0 * product) / 7.0;
        say("linear_product", level, product, product);
        say("linear_baby", level, baby, baby);
        let giant = (giants - terms) / 7.0;
        say("linear_giant", level, giant, giant);
        let rest = least - 4.0 * product - baby;
        say("linear_rest", level, rest, rest);
        let diagonals = Encoded {
            slots: &slots[..PERIOD],
            ..diagonals
        };
        let run = |name: &str, terms| {
            let outputs = map(8, 8, terms);
            time(name, level, 3, || {
                evaluator.linear(&[&c], &outputs, &diagonals)
            })
        };
        let few = run("periodic_8_8_8", 8);
        let many = run("periodic_8_8_64", 64);
        let product = (many - few) / (8.0 * 56.0);
        say("periodic_product", level, product, product);
    }
    Ok(())
}

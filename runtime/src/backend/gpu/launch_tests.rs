//! What would be launched at full size, on a device that only counts: within every limit of sm_90, and how many there are.

use super::planner::Planner;
use super::{Gpu, GpuPoly, KernelTime};
use crate::backend::Backend;
use crate::bootstrap::{requirements, Bootstrapper, Kind, Tuning};
use crate::ckks::{Ciphertext, Evaluator, RotationStep};
use crate::client::imagined_keys;
use crate::ring::{Form, GaloisElement};
use crate::rlwe::{KeyKind, KeyRequest, RlweContext};
use heron_schedule::params::{Level, ParameterSet, Profile};
use std::sync::Arc;
use std::time::Instant;

/// Shared memory that a block may have on sm_90.
const SHARED: u32 = 227 << 10;
/// Bytes of an H200.
const MEMORY: u64 = 139 << 30;

struct Counting {
    context: Arc<RlweContext>,
    evaluator: Evaluator<Gpu>,
}

impl Counting {
    fn new(params: ParameterSet, request: &KeyRequest) -> Counting {
        let context = RlweContext::new(params).expect("context");
        let device = Planner::new(MEMORY, SHARED);
        let gpu = Gpu::new(Arc::new(device), Arc::clone(&context)).expect("tables");
        let keys = Arc::new(imagined_keys(&context, request).expect("keys"));
        Counting {
            evaluator: Evaluator::on(gpu, Arc::clone(&context), keys),
            context,
        }
    }

    fn ciphertext(&self, level: Level) -> Ciphertext<GpuPoly> {
        let limbs = &self.context.row(level).expect("row").limbs;
        let scale = self.context.params().scale(level).expect("scale");
        let one = || self.evaluator.backend().zero(limbs, Form::Evaluation);
        Ciphertext::from_parts(vec![one(), one()], level, scale)
    }

    /// The launches of what is done, none of them refused.
    #[track_caller]
    fn launches<T>(&self, work: impl FnOnce(&Evaluator<Gpu>) -> T) -> Vec<KernelTime> {
        let timed = self.evaluator.backend().timed(|| work(&self.evaluator));
        timed.expect("no launch is refused").1
    }
}

fn sum(launches: &[KernelTime]) -> u64 {
    launches.iter().map(|k| k.launches).sum()
}

fn operations(params: &ParameterSet) -> KeyRequest {
    let mut request = KeyRequest::new();
    let log_n = params.log_n();
    for level in (1..=params.top_usable().0).map(Level) {
        request.add(KeyKind::Relinearisation, level);
        for step in [1, 2, 3] {
            request.add(KeyKind::Galois(GaloisElement::rotation(step, log_n)), level);
        }
    }
    request
}

#[test]
fn operations_at_every_level_of_every_secure_chain_launch_what_an_h200_takes() {
    let profiles = [Profile::Secure, Profile::Paper, Profile::Standard];
    for params in profiles.map(|p| ParameterSet::new(p).expect("profile")) {
        let counting = Counting::new(params.clone(), &operations(&params));
        for level in (1..=params.top_usable().0).map(Level) {
            let (a, b) = (counting.ciphertext(level), counting.ciphertext(level));
            let key_switch =
                counting.launches(|on| on.rotate(&a, RotationStep(1)).expect("rotates"));
            // Two that decompose, the key product, three that divide; the sum with c0 is in the product.
            assert_eq!(sum(&key_switch), 6, "level {}: {key_switch:?}", level.0);
            counting.launches(|on| on.mul_rescale(&a, &b).expect("multiplies"));
            counting.launches(|on| on.rescale(&a).expect("rescales"));
            counting.launches(|on| on.adjust(&a, Level(level.0 - 1), 0.5).expect("adjusts"));
            for count in 1..=8 {
                let many: Vec<_> = (0..count).map(|_| &a).collect();
                let steps = [1, 2, 3].map(RotationStep);
                counting.launches(|on| on.rotate_hoisted_each(&many, &steps).expect("rotates"));
            }
        }
    }
}

/// A change of these numbers is a change of what a bootstrap costs to start: read it.
#[test]
fn a_bootstrap_at_full_size_launches_what_an_h200_takes_and_as_often_as_is_known() {
    let params = ParameterSet::new(Profile::Secure).expect("profile");
    let kinds = [Kind::Full, Kind::ComplexPair, Kind::Sparse { log_slots: 8 }];
    let request = requirements(&params, Tuning::STANDARD, &kinds).expect("keys");
    let counting = Counting::new(params.clone(), &request);
    let gpu = counting.evaluator.backend();
    let bootstrapper = Bootstrapper::new(&counting.context, gpu, Tuning::STANDARD, &kinds);
    let bootstrapper = bootstrapper.expect("prepares");
    let input = counting.ciphertext(params.bootstrap_level());
    let top = bootstrapper.rows().out;
    let mut counts = Vec::new();
    for kind in [Kind::Full, Kind::Sparse { log_slots: 8 }] {
        for batch in [1, 4, 8] {
            let many: Vec<_> = (0..batch).map(|_| &input).collect();
            let bootstrap = |on: &Evaluator<Gpu>| bootstrapper.each(on, &many, kind, top);
            // Keys and tables are there from now on, and it is recorded.
            let first = counting.launches(|on| bootstrap(on).expect("bootstraps"));
            let begun = Instant::now();
            counting.launches(|on| bootstrap(on).expect("bootstraps"));
            let recording = begun.elapsed().as_secs_f64();
            let started = Instant::now();
            let launches = counting.launches(|on| bootstrap(on).expect("bootstraps"));
            let seconds = started.elapsed().as_secs_f64();
            let all = sum(&launches);
            // Both halves of each are copied there and back.
            assert_eq!(all - sum(&first), 4 * batch);
            let moves: u64 = launches.iter().map(|k| k.moves).sum();
            println!(
                "{kind}, {batch} at once: {all} launches, recorded in {:.1} ms, {:.2} ms of the host a bootstrap from then on, {:.2} GB moved",
                recording * 1e3,
                seconds * 1e3 / batch as f64,
                moves as f64 / 1e9
            );
            for k in launches {
                println!(
                    "  {} {} times, {:.3} GB",
                    k.kernel,
                    k.launches,
                    k.moves as f64 / 1e9
                );
            }
            counts.push(sum(&first));
        }
    }
    assert_eq!(counts, [349, 914, 1758, 365, 932, 1800]);
}

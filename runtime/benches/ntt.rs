//! Times of the ring's kernels in microseconds, with tfhe-ntt beside them. Plain harness: `cargo bench -p heron-runtime --bench ntt`.

use heron_runtime::arith::primes::is_prime;
use heron_runtime::ring::{
    Form, GaloisElement, InstructionSet, LimbId, RandomSource, RingContext, RnsPoly,
};
use std::time::Instant;

const LOG_N: u32 = 16;

/// Times in microseconds: median and smallest wall time, and median processor time of the calling thread, which other
/// processes on the machine disturb less.
struct Times {
    wall: f64,
    smallest: f64,
    processor: f64,
}

/// Processor time of this thread in microseconds.
#[cfg(target_os = "linux")]
fn processor_time() -> f64 {
    const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
    extern "C" {
        fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
    }
    let mut time = [0i64; 2];
    // SAFETY: `time` has the layout of a timespec on 64-bit Linux.
    unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time[0] as f64 * 1e6 + time[1] as f64 / 1e3
}

#[cfg(not(target_os = "linux"))]
fn processor_time() -> f64 {
    0.0
}

fn measure(repetitions: usize, f: &mut (dyn FnMut() + Send)) -> Times {
    f();
    let (mut walls, mut processors) = (Vec::new(), Vec::new());
    for _ in 0..repetitions {
        let (wall, processor) = (Instant::now(), processor_time());
        f();
        processors.push(processor_time() - processor);
        walls.push(wall.elapsed().as_secs_f64() * 1e6);
    }
    walls.sort_by(f64::total_cmp);
    processors.sort_by(f64::total_cmp);
    let middle = repetitions / 2;
    Times {
        wall: walls[middle],
        smallest: walls[0],
        processor: processors[middle],
    }
}

fn line(name: &str, per: f64, times: Times) {
    let Times {
        wall,
        smallest,
        processor,
    } = times;
    println!(
        "{name:<62} {:>9.1} {:>9.1} {:>9.1}",
        wall / per,
        smallest / per,
        processor / per
    );
}

/// Transforms of single limbs, beside tfhe-ntt.
fn transforms(primes: &[u32], source: &RandomSource) {
    let n = 1usize << LOG_N;
    let mut limb = vec![0u32; n];
    source.uniform_limb(primes[0], &mut limb);
    if let Some(plan) = tfhe_ntt::prime32::Plan::try_new(n, primes[0]) {
        let forward = measure(201, &mut || plan.fwd(&mut limb));
        line("tfhe-ntt prime32, forward, one limb", 1.0, forward);
        let inverse = measure(201, &mut || plan.inv(&mut limb));
        line("tfhe-ntt prime32, inverse, one limb", 1.0, inverse);
    }
    for set in InstructionSet::all_available() {
        let Ok(ring) = RingContext::with_instruction_set(LOG_N, &primes[..48], set) else {
            continue;
        };
        source.uniform_limb(primes[0], &mut limb);
        let forward = measure(201, &mut || ring.limb_to_evaluation(LimbId(0), &mut limb));
        line(&format!("{set:?}, forward, one limb"), 1.0, forward);
        let inverse = measure(201, &mut || ring.limb_to_coefficient(LimbId(0), &mut limb));
        line(&format!("{set:?}, inverse, one limb"), 1.0, inverse);
        let mut poly = source.uniform(&ring, &ring.all_limbs(), Form::Coefficient);
        let sweep = measure(21, &mut || {
            for i in 0..48 {
                ring.limb_to_evaluation(LimbId(i), poly.limb_mut(usize::from(i)));
            }
        });
        let name = format!("{set:?}, forward, per limb of a polynomial of 48, one thread");
        line(&name, 48.0, sweep);
        let all = measure(21, &mut || {
            poly.set_form(Form::Coefficient);
            ring.to_evaluation(&mut poly);
        });
        let threads = rayon::current_num_threads();
        let name = format!("{set:?}, forward, per limb of a polynomial of 48, {threads} threads");
        line(&name, 48.0, all);
    }
}

/// Operations on whole polynomials, in the sizes of a key switch at the top level.
fn operations(ring: &RingContext, source: &RandomSource, threads: &str) {
    let limbs = ring.all_limbs();
    let draw = |name: &str, i: u64, count: usize, form: Form| {
        source
            .derive(name, &[i])
            .uniform(ring, &limbs[..count], form)
    };
    let digit = draw("digit", 9, 10, Form::Coefficient);
    let times = measure(21, &mut || drop(ring.extend(&digit, &limbs[10..50])));
    line(&format!("extend 10 -> 40 limbs, {threads}"), 1.0, times);

    let digits: Vec<RnsPoly> = (0..5)
        .map(|i| draw("digit", i, 60, Form::Evaluation))
        .collect();
    let keys: Vec<RnsPoly> = (0..10)
        .map(|i| draw("key", i, 60, Form::Evaluation))
        .collect();
    let triples: Vec<(&RnsPoly, &RnsPoly, &RnsPoly)> = (0..5)
        .map(|i| (&digits[i], &keys[2 * i], &keys[2 * i + 1]))
        .collect();
    let pairs: Vec<(&RnsPoly, &RnsPoly)> = triples.iter().map(|t| (t.0, t.1)).collect();
    let times = measure(21, &mut || drop(ring.inner_product(&pairs, &limbs[..60])));
    line(
        &format!("inner product, 5 digits x 60 limbs, {threads}"),
        1.0,
        times,
    );
    let times = measure(21, &mut || {
        drop(ring.inner_product_pair(&triples, &limbs[..60]))
    });
    line(
        &format!("both inner products, 5 digits x 60 limbs, {threads}"),
        1.0,
        times,
    );

    let wide = draw("wide", 0, 59, Form::Evaluation);
    let times = measure(21, &mut || {
        drop(ring.divide_and_round(&wide, &limbs[11..59], None))
    });
    line(
        &format!("divide and round by 11 limbs, 59 -> 48, {threads}"),
        1.0,
        times,
    );
    let mut a = wide.select(&limbs[..48]);
    let times = measure(21, &mut || ring.mul_assign(&mut a, &wide));
    line(&format!("product, 48 limbs, {threads}"), 1.0, times);
    let times = measure(21, &mut || ring.add_assign(&mut a, &wide));
    line(&format!("sum, 48 limbs, {threads}"), 1.0, times);
    let g = GaloisElement::rotation(3, LOG_N);
    let times = measure(21, &mut || drop(ring.automorphism(&a, g)));
    line(
        &format!("automorphism, evaluation form, 48 limbs, {threads}"),
        1.0,
        times,
    );
    let times = measure(5, &mut || {
        drop(source.uniform(ring, &limbs[..59], Form::Evaluation))
    });
    line(
        &format!("uniform polynomial, 59 limbs, {threads}"),
        1.0,
        times,
    );
}

fn main() {
    let all = (1..1u32 << 11).rev().map(|k| (k << 17) + 1);
    let primes: Vec<u32> = all.filter(|&q| is_prime(q)).take(71).collect();
    let source = RandomSource::from_seed([3; 32]);
    println!(
        "{:<62} {:>9} {:>9} {:>9}",
        "microseconds", "median", "smallest", "processor"
    );
    transforms(&primes, &source);
    let Ok(ring) = RingContext::new(LOG_N, &primes) else {
        return;
    };
    operations(&ring, &source, "all threads");
    if let Ok(pool) = rayon::ThreadPoolBuilder::new().num_threads(1).build() {
        pool.install(|| operations(&ring, &source, "one thread"));
    }
}

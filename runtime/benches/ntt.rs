//! Times of the ring's kernels, medians in microseconds. Plain harness: `cargo bench -p heron-runtime --bench ntt`.

use heron_runtime::arith::primes::is_prime;
use heron_runtime::ring::{Form, InstructionSet, LimbId, RandomSource, RingContext, RnsPoly};
use std::time::Instant;

thread_local! {
    /// Smallest time of the last measurement: what a loaded machine can still show.
    static SMALLEST: std::cell::Cell<f64> = const { std::cell::Cell::new(0.0) };
}

const LOG_N: u32 = 16;

/// Median time of one call, microseconds.
fn median(repetitions: usize, mut f: impl FnMut()) -> f64 {
    f();
    let mut times: Vec<f64> = (0..repetitions)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    SMALLEST.with(|s| s.set(times[0]));
    times[times.len() / 2]
}

fn line(name: &str, microseconds: f64) {
    println!(
        "{name:<60} {microseconds:>10.1} us (smallest {:.1})",
        SMALLEST.with(|s| s.get())
    );
}

fn main() {
    let primes: Vec<u32> = (1..1u32 << 11)
        .rev()
        .map(|k| (k << 17) + 1)
        .filter(|&q| is_prime(q))
        .take(71)
        .collect();
    let n = 1usize << LOG_N;
    let source = RandomSource::from_seed([3; 32]);

    let q = primes[0];
    let mut limb = vec![0u32; n];
    source.uniform_limb(q, &mut limb);
    match tfhe_ntt::prime32::Plan::try_new(n, q) {
        Some(plan) => {
            line(
                "tfhe-ntt prime32 forward, one limb",
                median(201, || plan.fwd(&mut limb)),
            );
            line(
                "tfhe-ntt prime32 inverse, one limb",
                median(201, || plan.inv(&mut limb)),
            );
        }
        None => println!("tfhe-ntt refuses {q}"),
    }
    for set in [
        InstructionSet::Portable,
        InstructionSet::Avx2,
        InstructionSet::Avx512,
    ] {
        let Ok(ring) = RingContext::with_instruction_set(LOG_N, &primes[..48], set) else {
            continue;
        };
        if ring.instruction_set() != set {
            continue;
        }
        source.uniform_limb(q, &mut limb);
        line(
            &format!("{set:?} forward, one limb"),
            median(201, || ring.limb_to_evaluation(LimbId(0), &mut limb)),
        );
        line(
            &format!("{set:?} inverse, one limb"),
            median(201, || ring.limb_to_coefficient(LimbId(0), &mut limb)),
        );
        let mut poly = source.uniform(&ring, &ring.all_limbs(), Form::Coefficient);
        let sweep = median(21, || {
            for i in 0..48 {
                ring.limb_to_evaluation(LimbId(i), poly.limb_mut(usize::from(i)));
            }
        });
        line(
            &format!("{set:?} forward, per limb of a sweep over 48, one thread"),
            sweep / 48.0,
        );
        let both = median(21, || {
            poly.set_form(Form::Coefficient);
            ring.to_evaluation(&mut poly);
        });
        line(
            &format!(
                "{set:?} forward, per limb of 48, {} threads",
                rayon::current_num_threads()
            ),
            both / 48.0,
        );
    }

    let Ok(ring) = RingContext::new(LOG_N, &primes) else {
        return;
    };
    let limbs = ring.all_limbs();
    let single = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let mut pools = vec![("all threads", None)];
    if let Ok(pool) = single {
        pools.push(("one thread", Some(pool)));
    }
    for (name, pool) in &pools {
        let run = |f: &mut (dyn FnMut() + Send)| match pool {
            Some(pool) => pool.install(f),
            None => f(),
        };
        let digit = source.uniform(&ring, &limbs[..10], Form::Coefficient);
        let time = median(21, || {
            run(&mut || drop(ring.extend(&digit, &limbs[10..50])))
        });
        line(&format!("extend 10 -> 40 limbs, {name}"), time);
        let digits: Vec<RnsPoly> = (0..5)
            .map(|i| {
                source
                    .derive("d", &[i])
                    .uniform(&ring, &limbs[..60], Form::Evaluation)
            })
            .collect();
        let keys: Vec<RnsPoly> = (0..5)
            .map(|i| {
                source
                    .derive("k", &[i])
                    .uniform(&ring, &limbs[..60], Form::Evaluation)
            })
            .collect();
        let pairs: Vec<(&RnsPoly, &RnsPoly)> = digits.iter().zip(&keys).collect();
        let time = median(21, || {
            run(&mut || drop(ring.inner_product(&pairs, &limbs[..60])))
        });
        line(
            &format!("inner product of 5 digits x 60 limbs, {name}"),
            time,
        );
        let wide = source.uniform(&ring, &limbs[..59], Form::Evaluation);
        let time = median(21, || {
            run(&mut || drop(ring.divide_and_round(&wide, &limbs[11..59], None)))
        });
        line(
            &format!("divide and round, 11 limbs out of 59 -> 48, {name}"),
            time,
        );
        let mut a = wide.select(&limbs[..48]);
        let time = median(21, || run(&mut || ring.mul_assign(&mut a, &wide)));
        line(&format!("product of 48 limbs, {name}"), time);
        let time = median(21, || run(&mut || ring.add_assign(&mut a, &wide)));
        line(&format!("sum of 48 limbs, {name}"), time);
        let g = heron_runtime::ring::GaloisElement::rotation(3, LOG_N);
        let time = median(21, || run(&mut || drop(ring.automorphism(&a, g))));
        line(
            &format!("automorphism of 48 limbs, evaluation form, {name}"),
            time,
        );
        let time = median(5, || {
            run(&mut || drop(source.uniform(&ring, &limbs[..59], Form::Evaluation)))
        });
        line(&format!("uniform polynomial of 59 limbs, {name}"), time);
    }
}

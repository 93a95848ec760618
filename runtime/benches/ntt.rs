//! Times of the ring's kernels in microseconds, with tfhe-ntt beside them. Plain harness: `cargo bench -p heron-runtime --bench ntt`.
//!
//! Libraries choose primes of other sizes, so the cost of a transform is also given per bit of modulus; and machines have other clocks,
//! so the time of one multiplication instruction stands beside it.

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

/// A limb as polynomials hold it: it starts on a line of the cache, where a vector from the allocator starts 16 bytes after one and every second
/// or, with 512 bits, every load straddles two.
fn limb_on_a_line(prime: u32, source: &RandomSource) -> Option<RnsPoly> {
    let ring = RingContext::new(LOG_N, &[prime]).ok()?;
    Some(source.uniform(&ring, &ring.all_limbs(), Form::Coefficient))
}

/// Transforms of single limbs, beside tfhe-ntt.
fn transforms(primes: &[u32], source: &RandomSource) {
    let n = 1usize << LOG_N;
    let Some(mut held) = limb_on_a_line(primes[0], source) else {
        return;
    };
    let limb = held.limb_mut(0);
    if let Some(plan) = tfhe_ntt::prime32::Plan::try_new(n, primes[0]) {
        let forward = measure(201, &mut || plan.fwd(limb));
        line("tfhe-ntt prime32, forward, one limb", 1.0, forward);
        let inverse = measure(201, &mut || plan.inv(limb));
        line("tfhe-ntt prime32, inverse, one limb", 1.0, inverse);
    }
    for set in InstructionSet::all_available() {
        let Ok(ring) = RingContext::with_instruction_set(LOG_N, &primes[..48], set) else {
            continue;
        };
        source.uniform_limb(primes[0], limb);
        let forward = measure(201, &mut || ring.limb_to_evaluation(LimbId(0), limb));
        line(&format!("{set:?}, forward, one limb"), 1.0, forward);
        let inverse = measure(201, &mut || ring.limb_to_coefficient(LimbId(0), limb));
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

/// The largest primes below 2^50 and 2^60 that are 1 modulo 2^17.
const PRIME_50: u64 = (1 << 50) - 3_014_655;
const PRIME_60: u64 = (1 << 60) - 262_143;

/// Microseconds of a forward transform for each bit of its modulus: ours, then kinds of other sizes.
fn per_bit(primes: &[u32], source: &RandomSource) {
    let n = 1usize << LOG_N;
    let per = |name: &str, modulus: f64, times: Times| {
        println!(
            "{name:<62} {:>9.1} {:>9.2} {:>9.3}",
            modulus.log2(),
            times.smallest,
            times.smallest / modulus.log2()
        );
    };
    println!(
        "{:<62} {:>9} {:>9} {:>9}",
        "\nforward transform, smallest of 201", "bits", "us", "us/bit"
    );
    let Some(mut held) = limb_on_a_line(primes[0], source) else {
        return;
    };
    let limb = held.limb_mut(0);
    if let Ok(ring) = RingContext::new(LOG_N, &primes[..1]) {
        let times = measure(201, &mut || ring.limb_to_evaluation(LimbId(0), limb));
        per("heron", f64::from(primes[0]), times);
    }
    let below_2_30 = (1..1u32 << 13)
        .rev()
        .map(|k| (k << 17) + 1)
        .find(|&q| is_prime(q));
    let plan = below_2_30.and_then(|q| Some((q, tfhe_ntt::prime32::Plan::try_new(n, q)?)));
    if let Some((q, plan)) = plan {
        source.uniform_limb(q, limb);
        let times = measure(201, &mut || plan.fwd(limb));
        per("tfhe-ntt prime32", f64::from(q), times);
    }
    for q in [PRIME_50, PRIME_60] {
        let Some(plan) = tfhe_ntt::prime64::Plan::try_new(n, q) else {
            continue;
        };
        // Residues modulo the small prime are residues modulo the large one: values do not matter for the time.
        let mut limb: Vec<u64> = limb.iter().map(|&w| u64::from(w)).collect();
        let times = measure(201, &mut || plan.fwd(&mut limb));
        per("tfhe-ntt prime64 (another kind)", q as f64, times);
    }
}

/// Nanoseconds of a multiplication of 32-bit words to 64 bits in a vector of 512 bits, when many are independent of each other and all
/// operands are in registers; `None` without such vectors.
#[cfg(target_arch = "x86_64")]
fn multiply_nanoseconds() -> Option<f64> {
    const LOOPS: u64 = 1 << 18;
    const AT_ONCE: f64 = 16.0;
    #[target_feature(enable = "avx512f")]
    fn work() {
        // SAFETY: touches only the registers named, which hold nothing of the compiler's.
        unsafe {
            std::arch::asm!(
                "2:",
                "vpmuludq zmm0, zmm0, zmm0", "vpmuludq zmm1, zmm1, zmm1",
                "vpmuludq zmm2, zmm2, zmm2", "vpmuludq zmm3, zmm3, zmm3",
                "vpmuludq zmm4, zmm4, zmm4", "vpmuludq zmm5, zmm5, zmm5",
                "vpmuludq zmm6, zmm6, zmm6", "vpmuludq zmm7, zmm7, zmm7",
                "vpmuludq zmm8, zmm8, zmm8", "vpmuludq zmm9, zmm9, zmm9",
                "vpmuludq zmm10, zmm10, zmm10", "vpmuludq zmm11, zmm11, zmm11",
                "vpmuludq zmm12, zmm12, zmm12", "vpmuludq zmm13, zmm13, zmm13",
                "vpmuludq zmm14, zmm14, zmm14", "vpmuludq zmm15, zmm15, zmm15",
                "dec {left}",
                "jnz 2b",
                left = inout(reg) LOOPS => _,
                out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _,
                out("zmm4") _, out("zmm5") _, out("zmm6") _, out("zmm7") _,
                out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
                out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _,
                options(nomem, nostack),
            );
        }
    }
    if !std::is_x86_feature_detected!("avx512f") {
        return None;
    }
    // SAFETY: the processor has the instructions.
    let times = measure(31, &mut || unsafe { work() });
    Some(times.smallest * 1e3 / (LOOPS as f64 * AT_ONCE))
}

#[cfg(not(target_arch = "x86_64"))]
fn multiply_nanoseconds() -> Option<f64> {
    None
}

fn main() {
    // Inside the pool: from outside, each parallel loop costs two context switches.
    if let Ok(pool) = rayon::ThreadPoolBuilder::new().build() {
        pool.install(run);
    }
}

fn run() {
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
    per_bit(&primes, &source);
    if let Some(ns) = multiply_nanoseconds() {
        println!("one vpmuludq of 512 bits, operands in registers: {ns:.3} ns, so {:.2} GHz if two are done in a cycle", 0.5 / ns);
    }
}

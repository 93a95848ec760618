//! Precision, time, keys and memory of bootstrapping. Plain harness:
//! `cargo bench -p heron-runtime --bench bootstrap -- [PROFILE[/LEVELS]] [VECTORS] [full|complex|pair|sparseK …]`; one JSON line per
//! measurement. LEVELS: those between bootstraps, where the profile has several chains (`secure/9`, `secure/13`, `secure/15`).

use heron_runtime::bootstrap::measure::{Bench, Slots};
use heron_runtime::bootstrap::{Kind, Tuning};
use heron_runtime::ring::RandomSource;
use heron_schedule::params::{ParameterSet, Profile};

fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// Processor time of all threads so far, to 10 ms: on a shared machine it says more than wall time.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Inside the pool: from outside, each parallel loop costs two context switches.
    let pool = rayon::ThreadPoolBuilder::new().build()?;
    pool.install(|| measure().map_err(|e| e.to_string()))?;
    Ok(())
}

fn measure() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let named = arguments.first().map_or("toy-secure", String::as_str);
    let (profile, levels) = named.split_once('/').unwrap_or((named, ""));
    let profile: Profile = profile.parse()?;
    let own = ParameterSet::new(profile)?;
    let levels = match levels {
        "" => own.levels_between_bootstraps(),
        levels => levels.parse()?,
    };
    let params = ParameterSet::bootstrapping(profile, own.log_n())
        .find(|set| set.levels_between_bootstraps() == levels)
        .ok_or_else(|| format!("no chain with {levels} levels between bootstraps"))?;
    let vectors: usize = arguments.get(1).map_or("10", String::as_str).parse()?;
    let mut kinds = Vec::new();
    for name in arguments.iter().skip(2) {
        kinds.push(match name.as_str() {
            "full" => Kind::Full,
            "complex" => Kind::Complex,
            "pair" => Kind::ComplexPair,
            other => Kind::Sparse {
                log_slots: other.trim_start_matches("sparse").parse()?,
            },
        });
    }
    if kinds.is_empty() {
        kinds.push(Kind::Full);
    }
    let random = RandomSource::from_entropy()?;
    let bench = Bench::new(params, Tuning::STANDARD, &kinds, random)?;
    eprintln!(
        "{} keys of {:.2} GiB in {:.1} s, circuit prepared in {:.1} s, peak {:.2} GiB; failure 2^{:.1} for 1000 bootstraps",
        bench.keys,
        bench.key_bytes as f64 / 2f64.powi(30),
        bench.keygen_seconds,
        bench.prepare_seconds,
        peak_bytes() as f64 / 2f64.powi(30),
        bench.failure_probability_log2(1000),
    );
    if kinds.contains(&Kind::Full) {
        bench.phases(&cpu_seconds)?;
        for (name, seconds) in bench.phases(&cpu_seconds)? {
            eprintln!("{name:<16} {seconds:>8.2} s of processor time");
        }
    }
    for kind in kinds {
        for slots in [Slots::Real, Slots::Complex] {
            if (kind == Kind::Complex) != (slots == Slots::Complex) {
                continue;
            }
            let m = bench.measure(kind, slots, vectors)?;
            println!(
                "{{\"bench\":\"bootstrap\",\"kind\":\"{}\",\"values\":\"{}\",\"backend\":\"cpu\",\"threads\":{},\"log2_n\":{},\"slots\":{},\"vectors\":{},\
                 \"levels_after\":{},\"usable_bits\":{:.1},\"precision_bits_mean\":{:.2},\"precision_bits_worst\":{:.2},\
                 \"bits_after_products\":{:.2},\"median_s\":{:.3},\"min_s\":{:.3},\"peak_bytes\":{},\"key_bytes\":{}}}",
                m.kind,
                if slots == Slots::Real { "real" } else { "complex" },
                rayon::current_num_threads(),
                bench.params().log_n(),
                m.count,
                m.vectors,
                m.levels_after,
                m.usable_bits,
                m.mean_bits,
                m.worst_bits,
                m.bits_after_products,
                m.median_seconds,
                m.least_seconds,
                peak_bytes(),
                bench.key_bytes,
            );
        }
    }
    Ok(())
}

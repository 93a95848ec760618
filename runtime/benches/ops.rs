//! Operations on ciphertexts, where `heron bench ops` measures them or elsewhere. Plain harness:
//! `cargo bench -p heron-runtime --bench ops -- [PROFILE] [SECONDS] [OP …] [LOG_Q/DIGIT[/BABIES] …]`; one JSON line per measurement.
//!
//! Names choose operations. `465/6` is the level with log Q nearest 465 on the chain without bootstrapping that has digits of 6 limbs;
//! `465/6/16` measures the product of matrices there too, with 16 baby steps. RAYON_NUM_THREADS is the number of threads.

use heron_runtime::ckks::measure::{places, Lab, Measurement, Place};
use heron_runtime::ring::RandomSource;
use heron_schedule::params::{ParameterSet, Profile};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    // Inside the pool: from outside, each parallel loop costs two context switches.
    let pool = rayon::ThreadPoolBuilder::new().build()?;
    pool.install(|| measure().map_err(|e| e.to_string()))?;
    Ok(())
}

fn place(profile: Profile, log_n: u32, text: &str) -> Result<Place, Box<dyn Error>> {
    let mut parts = text.split('/');
    let (log_q, digit) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let place = Place::levelled(profile, log_n, (log_q.parse()?, digit.parse()?))?;
    Ok(match parts.next() {
        Some(babies) => place.with_matrix(babies.parse()?),
        None => place,
    })
}

fn measure() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let profile: Profile = arguments.next().as_deref().unwrap_or("secure").parse()?;
    let seconds: f64 = arguments.next().as_deref().unwrap_or("1").parse()?;
    let log_n = ParameterSet::new(profile)?.log_n();
    let (chosen, ops): (Vec<String>, Vec<String>) = arguments.partition(|a| a.contains('/'));
    let places = match chosen.is_empty() {
        true => places(profile)?,
        false => chosen
            .iter()
            .map(|text| place(profile, log_n, text))
            .collect::<Result<_, _>>()?,
    };
    let wanted = |op: &str| ops.is_empty() || ops.iter().any(|o| o == op);
    for place in places {
        let lab = Lab::new(place, seconds, RandomSource::from_entropy()?)?;
        let mut print = |m: &Measurement| -> Result<(), Box<dyn Error>> {
            println!("{}", lab.line(m)?);
            Ok(())
        };
        lab.measure(&wanted, &mut print)?;
    }
    Ok(())
}

//! `toy_files DIRECTORY [PROFILE]`: writes one of each file, under the INSECURE toy parameters unless a profile is named, for
//! `tests/independent/verify.py`.

use heron_runtime::ckks::encoding::Encoder;
use heron_runtime::ckks::{Basis, CiphertextFile, FileKind, Plaintext, PortCiphertext, PortGroup};
use heron_runtime::client::ClientKey;
use heron_runtime::ring::{GaloisElement, RandomSource};
use heron_runtime::rlwe::format::server_keys;
use heron_runtime::rlwe::{KeyKind, KeyRequest, RlweContext};
use heron_schedule::params::{Level, ParameterSet, Profile};
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(
        std::env::args()
            .nth(1)
            .ok_or("usage: toy_files DIRECTORY")?,
    );
    let profile = std::env::args()
        .nth(2)
        .map_or(Ok(Profile::Toy), |name| name.parse())?;
    let params = ParameterSet::new(profile)?;
    let (log_n, top) = (params.log_n(), params.top());
    let context = RlweContext::new(params)?;
    let encoder = Encoder::new(log_n)?;
    let client = ClientKey::generate(Arc::clone(&context), &RandomSource::from_entropy()?);
    client.write(&directory.join("client.key"))?;
    ClientKey::generate(Arc::clone(&context), &RandomSource::from_entropy()?)
        .write(&directory.join("other.key"))?;

    let mut request = KeyRequest::new();
    request.add(KeyKind::Relinearisation, Level(5));
    request.add(KeyKind::Galois(GaloisElement::rotation(3, log_n)), Level(2));
    request.add(KeyKind::Galois(GaloisElement::rotation(3, log_n)), Level(5));
    request.add(KeyKind::Galois(GaloisElement::conjugation(log_n)), top);
    request.add(KeyKind::DenseToSparse, Level(0));
    request.add(KeyKind::SparseToDense, top);
    let keys = client.evaluation_keys(&request, &RandomSource::from_entropy()?)?;
    server_keys::write(
        &directory.join("server.keys"),
        &context,
        client.key_id(),
        &keys,
    )?;

    let slots: Vec<f64> = (0..encoder.slots())
        .map(|i| (i as f64 * 0.37).sin())
        .collect();
    let level = Level(5);
    let scale = context.params().scale(level)?;
    let message = Plaintext::encode_real(&context, &encoder, &slots, level, scale, Basis::Row)?;
    for name in ["in.ct", "again.ct"] {
        let ciphertext = client.encrypt(&message, &RandomSource::from_entropy()?)?;
        let file = CiphertextFile {
            key_id: *client.key_id(),
            schedule_id: [0; 32],
            groups: vec![PortGroup {
                port: "x".into(),
                sequence: 0,
                batch: 4,
                count: 3,
                shape: vec![slots.len() as u32 / 4],
                unit: 2.0,
                ciphertexts: vec![PortCiphertext {
                    ciphertext,
                    elements: (0..slots.len() as i32 / 4).collect(),
                }],
            }],
        };
        file.write(&directory.join(name), FileKind::Inputs, &context)?;
    }
    Ok(())
}

//! Files: round trips, and damage refused with a typed error. Toy ring: not secure.

use super::ClientKey;
use crate::ckks::testing::Lab;
use crate::ckks::{CiphertextFile, FileKind, PortCiphertext, PortGroup};
use crate::rlwe::format::{server_keys, FormatError};
use heron_schedule::params::{Level, ParameterSet, Profile};
use std::path::Path;
use std::sync::Arc;

fn inputs(lab: &Lab) -> CiphertextFile {
    CiphertextFile {
        key_id: *lab.client.key_id(),
        schedule_id: [3; 32],
        groups: vec![PortGroup {
            port: "x".into(),
            sequence: 0,
            batch: 8,
            count: 5,
            shape: vec![16, 16],
            unit: 0.5,
            ciphertexts: vec![PortCiphertext {
                ciphertext: lab.encrypt(&lab.slots(1), Level(4), 1),
                elements: (0..256).collect(),
            }],
        }],
    }
}

/// Every kind of damage must be an error, never a panic or a success.
fn refuses_damage(path: &Path, read: impl Fn(&Path) -> Result<(), FormatError>) {
    let whole = std::fs::read(path).unwrap();
    read(path).unwrap();
    let damaged = path.with_extension("damaged");
    let write = |bytes: &[u8]| {
        let _ = std::fs::remove_file(&damaged);
        std::fs::write(&damaged, bytes).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&damaged, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    };
    for length in [0, 7, 63, 64, 200, 4095, whole.len() - 1] {
        write(&whole[..length]);
        assert!(read(&damaged).is_err(), "cut to {length} bytes");
    }
    let header_length = u64::from_le_bytes(whole[16..24].try_into().unwrap()) as usize;
    let places = (0..96 + header_length)
        .step_by(37)
        .chain((0..64).step_by(3))
        .chain([whole.len() / 2, whole.len() - 1]);
    for place in places {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x41;
        write(&bytes);
        assert!(read(&damaged).is_err(), "byte {place} changed");
    }
    let mut longer = whole;
    longer.push(0);
    write(&longer);
    assert!(read(&damaged).is_err(), "a byte appended");
}

#[test]
fn ciphertext_files_come_back_and_refuse_damage() {
    let lab = Lab::toy(&[], &[]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.ct");
    let file = inputs(&lab);
    file.write(&path, FileKind::Inputs, &lab.context).unwrap();
    let back = CiphertextFile::read(&path, FileKind::Inputs, &lab.context).unwrap();
    let (sent, got) = (
        &file.groups[0].ciphertexts[0],
        &back.groups[0].ciphertexts[0],
    );
    assert!(sent.ciphertext.polys() == got.ciphertext.polys());
    assert_eq!(sent.ciphertext.scale(), got.ciphertext.scale());
    assert_eq!(sent.elements, got.elements);
    assert!(back.require(lab.client.key_id(), &[3; 32]).is_ok());
    assert!(matches!(
        back.require(&[0; 32], &[3; 32]),
        Err(FormatError::Mismatch { .. })
    ));
    assert!(matches!(
        back.require(lab.client.key_id(), &[4; 32]),
        Err(FormatError::Mismatch { .. })
    ));
    assert!(
        CiphertextFile::read(&path, FileKind::Outputs, &lab.context).is_err(),
        "inputs read as outputs"
    );
    refuses_damage(&path, |p| {
        CiphertextFile::read(p, FileKind::Inputs, &lab.context).map(drop)
    });
}

#[test]
fn server_keys_come_back_and_refuse_damage() {
    let lab = Lab::toy(&[Level(1)], &[1]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.keys");
    server_keys::write(
        &path,
        &lab.context,
        lab.client.key_id(),
        lab.evaluator.keys(),
    )
    .unwrap();
    let (keys, key_id) = server_keys::read(&path, &lab.context).unwrap();
    assert_eq!(&key_id, lab.client.key_id());
    assert_eq!(keys.len(), 3);
    for (a, b) in keys.iter().zip(lab.evaluator.keys().iter()) {
        assert!(a.kind() == b.kind() && a.words() == b.words() && a.digits() == b.digits());
    }
    refuses_damage(&path, |p| server_keys::read(p, &lab.context).map(drop));
}

#[test]
fn client_keys_come_back_to_their_owner_only() {
    let lab = Lab::toy(&[], &[]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.key");
    lab.client.write(&path).unwrap();
    assert!(
        lab.client.write(&path).is_err(),
        "an existing key is not replaced"
    );
    let read = |p: &Path| ClientKey::read(p, Arc::clone(&lab.context));
    let back = read(&path).unwrap();
    let x = lab.slots(1);
    let c = lab.encrypt(&x, Level(3), 1);
    let slots = back.decrypt_slots(&lab.encoder, &c, 11).unwrap();
    assert_eq!(slots, lab.decrypt(&c));
    refuses_damage(&path, |p| read(p).map(drop));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |m| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(m)).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        mode(0o640);
        assert!(matches!(
            read(&path),
            Err(FormatError::Exposed { found: 0o640 })
        ));
        mode(0o600);
    }
    let other =
        crate::rlwe::RlweContext::new(ParameterSet::new(Profile::ToySecure).unwrap()).unwrap();
    assert!(matches!(
        ClientKey::read(&path, other),
        Err(FormatError::Mismatch { .. })
    ));
}

#[test]
fn keys_beyond_the_security_table_are_refused() {
    use crate::ring::RandomSource;
    use crate::rlwe::{KeyKind, KeyRequest, RlweError};
    // What key generation asks of every key, with that key's own modulus and secret.
    let params = ParameterSet::new(Profile::Secure).unwrap();
    assert!(params.check_key(params.log2_qp(), params.secret()).is_ok());
    assert!(params
        .check_key(params.log2_qp() + 30.0, params.secret())
        .is_err());
    assert!(
        params
            .check_key(params.log2_qp(), params.ephemeral_secret())
            .is_err(),
        "the ephemeral secret at the main modulus"
    );
    let lab = Lab::toy(&[], &[]);
    let mut request = KeyRequest::new();
    request.add(KeyKind::Relinearisation, Level(99));
    let random = RandomSource::from_seed([1; 32]);
    assert!(matches!(
        lab.client.evaluation_keys(&request, &random),
        Err(RlweError::NoSuchRow { .. })
    ));
}

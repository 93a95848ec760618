//! The client's half: secrets, key generation, encryption, decryption. Nothing else in the runtime touches a secret.

mod encrypt;
#[cfg(test)]
mod file_tests;
mod key_file;
mod keygen;
mod secret;

pub use encrypt::PublicKey;
pub use keygen::{imagined_keys, ClientKey};
pub use secret::SecretKey;

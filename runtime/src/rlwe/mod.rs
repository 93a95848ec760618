//! Ring learning with errors: rows of the level table, key-switching keys, key switching. No secret is seen here.

pub mod context;
pub mod error;
pub mod format;
pub mod key_switch;
pub mod keys;

pub use context::{LiveDigit, RlweContext, RowLimbs};
pub use error::RlweError;
pub use key_switch::Decomposition;
pub use keys::{KeyKind, KeyRequest, KeySet, KeySwitchingKey, KeyWords};

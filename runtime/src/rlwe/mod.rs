//! Ring learning with errors: rows of the level table, key-switching keys. No secret is seen here.

pub mod context;
pub mod error;
pub mod format;
pub mod keys;

pub use context::{LiveDigit, RlweContext, RowLimbs};
pub use error::RlweError;
pub use keys::{KeyKind, KeyRequest, KeySet, KeySwitchingKey, KeyWords};

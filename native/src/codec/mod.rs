//! Bytes to values and back, bounded before anything is allocated.

pub mod compress;
pub mod json;
pub mod plain_json;

//! What the tests share: fixtures, the devices they run on, and a table of errors.

pub mod devices;
pub mod fixture;
pub mod table;

#[cfg(test)]
mod structure;

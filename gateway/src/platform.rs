//! What the gateway tells the platform around it.

pub(crate) mod audit;
pub(crate) mod dead_letters;
mod rotating_file;

//! What the gateway tells the platform around it.

pub(crate) mod dead_letters;

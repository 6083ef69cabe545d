//! The atomics, lock and hints that the ring and the doorbell are built on: the standard library's, or
//! loom's when the crate is built with `--cfg loom`, which then tries every interleaving of a test.
//!
//! Deliberately absent: `Arc`, which stays the standard library's in both builds, so that no public type
//! changes with the flag.

#[cfg(not(loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering, fence},
    },
    thread::yield_now,
};

#[cfg(loom)]
pub(crate) use loom::{
    hint::spin_loop,
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering, fence},
    },
    thread::yield_now,
};

/// Runs `model` in every interleaving with at most `preemptions` switches away from a thread that could go
/// on, or with any number of them (`None`, for the smallest models: a few atomics of two threads).
#[cfg(all(test, loom))]
pub(crate) fn explore(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(model);
}

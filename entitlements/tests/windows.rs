//! The script that counts in Redis against the limiter that counts in memory: the same verdicts for the same charges at the
//! same times.
//!
//! The script is the one of the store but for its clock: the time of each charge is the test's, so that minutes and days pass
//! as fast as the server answers.

#![cfg(feature = "redis")]

#[path = "support/redis.rs"]
mod support;

use std::cell::RefCell;
use std::time::Duration;

use entitlements::{Charge, Limiter, Meter, Quota, Subject, Verdict};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use redis::Connection;
use support::{Server, is_here};

const SCRIPT: &str = include_str!("../src/store/redis/take.lua");
const CLOCK: &str = "redis.call('TIME')";

/// Half a bucket of a minute into it.
const T0: u64 = 1_763_654_400_500;

/// One charge: how long after the one before, or how far the clock has gone back, ms; and what is charged.
#[derive(Clone, Debug)]
struct Step {
    after_ms: u64,
    back_ms: u64,
    quotas: Vec<Quota>,
    cost: u32,
}

fn quotas() -> impl Strategy<Value = Vec<Quota>> {
    let quota = |length_s| (1..30u32).prop_map(move |limit| Quota { length_s, limit });
    prop_oneof![
        quota(300).prop_map(|quota| vec![quota]),
        (quota(60), quota(3_600)).prop_map(|(minute, hour)| vec![minute, hour]),
        (quota(3_600), quota(86_400)).prop_map(|(hour, day)| vec![hour, day]),
        (quota(60), quota(3_600), 1..30u32).prop_map(|(minute, hour, more)| {
            vec![minute, Quota { limit: minute.limit + more, ..hour }, Quota::per_day(u32::MAX)]
        }),
    ]
}

/// Mostly within a bucket or a few, sometimes across a window's end, seldom beyond a day.
fn pause_ms() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0..900u64, 6 => 0..20_000u64, 3 => 50_000..70_000u64, 3 => 0..1_000_000u64, 1 => 3_000_000..4_000_000u64,
        1 => 80_000_000..100_000_000u64]
}

fn sequences() -> impl Strategy<Value = Vec<Step>> {
    let cost = prop_oneof![3 => Just(0u32), 8 => Just(1), 4 => 2..8u32, 1 => 25..40u32];
    let back_ms = prop_oneof![15 => Just(0u64), 1 => 0..100_000u64];
    // The quotas are the user's, and change with its tier.
    (prop::collection::vec(quotas(), 1..3), prop::collection::vec((pause_ms(), back_ms, cost, any::<bool>()), 1..60))
        .prop_map(|(tiers, steps)| {
            let step = |(after_ms, back_ms, cost, changes): (u64, u64, u32, bool)| {
                let quotas = tiers[usize::from(changes) % tiers.len()].clone();
                // Who only asks leaves no mark in Redis: a clock that then goes back is taken as it is there.
                let back_ms = if tiers.len() == 1 { back_ms } else { 0 };
                Step { after_ms, back_ms, quotas, cost }
            };
            steps.into_iter().map(step).collect()
        })
}

/// What the script says at `now_ms`.
fn scripted(redis: &mut Connection, script: &str, key: &str, charge: &Charge, now_ms: u64) -> Verdict {
    let mut eval = redis::cmd("EVAL");
    eval.arg(script).arg(3).arg(key).arg(now_ms / 1_000).arg(now_ms % 1_000 * 1_000).arg(charge.cost);
    for quota in charge.quotas.iter().filter(|quota| !quota.is_unlimited()) {
        eval.arg(quota.length_s).arg(quota.limit);
    }
    let [allowed, length_s, limit, remaining, resets_ms, retry_ms]: [u64; 6] = eval.query(redis).unwrap();
    Verdict {
        allowed: allowed == 1,
        quota: Quota { length_s: length_s as u32, limit: limit as u32 },
        remaining: remaining as u32,
        resets_in: Duration::from_millis(resets_ms),
        retry_after: Duration::from_millis(retry_ms),
    }
}

#[test]
fn the_script_decides_as_the_limiter_does() {
    if !is_here() {
        return;
    }
    assert_eq!(SCRIPT.matches(CLOCK).count(), 1);
    let script = SCRIPT.replace(CLOCK, "{ KEYS[2], KEYS[3] }");
    let server = Server::start(&[]);
    let client = redis::Client::open(server.url()).unwrap();
    let redis = RefCell::new(client.get_connection().unwrap());
    let subjects = RefCell::new(0u64);
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() });
    let done = runner.run(&sequences(), |steps| {
        let (redis, limiter) = (&mut *redis.borrow_mut(), Limiter::default());
        *subjects.borrow_mut() += 1;
        let key = format!("window:{}", subjects.borrow());
        let mut now_ms = T0;
        let mut counted = false;
        for Step { after_ms, back_ms, quotas, cost } in steps {
            now_ms = if counted { now_ms - back_ms } else { now_ms } + after_ms;
            let charge = Charge { subject: Subject::User("alice".into()), meter: Meter::Command, quotas, cost };
            let (ours, its) = (limiter.take(&charge, now_ms), scripted(redis, &script, &key, &charge, now_ms));
            prop_assert_eq!(ours, its, "{:?} at {}", charge, now_ms);
            counted = ours.allowed && cost > 0;
        }
        redis::cmd("DEL").arg(&key).exec(redis).unwrap();
        Ok(())
    });
    done.unwrap_or_else(|error| panic!("{error}"));
}

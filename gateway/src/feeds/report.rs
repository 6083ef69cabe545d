//! How the feeds are: what `/v1/feeds` shows, and the same as metrics.
//!
//! Reads what the feeds' threads publish, on whatever thread asks, and changes nothing.

use std::sync::Arc;

use feed_handlers::arbitration::SourceState;
use feed_handlers::feed::{FeedCounter, FeedCounters};
use feed_handlers::quality::{Quality, QualityReport};
use feed_handlers::source::FeedStatus;
use feed_handlers::venue::Venue;
use serde_json::{Map, Value, json};

use crate::context::wall_ns;
use crate::metrics::{Exposition, Kind};

/// One feed, to be looked at.
#[derive(Clone)]
pub(crate) struct FeedView {
    pub(crate) name: String,
    pub(crate) venue: Venue,
    pub(crate) is_mock: bool,
    pub(crate) status: Arc<FeedStatus>,
    pub(crate) counters: Arc<FeedCounters>,
    pub(crate) quality: Arc<Quality>,
}

impl FeedView {
    fn quality(&self) -> QualityReport {
        self.quality.report(SourceState::from(self.status.state()), wall_ns())
    }

    /// The feed as an object: its state and why, the quality of the last minute, and all counters that are not 0.
    pub(crate) fn to_json(&self) -> Value {
        let QualityReport { valid, unique, in_order, fresh, score, events, newest_age_ns } = self.quality();
        let counters: Map<String, Value> = FeedCounter::iter()
            .map(|counter| (counter.name().to_owned(), self.counters.count(counter)))
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| (name, count.into()))
            .collect();
        let age_ms = newest_age_ns.map(|ns| ns as f64 / 1e6);
        json!({
            "name": self.name,
            "venue": self.venue.name().to_lowercase(),
            "mock": self.is_mock,
            "state": self.status.state().name(),
            "trouble": self.status.trouble().as_deref(),
            "quality": {
                "score": score, "valid": valid, "unique": unique, "in_order": in_order, "fresh": fresh,
                "events": events, "newest_age_ms": age_ms,
            },
            "counters": counters,
        })
    }

    /// The feed's part of the metrics. Each metric is written for all feeds before the next one.
    pub(crate) fn expose_all(feeds: &[FeedView], out: &mut Exposition) {
        let labelled: Vec<(String, &FeedView)> = feeds.iter().map(|feed| (feed.name.to_lowercase(), feed)).collect();
        for (name, feed) in &labelled {
            for counter in FeedCounter::iter() {
                let labels = [("source", name.as_str()), ("event", counter.name())];
                let help = "What the feeds did with what their venues sent, by event.";
                out.sample(Kind::Counter, "gateway_feed_events_total", help, &labels, feed.counters.count(counter));
            }
        }
        for (name, feed) in &labelled {
            let up = u64::from(feed.status.state().is_up());
            let help = "Whether the source does all it can do.";
            out.sample(Kind::Gauge, "gateway_feed_up", help, &[("source", name)], up);
        }
        for (name, feed) in &labelled {
            let QualityReport { valid, unique, in_order, fresh, score, .. } = feed.quality();
            let ratios =
                [("score", score), ("valid", valid), ("unique", unique), ("in_order", in_order), ("fresh", fresh)];
            for (aspect, ratio) in ratios {
                let labels = [("source", name.as_str()), ("aspect", aspect)];
                let help = "How good what the source brought in the last minute was, 0 to 1; the score is the least.";
                out.sample(Kind::Gauge, "gateway_feed_quality_ratio", help, &labels, ratio);
            }
        }
    }
}

//! Real servers of Redis, those of the stores' own tests, and what makes a line to them slow.

#[path = "../../../entitlements/tests/support/redis.rs"]
mod servers;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

pub use servers::{Sentinels, Server, cluster, is_here};

/// A line to a server on which each byte travels for as long as a test says.
pub struct SlowLine {
    pub port: u16,
    delay_ms: Arc<AtomicU64>,
}

impl SlowLine {
    pub fn to(port: u16) -> SlowLine {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let line = SlowLine { port: listener.local_addr().unwrap().port(), delay_ms: Arc::default() };
        let delay_ms = line.delay_ms.clone();
        // It ends with the test's process.
        thread::spawn(move || {
            for from in listener.incoming() {
                let Ok(from) = from else { continue };
                let Ok(to) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                for (from, to) in [(from.try_clone().unwrap(), to.try_clone().unwrap()), (to, from)] {
                    carry(from, to, delay_ms.clone());
                }
            }
        });
        line
    }

    pub fn set_delay(&self, delay: Duration) {
        self.delay_ms.store(delay.as_millis() as u64, Ordering::Relaxed);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, delay_ms: Arc<AtomicU64>) {
    let _ = to.set_nodelay(true);
    let (sent, under_way) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let arrives = Instant::now() + Duration::from_millis(delay_ms.load(Ordering::Relaxed));
            if sent.send((arrives, buffer[..read].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (arrives, bytes) in under_way {
            thread::sleep(arrives.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

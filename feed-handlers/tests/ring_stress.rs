//! The ring between real threads, as fast as they go: every record carries its position and a checksum, and
//! every reader accounts for every position, as delivered or as lost.

use std::{
    sync::{Arc, Barrier},
    thread,
};

use feed_handlers::{
    doorbell::{Doorbell, WaitStrategy},
    ring::{Polled, Publisher, Reader, Record, SLOT_WORDS, ring},
};

/// Every word of it follows from the position, so that a record with words of two positions is recognised.
#[derive(Clone, Copy, Debug)]
struct Stamped {
    position: u64,
    intact: bool,
}

impl Stamped {
    fn words(position: u64) -> [u64; SLOT_WORDS] {
        let mut words = [position; SLOT_WORDS];
        for (i, word) in words.iter_mut().enumerate().skip(1) {
            // An odd factor: a different word for every position, in every place.
            *word = (position + i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        words
    }
}

impl Record for Stamped {
    fn to_words(&self) -> [u64; SLOT_WORDS] {
        Stamped::words(self.position)
    }

    fn from_words(words: &[u64; SLOT_WORDS]) -> Stamped {
        Stamped { position: words[0], intact: *words == Stamped::words(words[0]) }
    }
}

/// What became of the positions that a reader passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Account {
    delivered: u64,
    lost: u64,
    laps: u64,
}

/// Polls once and checks the outcome against the reader's position before and after.
fn poll(reader: &mut Reader<Stamped>, account: &mut Account) -> bool {
    let before = reader.position();
    let passed = match reader.poll() {
        Polled::Empty => 0,
        Polled::Record(record) => {
            assert!(record.intact, "torn: {record:?} at {before}");
            assert_eq!(record.position, before, "not in order");
            account.delivered += 1;
            1
        }
        Polled::Lapped { lost } => {
            assert!(lost >= 1);
            account.lost += lost;
            account.laps += 1;
            lost
        }
    };
    assert_eq!(reader.position(), before + passed);
    passed > 0
}

fn publish(publisher: &mut Publisher<Stamped>, count: u64) {
    for _ in 0..count {
        let position = publisher.published();
        publisher.publish(&Stamped { position, intact: true });
    }
}

/// Miri runs about ten thousand times slower.
fn records(native: u64) -> u64 {
    if cfg!(miri) { native / 2_000 } else { native }
}

/// Where the publisher waits for its readers, each ring full costs a few changes of thread, and one with a
/// spinning reader on a busy machine a few slices of the scheduler: some hundred ring fulls, and fewer of those.
fn records_with(strategy: WaitStrategy) -> u64 {
    records(if strategy == WaitStrategy::Spin { 40_000 } else { 200_000 })
}

const ROOMY: usize = if cfg!(miri) { 8 } else { 512 };

#[test]
fn lapped_readers_account_for_every_record() {
    let total = records(1_000_000);
    for capacity in [2, 8, 64] {
        let doorbell = Arc::new(Doorbell::new(WaitStrategy::Park));
        let mut publisher: Publisher<Stamped> = ring(capacity, Arc::clone(&doorbell));
        let start = Barrier::new(4);
        let eager = publisher.reader();
        let slow = publisher.reader();
        let sleeper = publisher.reader();
        // Reads nothing before the end.
        let mut late = publisher.reader();

        // `pause` is told whether the last poll moved the reader.
        let read = |mut reader: Reader<Stamped>, pause: fn(&Doorbell, &Reader<Stamped>, bool)| {
            let mut account = Account::default();
            start.wait();
            while reader.position() < total {
                let moved = poll(&mut reader, &mut account);
                pause(&doorbell, &reader, moved);
            }
            account
        };
        let accounts = thread::scope(|scope| {
            let readers = [
                scope.spawn(|| read(eager, |_, _, _| {})),
                scope.spawn(|| {
                    read(slow, |_, _, moved| {
                        if moved {
                            thread::yield_now();
                        }
                    })
                }),
                scope.spawn(|| {
                    read(sleeper, |doorbell, reader, moved| {
                        if !moved {
                            doorbell.wait(|| reader.lag() > 0, None);
                        }
                    })
                }),
            ];
            start.wait();
            for _ in 0..total / 10 {
                publish(&mut publisher, 10);
                publisher.ring();
            }
            readers.map(|reader| reader.join().unwrap())
        });

        assert_eq!(publisher.published(), total);
        for account in accounts {
            assert_eq!(account.delivered + account.lost, total, "capacity {capacity}: {account:?}");
        }
        let mut account = Account::default();
        while poll(&mut late, &mut account) {}
        let capacity = publisher.capacity() as u64;
        assert_eq!(account, Account { delivered: capacity / 2, lost: total - capacity / 2, laps: 1 });
    }
}

#[test]
fn a_publisher_that_waits_for_room_laps_nobody() {
    for strategy in WaitStrategy::ALL {
        let total = records_with(strategy);
        let doorbell = Arc::new(Doorbell::new(strategy));
        let mut publisher: Publisher<Stamped> = ring(ROOMY, Arc::clone(&doorbell));
        let readers = [publisher.reader(), publisher.reader()];
        let doorbell = &doorbell;
        let accounts = thread::scope(|scope| {
            let readers = readers.map(|mut reader| {
                scope.spawn(move || {
                    let mut account = Account::default();
                    while reader.position() < total {
                        if !poll(&mut reader, &mut account) {
                            doorbell.wait(|| reader.lag() > 0, None);
                        }
                    }
                    account
                })
            });
            while publisher.published() < total {
                let room = publisher.room() as u64;
                let left = total - publisher.published();
                publish(&mut publisher, room.min(left));
                publisher.ring();
                if room == 0 {
                    thread::yield_now();
                }
            }
            readers.map(|reader| reader.join().unwrap())
        });
        assert_eq!(accounts, [Account { delivered: total, lost: 0, laps: 0 }; 2], "{strategy}");
        assert_eq!(publisher.room(), publisher.capacity(), "{strategy}: both readers are gone");
    }
}

/// The sequencer's place: one thread, asleep whenever all of its rings are empty.
#[test]
fn one_thread_sleeps_for_many_rings() {
    for strategy in WaitStrategy::ALL {
        let total = records_with(strategy) / 4;
        let doorbell = Arc::new(Doorbell::new(strategy));
        let publishers = [(); 3].map(|()| ring::<Stamped>(ROOMY, Arc::clone(&doorbell)));
        let mut readers = publishers.each_ref().map(|publisher| publisher.reader());
        let mut accounts = [Account::default(); 3];
        thread::scope(|scope| {
            for mut publisher in publishers {
                scope.spawn(move || {
                    while publisher.published() < total {
                        if publisher.room() == 0 {
                            thread::yield_now();
                            continue;
                        }
                        publish(&mut publisher, 1);
                        publisher.ring();
                    }
                });
            }
            while readers.iter().any(|reader| reader.position() < total) {
                let mut moved = false;
                for (reader, account) in readers.iter_mut().zip(&mut accounts) {
                    moved |= poll(reader, account);
                }
                if !moved {
                    doorbell.wait(|| readers.iter().any(|reader| reader.lag() > 0), None);
                }
            }
        });
        assert_eq!(accounts, [Account { delivered: total, lost: 0, laps: 0 }; 3], "{strategy}");
    }
}

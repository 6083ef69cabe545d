//! Symbols as small numbers, and the highest sequence numbers that anybody has seen.
//!
//! One of each for a worker. The look-up is on the way of every message: an open-addressed table over a multiplicative hash.
//! Deliberately absent: forgetting.

use protocol::ChannelKind;

/// Symbols in the order in which they were learnt.
#[derive(Debug)]
pub struct Symbols {
    names: Vec<Box<str>>,
    /// Index and one, by hash; 0 is free. A power of two, at most half full.
    table: Vec<u32>,
}

/// One channel: `symbol * ChannelKind::COUNT + kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u32);

impl Key {
    pub const fn new(symbol: u32, kind: ChannelKind) -> Key {
        Key(symbol * ChannelKind::COUNT as u32 + kind as u32)
    }

    pub const fn kind(self) -> ChannelKind {
        ChannelKind::ALL[self.0 as usize % ChannelKind::COUNT]
    }

    pub const fn symbol(self) -> u32 {
        self.0 / ChannelKind::COUNT as u32
    }
}

impl Symbols {
    pub fn new(names: &[String]) -> Symbols {
        let mut symbols = Symbols { names: Vec::new(), table: vec![0; 16] };
        for name in names {
            symbols.learn(name);
        }
        symbols
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name of a number that was given out here; empty for any other.
    pub fn name(&self, symbol: u32) -> &str {
        self.names.get(symbol as usize).map_or("", |name| name)
    }

    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<u32> {
        let mask = self.table.len() - 1;
        let mut at = hash(name) as usize & mask;
        loop {
            let symbol = self.table[at].checked_sub(1)?;
            if self.names[symbol as usize].as_bytes() == name {
                return Some(symbol);
            }
            at = (at + 1) & mask;
        }
    }

    /// The number of a symbol, which is learnt if it is new.
    pub fn learn(&mut self, name: &str) -> u32 {
        if let Some(symbol) = self.find(name.as_bytes()) {
            return symbol;
        }
        let symbol = u32::try_from(self.names.len()).unwrap_or(u32::MAX - 1);
        self.names.push(name.into());
        if self.names.len() * 2 > self.table.len() {
            self.table = vec![0; self.table.len() * 2];
            for index in 0..self.names.len() {
                self.enter(index as u32);
            }
        } else {
            self.enter(symbol);
        }
        symbol
    }

    fn enter(&mut self, symbol: u32) {
        let mask = self.table.len() - 1;
        let mut at = hash(self.names[symbol as usize].as_bytes()) as usize & mask;
        while self.table[at] != 0 {
            at = (at + 1) & mask;
        }
        self.table[at] = symbol + 1;
    }
}

/// In the manner of rustc's FxHash, eight bytes at a time. Symbols come from servers that are under test, not under attack.
fn hash(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x517c_c1b7_2722_0a95;
    let mut hash = bytes.len() as u64;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = word.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
        hash = (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    }
    let rest = words.remainder().iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
    hash = (hash.rotate_left(5) ^ rest).wrapping_mul(FACTOR);
    // A product's high bits are the mixed ones.
    hash >> 32
}

/// The highest numbers of one epoch.
#[derive(Debug)]
pub struct Board {
    pub epoch: u64,
    /// By [`Key`]; 0 where there is none.
    last: Vec<u64>,
    /// What was there when all clients were ready.
    baseline: Vec<u64>,
    /// When that was, Unix ns; 0 before.
    pub baseline_ns: i64,
    /// What clients have to reach now.
    target: Vec<u64>,
}

impl Board {
    pub fn new(epoch: u64) -> Board {
        Board { epoch, last: Vec::new(), baseline: Vec::new(), baseline_ns: 0, target: Vec::new() }
    }

    /// Somebody has seen that number.
    #[inline]
    pub fn raise(&mut self, key: Key, number: u64) {
        match self.last.get_mut(key.0 as usize) {
            Some(last) => *last = number.max(*last),
            None => {
                self.last.resize(key.0 as usize + ChannelKind::COUNT, 0);
                self.last[key.0 as usize] = number;
            }
        }
    }

    pub fn last(&self, key: Key) -> u64 {
        self.last.get(key.0 as usize).copied().unwrap_or(0)
    }

    pub fn set_baseline(&mut self, key: Key, number: u64) {
        set(&mut self.baseline, key, number);
    }

    /// From now on clients have to reach that number.
    pub fn raise_target(&mut self, key: Key, number: u64) {
        let number = number.max(self.target(key));
        set(&mut self.target, key, number);
    }

    /// What clients have to reach; 0 where there is nothing.
    pub fn target(&self, key: Key) -> u64 {
        self.target.get(key.0 as usize).copied().unwrap_or(0)
    }

    pub fn baseline(&self, key: Key) -> u64 {
        self.baseline.get(key.0 as usize).copied().unwrap_or(0)
    }

    /// Every channel that has a number.
    pub fn iter(&self) -> impl Iterator<Item = (Key, u64)> {
        self.last.iter().zip(0..).filter(|(last, _)| **last > 0).map(|(last, key)| (Key(key), *last))
    }
}

fn set(numbers: &mut Vec<u64>, key: Key, number: u64) {
    let at = key.0 as usize;
    if numbers.len() <= at {
        numbers.resize(at + 1, 0);
    }
    numbers[at] = number;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again_however_many_there_are() {
        let names: Vec<String> = (0..2_000).map(|n| format!("S{n}/USD")).collect();
        let symbols = Symbols::new(&names);
        assert_eq!(symbols.len(), names.len());
        for (index, name) in names.iter().enumerate() {
            assert_eq!(symbols.find(name.as_bytes()), Some(index as u32));
            assert_eq!(symbols.name(index as u32), name);
        }
        for name in ["", "S", "S2000/USD", "S1/USDX"] {
            assert_eq!(symbols.find(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn learning_twice_is_learning_once() {
        let mut symbols = Symbols::new(&[]);
        assert_eq!((symbols.learn("A"), symbols.learn("B"), symbols.learn("A")), (0, 1, 0));
    }

    #[test]
    fn a_board_keeps_the_highest_number_of_each_channel() {
        let (trades, quotes) = (Key::new(3, ChannelKind::Trades), Key::new(3, ChannelKind::Quotes));
        let mut board = Board::new(1);
        board.raise(quotes, 5);
        board.raise(trades, 7);
        board.raise(trades, 6);
        assert_eq!(board.iter().collect::<Vec<_>>(), [(trades, 7), (quotes, 5)]);
        assert_eq!((board.last(Key(0)), board.baseline(trades)), (0, 0));
        board.set_baseline(trades, 7);
        assert_eq!(board.baseline(trades), 7);
        assert_eq!((trades.symbol(), trades.kind()), (3, ChannelKind::Trades));
    }
}

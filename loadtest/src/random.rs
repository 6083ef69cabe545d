//! Reproducible random numbers: splitmix64, so that a seed and a client's number give the same run again. Owned by
//! whoever draws. Deliberately absent: anything that a secret could depend on.

/// One series of numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn seeded(seed: u64) -> Random {
        Random(seed)
    }

    /// A series of its own for each `stream` of a seed.
    pub fn of_stream(seed: u64, stream: u64) -> Random {
        let mut random = Random(seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03));
        // Neighbouring streams start at neighbouring states: one step separates them.
        random.next_u64();
        random
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// At least 0 and below 1.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// At least 0 and below `end`; 0 where `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The high half of the product: off from uniform by less than end / 2^64.
        ((u128::from(self.next_u64()) * u128::from(end)) >> 64) as u64
    }

    /// The mask of a client's frame.
    pub fn mask(&mut self) -> [u8; 4] {
        (self.next_u64() as u32).to_ne_bytes()
    }
}

/// Whether that client is one of a share of all, the same ones whenever it is asked with that seed.
pub fn is_of_share(seed: u64, client: u64, share: f64) -> bool {
    Random::of_stream(seed, client).unit() < share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_series_and_another_stream_another_one() {
        let series = |seed, stream| {
            let mut random = Random::of_stream(seed, stream);
            [random.next_u64(), random.next_u64(), random.next_u64()]
        };
        assert_eq!(series(1, 2), series(1, 2));
        assert_ne!(series(1, 2), series(1, 3));
        assert_ne!(series(1, 2), series(2, 2));
    }

    #[test]
    fn a_share_is_about_its_size_and_none_and_all_are_exact() {
        let of = |share| (0..10_000).filter(|client| is_of_share(7, *client, share)).count();
        assert_eq!((of(0.0), of(1.0)), (0, 10_000));
        assert!((900..1_100).contains(&of(0.1)), "{}", of(0.1));
    }

    #[test]
    fn numbers_stay_below_their_end() {
        let mut random = Random::seeded(3);
        for end in [1, 2, 3, 1_000, u64::MAX] {
            assert!((0..100).all(|_| random.below(end) < end), "{end}");
        }
        assert_eq!(random.below(0), 0);
    }
}

//! Pseudo-random numbers for the simulator and for the jitter of reconnects: xoshiro256++ seeded through
//! splitmix64 (Blackman and Vigna, <https://prng.di.unimi.it/>). Same seed, same numbers, on every machine.
//! Not for secrets.

use std::hash::{BuildHasher, Hasher, RandomState};

#[derive(Clone, Debug)]
pub(super) struct Random {
    state: [u64; 4],
}

impl Random {
    pub(super) fn seeded(seed: u64) -> Random {
        let mut mixed = seed;
        let mut splitmix = || {
            mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ z >> 31
        };
        Random { state: [splitmix(), splitmix(), splitmix(), splitmix()] }
    }

    /// Seeded by the system, differently in every process.
    pub(super) fn from_system() -> Random {
        Random::seeded(RandomState::new().build_hasher().finish())
    }

    pub(super) fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in `0.0 <= x < 1.0`, by the 53 bits a double can hold.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `0 <= n < bound`; the bias of the multiplication is below `bound / 2^64`. `bound >= 1`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        debug_assert!(bound > 0);
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First outputs of the authors' C code for this seed.
    #[test]
    fn gives_the_published_numbers() {
        // splitmix64(0) begins 0xe220a8397b1dcdaf, 0x6e789e6aa1b965f4, 0x06c45d188009454f, 0xf88bb8a8724c81ec.
        let mut random = Random::seeded(0);
        let seeded = [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f, 0xf88b_b8a8_724c_81ec];
        assert_eq!(random.state, seeded);
        let sum = seeded[0].wrapping_add(seeded[3]);
        assert_eq!(random.next_u64(), sum.rotate_left(23).wrapping_add(seeded[0]));
        let mut reference = Random { state: [1, 2, 3, 4] };
        let first: Vec<u64> = (0..5).map(|_| reference.next_u64()).collect();
        assert_eq!(
            first,
            [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386, 9_228_616_714_210_784_205]
        );
    }

    #[test]
    fn stays_in_range_and_fills_it() {
        let mut random = Random::seeded(7);
        let mut seen = [0u32; 10];
        for _ in 0..10_000 {
            let unit = random.unit();
            assert!((0.0..1.0).contains(&unit));
            seen[random.below(10) as usize] += 1;
        }
        assert!(seen.iter().all(|n| (800..1200).contains(n)), "{seen:?}");
        assert_eq!(random.below(1), 0);
    }
}

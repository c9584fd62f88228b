//! Whole numbers from a seed: the choices that a simulation makes.

use bellwether_core::dice::split_mix;

/// A deterministic generator; the value is its state, which begins as the seed.
pub struct Dice(pub u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        split_mix(&mut self.0)
    }

    /// A number from 0 to `n - 1`; `n` is at least 1.
    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    /// `true` in `percent` of 100 draws.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One element of a list that is not empty.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

use bellwether_core::dice::split_mix;

/// Whole numbers from a seed; the same ones for ever.
pub struct Dice(pub u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        split_mix(&mut self.0)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

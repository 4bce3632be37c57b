//! Who is paused at which level.

/// From so many thousandths of the bound on, cameras up to this priority are paused.
const BANDS: [(u16, u8); 5] = [(900, 2), (930, 4), (960, 6), (980, 8), (1_000, 9)];
/// They come back when the level is so far below.
const HYSTERESIS: u16 = 50;

/// The highest priority that is paused at this level, given which one was before; 0 for none.
pub fn paused_through(permille: u16, before: u8) -> u8 {
    let reached = highest(permille);
    let not_yet_left = highest(permille.saturating_add(HYSTERESIS));
    reached.max(before.min(not_yet_left))
}

fn highest(permille: u16) -> u8 {
    BANDS.iter().filter(|(from, _)| permille >= *from).map(|(_, priority)| *priority).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_level_that_trembles_changes_nothing(level in 0..1_100_u16, tremble in 0..HYSTERESIS) {
            let paused = paused_through(level, 0);
            prop_assert_eq!(paused_through(level.saturating_sub(tremble), paused), paused);
        }

        #[test]
        fn more_pressure_never_pauses_fewer(level in 0..1_100_u16, more in 0..200_u16, before in 0..=9_u8) {
            prop_assert!(paused_through(level + more, before) >= paused_through(level, before));
        }

        #[test]
        fn without_pressure_nobody_and_at_the_bound_everybody_is_paused(before in 0..=9_u8) {
            prop_assert_eq!(paused_through(0, before), 0);
            prop_assert_eq!(paused_through(1_000, before), 9);
        }
    }
}

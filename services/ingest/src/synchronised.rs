//! Whether the kernel believes that its clock is synchronised.

/// Asks the kernel (`adjtimex`, without changing anything).
#[must_use]
pub fn clock_is_synchronised() -> bool {
    // SAFETY: `timex` is a plain C structure for which all zeros is a valid value; `modes` = 0 makes
    // the call read-only, and the pointer lives until it returns.
    #[expect(unsafe_code, reason = "no safe binding of adjtimex exists; the call reads only")]
    let state = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        libc::adjtimex(&raw mut timex)
    };
    (0..libc::TIME_ERROR).contains(&state)
}

#[cfg(test)]
mod tests {
    #[test]
    fn asking_twice_gives_the_same_answer() {
        assert_eq!(super::clock_is_synchronised(), super::clock_is_synchronised());
    }
}

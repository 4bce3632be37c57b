//! When something behind the recorder is away: tried again ever more rarely, told once.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use obscura_clock::Monotonic;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// What is refused again and again is offered this rarely.
const LONGEST_WAIT_REFUSED: Duration = Duration::from_secs(600);

/// Whether one thing is away.
#[derive(Debug)]
pub struct Outage {
    what: &'static str,
    state: Mutex<Option<Standing>>,
}

#[derive(Debug)]
struct Standing {
    failures: u32,
    not_before: Monotonic,
}

impl Outage {
    /// Nothing is away; `what` tells what cannot be done when it is.
    pub fn new(what: &'static str) -> Self {
        Self { what, state: Mutex::default() }
    }

    /// Whether it is time to try.
    pub fn may_try(&self, now: Monotonic) -> bool {
        self.lock().as_ref().is_none_or(|standing| standing.not_before <= now)
    }

    /// Whether it is away as far as is known.
    pub fn is_on(&self) -> bool {
        self.lock().is_some()
    }

    /// A try failed.
    pub fn goes_on(&self, now: Monotonic, cause: &str) {
        let mut state = self.lock();
        let failures = state.as_ref().map_or(0, |standing| standing.failures);
        if failures == 0 {
            tracing::warn!(cause, "{}", self.what);
        }
        *state = Some(Standing { failures: failures.saturating_add(1), not_before: later(now, failures) });
    }

    /// A try went through.
    pub fn over(&self) {
        if self.lock().take().is_some() {
            tracing::info!("over: {}", self.what);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Standing>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When to try again after so many failures.
pub fn later(now: Monotonic, failures: u32) -> Monotonic {
    after(now, failures, LONGEST_WAIT)
}

/// When to try again what was refused so often.
pub fn much_later(now: Monotonic, refusals: u32) -> Monotonic {
    after(now, refusals, LONGEST_WAIT_REFUSED)
}

fn after(now: Monotonic, failures: u32, longest: Duration) -> Monotonic {
    let wait = FIRST_WAIT.saturating_mul(1 << failures.min(16)).min(longest);
    Monotonic::from_nanos(now.as_nanos().saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_become_rarer_up_to_a_bound_and_are_prompt_again_once_it_is_over() {
        let outage = Outage::new("test");
        let mut now = Monotonic::from_nanos(0);
        for _ in 0..20 {
            outage.goes_on(now, "away");
            assert!(!outage.may_try(now));
            now = Monotonic::from_nanos(now.as_nanos() + 8_000_000_000);
            assert!(outage.may_try(now));
        }
        outage.over();
        assert!(outage.may_try(Monotonic::from_nanos(0)));
    }
}

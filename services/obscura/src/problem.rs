//! What a person is told when something does not work: what was wrong, and the next step.

use std::{fmt, process::ExitCode};

/// The end of a command that did not succeed. Its text never holds a password or a source's URL.
#[derive(Debug)]
pub struct Problem {
    what: String,
    next: Option<String>,
    usage: bool,
}

/// What nearly every function of this program returns.
pub type Result<T, E = Problem> = std::result::Result<T, E>;

impl Problem {
    /// Something failed (exit code 1).
    pub fn new(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), next: None, usage: false }
    }

    /// The command cannot be meant as it was typed (exit code 2).
    pub fn usage(what: impl fmt::Display) -> Self {
        Self { usage: true, ..Self::new(what) }
    }

    /// Adds what to do now.
    #[must_use]
    pub fn next(mut self, step: impl fmt::Display) -> Self {
        self.next = Some(step.to_string());
        self
    }

    /// What was wrong.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What to do now, where that is known.
    pub fn next_step(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// 1 for a failure, 2 for a command that makes no sense.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.usage { 2 } else { 1 })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.next {
            Some(next) => write!(f, "\n  next: {next}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

/// Says what was being done when an error came.
pub trait Context<T> {
    /// Turns the error into a [`Problem`] that begins with what was being done.
    fn doing(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<anyhow::Error>> Context<T> for std::result::Result<T, E> {
    fn doing(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Problem::new(format_args!("cannot {what}: {}", causes(&error.into()))))
    }
}

/// The error and its causes. Many errors repeat their cause in their own text: it is told once.
fn causes(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.contains(&cause) {
            continue;
        }
        if !told.is_empty() {
            told.push_str(": ");
        }
        told.push_str(&cause);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_was_wrong_and_what_to_do_next() {
        let problem = Problem::new("no camera is called `gate`").next("list them: obscura camera list");
        assert_eq!(problem.to_string(), "no camera is called `gate`\n  next: list them: obscura camera list");
        assert_eq!(problem.exit_code(), ExitCode::from(1));
        assert_eq!(Problem::usage("x").exit_code(), ExitCode::from(2));
    }

    #[test]
    fn an_error_is_told_with_what_was_being_done() {
        let outcome: std::result::Result<(), _> = Err(std::io::Error::other("disk on fire"));
        assert_eq!(outcome.doing("read the log").unwrap_err().what(), "cannot read the log: disk on fire");
    }

    #[test]
    fn every_cause_is_told_once() {
        let error = anyhow::anyhow!("no space").context("disk: no space").context("writing failed");
        assert_eq!(causes(&error), "writing failed: disk: no space");
    }
}

//! Passwords from a file or from the terminal, never from the command line.

use std::{
    fs::File,
    io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _},
    path::Path,
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::problem::{Context as _, Problem, Result};

/// Longest password, in bytes.
const MAX_BYTES: u64 = 1024;

/// The first line of a file.
pub fn from_file(path: &Path) -> Result<String> {
    let mut text = String::new();
    let doing = format!("read the password from {}", path.display());
    File::open(path).and_then(|file| file.take(MAX_BYTES + 2).read_to_string(&mut text)).doing(doing)?;
    let password = text.lines().next().unwrap_or_default();
    if password.is_empty() || text.len() as u64 > MAX_BYTES + 1 {
        return Err(Problem::usage(format_args!(
            "{} should hold one line with the password, at most {MAX_BYTES} bytes",
            path.display()
        )));
    }
    Ok(password.to_owned())
}

/// Asks the person at the terminal, without showing what is typed.
pub fn from_terminal(username: &str) -> Result<String> {
    if !io::stdin().is_terminal() {
        return Err(Problem::usage("--username needs a password, and nobody is at a terminal to type it")
            .next("put the password into a file and name it: --password-file FILE"));
    }
    let _ = write!(io::stderr(), "Password of {username}: ");
    let silent = Silence::begin().doing("hide what is typed")?;
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    drop(silent);
    let _ = writeln!(io::stderr());
    read.doing("read the password")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A terminal that does not echo, until dropped.
struct Silence(Termios);

impl Silence {
    fn begin() -> rustix::io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _the_terminal_may_be_gone = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> Result<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, content).unwrap();
        from_file(&path)
    }

    #[test]
    fn a_password_is_the_first_line_of_its_file() {
        assert_eq!(file("p:w d\n").unwrap(), "p:w d");
        assert_eq!(file("pw").unwrap(), "pw");
    }

    #[test]
    fn an_empty_or_huge_file_is_refused_without_repeating_it() {
        assert!(file("").is_err());
        let problem = file(&"x".repeat(5000)).unwrap_err().to_string();
        assert!(!problem.contains("xxxx"), "{problem}");
    }
}

//! A systemd unit for `obscura up`.

use std::path::Path;

use crate::words::shell;

/// The text of a system unit that runs `program` as `user` on the state directory.
///
/// `KillMode=mixed` has systemd signal the supervisor only, which drains its children itself; the
/// 15 s it takes at most fit well into `TimeoutStopSec`.
pub fn systemd_unit(program: &Path, state: &Path, user: &str) -> String {
    format!(
        "[Unit]\n\
         Description=Obscura video recorder\n\
         Wants=network-online.target\n\
         After=network-online.target time-sync.target\n\
         \n\
         [Service]\n\
         User={user}\n\
         ExecStart={program} --state {state} up\n\
         Restart=always\n\
         RestartSec=2\n\
         KillMode=mixed\n\
         TimeoutStopSec=30\n\
         LimitCORE=0\n\
         NoNewPrivileges=true\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        program = quoted(program),
        state = quoted(state),
    )
}

/// What to do with the unit.
pub fn systemd_steps(program: &Path, state: &Path) -> String {
    format!(
        "to record from boot on, without a word typed:\n  \
         {} --state {} up --print-unit | sudo tee /etc/systemd/system/obscura.service >/dev/null\n  \
         sudo systemctl daemon-reload && sudo systemctl enable --now obscura",
        shell(program),
        shell(state)
    )
}

/// systemd.syntax(7): double quotes keep spaces, `\` escapes, `%` and `$` are doubled.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy().replace('%', "%%").replace('$', "$$");
    if text.contains([' ', '"', '\'', '\\', ';']) {
        return format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_starts_the_same_program_on_the_same_state() {
        let unit = systemd_unit(Path::new("/opt/obscura"), Path::new("/var/lib/my obscura"), "recorder");
        assert!(unit.contains("ExecStart=/opt/obscura --state \"/var/lib/my obscura\" up\n"), "{unit}");
        assert!(unit.contains("User=recorder\n"));
        assert!(unit.contains("KillMode=mixed\n"));
    }

    #[test]
    fn systemd_does_not_expand_what_a_path_holds() {
        assert_eq!(quoted(Path::new("/a%b/$c")), "/a%%b/$$c");
    }
}

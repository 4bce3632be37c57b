//! Recovery of the zone root by printed shares.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, BufRead as _, IsTerminal as _, Read as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use obscura_daemon::write_atomically;
use obscura_proto::{
    audit::v1::{KeyAct, event::Body, key_act::Act},
    keys::v1::{CreateRecoverySharesRequest, RehearseRecoveryRequest},
};
use obscura_shares::{RECOVERED_FILE, Root, Share};
use prost::Message as _;
use serde_json::json;
use zeroize::Zeroizing;

use super::super::Session;
use crate::{
    installation::Lock,
    log,
    problem::{Context as _, Problem, Result},
    services::{PROMPT, command},
};

/// Name of the key file in the data directory of the key service.
const KEY_FILE: &str = "kek.json";
/// As many shares of 1 KiB as there may be, and then some.
const MAX_INPUT_BYTES: u64 = 64 << 10;

/// Arguments of `key shares`.
#[derive(Debug, Args)]
#[command(after_help = "\
The shares are shown once and stored nowhere. Print each on its own sheet, give each to another person, and
prove with `obscura key rehearse` that they work. After a rotation make new ones.

Example:
  obscura key shares --shares 5 --threshold 3")]
pub struct Shares {
    /// Number of shares, 2 to 16
    #[arg(long, value_name = "NUMBER")]
    shares: u32,
    /// So many of them restore the root, 2 or more
    #[arg(long, value_name = "NUMBER")]
    threshold: u32,
}

/// Where shares come from.
#[derive(Debug, Args)]
struct Input {
    /// File with a share on each line [default: standard input, up to an empty line]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Arguments of `key rehearse`.
#[derive(Debug, Args)]
pub struct Rehearse {
    #[command(flatten)]
    input: Input,
}

/// Arguments of `key recover`.
#[derive(Debug, Args)]
#[command(after_help = "\
Works without any service. The shares bring back the key file; the key database comes from a backup, and the
folder `epoch-secrets` from its second place (`secrets_mirror_dir`). Both are put beside the key file before
the key service is started. Who recovered what is noted there too (`recovered.event`); the key service tells the
audit log when it starts.

Example:
  obscura key recover --file shares.txt --data-dir /srv/obscura/keys/data")]
pub struct Recover {
    #[command(flatten)]
    input: Input,
    /// Data directory of the key service [default: that of the installation]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Shares {
    pub async fn run(self, session: &Session) -> Result<()> {
        let services = session.services()?;
        let request = CreateRecoverySharesRequest { shares: self.shares, threshold: self.threshold };
        let mut keys = services.keys();
        let call = keys.create_recovery_shares(request);
        let shares = services.ask("keys", "split the zone root", PROMPT, call).await?.shares;
        let next = command(services.installation(), "key rehearse");
        session.out.remark(format_args!("Shown once, stored nowhere. To prove that they work: {next}\n"));
        let words = Zeroizing::new(shares.join("\n\n"));
        session.out.result(&json!({ "threshold": self.threshold, "shares": shares }), words.as_str())
    }
}

impl Rehearse {
    pub async fn run(self, session: &Session) -> Result<()> {
        let services = session.services()?;
        let shares = self.input.read(session)?;
        // Typos are told without sending anything.
        let parsed = Share::parse_all(&shares).doing("read the shares")?;
        let request = RehearseRecoveryRequest { shares: shares.to_vec() };
        let mut keys = services.keys();
        let call = keys.rehearse_recovery(request);
        let version = services.ask("keys", "rehearse the recovery", PROMPT, call).await?.version;
        let words = format!("These {} shares restore the zone root, version {version}.", parsed.len());
        session.out.result(&json!({ "version": version, "shares": parsed.len() }), words)
    }
}

impl Recover {
    pub fn run(self, session: &Session) -> Result<()> {
        let data_dir = match &self.data_dir {
            Some(data_dir) => data_dir.clone(),
            None => of_installation(session)?,
        };
        let path = data_dir.join(KEY_FILE);
        check_absent(&path)?;
        let shares = Share::parse_all(&self.input.read(session)?).doing("read the shares")?;
        let root = Root::restore(&shares).doing("restore the zone root")?;
        check_zone(session, self.data_dir.is_none(), &root)?;
        write(session, &data_dir, &path, &root, shares.len())?;
        let words = format!(
            "Wrote {} with version {} of the root of zone {}.\nNext: put the backup of the key database and the \
             second place of `epoch-secrets` beside it, start the key service, and replay the receipts of \
             destruction with `obscura key replay`.",
            path.display(),
            root.version(),
            root.zone()
        );
        session.out.result(&json!({ "version": root.version(), "zone": root.zone().as_str() }), words)
    }
}

impl Input {
    fn read(&self, session: &Session) -> Result<Zeroizing<Vec<String>>> {
        let mut text =
            Zeroizing::new(String::with_capacity(usize::try_from(MAX_INPUT_BYTES).unwrap_or_default()));
        match &self.file {
            Some(path) => {
                let doing = format!("read {}", path.display());
                let file = File::open(path).doing(&doing)?;
                file.take(MAX_INPUT_BYTES).read_to_string(&mut text).doing(doing)?;
            }
            None => from_input(session, &mut text).doing("read the shares")?,
        }
        let shares = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned);
        Ok(Zeroizing::new(shares.collect()))
    }
}

/// Everything up to the end or an empty line.
fn from_input(session: &Session, text: &mut String) -> io::Result<()> {
    if io::stdin().is_terminal() {
        session.out.remark("Type one share on each line, then an empty line:");
    }
    let mut input = io::stdin().lock().take(MAX_INPUT_BYTES);
    loop {
        let before = text.len();
        if input.read_line(text)? == 0 || text.get(before..).is_some_and(|line| line.trim().is_empty()) {
            return Ok(());
        }
    }
}

/// The key service must not run: it would not see the file, or have made one of its own.
fn of_installation(session: &Session) -> Result<PathBuf> {
    let installation = session.installation()?;
    if Lock::is_held(&installation.root().join("lock")) {
        return Err(Problem::new("cannot recover while `obscura up` runs on this state directory")
            .next("end it, then run this command again"));
    }
    Ok(installation.data_dir("keys"))
}

fn check_absent(path: &Path) -> Result<()> {
    if fs::exists(path).doing(format_args!("look for {}", path.display()))? {
        return Err(Problem::new(format_args!("{} exists: nothing is overwritten", path.display()))
            .next("move it away if it is not the right one, or choose an empty directory with --data-dir"));
    }
    Ok(())
}

/// A root of another zone opens nothing here.
fn check_zone(session: &Session, in_installation: bool, root: &Root) -> Result<()> {
    if !in_installation {
        return Ok(());
    }
    let installation = session.installation()?;
    let own = &installation.settings().zone;
    if *own == root.zone().as_str() {
        return Ok(());
    }
    Err(Problem::new(format_args!(
        "these shares are of zone {}, and this installation is of zone {own}",
        root.zone()
    ))
    .next("take the shares of this zone, or name another directory with --data-dir"))
}

/// Writes what the audit log will be told first, so that there is no root without it.
fn write(session: &Session, data_dir: &Path, path: &Path, root: &Root, shares: usize) -> Result<()> {
    let doing = format!("write {}", path.display());
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir).doing(&doing)?;
    let note = data_dir.join(RECOVERED_FILE);
    let detail = format!("the key file was written anew from {shares} shares");
    let act = KeyAct { act: Act::Recovered.into(), version: root.version(), detail, ..KeyAct::default() };
    let event = log::event(&session.clock, Body::Key(act));
    write_atomically(&note, &event.encode_to_vec(), 0o600).doing(format_args!("write {}", note.display()))?;
    write_atomically(path, root.key_file().as_bytes(), 0o600).doing(doing)
}

#[cfg(test)]
mod tests {
    use obscura_clock::SystemClock;
    use obscura_proto::audit::v1::Event;

    use super::*;
    use crate::output::Output;

    fn session() -> Session {
        Session { state: None, out: Output::new(true), clock: SystemClock::shared() }
    }

    fn shares(folder: &Path) -> PathBuf {
        let root = Root::new("eea".parse().unwrap(), 3, Zeroizing::new([9; 32]));
        let shares = root.split(2, 3).unwrap();
        let text: Vec<String> = shares.iter().take(2).map(|share| share.to_text().to_string()).collect();
        let path = folder.join("shares.txt");
        fs::write(&path, text.join("\n\n")).unwrap();
        path
    }

    #[test]
    fn shares_bring_back_the_key_file_and_overwrite_none() {
        let folder = tempfile::tempdir().unwrap();
        let (file, data_dir) = (Some(shares(folder.path())), folder.path().join("keys/data"));
        let recover = || Recover { input: Input { file: file.clone() }, data_dir: Some(data_dir.clone()) };
        recover().run(&session()).unwrap();
        let text = fs::read_to_string(data_dir.join("kek.json")).unwrap();
        assert_eq!(
            text,
            format!(
                r#"{{"format":"obscura key-encryption key v1","versions":{{"3":"{}"}}}}"#,
                "09".repeat(32)
            )
        );
        let noted = fs::read(data_dir.join("recovered.event")).unwrap();
        let event = Event::decode(noted.as_slice()).unwrap();
        obscura_ocsf::validate(&event).unwrap();
        assert_eq!(event.actor, Some(log::operator()));
        let Some(Body::Key(act)) = event.body else { panic!("{event:?}") };
        assert_eq!((act.act(), act.version), (Act::Recovered, 3));
        let refused = recover().run(&session()).unwrap_err();
        assert!(refused.what().contains("nothing is overwritten"), "{refused}");
    }

    #[test]
    fn a_typo_is_told_by_share_and_group_and_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = shares(folder.path());
        let text = fs::read_to_string(&path).unwrap();
        let last = if text.ends_with('0') { '1' } else { '0' };
        fs::write(&path, format!("{}{last}", &text[..text.len() - 1])).unwrap();
        let data_dir = folder.path().join("data");
        let recover = Recover { input: Input { file: Some(path) }, data_dir: Some(data_dir.clone()) };
        let problem = recover.run(&session()).unwrap_err();
        assert!(problem.what().contains("share 2 as given: group 24 has a typo"), "{problem}");
        assert!(!data_dir.exists());
    }
}

//! A second process of a service beside the one that the supervisor keeps.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use toml::{Table, Value};

use crate::{installation::signal, program, wait_for};

const CONFIG: &str = "config.toml";
const ADDRESS: &str = "address";

/// Runs as long as this lives.
#[derive(Debug)]
pub struct Replica {
    child: Option<Child>,
    service: String,
    folder: PathBuf,
}

/// Credentials of cameras are sealed to one key: recorders of the same cameras share it, or the second one may
/// not open them. Other services have none.
fn share_source_key(of: &Path, with: &Path) {
    let key = Path::new("data").join("source.key");
    if of.join(&key).exists() && !with.join(&key).exists() {
        fs::create_dir_all(with.join("data")).unwrap();
        fs::copy(of.join(&key), with.join(&key)).unwrap();
    }
}

impl Replica {
    pub(crate) fn start(state: &Path, service: &str, peers: &[(&str, &Path)]) -> Self {
        let folder = state.join(format!("{service}-2"));
        fs::create_dir_all(&folder).unwrap();
        let text = fs::read_to_string(state.join(service).join("config.toml")).unwrap();
        let mut config: Table = toml::from_str(&text).unwrap();
        let shown = |path: &Path| Value::String(path.display().to_string());
        config.insert("data_dir".into(), shown(&folder.join("data")));
        config.insert("address_file".into(), shown(&folder.join(ADDRESS)));
        for (peer, address) in peers {
            let address = Value::String(format!("file:{}", address.display()));
            config["peers"].as_table_mut().unwrap().insert((*peer).to_owned(), address);
        }
        share_source_key(&state.join(service), &folder);
        fs::write(folder.join(CONFIG), toml::to_string(&config).unwrap()).unwrap();
        let mut replica = Self { child: None, service: service.to_owned(), folder };
        replica.start_again();
        replica
    }

    /// Kills it without a warning.
    ///
    /// # Panics
    /// Where it cannot be killed.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Ends it the polite way and waits for it.
    ///
    /// # Panics
    /// Where it cannot be told.
    pub fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(child.id(), "TERM");
            child.wait().unwrap();
        }
    }

    /// Starts it where it was killed, with the data that it had.
    ///
    /// # Panics
    /// Where it does not come up.
    pub fn start_again(&mut self) {
        let _ = fs::remove_file(self.address_file());
        let log = File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut command = Command::new(program(&format!("obscura-{}", self.service)));
        command.arg("--config").arg(self.folder.join(CONFIG));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        wait_for("the replica to listen", || self.address_file().exists().then_some(()));
    }

    /// The file that says where it listens.
    #[must_use]
    pub fn address_file(&self) -> PathBuf {
        self.folder.join(ADDRESS)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}

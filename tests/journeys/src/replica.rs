//! A second process of a service beside the one that the supervisor keeps.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use toml::{Table, Value};

use crate::{program, wait_for};

/// Runs as long as this lives.
#[derive(Debug)]
pub struct Replica {
    child: Child,
    address_file: PathBuf,
}

impl Replica {
    pub(crate) fn start(state: &Path, service: &str, peers: &[(&str, &Path)]) -> Self {
        let folder = state.join(format!("{service}-2"));
        fs::create_dir_all(&folder).unwrap();
        let text = fs::read_to_string(state.join(service).join("config.toml")).unwrap();
        let mut config: Table = toml::from_str(&text).unwrap();
        let address_file = folder.join("address");
        let shown = |path: &Path| Value::String(path.display().to_string());
        config.insert("data_dir".into(), shown(&folder.join("data")));
        config.insert("address_file".into(), shown(&address_file));
        for (peer, address) in peers {
            let address = Value::String(format!("file:{}", address.display()));
            config["peers"].as_table_mut().unwrap().insert((*peer).to_owned(), address);
        }
        let path = folder.join("config.toml");
        fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
        let log = File::create(folder.join("log")).unwrap();
        let child = Command::new(program(&format!("obscura-{service}")))
            .arg("--config")
            .arg(path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let replica = Self { child, address_file };
        wait_for("the replica to listen", || replica.address_file.exists().then_some(()));
        replica
    }

    /// The file that says where it listens.
    #[must_use]
    pub fn address_file(&self) -> &Path {
        &self.address_file
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

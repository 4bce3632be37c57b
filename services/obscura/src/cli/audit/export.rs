use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Component, Path, PathBuf},
};

use clap::Args;
use obscura_proto::audit::v1::{ExportLogRequest, ExportLogResponse};
use serde_json::json;

use super::Session;
use crate::{
    problem::{Context as _, Problem, Result},
    services::{PATIENT, command},
    words::count,
};

/// Arguments of `audit export`.
#[derive(Debug, Args)]
pub struct Export {
    /// A new folder for the copy
    folder: PathBuf,
}

impl Export {
    pub async fn run(self, session: &Session) -> Result<()> {
        let doing = "copy the audit log";
        let services = session.services()?;
        let mut copy = Copy::begin(&self.folder)?;
        let mut audit = services.audit();
        let call = audit.export_log(ExportLogRequest {});
        let mut pieces = services.ask("audit", doing, PATIENT, call).await?;
        let bar = session.out.progress(0, "{spinner} {pos} files");
        while let Some(piece) =
            pieces.message().await.map_err(|status| services.refused("audit", doing, &status))?
        {
            copy.take(&piece)?;
            bar.set_position(copy.files.len() as u64);
        }
        bar.finish_and_clear();
        let files = copy.files.len() as u64;
        let verify = command(services.installation(), &format!("audit verify {}", self.folder.display()));
        let words =
            format!("Wrote {} to {}.\nVerify it: {verify}", count(files, "file"), self.folder.display());
        session.out.result(&json!({ "folder": self.folder, "files": files }), words)
    }
}

/// A copy in the making.
struct Copy {
    root: PathBuf,
    files: BTreeSet<PathBuf>,
}

impl Copy {
    fn begin(root: &Path) -> Result<Self> {
        let empty = fs::read_dir(root).map_or(true, |mut entries| entries.next().is_none());
        if !empty {
            return Err(Problem::usage(format_args!("{} is not empty", root.display()))
                .next("name a new folder: a copy must hold nothing but the log"));
        }
        fs::create_dir_all(root).doing(format_args!("make {}", root.display()))?;
        Ok(Self { root: root.to_owned(), files: BTreeSet::new() })
    }

    fn take(&mut self, piece: &ExportLogResponse) -> Result<()> {
        let relative = Path::new(&piece.path);
        if relative.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(Problem::new("cannot copy the audit log: it names a file outside of the copy")
                .next("do not trust this log: compare its checkpoint with one of a witness"));
        }
        let path = self.root.join(relative);
        let doing = format!("write {}", path.display());
        let mut file = if self.files.insert(relative.to_owned()) {
            let folder = path.parent().unwrap_or(&self.root);
            fs::create_dir_all(folder).doing(&doing)?;
            File::create_new(&path).doing(&doing)?
        } else {
            OpenOptions::new().append(true).open(&path).doing(&doing)?
        };
        file.write_all(&piece.data).doing(doing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(path: &str, data: &str) -> ExportLogResponse {
        ExportLogResponse { path: path.into(), data: data.as_bytes().to_vec().into() }
    }

    #[test]
    fn pieces_of_a_file_are_joined_and_nothing_is_written_outside_of_the_copy() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("copy");
        let mut copy = Copy::begin(&root).unwrap();
        copy.take(&piece("tile/0/000", "ab")).unwrap();
        copy.take(&piece("tile/0/000", "cd")).unwrap();
        assert_eq!(fs::read_to_string(root.join("tile/0/000")).unwrap(), "abcd");
        for outside in ["../evil", "/etc/evil", "tile/../../evil"] {
            assert!(copy.take(&piece(outside, "x")).is_err(), "{outside}");
        }
        assert!(Copy::begin(&root).is_err());
    }
}

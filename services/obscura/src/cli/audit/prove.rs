use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use obscura_proto::audit::v1::{ProveRequest, prove_request::What};
use serde_json::json;

use super::Session;
use crate::{
    problem::{Context as _, Problem, Result},
    services::{PROMPT, command},
};

/// Arguments of `audit prove`.
#[derive(Debug, Args)]
#[command(after_help = "\
Writes NAME.tlog-proof (C2SP tlog-proof) and NAME.json, the entry itself; the latter only where you may read it.

Example:
  obscura audit prove 17 -o entry-17
  obscura audit verify entry-17.tlog-proof")]
pub struct Prove {
    /// Index of the entry, or id of the event
    entry: String,
    /// Name of the files without an ending
    #[arg(short, long, value_name = "NAME")]
    output: PathBuf,
}

impl Prove {
    pub async fn run(self, session: &Session) -> Result<()> {
        let what = self.entry.parse().map_or_else(|_| What::EventId(self.entry.clone()), What::LeafIndex);
        let services = session.services()?;
        let mut audit = services.audit();
        let call = audit.prove(ProveRequest { what: Some(what) });
        let answer = services.ask("audit", "get a proof", PROMPT, call).await?;
        let proof = self.output.with_added_extension("tlog-proof");
        let leaf = self.output.with_added_extension("json");
        for path in [&proof, &leaf] {
            if path.exists() {
                return Err(Problem::usage(format_args!("{} exists already", path.display()))
                    .next("choose another name with -o"));
            }
        }
        if answer.leaf.is_empty() {
            return self.without_leaf(session, &proof, &answer.proof);
        }
        fs::write(&leaf, &answer.leaf).doing(format_args!("write {}", leaf.display()))?;
        fs::write(&proof, answer.proof).doing(format_args!("write {}", proof.display()))?;
        let verify = command(services.installation(), &format!("audit verify {}", proof.display()));
        let words = format!("Wrote {} and {}.\nVerify it: {verify}", proof.display(), leaf.display());
        session.out.result(&json!({ "proof": proof, "leaf": leaf }), words)
    }

    /// The entry is about somebody else, and who asks is no auditor.
    fn without_leaf(&self, session: &Session, path: &Path, proof: &str) -> Result<()> {
        fs::write(path, proof).doing(format_args!("write {}", path.display()))?;
        let words = format!(
            "Wrote {}.\nThe entry itself is about somebody else, and you are no auditor: put it beside the proof as {} \
             to verify it.",
            path.display(),
            self.output.with_added_extension("json").display(),
        );
        session.out.result(&json!({ "proof": path, "leaf": null }), words)
    }
}

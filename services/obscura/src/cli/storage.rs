mod reconcile;
mod reindex;
mod scrub;
mod status;

use std::{fmt, process::ExitCode};

use clap::Subcommand;
use obscura_proto::storage::v1::{Finding as Message, FindingKind};
use serde::Serialize;

use super::Session;
use crate::{problem::Result, words::count};

/// Commands about objects and their index.
#[derive(Debug, Subcommand)]
pub enum Storage {
    /// Show what is kept, where, and what was last found
    Status,
    /// Read objects again and compare every byte with the index
    Scrub(scrub::Scrub),
    /// Account for every segment, object and key
    Reconcile(reconcile::Reconcile),
    /// Rebuild the index from the objects
    Reindex,
}

impl Storage {
    pub async fn run(self, session: &Session) -> Result<ExitCode> {
        match self {
            Self::Status => status::run(session).await,
            Self::Scrub(scrub) => scrub.run(session).await,
            Self::Reconcile(reconcile) => reconcile.run(session).await,
            Self::Reindex => reindex::run(session).await,
        }
    }
}

/// What was found, as it is printed.
#[derive(Debug, Default, Serialize)]
struct Findings(Vec<Finding>);

/// One thing that is not as it should be.
#[derive(Debug, Serialize)]
struct Finding {
    kind: &'static str,
    object: String,
    key_id: String,
    camera_id: String,
    segment: Option<u32>,
    chunk: Option<u64>,
    words: String,
    repaired: bool,
}

impl Findings {
    fn add(&mut self, messages: Vec<Message>) {
        self.0.extend(messages.into_iter().map(Finding::from));
    }

    /// 1 where anything was found, repaired or not.
    fn exit_code(&self) -> ExitCode {
        if self.0.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// `2 findings, 1 of them put right or set aside`.
    fn summary(&self) -> String {
        let repaired = self.0.iter().filter(|finding| finding.repaired).count();
        let all = count(self.0.len() as u64, "finding");
        if repaired == 0 { all } else { format!("{all}, {repaired} of them put right or set aside") }
    }
}

impl From<Message> for Finding {
    fn from(message: Message) -> Self {
        Self {
            kind: kind(message.kind()),
            object: message.object_key,
            key_id: message.key_id,
            camera_id: message.camera_id,
            segment: message.segment,
            chunk: message.chunk,
            words: message.words,
            repaired: message.repaired,
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|finding| write!(f, "\n{finding}"))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}", self.kind)?;
        let named = [("object", &self.object), ("key", &self.key_id), ("camera", &self.camera_id)];
        for (what, name) in named.into_iter().filter(|(_, name)| !name.is_empty()) {
            write!(f, ", {what} {name}")?;
        }
        if let Some(segment) = self.segment {
            write!(f, ", segment {segment}")?;
        }
        if let Some(chunk) = self.chunk {
            write!(f, ", chunk {chunk}")?;
        }
        write!(f, "{}\n    {}", if self.repaired { " - repaired or set aside" } else { "" }, self.words)
    }
}

fn kind(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::Unspecified => "more",
        FindingKind::ObjectMissing => "object missing",
        FindingKind::ObjectOrphaned => "object orphaned",
        FindingKind::ObjectWrongSize => "object of another size",
        FindingKind::KeyMissing => "key missing",
        FindingKind::KeyOrphaned => "key orphaned",
        FindingKind::BytesChanged => "bytes changed",
        FindingKind::Overdue => "overdue",
        FindingKind::HeadChanged => "head changed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(repaired: bool) -> Message {
        Message {
            kind: FindingKind::BytesChanged.into(),
            object_key: "eea/x.pack".into(),
            segment: Some(3),
            chunk: Some(7),
            words: "restore it".into(),
            repaired,
            ..Message::default()
        }
    }

    #[test]
    fn a_finding_names_its_place_and_the_next_step() {
        let mut findings = Findings::default();
        assert_eq!(findings.exit_code(), ExitCode::SUCCESS);
        findings.add(vec![finding(false), finding(true)]);
        assert_eq!(findings.exit_code(), ExitCode::FAILURE);
        let text = findings.to_string();
        assert!(
            text.starts_with("\n  bytes changed, object eea/x.pack, segment 3, chunk 7\n    restore it"),
            "{text}"
        );
        assert!(text.contains("chunk 7 - repaired or set aside\n"), "{text}");
        assert_eq!(findings.summary(), "2 findings, 1 of them put right or set aside");
    }

    #[test]
    fn no_kind_is_told_as_a_code() {
        for code in 0..=8 {
            let words = kind(FindingKind::try_from(code).unwrap());
            assert!(!words.is_empty() && !words.contains('_') && words == words.to_lowercase());
        }
    }
}

use clap::Args;
use obscura_proto::audit::v1::{ErasePersonRequest, Person};
use serde_json::json;

use super::super::{Session, ground::Ground};
use crate::{problem::Result, services::PATIENT, words::count};

/// Arguments of `audit erase`.
#[derive(Debug, Args)]
#[command(after_help = "\
The data-protection officer and the auditor decide together; one of them runs this, and that they did is logged.

Example:
  obscura audit erase unix:1000 --ground no-longer-necessary --case 117/26 --dpo unix:2000 --auditor unix:3000")]
pub struct Erase {
    /// Id of the person, as it was logged
    person: String,
    #[command(flatten)]
    ground: Ground,
    /// Id of the data-protection officer who agrees, named under `data_protection_officers` in the same settings
    #[arg(long, value_name = "ID")]
    dpo: String,
    /// Id of the auditor who agrees: somebody else, named under `auditors` in the settings of
    /// the audit service
    #[arg(long, value_name = "ID")]
    auditor: String,
}

impl Erase {
    pub async fn run(self, session: &Session) -> Result<()> {
        let services = session.services()?;
        let person = |id: String| Some(Person { id, ..Person::default() });
        let request = ErasePersonRequest {
            person_id: self.person,
            ground: self.ground.code().into(),
            case_number: self.ground.case_number(),
            dpo: person(self.dpo),
            auditor: person(self.auditor),
        };
        let mut audit = services.audit();
        let call = audit.erase_person(request);
        let answer = services.ask("audit", "destroy the keys of that person", PATIENT, call).await?;
        let words = format!(
            "Destroyed {}: names and pseudonyms of that person lead nowhere any more, and every proof stays valid.",
            count(answer.keys, "key")
        );
        session.out.result(&json!({ "keys": answer.keys }), words)
    }
}

//! What this program tells the audit log before it does it. Without an answer nothing is read.

use obscura_clock::SharedClock;
use obscura_proto::{
    access::v1::SignedReceipt,
    audit::v1::{AppendRequest, Event, Export, GrantDecision, Outcome, Person, View, event::Body},
};
use uuid::Uuid;

use crate::{
    problem::{Problem, Result},
    services::{PROMPT, Services},
};

/// The person at the keyboard, as the operating system knows them, until there are accounts.
pub fn operator() -> Person {
    let uid = rustix::process::getuid().as_raw();
    Person { id: format!("unix:{uid}"), name: login_name(uid).unwrap_or_default(), address: String::new() }
}

/// The name in `/etc/passwd`; directories that are asked over the network are left alone.
fn login_name(uid: u32) -> Option<String> {
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    name_of(&accounts, uid).map(str::to_owned)
}

fn name_of(accounts: &str, uid: u32) -> Option<&str> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// The audit log of the installation.
#[derive(Debug)]
pub struct Log<'a> {
    services: &'a Services,
    clock: SharedClock,
}

impl<'a> Log<'a> {
    /// The log that the services belong to.
    pub const fn of(services: &'a Services, clock: SharedClock) -> Self {
        Self { services, clock }
    }

    /// Appends the decision about a grant.
    pub async fn grant(&self, decision: GrantDecision) -> Result<SignedReceipt> {
        self.append("write the decision into the audit log", Body::Grant(decision)).await
    }

    /// Appends that a viewing is opened, goes on or ends.
    pub async fn view(&self, view: View) -> Result<SignedReceipt> {
        self.append("write the viewing into the audit log", Body::View(view)).await
    }

    /// Appends that footage is about to become a file.
    pub async fn export(&self, export: Export) -> Result<SignedReceipt> {
        self.append("write the export into the audit log", Body::Export(export)).await
    }

    async fn append(&self, doing: &str, body: Body) -> Result<SignedReceipt> {
        let mut audit = self.services.audit();
        let call = audit.append(AppendRequest { event: Some(event(&self.clock, body)) });
        let answer = self.services.ask("audit", doing, PROMPT, call).await?;
        answer.receipt.ok_or_else(|| {
            Problem::new(format_args!(
                "cannot {doing}: the log answered without a receipt, so nothing is done"
            ))
            .next("see the log of audit (`obscura status` names the file), then run the command again")
        })
    }
}

/// What the person at the keyboard does now.
pub fn event(clock: &SharedClock, body: Body) -> Event {
    Event {
        event_id: Uuid::now_v7().to_string(),
        time_unix_ns: clock.wall().unix_nanos(),
        outcome: Outcome::Success.into(),
        actor: Some(operator()),
        body: Some(body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_name_is_found_by_its_number() {
        let accounts = "root:x:0:0:root:/root:/bin/sh\nbroken\nada:x:1000:1000::/home/ada:/bin/sh\n";
        assert_eq!(name_of(accounts, 1000), Some("ada"));
        assert_eq!(name_of(accounts, 100), None);
    }
}

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use obscura_proto::keys::v1::{
    Hold as Message, ListHoldsRequest, PlaceHoldRequest, PlaceHoldResponse, ReleaseHoldRequest,
};
use serde::Serialize;
use serde_json::json;

use super::{
    Session,
    stretch::{Stretch, shown},
};
use crate::{
    output::Table,
    problem::{Problem, Result},
    services::{PATIENT, PROMPT, Services, command},
    words::count,
};

const EXAMPLES: &str = "\
Exactly the two-second slots of the span are held; their neighbours are destroyed on time. The span may
reach into the future: what is recorded then is held as it comes.

Example:
  obscura hold add door --from 2026-11-23T10:00:00Z --for 30m --owner \"Ada Ventura\" \\
      --basis \"Police case 17/26, Art. 6(1)(c) GDPR\" --review-on 2027-01-15";

/// Commands about holds.
#[derive(Debug, Subcommand)]
pub enum Hold {
    /// Keep footage beyond its retention
    Add(Box<Add>),
    /// List holds by the time of placing
    List {
        /// Only those of this camera
        camera: Option<String>,
        /// Also those that were released
        #[arg(long)]
        all: bool,
    },
    /// End a hold; what is past its retention is destroyed with it
    Release {
        /// Id of the hold
        hold: String,
    },
}

/// Arguments of `hold add`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Add {
    #[command(flatten)]
    stretch: Stretch,
    /// Name of the person or function that answers for the hold
    #[arg(long, value_name = "NAME")]
    owner: String,
    /// Legal basis or case, in words
    #[arg(long, value_name = "TEXT")]
    basis: String,
    /// Day of the next review
    #[arg(long, value_name = "YYYY-MM-DD")]
    review_on: String,
}

impl Hold {
    pub async fn run(self, session: &Session) -> Result<()> {
        let services = session.services()?;
        match self {
            Self::Add(add) => add.run(session, &services).await,
            Self::List { camera, all } => list(session, &services, camera.as_deref(), all).await,
            Self::Release { hold } => release(session, &services, hold).await,
        }
    }
}

impl Add {
    async fn run(self, session: &Session, services: &Services) -> Result<()> {
        let span = self.stretch.span(session.clock.wall())?;
        let camera = services.camera(&self.stretch.camera, true).await?;
        let hold = Message {
            camera_id: camera.camera_id,
            layers: self.stretch.layers(),
            span: Some(span),
            owner: self.owner,
            basis: self.basis,
            review_on: self.review_on,
            ..Message::default()
        };
        let mut keys = services.keys();
        let call = keys.place_hold(PlaceHoldRequest { hold: Some(hold) });
        let placed = services.ask("keys", "place the hold", PATIENT, call).await?;
        let hold = placed.hold.clone().unwrap_or_default();
        let next = command(services.installation(), &format!("hold release {}", hold.hold_id));
        let value = json!({
            "hold": Shown::new(&hold, &camera.name),
            "keys": placed.keys,
            "slots": placed.slots,
            "lost_slots": placed.lost_slots,
        });
        session.out.result(&value, added(&placed, &camera.name, &next))
    }
}

fn added(placed: &PlaceHoldResponse, camera: &str, next: &str) -> String {
    let hold = placed.hold.clone().unwrap_or_default();
    let (from, to) = shown(hold.span.as_ref());
    let lost = match placed.lost_slots {
        0 => String::new(),
        lost => format!("\nThe keys of {} of it are destroyed already.", length(lost)),
    };
    format!(
        "Holding {camera} from {from} to {to} until it is released: {} is there now.{lost}\nTo end it: {next}",
        length(placed.slots)
    )
}

/// Slots of two seconds as a time, the layers of a moment counted each.
fn length(slots: u64) -> String {
    let seconds = slots.saturating_mul(2);
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

/// A hold for people and programs.
#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    camera: String,
    camera_id: String,
    from: String,
    to: String,
    owner: String,
    basis: String,
    review_on: String,
    placed_unix_ns: i64,
    released_unix_ns: Option<i64>,
}

impl Shown {
    fn new(hold: &Message, camera: &str) -> Self {
        let (from, to) = shown(hold.span.as_ref());
        Self {
            id: hold.hold_id.clone(),
            camera: camera.to_owned(),
            camera_id: hold.camera_id.clone(),
            from,
            to,
            owner: hold.owner.clone(),
            basis: hold.basis.clone(),
            review_on: hold.review_on.clone(),
            placed_unix_ns: hold.placed_unix_ns,
            released_unix_ns: (hold.released_unix_ns != 0).then_some(hold.released_unix_ns),
        }
    }
}

async fn list(session: &Session, services: &Services, camera: Option<&str>, all: bool) -> Result<()> {
    let camera_id = match camera {
        Some(name) => services.camera(name, true).await?.camera_id,
        None => String::new(),
    };
    let mut keys = services.keys();
    let call = keys.list_holds(ListHoldsRequest { camera_id, include_released: all });
    let answer = services.ask("keys", "list holds", PROMPT, call).await?;
    let (holds, quota) = (&answer.holds, quota(answer.standing, answer.most));
    let cameras = services.cameras(true).await?;
    let names: BTreeMap<&str, &str> =
        cameras.iter().map(|camera| (&*camera.camera_id, &*camera.name)).collect();
    let name = |hold: &Message| names.get(&*hold.camera_id).copied().unwrap_or(&hold.camera_id).to_owned();
    let shown: Vec<Shown> = holds.iter().map(|hold| Shown::new(hold, &name(hold))).collect();
    let value = json!({ "holds": shown, "standing": answer.standing, "most": answer.most });
    if shown.is_empty() {
        return session.out.result(&value, format_args!("No holds. {quota}"));
    }
    let mut table =
        Table::with_heading(["HOLD", "CAMERA", "FROM", "TO", "OWNER", "BASIS", "REVIEW", "STATE"]);
    for hold in &shown {
        let state = if hold.released_unix_ns.is_some() { "released" } else { "stands" };
        table.row([
            hold.id.clone(),
            hold.camera.clone(),
            hold.from.clone(),
            hold.to.clone(),
            hold.owner.clone(),
            hold.basis.clone(),
            hold.review_on.clone(),
            state.to_owned(),
        ]);
    }
    session.out.result(&value, format_args!("{table}\n{}. {quota}", count(holds.len() as u64, "hold")))
}

/// How much of the quota of the whole installation is used.
fn quota(standing: u64, most: u64) -> String {
    format!("{standing} of at most {most} stand.")
}

async fn release(session: &Session, services: &Services, hold: String) -> Result<()> {
    let mut keys = services.keys();
    let call = keys.release_hold(ReleaseHoldRequest { hold_id: hold });
    let answer = services.ask("keys", "release the hold", PATIENT, call).await.map_err(|problem| {
        let list = command(services.installation(), "hold list");
        if problem.next_step().is_none() { problem.next(list) } else { problem }
    })?;
    let hold = answer.hold.ok_or_else(|| {
        Problem::new("keys did not say which hold it released").next("see `obscura hold list --all`")
    })?;
    let words = format!(
        "Released hold {}. What is past its retention and in no other hold cannot be opened any more.",
        hold.hold_id
    );
    session.out.result(&json!({ "released": hold.hold_id }), words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quota_says_how_many_may_stand() {
        assert_eq!(quota(3, 1_000), "3 of at most 1000 stand.");
    }

    #[test]
    fn slots_are_told_as_a_time() {
        let told = [0, 59, 60, 3_599, 3_600].map(length);
        assert_eq!(told, ["0 s", "118 s", "2 min", "119 min", "2 h"]);
    }

    #[test]
    fn a_hold_says_what_is_lost_and_how_it_ends() {
        let placed = PlaceHoldResponse { hold: None, keys: 1, slots: 30, lost_slots: 60 };
        let words = added(&placed, "door", "obscura hold release x");
        assert!(
            words.contains("60 s is there now") && words.contains("2 min of it are destroyed"),
            "{words}"
        );
        assert!(words.ends_with("obscura hold release x"));
    }
}

use clap::{Args, Subcommand};
use obscura_proto::registry::v1::{Camera, SetRetentionRequest};
use serde::Serialize;
use serde_json::json;

use super::Session;
use crate::{
    output::Table,
    problem::Result,
    services::{PROMPT, command},
    when::Retention as Length,
};

/// Longest retention that needs no reason, in hours.
const UNEXPLAINED_HOURS: u32 = 72;

/// Commands about retention.
#[derive(Debug, Subcommand)]
pub enum Retention {
    /// Show how long the footage of each camera is kept, and why
    Show {
        /// Only this camera
        camera: Option<String>,
    },
    /// Keep the footage of a camera for another time
    Set(Set),
}

/// Arguments of `retention set`.
#[derive(Debug, Args)]
#[command(after_help = "\
A shorter retention also counts for what is already recorded; a longer one only for what is recorded from
now on.

Examples:
  obscura retention set door 48h
  obscura retention set vault 30d --reason \"The insurer asks for a month\"")]
pub struct Set {
    /// Name of the camera
    camera: String,
    /// Whole hours or days, for example 72h or 30d
    #[arg(value_name = "DURATION")]
    length: Length,
    /// Why it is kept longer than 72 hours; needed in that case
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct Shown {
    camera: String,
    camera_id: String,
    retention_hours: u32,
    reason: String,
    purpose: String,
}

impl Shown {
    fn new(camera: &Camera) -> Self {
        let purpose = camera.purpose.clone().unwrap_or_default();
        Self {
            camera: camera.name.clone(),
            camera_id: camera.camera_id.clone(),
            retention_hours: purpose.retention_hours,
            reason: purpose.longer_retention_reason,
            purpose: purpose.text,
        }
    }
}

impl Retention {
    pub async fn run(self, session: &Session) -> Result<()> {
        match self {
            Self::Show { camera } => show(session, camera.as_deref()).await,
            Self::Set(set) => set.run(session).await,
        }
    }
}

async fn show(session: &Session, camera: Option<&str>) -> Result<()> {
    let services = session.services()?;
    let cameras = match camera {
        Some(name) => vec![services.camera(name, false).await?],
        None => services.cameras(false).await?,
    };
    let shown: Vec<_> = cameras.iter().map(Shown::new).collect();
    if shown.is_empty() {
        let next = command(services.installation(), "camera add --help");
        return session.out.result(&shown, format_args!("No cameras. Next: {next}"));
    }
    let mut table = Table::with_heading(["CAMERA", "KEPT", "PURPOSE", "WHY LONGER"]);
    for camera in &shown {
        table.row([
            camera.camera.clone(),
            hours(camera.retention_hours),
            camera.purpose.clone(),
            camera.reason.clone(),
        ]);
    }
    session.out.result(&shown, table)
}

impl Set {
    async fn run(self, session: &Session) -> Result<()> {
        let services = session.services()?;
        let before = services.camera(&self.camera, false).await?;
        let was = before.purpose.as_ref().map(|purpose| purpose.retention_hours).unwrap_or_default();
        let request = SetRetentionRequest {
            camera_id: before.camera_id.clone(),
            retention_hours: self.length.hours,
            longer_retention_reason: self.reason.clone().unwrap_or_default(),
        };
        let mut registry = services.registry();
        let asked =
            services.ask("registry", "change the retention", PROMPT, registry.set_retention(request)).await;
        let answer = asked.map_err(|problem| {
            let needs_reason = self.length.hours > UNEXPLAINED_HOURS && self.reason.is_none();
            if needs_reason { problem.next("say why with --reason TEXT") } else { problem }
        })?;
        let after = Shown::new(&answer.camera.unwrap_or_default());
        let value = json!({ "before_hours": was, "after": after });
        session.out.result(&value, words(&after.camera, was, after.retention_hours))
    }
}

fn words(camera: &str, before: u32, after: u32) -> String {
    let meaning = match after.cmp(&before) {
        std::cmp::Ordering::Less => "What is already recorded is destroyed by the shorter time as well.",
        std::cmp::Ordering::Equal => "Nothing changes.",
        std::cmp::Ordering::Greater => "What is already recorded keeps the shorter time.",
    };
    format!("Footage of {camera} is kept for {} instead of {}. {meaning}", hours(after), hours(before))
}

/// Whole days as days.
fn hours(hours: u32) -> String {
    if hours >= 48 && hours.is_multiple_of(24) { format!("{} d", hours / 24) } else { format!("{hours} h") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_says_what_it_means_for_what_is_recorded() {
        assert!(
            words("door", 72, 24)
                .contains("kept for 24 h instead of 3 d. What is already recorded is destroyed")
        );
        assert!(words("door", 72, 720).contains("30 d instead of 3 d. What is already recorded keeps"));
        assert!(words("door", 72, 72).contains("Nothing changes"));
    }
}

mod add;

use clap::Subcommand;
use obscura_proto::{
    ingest::v1::test_source_request::Target,
    registry::v1::{Camera as CameraMessage, Placement, RemoveCameraRequest},
};
use prost::Message as _;
use serde::Serialize;
use serde_json::json;

use super::Session;
use crate::{
    camera::test,
    output::Table,
    problem::Result,
    services::{PROMPT, command},
    words,
};

/// Commands about cameras.
#[derive(Debug, Subcommand)]
pub enum Camera {
    /// Test a source and record it from now on
    Add(Box<add::Add>),
    /// List cameras by name
    List,
    /// Say in words what the recorder finds at the source of a camera
    Test {
        /// Name of the camera
        name: String,
    },
    /// Stop recording a camera for good; its footage stays until its retention ends
    Remove {
        /// Name of the camera
        name: String,
    },
}

impl Camera {
    pub async fn run(self, session: &Session) -> Result<()> {
        match self {
            Self::Add(add) => add.run(session).await,
            Self::List => list(session).await,
            Self::Test { name } => run_test(session, &name).await,
            Self::Remove { name } => remove(session, &name).await,
        }
    }
}

/// A camera for people and programs; nothing of its source.
#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    name: String,
    purpose: String,
    legal_basis: &'static str,
    retention_hours: u32,
    owner: String,
    review_on: String,
    priority: u32,
    zone: String,
    country: String,
    plaintext_source: bool,
}

impl Shown {
    fn new(camera: &CameraMessage) -> Self {
        let purpose = camera.purpose.clone().unwrap_or_default();
        // Shown, not relied upon: whoever relies on a placement verifies its signature.
        let placement =
            camera.placement.as_ref().and_then(|signed| Placement::decode(signed.placement.clone()).ok());
        let placement = placement.unwrap_or_default();
        Self {
            id: camera.camera_id.clone(),
            name: camera.name.clone(),
            legal_basis: words::legal_basis(purpose.legal_basis()),
            purpose: purpose.text,
            retention_hours: purpose.retention_hours,
            owner: purpose.owner,
            review_on: purpose.review_on,
            priority: words::priority(purpose.priority),
            zone: placement.zone,
            country: placement.country,
            plaintext_source: camera.plaintext_source,
        }
    }
}

async fn list(session: &Session) -> Result<()> {
    let services = session.services()?;
    let cameras: Vec<_> = services.cameras(false).await?.iter().map(Shown::new).collect();
    if cameras.is_empty() {
        let next = command(services.installation(), "camera add --help");
        return session.out.result(&cameras, format_args!("No cameras. Next: {next}"));
    }
    let mut table =
        Table::with_heading(["CAMERA", "ZONE", "COUNTRY", "KEPT", "PURPOSE", "LEGAL BASIS", "REMARKS"]);
    for camera in &cameras {
        let remarks = if camera.plaintext_source { "not encrypted on the network" } else { "" };
        table.row([
            camera.name.clone(),
            camera.zone.clone(),
            camera.country.clone(),
            format!("{} h", camera.retention_hours),
            camera.purpose.clone(),
            camera.legal_basis.to_owned(),
            remarks.to_owned(),
        ]);
    }
    session.out.result(&cameras, table)
}

async fn run_test(session: &Session, name: &str) -> Result<()> {
    let services = session.services()?;
    let camera = services.camera(name, false).await?;
    let finding = test(&services, Target::CameraId(camera.camera_id)).await?;
    if finding.ok || session.out.is_json() {
        session.out.result(&finding, &finding)?;
    }
    finding.into_problem().map_or(Ok(()), Err)
}

async fn remove(session: &Session, name: &str) -> Result<()> {
    let services = session.services()?;
    let camera = services.camera(name, false).await?;
    let request = RemoveCameraRequest { camera_id: camera.camera_id.clone() };
    let mut registry = services.registry();
    services.ask("registry", "remove the camera", PROMPT, registry.remove_camera(request)).await?;
    let words = format!(
        "Camera {name} is not recorded any more. Its footage stays readable until its retention ends, under the \
         name {name} or the id {}.",
        camera.camera_id
    );
    session.out.result(&json!({ "removed": camera.camera_id, "name": name }), words)
}

#[cfg(test)]
mod tests {
    use obscura_proto::registry::v1::Purpose;

    use super::*;

    #[test]
    fn the_priority_is_shown_as_the_recorder_takes_it() {
        let shown = |priority| {
            let purpose = Some(Purpose { priority, ..Purpose::default() });
            Shown::new(&CameraMessage { purpose, ..CameraMessage::default() }).priority
        };
        assert_eq!((shown(0), shown(1), shown(9)), (5, 1, 9));
    }

    #[test]
    fn a_source_is_shown_nowhere() {
        let camera = CameraMessage { name: "door".into(), ..CameraMessage::default() };
        let text = serde_json::to_string(&Shown::new(&camera)).unwrap();
        assert!(!text.contains("url") && !text.contains("sealed"), "{text}");
    }
}

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use obscura_clock::Timestamp;
use obscura_proto::{
    ingest::v1::test_source_request::Target,
    registry::v1::{
        AddCameraRequest, Attestation, Camera as CameraMessage, Coordinates, LegalBasis, Placement, Purpose,
        RemoveCameraRequest, Site as SiteMessage, ZoneDecision,
    },
};
use prost::Message as _;
use serde::Serialize;
use serde_json::json;

use super::{Session, password, site};
use crate::{
    camera::{add, await_demo_camera, seal, test},
    output::Table,
    problem::{Problem, Result},
    services::{PROMPT, Services, command},
    source::{Rtsp, Source},
    when::{self, Retention},
    words,
};

const EXAMPLES: &str = "\
SOURCE is an rtsp:// URL, or a video file that is played in a loop. Credentials are sealed to the
recorder at once and kept nowhere else; a URL on the command line is seen by other users of this
machine while the command runs, so prefer --username with --password-file, or being asked.

Examples:
  obscura camera add door rtsp://10.0.0.5/stream1 --username viewer \\
      --purpose \"Clearing up burglaries\" --legal-basis legitimate-interests --owner \"Shop manager\"
  obscura camera add clip ./clip.mp4 --purpose \"Trying it out\" --legal-basis consent
  obscura camera add pier rtsp://10.0.0.6/1 --purpose \"Ship traffic\" --legal-basis public-task \\
      --lat 54.45 --lon 12.57 --attested-by \"Ada Ventura\" \\
      --zone-decision eea --country DE --decided-by \"Ada Ventura\" --decision-reason \"German pier\"";

/// Commands about cameras.
#[derive(Debug, Subcommand)]
pub enum Camera {
    /// Test a source and record it from now on
    Add(Box<Add>),
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

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Add {
    /// Unique name
    name: String,
    /// rtsp:// URL, or path of a video file
    source: String,
    /// Why it films, in plain words: without a purpose there is no recording
    #[arg(long, value_name = "TEXT")]
    purpose: String,
    /// Legal basis, Art. 6(1) GDPR
    #[arg(long, value_name = "BASIS")]
    legal_basis: Basis,
    /// Name of the site; may be left out where there is exactly one
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// How long footage is kept at most, for example 72h or 30d
    #[arg(long, value_name = "TIME", default_value = "72h")]
    retention: Retention,
    /// Why footage is kept longer than 72 hours
    #[arg(long, value_name = "TEXT")]
    longer_retention_reason: Option<String>,
    /// Person or function that answers for the purpose [default: who attested the site]
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// Day on which the purpose is looked at again, within two years [default: in a year]
    #[arg(long, value_name = "YYYY-MM-DD")]
    review_on: Option<String>,
    /// User name at the camera; the password is asked for
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// File with the password at the camera
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
    /// Add the camera without testing its source
    #[arg(long)]
    untested: bool,
    #[command(flatten)]
    place: OwnPlace,
    #[command(flatten)]
    decision: Decision,
}

/// Where the camera is not at the coordinates of its site.
#[derive(Clone, Debug, Args)]
struct OwnPlace {
    /// Degrees north, where the camera is not at the coordinates of its site
    #[arg(long, allow_hyphen_values = true, value_name = "DEGREES", requires_all = ["lon", "attested_by"])]
    lat: Option<f64>,
    /// Degrees east
    #[arg(long, allow_hyphen_values = true, value_name = "DEGREES", requires_all = ["lat", "attested_by"])]
    lon: Option<f64>,
    /// Name of the person who attests these coordinates
    #[arg(long, value_name = "NAME", requires_all = ["lat", "lon"])]
    attested_by: Option<String>,
}

impl OwnPlace {
    fn attestation(&self) -> Option<Attestation> {
        let coordinates = Coordinates { latitude: self.lat?, longitude: self.lon? };
        let attested_by = self.attested_by.clone()?;
        Some(Attestation { coordinates: Some(coordinates), attested_by, attested_unix_ns: 0 })
    }
}

/// A person's decision about a place whose zone the border data leaves unclear.
#[derive(Clone, Debug, Args)]
struct Decision {
    /// Zone that a person chose, where border data leaves it unclear
    #[arg(long, value_name = "ZONE", requires_all = ["country", "decided_by", "decision_reason"])]
    zone_decision: Option<String>,
    /// Country that was chosen (ISO 3166-1 alpha-2)
    #[arg(long, value_name = "CC", requires = "zone_decision")]
    country: Option<String>,
    /// Name of the person who decided
    #[arg(long, value_name = "NAME", requires = "zone_decision")]
    decided_by: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT", requires = "zone_decision")]
    decision_reason: Option<String>,
}

impl Decision {
    fn message(&self) -> Option<ZoneDecision> {
        Some(ZoneDecision {
            zone: self.zone_decision.clone()?,
            country: self.country.clone()?,
            decided_by: self.decided_by.clone()?,
            reason: self.decision_reason.clone()?,
        })
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Basis {
    /// Art. 6(1)(a)
    Consent,
    /// Art. 6(1)(b)
    Contract,
    /// Art. 6(1)(c)
    LegalObligation,
    /// Art. 6(1)(d)
    VitalInterests,
    /// Art. 6(1)(e)
    PublicTask,
    /// Art. 6(1)(f)
    LegitimateInterests,
}

impl From<Basis> for LegalBasis {
    fn from(basis: Basis) -> Self {
        match basis {
            Basis::Consent => Self::Consent,
            Basis::Contract => Self::Contract,
            Basis::LegalObligation => Self::LegalObligation,
            Basis::VitalInterests => Self::VitalInterests,
            Basis::PublicTask => Self::PublicTask,
            Basis::LegitimateInterests => Self::LegitimateInterests,
        }
    }
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

impl Add {
    async fn run(self, session: &Session) -> Result<()> {
        // What was typed wrong is told before anything is touched.
        let source: Source = self.source.parse().map_err(Problem::usage)?;
        let mut services = session.services()?;
        let site = self.site(&services).await?;
        let source = self.reachable(session, &mut services, source).await?;
        let sealed_source = seal(&services, &source).await?;
        if !self.untested {
            session.out.remark(format_args!("Testing {source} ..."));
            let finding = test(&services, Target::SealedSource(sealed_source.clone())).await?;
            if finding.ok {
                session.out.remark(&finding);
            }
            finding.into_problem().map_or(Ok(()), Err)?;
        }
        let request = AddCameraRequest {
            name: self.name.clone(),
            purpose: Some(self.purpose_message(&site, session.clock.wall())),
            site_name: site.name,
            attestation: self.place.attestation(),
            zone_decision: self.decision.message(),
            sealed_source: Some(sealed_source),
            // Encrypted sources are not supported yet, so every source is plaintext.
            plaintext_source: true,
        };
        let camera = Shown::new(&add(&services, request).await?);
        let next = command(services.installation(), "status");
        let words = format!(
            "Added camera {}: recorded in zone {}, kept for at most {} h, answered for by {}, reviewed on {}.\n\
             Next: {next}",
            camera.name, camera.zone, camera.retention_hours, camera.owner, camera.review_on
        );
        session.out.result(&camera, words)
    }

    /// The site that was named, or the only one.
    async fn site(&self, services: &Services) -> Result<SiteMessage> {
        let sites = site::sites(services).await?;
        let names = sites.iter().map(|site| site.name.as_str()).collect::<Vec<_>>().join(", ");
        match (&self.site, sites.as_slice()) {
            (_, []) => Err(Problem::new("there is no site yet, and every camera belongs to one")
                .next(command(services.installation(), "site add --help"))),
            (Some(name), sites) => sites.iter().find(|site| site.name == *name).cloned().ok_or_else(|| {
                Problem::new(format_args!("no site is called `{name}`")).next(format_args!("sites: {names}"))
            }),
            (None, [only]) => Ok(only.clone()),
            (None, _) => Err(Problem::usage("there are several sites: say which one with --site")
                .next(format_args!("sites: {names}"))),
        }
    }

    /// The source as the recorder reaches it: a video file is handed to the demo camera first.
    async fn reachable(&self, session: &Session, services: &mut Services, source: Source) -> Result<Rtsp> {
        match source {
            Source::Rtsp(rtsp) => self.with_credentials(rtsp),
            Source::Video(_) if self.username.is_some() => {
                Err(Problem::usage("a video file needs no --username"))
            }
            Source::Video(path) => play(session, services, &path).await,
        }
    }

    fn with_credentials(&self, rtsp: Rtsp) -> Result<Rtsp> {
        let Some(username) = &self.username else { return Ok(rtsp) };
        let password = match &self.password_file {
            Some(file) => password::from_file(file)?,
            None => password::from_terminal(username)?,
        };
        rtsp.with_credentials(username.clone(), password).map_err(Problem::usage)
    }

    fn purpose_message(&self, site: &SiteMessage, now: Timestamp) -> Purpose {
        let attested_by = || site.attestation.clone().unwrap_or_default().attested_by;
        let mut purpose = Purpose {
            text: self.purpose.clone(),
            retention_hours: self.retention.hours,
            longer_retention_reason: self.longer_retention_reason.clone().unwrap_or_default(),
            owner: self.owner.clone().unwrap_or_else(attested_by),
            review_on: self.review_on.clone().unwrap_or_else(|| when::in_a_year(now)),
            ..Purpose::default()
        };
        purpose.set_legal_basis(self.legal_basis.into());
        purpose
    }
}

/// Hands a video file to the demo camera and waits until it plays.
async fn play(session: &Session, services: &Services, path: &Path) -> Result<Rtsp> {
    // Asked first: without a recorder a copy of the file would lie around for nothing.
    services.health("ingest").await.map_err(|why| {
        Problem::new(format_args!("cannot add the camera: ingest is not well: {why}"))
            .next(format_args!("`{}` starts it", command(services.installation(), "up")))
    })?;
    let mut installation = services.installation().clone();
    let stem = installation.add_video(path)?;
    session.out.remark(format_args!("Copied the video to where the demo camera plays it as {stem}."));
    // The supervisor chooses another port where the first is taken, and writes that down.
    let started = installation.demo_camera_port()?;
    await_demo_camera(started).await?;
    let port = session.installation()?.settings().demo_camera.map_or(started, |camera| camera.port);
    Rtsp::local(port, &format!("video/{stem}")).map_err(Problem::usage)
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
    use clap::Parser as _;

    use super::super::{Cli, Command};
    use super::*;

    fn now() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().unwrap()
    }

    fn attested_by_ada() -> SiteMessage {
        let attestation = Some(Attestation { attested_by: "Ada".into(), ..Attestation::default() });
        SiteMessage { attestation, ..SiteMessage::default() }
    }

    #[test]
    fn who_attested_the_site_answers_for_the_purpose_unless_someone_else_is_named() {
        let add = parsed(&[
            "obscura",
            "camera",
            "add",
            "d",
            "rtsp://c/1",
            "--purpose",
            "why",
            "--legal-basis",
            "consent",
        ]);
        let purpose = add.purpose_message(&attested_by_ada(), now());
        assert_eq!((purpose.owner.as_str(), purpose.review_on.as_str()), ("Ada", "2027-11-23"));
        assert_eq!(purpose.retention_hours, 72);
    }

    fn parsed(line: &[&str]) -> Add {
        let Command::Camera(Camera::Add(add)) = Cli::try_parse_from(line).unwrap().command else {
            panic!("{line:?}")
        };
        *add
    }

    #[test]
    fn a_purpose_says_everything_that_was_typed() {
        let add = parsed(&[
            "obscura",
            "camera",
            "add",
            "door",
            "rtsp://cam/1",
            "--purpose",
            "why",
            "--legal-basis",
            "legitimate-interests",
            "--retention",
            "30d",
            "--longer-retention-reason",
            "case",
            "--owner",
            "o",
        ]);
        let purpose = add.purpose_message(&attested_by_ada(), now());
        assert_eq!((purpose.retention_hours, purpose.legal_basis()), (720, LegalBasis::LegitimateInterests));
        assert_eq!((purpose.longer_retention_reason.as_str(), purpose.owner.as_str()), ("case", "o"));
        assert!(add.place.attestation().is_none() && add.decision.message().is_none());
    }

    #[test]
    fn coordinates_and_a_decision_of_its_own_are_taken_whole() {
        let add = parsed(&[
            "obscura",
            "camera",
            "add",
            "pier",
            "rtsp://cam/1",
            "--purpose",
            "why",
            "--legal-basis",
            "public-task",
            "--lat",
            "-54.4",
            "--lon",
            "12.5",
            "--attested-by",
            "Ada",
            "--zone-decision",
            "eea",
            "--country",
            "DE",
            "--decided-by",
            "Ada",
            "--decision-reason",
            "German pier",
        ]);
        assert_eq!(add.place.attestation().unwrap().coordinates.unwrap().latitude, -54.4);
        assert_eq!(add.decision.message().unwrap().country, "DE");
    }

    #[test]
    fn a_source_is_shown_nowhere() {
        let camera = CameraMessage { name: "door".into(), ..CameraMessage::default() };
        let text = serde_json::to_string(&Shown::new(&camera)).unwrap();
        assert!(!text.contains("url") && !text.contains("sealed"), "{text}");
    }
}

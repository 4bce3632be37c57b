use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use obscura_clock::Timestamp;
use obscura_proto::{
    ingest::v1::test_source_request::Target,
    registry::v1::{
        AddCameraRequest, Attestation, Camera as CameraMessage, Coordinates, LegalBasis, Purpose,
        SealedSource, Site as SiteMessage, ZoneDecision,
    },
};

use super::{Session, Shown};
use crate::{
    camera::{Finding, add, await_demo_camera, seal, test, test_video},
    cli::{password, site},
    problem::{Problem, Result},
    services::{Services, command},
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

/// Arguments of `camera add`.
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
    /// Who is recorded longest when the recorder's disk runs full, because storage or keys are away: cameras
    /// are then paused from priority 1 upwards, those with 9 last
    #[arg(long, value_name = "1-9", default_value_t = words::USUAL_PRIORITY, value_parser = clap::value_parser!(u32).range(1..=9))]
    priority: u32,
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

impl Add {
    pub async fn run(self, session: &Session) -> Result<()> {
        // What was typed wrong is told before anything is touched.
        let source: Source = self.source.parse().map_err(Problem::usage)?;
        let services = session.services()?;
        let site = self.site(&services).await?;
        let camera = match source {
            Source::Rtsp(rtsp) => {
                let rtsp = self.with_credentials(rtsp)?;
                let sealed = seal(&services, &rtsp).await?;
                if !self.untested {
                    session.out.remark(format_args!("Testing {rtsp} ..."));
                    accept(session, test(&services, Target::SealedSource(sealed.clone())).await?)?;
                }
                self.add(session, &services, site, sealed).await?
            }
            Source::Video(_) if self.username.is_some() => {
                return Err(Problem::usage("a video file needs no --username"));
            }
            Source::Video(path) => self.add_video(session, &services, site, &path).await?,
        };
        told(session, &services, &camera)
    }

    /// Hands the file to the demo camera, and takes it back where the camera is not added after all.
    async fn add_video(
        &self,
        session: &Session,
        services: &Services,
        site: SiteMessage,
        path: &Path,
    ) -> Result<CameraMessage> {
        // Asked first: without a recorder a copy of the file would lie around for nothing.
        services.health("ingest").await.map_err(|why| {
            Problem::new(format_args!("cannot add the camera: ingest is not well: {why}"))
                .next(format_args!("`{}` starts it", command(services.installation(), "up")))
        })?;
        let stem = services.installation().add_video(path)?;
        session.out.remark(format_args!("Copied the video to where the demo camera plays it as {stem}."));
        let added = async {
            let sealed = seal(services, &playing(session, &stem).await?).await?;
            if !self.untested {
                accept(session, test_video(services, &sealed).await?)?;
            }
            self.add(session, services, site, sealed).await
        };
        added.await.inspect_err(|_| services.installation().drop_video(&stem))
    }

    async fn add(
        &self,
        session: &Session,
        services: &Services,
        site: SiteMessage,
        sealed_source: SealedSource,
    ) -> Result<CameraMessage> {
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
        add(services, request).await
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
            priority: self.priority,
            ..Purpose::default()
        };
        purpose.set_legal_basis(self.legal_basis.into());
        purpose
    }
}

/// Shows what was found, and goes on only where that can be recorded.
fn accept(session: &Session, finding: Finding) -> Result<()> {
    if finding.ok {
        session.out.remark(&finding);
    }
    finding.into_problem().map_or(Ok(()), Err)
}

/// Where the demo camera plays this video, once it does.
async fn playing(session: &Session, stem: &str) -> Result<Rtsp> {
    let port = session.installation()?.demo_camera_port()?;
    await_demo_camera(port).await?;
    // The supervisor chooses another port where the first is taken, and writes that down.
    let port = session.installation()?.demo_camera_port()?;
    Rtsp::local(port, &format!("video/{stem}")).map_err(Problem::usage)
}

fn told(session: &Session, services: &Services, camera: &CameraMessage) -> Result<()> {
    let camera = Shown::new(camera);
    let next = command(services.installation(), "status");
    let words = format!(
        "Added camera {}: recorded in zone {}, kept for at most {} h, answered for by {}, reviewed on {}.\n\
         Next: {next}",
        camera.name, camera.zone, camera.retention_hours, camera.owner, camera.review_on
    );
    session.out.result(&camera, words)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command, camera::Camera};

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
        assert_eq!((purpose.retention_hours, purpose.priority), (72, 5));
    }

    #[test]
    fn a_priority_that_is_none_is_refused_before_anything_is_touched() {
        let first =
            ["obscura", "camera", "add", "d", "rtsp://c/1", "--purpose", "why", "--legal-basis", "consent"];
        for wrong in ["0", "10", "high"] {
            assert!(Cli::try_parse_from([&first[..], &["--priority", wrong]].concat()).is_err(), "{wrong}");
        }
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
            "--priority",
            "8",
        ]);
        let purpose = add.purpose_message(&attested_by_ada(), now());
        assert_eq!((purpose.retention_hours, purpose.legal_basis()), (720, LegalBasis::LegitimateInterests));
        assert_eq!((purpose.longer_retention_reason.as_str(), purpose.owner.as_str()), ("case", "o"));
        assert_eq!(purpose.priority, 8);
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
}

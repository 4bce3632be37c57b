//! How this program reaches the services of its machine.

use std::{collections::BTreeMap, fs, io, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use obscura_identity::{Endpoint, HttpClient, Identity, channel};
use obscura_outbox::ActingFor;
use obscura_proto::{
    audit::v1::audit_service_client::AuditServiceClient,
    ingest::v1::ingest_service_client::IngestServiceClient,
    keys::v1::keys_service_client::KeysServiceClient,
    registry::v1::{Camera, ListCamerasRequest, registry_service_client::RegistryServiceClient},
    storage::v1::storage_service_client::StorageServiceClient,
};
use tokio::time::timeout;
use tonic::{Code, Response, Status, service::interceptor::InterceptedService, transport::Channel};

use crate::{
    installation::{CLI, Installation, SERVICES},
    log::operator,
    problem::{Context as _, Problem, Result},
    words::shell,
};

/// A channel whose calls say who is behind them.
pub type Acting = InterceptedService<Channel, ActingFor>;

/// How long an answer may take that needs no work.
pub const PROMPT: Duration = Duration::from_secs(10);
/// How long an answer may take that waits for a camera or for uploads.
pub const PATIENT: Duration = Duration::from_secs(60);
/// How often a new certificate of this program is looked for.
const RELOAD: Duration = Duration::from_secs(60);
/// How long a service may take to say that it is well.
const HEALTH: Duration = Duration::from_secs(3);

/// Connections to every service, opened when first used.
#[derive(Clone, Debug)]
pub struct Services {
    identity: Identity,
    channels: BTreeMap<&'static str, Channel>,
    http: BTreeMap<&'static str, HttpClient>,
    installation: Installation,
}

impl Services {
    /// Prepares the connections; needs nothing to run.
    pub fn of(installation: &Installation) -> Result<Self> {
        let identity = Identity::load(&installation.identity_dir(CLI)).map_err(|error| {
            Problem::new(format_args!("cannot use the certificate of this program: {error}"))
                .next(format_args!("`{}` renews it", command(installation, "up")))
        })?;
        // `up` runs for longer than a certificate.
        identity.spawn_reload(RELOAD);
        let endpoint = |service| Endpoint::File(installation.address_file(service));
        let connect = |service| (service, channel(&identity, service, endpoint(service)));
        Ok(Self {
            channels: SERVICES.into_iter().map(connect).collect(),
            http: SERVICES
                .into_iter()
                .map(|service| (service, HttpClient::new(&identity, service)))
                .collect(),
            installation: installation.clone(),
            identity,
        })
    }

    /// Who this program is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The installation they belong to.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    fn channel(&self, service: &'static str) -> Channel {
        let known = self.channels.get(service).cloned();
        known.unwrap_or_else(|| {
            channel(&self.identity, service, Endpoint::File(self.installation.address_file(service)))
        })
    }

    /// A channel whose calls say who is behind them.
    fn acting(&self, service: &'static str) -> Acting {
        InterceptedService::new(self.channel(service), ActingFor::new(&operator()))
    }

    /// Sites and cameras.
    pub fn registry(&self) -> RegistryServiceClient<Acting> {
        RegistryServiceClient::new(self.acting("registry"))
    }

    /// Custody of keys.
    pub fn keys(&self) -> KeysServiceClient<Acting> {
        KeysServiceClient::new(self.acting("keys"))
    }

    /// The index of footage.
    pub fn storage(&self) -> StorageServiceClient<Acting> {
        StorageServiceClient::new(self.acting("storage"))
    }

    /// The log that nobody can edit.
    pub fn audit(&self) -> AuditServiceClient<Acting> {
        AuditServiceClient::new(self.acting("audit"))
    }

    /// The recorder.
    pub fn ingest(&self) -> IngestServiceClient<Acting> {
        IngestServiceClient::new(self.acting("ingest"))
    }

    /// Asks one service for something; `doing` completes "cannot ...".
    pub async fn ask<T>(
        &self,
        service: &str,
        doing: &str,
        within: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T> {
        match timeout(within, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.refused(service, doing, &status)),
            Err(_) => Err(Problem::new(format_args!(
                "cannot {doing}: {service} did not answer within {} s",
                within.as_secs()
            ))
            .next(self.look_at(service))),
        }
    }

    /// What a service answered, in words.
    pub fn refused(&self, service: &str, doing: &str, status: &Status) -> Problem {
        if is_away(status) {
            return Problem::new(format_args!("cannot {doing}: {service} is not running"))
                .next(self.look_at(service));
        }
        let problem = Problem::new(format_args!("cannot {doing}: {}", status.message()));
        match status.code() {
            Code::Internal
            | Code::Unknown
            | Code::DataLoss
            | Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled => problem.next(self.look_at(service)),
            Code::ResourceExhausted => problem.next("wait a little and run the command again"),
            Code::PermissionDenied if service == "audit" => problem.next(self.how_to_read_the_log()),
            Code::PermissionDenied | Code::Unauthenticated => problem.next(format_args!(
                "see with `{}` whether the services belong to this installation, and name another with --state",
                command(&self.installation, "status")
            )),
            Code::Unimplemented => problem.next(format_args!(
                "{service} is of another version than this program: `{}` starts the installed one",
                command(&self.installation, "up")
            )),
            _ => problem,
        }
    }

    /// What somebody does who is refused by the log.
    fn how_to_read_the_log(&self) -> String {
        format!(
            "`{}` shows what is about you; who reads everything is named in {}, for example `auditors = [\"{}\"]` under \
             [settings], and counts from the next start of `{}` on",
            command(&self.installation, "audit tail --own"),
            self.installation.config_file("audit").display(),
            operator().id,
            command(&self.installation, "up"),
        )
    }

    fn look_at(&self, service: &str) -> String {
        format!(
            "`{}` shows what runs, `{}` starts it; log: {}",
            command(&self.installation, "status"),
            command(&self.installation, "up"),
            self.installation.log_file(service).display()
        )
    }

    /// Whether a service says that it is well; if not, why not.
    pub async fn health(&self, service: &'static str) -> Result<(), String> {
        let address = fs::read_to_string(self.installation.address_file(service))
            .map_err(|_| "it is not running".to_owned())?;
        let uri = format!("https://{}/healthz", address.trim());
        let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed();
        let request = http::Request::get(uri).body(body).map_err(|error| error.to_string())?;
        let client = self.http.get(service).ok_or("there is no such service")?;
        match timeout(HEALTH, client.send(request)).await {
            Err(_) => Err(format!("it did not answer within {} s", HEALTH.as_secs())),
            Ok(Err(error)) => Err(why_away(&error)),
            Ok(Ok(response)) if response.status().is_success() => Ok(()),
            Ok(Ok(response)) => Err(format!("it says {}", response.status())),
        }
    }

    /// Cameras by name.
    pub async fn cameras(&self, include_removed: bool) -> Result<Vec<Camera>> {
        let mut registry = self.registry();
        let request = ListCamerasRequest { include_removed };
        let listed = self.ask("registry", "list cameras", PROMPT, registry.list_cameras(request)).await?;
        Ok(listed.cameras)
    }

    /// The camera with this name, or this id; removed ones only where their footage is asked for.
    pub async fn camera(&self, name: &str, include_removed: bool) -> Result<Camera> {
        let cameras = self.cameras(include_removed).await?;
        let named = |camera: &&Camera| camera.name == name || camera.camera_id == name;
        // A name may be used again after a removal: the camera that still records comes first.
        let present = cameras.iter().filter(|camera| !camera.removed).find(named);
        present.or_else(|| cameras.iter().rev().find(named)).cloned().ok_or_else(|| {
            let names: Vec<_> = cameras.iter().map(|camera| camera.name.as_str()).take(20).collect();
            let known = if names.is_empty() { "there are none yet".to_owned() } else { names.join(", ") };
            Problem::new(format_args!("no camera is called `{name}`")).next(format_args!("cameras: {known}"))
        })
    }
}

/// A service that cannot be reached: not its own refusal, but that of the connection.
fn is_away(status: &Status) -> bool {
    let of_the_transport = std::error::Error::source(status)
        .is_some_and(|source| source.downcast_ref::<tonic::transport::Error>().is_some());
    of_the_transport || (status.code() == Code::Unavailable && status.message().contains("tcp connect"))
}

/// Why a service cannot be reached.
fn why_away(error: &(dyn std::error::Error + 'static)) -> String {
    let mut causes = std::iter::successors(Some(error), |cause| cause.source());
    let refused = causes.any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    });
    if refused { "it is not running".to_owned() } else { innermost(error) }
}

/// The cause at the end of the chain, which says the most.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// A command of this program as it can be typed for this installation.
pub fn command(installation: &Installation, rest: &str) -> String {
    let is_default = crate::installation::default_root().is_ok_and(|root| root == installation.root());
    if is_default {
        return format!("obscura {rest}");
    }
    format!("obscura --state {} {rest}", shell(installation.root()))
}

/// Reads the JSON file that the supervisor keeps about its children.
pub fn supervisor_report(installation: &Installation) -> Result<crate::supervisor::Report> {
    let path = installation.report_file();
    let text = fs::read_to_string(&path).doing(format_args!("read {}", path.display()))?;
    serde_json::from_str(&text).doing(format_args!("read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_service_itself_is_not_taken_for_its_absence() {
        assert!(!is_away(&Status::unavailable("keys are being re-wrapped")));
        assert!(!is_away(&Status::permission_denied("no")));
    }

    #[test]
    fn a_refused_connection_means_that_nothing_runs_there() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let refused = anyhow::Error::new(refused).context("request failed");
        assert_eq!(why_away(refused.as_ref()), "it is not running");
        assert_eq!(why_away(&io::Error::other("certificate expired")), "certificate expired");
    }

    #[test]
    fn the_innermost_cause_is_told() {
        let error = io::Error::other(io::Error::other("certificate expired"));
        assert_eq!(innermost(&error), "certificate expired");
    }
}

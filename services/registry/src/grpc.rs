//! `obscura.registry.v1.RegistryService`: validates, calls, translates.

use std::sync::Arc;

use futures::{StreamExt as _, stream, stream::BoxStream};
use obscura_clock::SharedClock;
use obscura_ids::CameraId;
use obscura_outbox::actor;
use obscura_proto::audit::v1::Person;
use obscura_proto::registry::v1::{
    AddCameraRequest, AddCameraResponse, AddSiteRequest, AddSiteResponse, ListCamerasRequest,
    ListCamerasResponse, ListSitesRequest, ListSitesResponse, RemoveCameraRequest, RemoveCameraResponse,
    SetRetentionRequest, SetRetentionResponse, WatchSnapshotRequest, WatchSnapshotResponse,
    registry_service_server::RegistryService,
};
use obscura_status::Failure;
use prometheus_client::metrics::gauge::Gauge;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{
    border::Borders,
    camera::{Admission, NewCamera},
    change::{Thing, changed},
    error::Error,
    metrics::Metrics,
    publisher::{Edit, Publisher, Retention},
    site::Site,
    store::Store,
    words::Invalid,
    zone::{Verdict, Zones},
};

/// The service with all it needs.
#[derive(Debug)]
pub struct RegistryGrpc {
    /// Sites and cameras.
    pub store: Arc<Store>,
    /// Changes and snapshots.
    pub publisher: Arc<Publisher>,
    /// Border data.
    pub borders: Borders,
    /// Configured zones.
    pub zones: Arc<Zones>,
    /// Time.
    pub clock: SharedClock,
    /// Counters.
    pub metrics: Metrics,
    /// Ends the streams, so that the server can drain.
    pub shutdown: CancellationToken,
}

impl RegistryGrpc {
    /// A site may be where cameras need a decision, but not where no decision would help.
    async fn admit_site(
        &self,
        request: &AddSiteRequest,
        actor: Option<Person>,
    ) -> Result<AddSiteResponse, Error> {
        let mut site = Site::read(request, self.clock.wall())?;
        let survey = self.borders.survey(site.attestation.coordinates);
        let zone = match self.zones.judge(&survey) {
            Verdict::Clear(place) => {
                site.country = Some(place.country);
                place.zone.id.to_string()
            }
            Verdict::Outside(country) => return Err(self.refused(crate::zone::Error::Outside(country))),
            Verdict::Unclear(_) => String::new(),
        };
        let message = site.clone().into();
        let event = changed(&self.clock, actor, None, &Thing::site(&message));
        self.store.add_site(&site, &event).await?;
        Ok(AddSiteResponse { site: Some(message), zone })
    }

    async fn admit_camera(
        &self,
        request: &AddCameraRequest,
        actor: Option<Person>,
    ) -> Result<AddCameraResponse, Error> {
        let mut camera = NewCamera::read(request, self.clock.wall()).map_err(Error::Camera)?;
        let site = self.store.site(&camera.site).await?;
        let place = camera.attestation.as_ref().unwrap_or(&site.attestation).coordinates;
        let decision = camera.decision.take();
        let settled =
            self.zones.settle(&self.borders.survey(place), decision).map_err(|error| self.refused(error))?;
        let admission = Box::new(Admission::new(camera, site, settled));
        let camera = Arc::clone(&self.publisher).edit(Edit::Add(admission), actor).await?;
        Ok(AddCameraResponse { camera: Some(camera) })
    }

    fn refused(&self, error: crate::zone::Error) -> Error {
        self.metrics.place_refused(&error);
        Error::Zone(error)
    }
}

#[tonic::async_trait]
impl RegistryService for RegistryGrpc {
    type WatchSnapshotStream = BoxStream<'static, Result<WatchSnapshotResponse, Status>>;

    async fn add_site(&self, request: Request<AddSiteRequest>) -> Result<Response<AddSiteResponse>, Status> {
        self.admit_site(request.get_ref(), actor(request.metadata())).await.map(Response::new).map_err(status)
    }

    async fn list_sites(&self, _: Request<ListSitesRequest>) -> Result<Response<ListSitesResponse>, Status> {
        let sites = self.store.sites().await.map_err(status)?;
        Ok(Response::new(ListSitesResponse { sites: sites.into_iter().map(Into::into).collect() }))
    }

    async fn add_camera(
        &self,
        request: Request<AddCameraRequest>,
    ) -> Result<Response<AddCameraResponse>, Status> {
        self.admit_camera(request.get_ref(), actor(request.metadata()))
            .await
            .map(Response::new)
            .map_err(status)
    }

    async fn list_cameras(
        &self,
        request: Request<ListCamerasRequest>,
    ) -> Result<Response<ListCamerasResponse>, Status> {
        let cameras = self.store.cameras(request.get_ref().include_removed).await.map_err(status)?;
        Ok(Response::new(ListCamerasResponse { cameras }))
    }

    async fn remove_camera(
        &self,
        request: Request<RemoveCameraRequest>,
    ) -> Result<Response<RemoveCameraResponse>, Status> {
        let edit = Edit::Remove(camera_id(&request.get_ref().camera_id)?);
        let camera =
            Arc::clone(&self.publisher).edit(edit, actor(request.metadata())).await.map_err(status)?;
        Ok(Response::new(RemoveCameraResponse { camera: Some(camera) }))
    }

    /// Always sends the newest snapshot, also to a consumer who has that version: this is how it
    /// learns that what it has is confirmed, or that a database was restored under its feet.
    async fn watch_snapshot(
        &self,
        request: Request<WatchSnapshotRequest>,
    ) -> Result<Response<Self::WatchSnapshotStream>, Status> {
        let known = request.get_ref().known_version;
        let mut snapshots = self.publisher.watch();
        let newest = snapshots.borrow().version;
        if known > newest {
            tracing::error!(
                known,
                newest,
                "a consumer has a newer snapshot: was the database restored from an old copy?"
            );
        }
        snapshots.mark_changed();
        let watching = Watching::begin(&self.metrics.watchers);
        let stream = stream::unfold((snapshots, watching), async |(mut snapshots, watching)| {
            snapshots.changed().await.ok()?;
            let snapshot = Some(snapshots.borrow_and_update().signed.clone());
            Some((Ok(WatchSnapshotResponse { snapshot }), (snapshots, watching)))
        });
        Ok(Response::new(stream.take_until(self.shutdown.clone().cancelled_owned()).boxed()))
    }

    async fn set_retention(
        &self,
        request: Request<SetRetentionRequest>,
    ) -> Result<Response<SetRetentionResponse>, Status> {
        let actor = actor(request.metadata());
        let request = request.into_inner();
        let retention = Retention {
            camera: camera_id(&request.camera_id)?,
            hours: request.retention_hours,
            longer_reason: request.longer_retention_reason,
        };
        let edit = Edit::SetRetention(retention);
        let camera = Arc::clone(&self.publisher).edit(edit, actor).await.map_err(status)?;
        Ok(Response::new(SetRetentionResponse { camera: Some(camera) }))
    }
}

fn camera_id(text: &str) -> Result<CameraId, Status> {
    text.parse().map_err(|error: obscura_ids::InvalidId| {
        status(Invalid::new("the camera id", format!("is wrong: {error}")).into())
    })
}

fn status(error: Error) -> Status {
    Failure::from(error).into()
}

/// Counts a stream as long as it is open.
struct Watching(Gauge);

impl Watching {
    fn begin(watchers: &Gauge) -> Self {
        watchers.inc();
        Self(watchers.clone())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests;

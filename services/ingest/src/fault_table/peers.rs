//! Storage and custody as the recorder sees them, over real mutual TLS: what a real one cannot be made
//! to do, these can. A success that was not one, an answer that is lost after the work was done, half an
//! upload, a peer that is busy, slow or away.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{Router, body::Body, extract::State as Shared, response::IntoResponse};
use futures::StreamExt as _;
use http::{Request, Response, StatusCode, Uri};
use obscura_blob::WebTrust;
use obscura_clock::SystemClock;
use obscura_identity::{Ca, Endpoint, HttpClient, Identity, Route, channel, serve};
use obscura_ids::{CameraId, LayerKeyId, PackId, Sequence, WriterEpoch};
use obscura_pack::{Directory, Entry, HEAD_PREFIX};
use obscura_proto::{
    footage::v1::{Gap, GapReason},
    keys::v1::{GetIntakeKeyRequest, GetIntakeKeyResponse, ImportLayerKeyRequest, ImportLayerKeyResponse},
    registry::v1::SignedPlacement,
    storage::v1::{
        CommitPackRequest, CommitPackResponse, CreateUploadRequest, CreateUploadResponse, RecordGapsRequest,
        RecordGapsResponse,
    },
};
use obscura_seal::RecipientKeyPair;
use tokio::net::TcpListener;
use tonic::{Code, Status, transport::Channel};

use super::plug::Plug;
use crate::upload::Objects;

/// What the recorder asks of its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A layer key comes into custody.
    Import,
    /// A URL for a pack.
    Url,
    /// The pack itself.
    Put,
    /// Its rows in the index.
    Index,
    /// Gaps.
    Gaps,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Not now; nothing was done.
    Busy,
    /// It was done, and nobody hears of it.
    Lost,
    /// Not this one, for a reason of its own.
    Refused,
    /// Not at once.
    Slow,
    /// It was done at once, and the answer comes only when nobody waits for it any more.
    Late,
    /// It is done only when nobody waits for it any more, and all that was asked for since is done.
    Belated,
    /// Only half of the upload is read.
    Half,
    /// A success that is none: nothing was stored.
    Lie,
    /// The recorder ends before anything was done.
    EndsBefore,
    /// The recorder ends when it was done.
    EndsAfter,
}

/// Where a segment is.
#[derive(Clone, Debug)]
pub struct Indexed {
    pub entry: Entry,
    pub bytes: Vec<u8>,
    pub pack: PackId,
    pub placement: SignedPlacement,
}

/// What the peers have.
#[derive(Debug, Default)]
pub struct Stored {
    pub keys: BTreeMap<LayerKeyId, ImportLayerKeyRequest>,
    pub gaps: BTreeMap<String, Gap>,
    pub index: BTreeMap<(CameraId, WriterEpoch, Sequence), Indexed>,
    /// Packs in the order in which they were indexed, with the camera and the first segment of each.
    pub arrivals: Vec<(CameraId, Entry)>,
    /// Segments that came a second time in another pack.
    pub twice: usize,
    /// Most uploads at the same time.
    pub most_uploads: usize,
    /// Keys that are always refused: all of them,
    pub refuses_keys: bool,
    /// or those of one camera.
    pub refuses_keys_of: Option<CameraId>,
    /// Keys that custody cannot take now, and says so: all of them,
    pub takes_no_key: bool,
    /// or those of one camera.
    pub takes_no_key_of: Option<(CameraId, Code)>,
    /// No pack is given a URL, for a reason that seems to be its own;
    pub refuses_packs: bool,
    /// or those of one camera are not indexed.
    pub refuses_packs_of: Option<CameraId>,
    /// The store lets nobody put anything.
    pub lets_nobody_in: bool,
    /// Gaps with this reason are refused for good, with all that are told together with them.
    pub refuses_gaps: Option<GapReason>,
    /// Imports that were asked for.
    pub imports: usize,
    /// Nothing answers.
    pub away: bool,
    uploads: usize,
    packs: BTreeMap<PackId, Vec<u8>>,
    objects: BTreeMap<String, Vec<u8>>,
    troubles: VecDeque<(Call, Answer)>,
    met: usize,
    plug: Plug,
}

/// What is still to be done.
type Work = Box<dyn FnOnce(&mut Stored) + Send>;

/// Storage and custody.
#[derive(Clone)]
pub struct Peers {
    stored: Arc<Mutex<Stored>>,
    belated: Arc<Mutex<Vec<Work>>>,
    /// Opens what custody got.
    pub intake: Arc<RecipientKeyPair>,
    identity: Identity,
    storage: String,
    keys: String,
    _folder: Arc<tempfile::TempDir>,
}

const ROUTES: &[Route] = &[Route { prefix: "/objects/", callers: &["ingest"] }];

impl Peers {
    /// Both, listening.
    pub async fn start() -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let clock = SystemClock::shared();
        let ca = Ca::create(&folder.path().join("ca"), &"test.example".parse().unwrap(), &*clock).unwrap();
        let identity = |service: &str| {
            let into = folder.path().join(service);
            ca.issue(service, &into, Duration::from_hours(1), &*clock).unwrap();
            Identity::load(&into).unwrap()
        };
        let mut peers = Self {
            stored: Arc::default(),
            belated: Arc::default(),
            intake: Arc::new(RecipientKeyPair::generate().unwrap()),
            identity: identity("ingest"),
            storage: String::new(),
            keys: String::new(),
            _folder: Arc::clone(&folder),
        };
        peers.keys = listen(identity("keys"), Router::new().fallback(answer).with_state(peers.clone())).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        peers.storage = listener.local_addr().unwrap().to_string();
        let router = Router::new().fallback(answer).with_state(peers.clone());
        tokio::spawn(serve(listener, identity("storage"), router, ROUTES, std::future::pending()));
        peers
    }

    /// Whose end a fault may be.
    pub fn plug_in(&self, plug: Plug) {
        self.stored().plug = plug;
    }

    pub fn arm(&self, call: Call, answer: Answer) {
        self.stored().troubles.push_back((call, answer));
    }

    pub fn met(&self) -> usize {
        self.stored().met
    }

    pub fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap()
    }

    pub fn storage(&self) -> Channel {
        channel(&self.identity, "storage", Endpoint::Address(self.storage.clone()))
    }

    pub fn custody(&self) -> Channel {
        channel(&self.identity, "keys", Endpoint::Address(self.keys.clone()))
    }

    pub fn objects(&self) -> Objects {
        let storage = HttpClient::new(&self.identity, "storage");
        Objects::new(storage, &WebTrust { ca: None, allow_http: false }, None).unwrap()
    }

    /// Does what it put off, in the order in which it was asked.
    pub fn catch_up(&self) {
        let belated = std::mem::take(&mut *self.belated.lock().unwrap());
        belated.into_iter().for_each(|work| work(&mut self.stored()));
    }

    /// Does the work, unless something goes wrong.
    async fn meet<T>(
        &self,
        call: Call,
        work: impl FnOnce(&mut Stored, Option<Answer>) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let away = || Status::unavailable("away");
        let trouble = {
            let mut stored = self.stored();
            if stored.away || stored.plug.is_pulled() {
                return Err(away());
            }
            let trouble = stored.troubles.pop_front_if(|(of, _)| *of == call).map(|(_, answer)| answer);
            stored.met += usize::from(trouble.is_some());
            trouble
        };
        match trouble {
            Some(Answer::Busy) => return Err(away()),
            Some(Answer::Refused) => return Err(Status::failed_precondition("not this one")),
            Some(Answer::EndsBefore) => {
                self.stored().plug.pull();
                return Err(away());
            }
            Some(Answer::Belated) => {
                let later: Work = Box::new(move |stored| drop(work(stored, None)));
                self.belated.lock().unwrap().push(later);
                return std::future::pending().await;
            }
            Some(Answer::Slow) => tokio::time::sleep(Duration::from_millis(300)).await,
            _ => {}
        }
        let done = work(&mut self.stored(), trouble)?;
        match trouble {
            Some(Answer::Lost) => Err(away()),
            Some(Answer::Late) => std::future::pending().await,
            Some(Answer::EndsAfter) => {
                self.stored().plug.pull();
                Err(away())
            }
            _ => Ok(done),
        }
    }

    async fn put(&self, uri: &Uri, body: Body) -> Result<(), Status> {
        {
            let mut stored = self.stored();
            stored.uploads += 1;
            stored.most_uploads = stored.most_uploads.max(stored.uploads);
        }
        let read = read(body).await;
        self.stored().uploads -= 1;
        // The recorder was stopped in the middle of it.
        let bytes = read.ok_or_else(|| Status::aborted("half an upload"))?;
        let key = uri.path().trim_start_matches("/objects/").to_owned();
        let store = move |stored: &mut Stored, trouble| {
            if stored.lets_nobody_in {
                return Err(Status::permission_denied("nobody"));
            }
            match trouble {
                Some(Answer::Lie) => {}
                Some(Answer::Half) => return Err(Status::aborted("the connection broke")),
                _ => drop(stored.objects.entry(key).or_insert(bytes)),
            }
            Ok(())
        };
        self.meet(Call::Put, store).await
    }
}

async fn listen(identity: Identity, router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(serve(listener, identity, router, &[], std::future::pending()));
    address
}

async fn read(body: Body) -> Option<Vec<u8>> {
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece.ok()?);
    }
    Some(bytes)
}

/// Answers by path: an rpc that the recorder does not use needs no words here.
async fn answer(Shared(peers): Shared<Peers>, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    match path.rsplit('/').next().unwrap_or_default() {
        "GetIntakeKey" => rpc(peers, request, intake_key).await,
        "ImportLayerKey" => rpc(peers, request, import).await,
        "CreateUpload" => rpc(peers, request, create_upload).await,
        "CommitPack" => rpc(peers, request, commit_pack).await,
        "RecordGaps" => rpc(peers, request, record_gaps).await,
        _ if path.starts_with("/objects/") => {
            let (parts, body) = request.into_parts();
            match peers.put(&parts.uri, body).await {
                Ok(()) => StatusCode::CREATED.into_response(),
                Err(error) if error.code() == Code::PermissionDenied => StatusCode::FORBIDDEN.into_response(),
                Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            }
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn rpc<Asked, Told, Work>(
    peers: Peers,
    request: Request<Body>,
    work: impl FnOnce(Peers, Asked) -> Work + Clone + Send + 'static,
) -> Response<Body>
where
    Asked: prost::Message + Default + Send + 'static,
    Told: prost::Message + Default + Send + 'static,
    Work: Future<Output = Result<Told, Status>> + Send + 'static,
{
    let service = tower::service_fn(move |request: tonic::Request<Asked>| {
        let (peers, work) = (peers.clone(), work.clone());
        async move { work(peers, request.into_inner()).await.map(tonic::Response::new) }
    });
    let codec = tonic_prost::ProstCodec::<Told, Asked>::default();
    tonic::server::Grpc::new(codec).unary(service, request).await.map(Body::new)
}

async fn intake_key(peers: Peers, _: GetIntakeKeyRequest) -> Result<GetIntakeKeyResponse, Status> {
    if peers.stored().away {
        return Err(Status::unavailable("away"));
    }
    let public_key = peers.intake.public().0.to_vec().into();
    Ok(GetIntakeKeyResponse { zone: "eea".into(), public_key })
}

async fn import(peers: Peers, asked: ImportLayerKeyRequest) -> Result<ImportLayerKeyResponse, Status> {
    let store = move |stored: &mut Stored, _: Option<Answer>| {
        stored.imports += 1;
        let camera = asked.key.as_ref().unwrap().camera_id.parse().ok();
        if stored.refuses_keys || (camera.is_some() && camera == stored.refuses_keys_of) {
            return Err(Status::permission_denied("this key is refused for good"));
        }
        if stored.takes_no_key {
            return Err(Status::unavailable("no key now"));
        }
        if let Some((_, code)) = stored.takes_no_key_of.filter(|(of, _)| camera == Some(*of)) {
            return Err(Status::new(code, "not this one now"));
        }
        let id: LayerKeyId = asked.key.as_ref().unwrap().key_id.parse().unwrap();
        let before = stored.keys.entry(id).or_insert_with(|| asked.clone());
        if *before == asked {
            Ok(ImportLayerKeyResponse {})
        } else {
            Err(Status::already_exists("another key"))
        }
    };
    peers.meet(Call::Import, store).await
}

async fn create_upload(peers: Peers, asked: CreateUploadRequest) -> Result<CreateUploadResponse, Status> {
    let object_key = format!("{}.pack", asked.pack_id);
    let url = format!("https://{}/objects/{object_key}", peers.storage);
    let told = CreateUploadResponse { url, object_key, ..CreateUploadResponse::default() };
    let refuse = |stored: &mut Stored, _| {
        if stored.refuses_packs { Err(Status::failed_precondition("not this one")) } else { Ok(told) }
    };
    peers.meet(Call::Url, refuse).await
}

async fn commit_pack(peers: Peers, asked: CommitPackRequest) -> Result<CommitPackResponse, Status> {
    let index = move |stored: &mut Stored, _: Option<Answer>| {
        let object = stored.objects.get(&asked.object_key);
        let object = object.ok_or_else(|| Status::failed_precondition("not uploaded"))?;
        let head = Directory::head_length(object.first_chunk::<HEAD_PREFIX>().unwrap()).unwrap();
        let directory = Directory::decode_head(&object[..head]).unwrap();
        if object.len() as u64 != head as u64 + directory.body_length() {
            return Err(Status::data_loss("the object is not as long as its head says"));
        }
        if stored.refuses_packs_of == Some(directory.camera) {
            return Err(Status::failed_precondition("not of this camera"));
        }
        let body = object[head..].to_vec();
        let before = stored.packs.entry(directory.pack_id).or_insert_with(|| asked.directory_sha256.to_vec());
        if *before != asked.directory_sha256 {
            return Err(Status::already_exists("committed otherwise"));
        }
        insert(stored, directory, &body, &asked.placement.clone().unwrap());
        Ok(CommitPackResponse::default())
    };
    peers.meet(Call::Index, index).await
}

fn insert(stored: &mut Stored, directory: Directory, body: &[u8], placement: &SignedPlacement) {
    let pack = directory.pack_id;
    let first = directory.entries[0].clone();
    if stored.index.values().all(|indexed| indexed.pack != pack) {
        stored.arrivals.push((directory.camera, first));
    }
    for entry in directory.entries {
        let place = (entry.header.camera, entry.header.writer_epoch, entry.header.sequence);
        let (from, to) = (entry.offset, entry.offset + entry.length);
        let bytes = body[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()].to_vec();
        let before = stored.index.insert(place, Indexed { entry, bytes, pack, placement: placement.clone() });
        stored.twice += usize::from(before.is_some_and(|before| before.pack != pack));
    }
}

async fn record_gaps(peers: Peers, asked: RecordGapsRequest) -> Result<RecordGapsResponse, Status> {
    let store = move |stored: &mut Stored, _: Option<Answer>| {
        if asked.gaps.iter().any(|gap| Some(gap.reason()) == stored.refuses_gaps) {
            return Err(Status::invalid_argument("no reason that is known here"));
        }
        for gap in &asked.gaps {
            let known = stored.gaps.entry(gap.gap_id.clone()).or_insert_with(|| gap.clone());
            if rank(gap) > rank(known) {
                known.clone_from(gap);
            }
        }
        // As storage does: a recorder that was killed reports no end of what it had open.
        for stopped in asked.gaps.iter().filter(|gap| gap.reason() == GapReason::RecorderStopped) {
            let open = stored.gaps.values_mut().filter(|gap| gap.end_unix_ns == 0);
            let older = open.filter(|gap| gap.gap_id != stopped.gap_id && gap.camera_id == stopped.camera_id);
            let directory = |gap: &Gap| WriterEpoch(gap.writer_epoch).first_of_directory();
            older
                .filter(|gap| directory(gap) == directory(stopped))
                .filter(|gap| gap.start_unix_ns <= stopped.start_unix_ns)
                .for_each(|gap| gap.end_unix_ns = stopped.start_unix_ns);
        }
        Ok(RecordGapsResponse {})
    };
    peers.meet(Call::Gaps, store).await
}

/// As storage does: of two reports of one gap the one that counts, whichever came first.
fn rank(gap: &Gap) -> (i64, bool, i32, i64) {
    let explains = gap.reason() != GapReason::ConnectionLost;
    (gap.end_unix_ns, explains, gap.reason, gap.start_unix_ns)
}

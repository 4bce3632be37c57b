//! A custody that does what a test says: for faults that a real one does not have on demand.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use futures::Stream;
use obscura_clock::Timestamp;
use obscura_ids::{CameraId, LayerKeyId};
use obscura_pack::Directory;
use obscura_proto::keys::v1::{self as proto, keys_service_server::KeysServiceServer};
use obscura_seal::Hour;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

use crate::{custody::Custody, expiry::receipt::testing::Signer};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    Nothing,
    /// It is away.
    Away,
    /// It is another one than before.
    OtherKey,
    /// One receipt is missing, from this number on.
    Gap(u64),
    /// It tells only half of what it is asked.
    Half,
}

struct Key {
    camera: CameraId,
    hour: Hour,
    dead: Vec<(u32, u32)>,
    held: Vec<(u32, u32)>,
    expires: Timestamp,
}

struct State {
    wrong: Wrong,
    keys: BTreeMap<LayerKeyId, Key>,
    receipts: Vec<proto::ShredReceipt>,
}

/// The custody of zone `eea`. Clones are the same one.
#[derive(Clone)]
pub struct FakeCustody(Arc<Mutex<State>>);

impl FakeCustody {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            wrong: Wrong::Nothing,
            keys: BTreeMap::new(),
            receipts: Vec::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A client of it.
    pub async fn serve(&self) -> Custody {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder().add_service(KeysServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        let channel: Channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        Custody::new(channel)
    }

    pub fn is(&self, wrong: Wrong) {
        self.state().wrong = wrong;
    }

    /// Takes the keys of a pack into custody.
    pub fn import(&self, pack: &Directory, expires: Timestamp) {
        for entry in &pack.entries {
            let key = Key {
                camera: pack.camera,
                hour: entry.header.hour,
                dead: Vec::new(),
                held: Vec::new(),
                expires,
            };
            self.state().keys.entry(entry.header.key_id).or_insert(key);
        }
    }

    /// A key that no pack uses.
    pub fn import_stray(&self, id: LayerKeyId) {
        let key = Key {
            camera: CameraId::from_bytes([9; 16]),
            hour: Hour::new(490_000).unwrap(),
            dead: Vec::new(),
            held: Vec::new(),
            expires: Timestamp::from_unix_nanos(i64::MAX),
        };
        self.state().keys.insert(id, key);
    }

    pub fn hold(&self, key: LayerKeyId, first: u32, last: u32) {
        self.state().keys.get_mut(&key).unwrap().held.push((first, last));
    }

    pub fn forget(&self, key: LayerKeyId) {
        self.state().keys.remove(&key);
    }

    /// Destroys slots of one key by one receipt.
    pub fn shred(&self, key: LayerKeyId, slots: &[(u32, u32)]) {
        let mut state = self.state();
        let row = state.keys.get_mut(&key).unwrap();
        row.dead.extend(slots);
        let shredded = |&(first_slot, last_slot): &(u32, u32)| proto::ShreddedKey {
            key_id: key.to_string(),
            camera_id: row.camera.to_string(),
            layer: 1,
            hour: row.hour.get(),
            first_slot,
            last_slot,
        };
        let keys = slots.iter().map(shredded).collect();
        let number = state.receipts.len() as u64 + 1;
        state.receipts.push(proto::ShredReceipt {
            number,
            zone: "eea".into(),
            cause: proto::ShredCause::Expiry.into(),
            keys,
            epochs: Vec::new(),
            effective_unix_ns: 1_795_000_000_000_000_000,
            reason: String::new(),
            spans: Vec::new(),
        });
    }

    fn signer(&self) -> Signer {
        Signer::from_seed(if self.state().wrong == Wrong::OtherKey { 2 } else { 1 })
    }

    fn check(&self) -> Result<(), Status> {
        match self.state().wrong {
            Wrong::Away => Err(Status::unavailable("away")),
            _ => Ok(()),
        }
    }
}

fn ranges(alive: &[bool]) -> Vec<proto::SlotRange> {
    let mut ranges: Vec<proto::SlotRange> = Vec::new();
    for (slot, _) in (0_u32..).zip(alive).filter(|(_, alive)| **alive) {
        match ranges.last_mut() {
            Some(range) if range.last + 1 == slot => range.last = slot,
            _ => ranges.push(proto::SlotRange { first: slot, last: slot }),
        }
    }
    ranges
}

fn describe(id: &str, key: Option<&Key>) -> proto::KeyDescription {
    let Some(key) = key else {
        return proto::KeyDescription { key_id: id.to_owned(), ..Default::default() };
    };
    let within =
        |slots: &[(u32, u32)], slot| slots.iter().any(|&(first, last)| (first..=last).contains(&slot));
    let alive: Vec<bool> = (0..1_800).map(|slot| !within(&key.dead, slot)).collect();
    let held: Vec<bool> =
        (0..1_800).map(|slot| !within(&key.dead, slot) && within(&key.held, slot)).collect();
    proto::KeyDescription {
        key_id: id.to_owned(),
        known: true,
        live: ranges(&alive),
        held: ranges(&held),
        expires_unix_ns: key.expires.unix_nanos(),
    }
}

/// The rpcs that storage never calls.
macro_rules! absent {
    ($($name:ident($request:ident) -> $response:ident;)*) => {
        #[async_trait]
        impl proto::keys_service_server::KeysService for FakeCustody {
            type RotateKeyEncryptionKeyStream =
                Pin<Box<dyn Stream<Item = Result<proto::RotateKeyEncryptionKeyResponse, Status>> + Send>>;

            async fn rotate_key_encryption_key(
                &self,
                _: Request<proto::RotateKeyEncryptionKeyRequest>,
            ) -> Result<Response<Self::RotateKeyEncryptionKeyStream>, Status> {
                Err(Status::unimplemented("not for storage"))
            }

            $(async fn $name(&self, _: Request<proto::$request>) -> Result<Response<proto::$response>, Status> {
                Err(Status::unimplemented("not for storage"))
            })*

            async fn get_key_status(
                &self,
                _: Request<proto::GetKeyStatusRequest>,
            ) -> Result<Response<proto::GetKeyStatusResponse>, Status> {
                self.check()?;
                let receipt_public_key = self.signer().public_key().to_vec().into();
                Ok(Response::new(proto::GetKeyStatusResponse { receipt_public_key, ..Default::default() }))
            }

            async fn list_shred_receipts(
                &self,
                request: Request<proto::ListShredReceiptsRequest>,
            ) -> Result<Response<proto::ListShredReceiptsResponse>, Status> {
                self.check()?;
                let (after, signer, wrong) = (request.into_inner().after_number, self.signer(), self.state().wrong);
                let state = self.state();
                if after > state.receipts.len() as u64 {
                    return Err(Status::failed_precondition("this custody is older than its receipts"));
                }
                let there = |receipt: &&proto::ShredReceipt| match wrong {
                    Wrong::Gap(number) => receipt.number != number,
                    _ => true,
                };
                let receipts = state.receipts.iter().filter(|receipt| receipt.number > after).filter(there);
                let receipts = receipts.take(2).map(|receipt| signer.sign(receipt)).collect();
                Ok(Response::new(proto::ListShredReceiptsResponse { receipts }))
            }

            async fn describe_keys(
                &self,
                request: Request<proto::DescribeKeysRequest>,
            ) -> Result<Response<proto::DescribeKeysResponse>, Status> {
                self.check()?;
                let ids = request.into_inner().key_ids;
                let state = self.state();
                let told = if state.wrong == Wrong::Half { ids.len() / 2 } else { ids.len() };
                let described = |id: &String| describe(id, state.keys.get(&id.parse().unwrap()));
                let keys = ids.iter().take(told).map(described).collect();
                Ok(Response::new(proto::DescribeKeysResponse { keys }))
            }

            async fn list_keys(
                &self,
                request: Request<proto::ListKeysRequest>,
            ) -> Result<Response<proto::ListKeysResponse>, Status> {
                self.check()?;
                let after: Option<LayerKeyId> = request.into_inner().after_key_id.parse().ok();
                let state = self.state();
                let behind = state.keys.iter().filter(|(id, _)| Some(**id) > after);
                let alive = behind.filter(|(id, key)| !describe(&id.to_string(), Some(*key)).live.is_empty());
                let key_ids = alive.take(2).map(|(id, _)| id.to_string()).collect();
                Ok(Response::new(proto::ListKeysResponse { key_ids }))
            }
        }
    };
}

absent! {
    get_intake_key(GetIntakeKeyRequest) -> GetIntakeKeyResponse;
    import_layer_key(ImportLayerKeyRequest) -> ImportLayerKeyResponse;
    release_nodes(ReleaseNodesRequest) -> ReleaseNodesResponse;
    place_hold(PlaceHoldRequest) -> PlaceHoldResponse;
    list_holds(ListHoldsRequest) -> ListHoldsResponse;
    release_hold(ReleaseHoldRequest) -> ReleaseHoldResponse;
    shred(ShredRequest) -> ShredResponse;
    replay_shred_receipts(ReplayShredReceiptsRequest) -> ReplayShredReceiptsResponse;
    resume_destruction(ResumeDestructionRequest) -> ResumeDestructionResponse;
    create_recovery_shares(CreateRecoverySharesRequest) -> CreateRecoverySharesResponse;
    rehearse_recovery(RehearseRecoveryRequest) -> RehearseRecoveryResponse;
}

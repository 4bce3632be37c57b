//! What storage asks custody. Answers are held against the questions: one that is cut short or out of
//! order is no answer.

use std::time::Duration;

use obscura_ids::LayerKeyId;
use obscura_proto::keys::v1::{
    DescribeKeysRequest, GetKeyStatusRequest, ListKeysRequest, ListShredReceiptsRequest, SignedShredReceipt,
    keys_service_client::KeysServiceClient,
};
use tonic::{Response, Status, transport::Channel};

use crate::{Error, state::KeyState};

/// Keys in one question.
pub const KEYS: usize = 256;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// Largest answer: receipts come in pages of about 2 MiB.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// The custody of the zone.
#[derive(Clone, Debug)]
pub struct Custody {
    client: KeysServiceClient<Channel>,
}

impl Custody {
    /// Asks over this channel.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        Self { client: KeysServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES) }
    }

    /// Public key that signs receipts of destruction.
    ///
    /// # Errors
    /// [`Error::CustodyAway`], [`Error::Custody`].
    pub async fn receipt_key(&self) -> Result<[u8; 32], Error> {
        let mut client = self.client.clone();
        let answer = ask(client.get_key_status(GetKeyStatusRequest {})).await?;
        answer.receipt_public_key[..].try_into().map_err(|_| nonsense("its public key is not 32 bytes long"))
    }

    /// Receipts behind this number, in order; none where there are no more.
    ///
    /// # Errors
    /// [`Error::CustodyAway`].
    pub async fn receipts(&self, after_number: u64) -> Result<Vec<SignedShredReceipt>, Error> {
        let mut client = self.client.clone();
        Ok(ask(client.list_shred_receipts(ListShredReceiptsRequest { after_number })).await?.receipts)
    }

    /// What became of these keys, in their order; at most [`KEYS`].
    ///
    /// # Errors
    /// [`Error::CustodyAway`], [`Error::Custody`].
    pub async fn describe(&self, keys: &[LayerKeyId]) -> Result<Vec<KeyState>, Error> {
        let mut client = self.client.clone();
        let key_ids = keys.iter().map(ToString::to_string).collect();
        let answer = ask(client.describe_keys(DescribeKeysRequest { key_ids })).await?;
        let states = answer.keys.into_iter().map(KeyState::try_from).collect::<Result<Vec<_>, _>>()?;
        if !states.iter().map(|state| &state.key).eq(keys) {
            return Err(nonsense("it describes other keys than it was asked about"));
        }
        Ok(states)
    }

    /// Keys of which anything is alive, in order, behind this one; none where there are no more.
    ///
    /// # Errors
    /// [`Error::CustodyAway`], [`Error::Custody`].
    pub async fn keys(&self, after: Option<LayerKeyId>) -> Result<Vec<LayerKeyId>, Error> {
        let mut client = self.client.clone();
        let after_key_id = after.map_or_else(String::new, |key| key.to_string());
        let answer = ask(client.list_keys(ListKeysRequest { after_key_id })).await?;
        let keys = answer.key_ids.iter().map(|key| key.parse()).collect::<Result<Vec<LayerKeyId>, _>>()?;
        let in_order =
            keys.is_sorted_by(|a, b| a < b) && keys.first().is_none_or(|first| Some(*first) > after);
        if in_order { Ok(keys) } else { Err(nonsense("its list of keys is out of order")) }
    }
}

async fn ask<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Error> {
    let late = |_| Status::deadline_exceeded("no answer in time");
    let answer = tokio::time::timeout(ANSWER, call).await.map_err(late).flatten();
    answer.map(Response::into_inner).map_err(|status| Error::CustodyAway(Box::new(status)))
}

fn nonsense(why: &str) -> Error {
    Error::Custody(why.to_owned())
}

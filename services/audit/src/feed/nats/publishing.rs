//! Publishing in order, many at a time, each with the sequence that must precede it.

use super::{again, stream::INDEX_HEADER};
use crate::feed::{Entry, sink::Trouble};
use async_nats::jetstream::{
    Context,
    context::{PublishAckFuture, PublishErrorKind},
    message::PublishMessage,
    publish::PublishAck,
    stream::State,
};

/// Writes to the stream, knowing what it has.
#[derive(Debug)]
pub struct Publisher {
    context: Context,
    subject: String,
    first_sequence: u64,
    last_sequence: u64,
    next_index: u64,
    /// Behind the index in `Nats-Msg-Id`, where the server remembers ids of messages that are gone.
    id_suffix: String,
    /// Only entries below this can be repetitions.
    repeated_below: u64,
}

/// How one round of publishing ended.
enum Ended {
    /// Everything is in the stream.
    Well,
    /// The server dropped repetitions, so that what followed expected a wrong sequence: go on from here.
    OutOfStep,
    /// Otherwise.
    Badly(Trouble),
}

impl Publisher {
    /// Goes on behind what the stream has with the entry `next_index` of a log of this size.
    pub fn new(context: Context, subject: String, state: &State, next_index: u64, size: u64) -> Self {
        Self {
            context,
            subject,
            first_sequence: state.first_sequence,
            last_sequence: state.last_sequence,
            next_index,
            id_suffix: String::new(),
            repeated_below: size,
        }
    }

    /// Index of the next entry: all before are acknowledged.
    pub const fn next_index(&self) -> u64 {
        self.next_index
    }

    /// What the stream has, if nobody else touched it.
    pub const fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// The connection.
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// Publishes all entries, and returns when all are acknowledged.
    pub async fn publish(&mut self, entries: &[Entry]) -> Result<(), Trouble> {
        let mut rest = entries;
        while !rest.is_empty() {
            let (acknowledged, ended) = self.round(rest).await?;
            let (done, left) = rest.split_at_checked(acknowledged).unwrap_or((rest, &[]));
            self.next_index = done.last().map_or(self.next_index, |last| last.index.saturating_add(1));
            rest = left;
            if let Ended::Badly(trouble) = ended {
                return Err(trouble);
            }
        }
        Ok(())
    }

    /// Publishes without waiting, then takes the acknowledgements in the same order. Each round that
    /// does not end badly acknowledges something or changes the ids, which happens once.
    async fn round(&mut self, entries: &[Entry]) -> Result<(usize, Ended), Trouble> {
        let mut pending = Vec::with_capacity(entries.len());
        for (sequence, entry) in (self.last_sequence..).zip(entries) {
            pending.push(self.send(entry, sequence).await?);
        }
        let mut duplicates = false;
        for (acknowledged, acknowledgement) in pending.into_iter().enumerate() {
            match acknowledgement.await {
                Ok(ack) if self.is_gone(&ack) => {
                    self.id_suffix = format!("-after-{}", self.last_sequence);
                    return Ok((acknowledged, Ended::OutOfStep));
                }
                Ok(ack) if ack.duplicate => duplicates = true,
                Ok(ack) => self.last_sequence = ack.sequence,
                Err(error) if duplicates && error.kind() == PublishErrorKind::WrongLastSequence => {
                    return Ok((acknowledged, Ended::OutOfStep));
                }
                Err(error) => {
                    return Ok((acknowledged, Ended::Badly(again("NATS does not acknowledge")(error))));
                }
            }
        }
        Ok((entries.len(), Ended::Well))
    }

    /// The server dropped a repetition of something that the stream no longer has.
    fn is_gone(&self, ack: &PublishAck) -> bool {
        ack.duplicate && self.id_suffix.is_empty() && ack.sequence < self.first_sequence
    }

    async fn send(&self, entry: &Entry, last_sequence: u64) -> Result<PublishAckFuture, Trouble> {
        let leaf = obscura_ocsf::read(&entry.leaf).map_err(again("an entry cannot be read"))?;
        let suffix = if entry.index < self.repeated_below { self.id_suffix.as_str() } else { "" };
        let message = PublishMessage::build()
            .payload(entry.leaf.clone())
            .message_id(format!("{}{suffix}", entry.index))
            .expected_last_sequence(last_sequence)
            .header(INDEX_HEADER, entry.index.to_string().as_str())
            .header("content-type", "application/cloudevents+json");
        let subject = format!("{}.{}", self.subject, leaf.kind);
        self.context.send_publish(subject, message).await.map_err(again("cannot publish to NATS"))
    }
}

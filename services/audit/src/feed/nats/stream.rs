//! The stream: made or checked, and asked how far it is.

use async_nats::jetstream::{
    Context, ErrorCode,
    context::GetStreamErrorKind,
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream},
};
use obscura_clock::Timestamp;

use super::{Settings, again};
use crate::feed::sink::{Start, Trouble};

/// Carries the index; `Nats-Msg-Id` does too, but is NATS's own.
pub const INDEX_HEADER: &str = "obscura-log-index";
const DUPLICATE_WINDOW: std::time::Duration = std::time::Duration::from_mins(2);

/// The stream of the settings, made where there is none.
pub async fn open(context: &Context, settings: &Settings) -> Result<Stream, Trouble> {
    let stream = match context.get_stream(&settings.stream).await {
        Ok(stream) => stream,
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(inner) if inner.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                tracing::info!(stream = settings.stream, "makes the stream of the audit feed");
                context.create_stream(config(settings)).await.map_err(again("cannot make the stream"))?
            }
            _ => return Err(again("cannot look at the stream")(error)),
        },
    };
    check(&stream.cached_info().config, settings)?;
    Ok(stream)
}

fn config(settings: &Settings) -> Config {
    Config {
        name: settings.stream.clone(),
        description: Some(
            "Projection of Obscura's audit log. Can be rebuilt; must not be written by others.".into(),
        ),
        subjects: vec![format!("{}.>", settings.subject)],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: settings.replicas,
        max_age: settings.keep(),
        duplicate_window: DUPLICATE_WINDOW.min(settings.keep()),
        deny_delete: true,
        deny_purge: true,
        ..Config::default()
    }
}

/// What someone else made, or changed, must not lose what we send. Full streams discard the oldest, so a limit would
/// make events vanish that are to be kept. (No limit is 0 where it is asked for, and -1 where the server tells.)
pub fn check(config: &Config, settings: &Settings) -> Result<(), Trouble> {
    let subjects = format!("{}.>", settings.subject);
    let wrong = [
        (config.subjects != [subjects.clone()], format!("its only subject must be `{subjects}`")),
        (config.storage != StorageType::File, "it must be stored in files".to_owned()),
        (config.retention != RetentionPolicy::Limits, "its retention must be by limits".to_owned()),
        (config.discard != DiscardPolicy::Old, "when full it must discard the oldest".to_owned()),
        (config.no_ack, "it must acknowledge".to_owned()),
        (config.sealed, "it is sealed".to_owned()),
        (config.max_messages > 0, "it must have no limit of messages: set `max_msgs` to -1".to_owned()),
        (config.max_bytes > 0, "it must have no limit of bytes: set `max_bytes` to -1".to_owned()),
        (
            config.max_messages_per_subject > 0,
            "it must have no limit of messages per subject: set `max_msgs_per_subject` to -1".to_owned(),
        ),
        (
            !config.max_age.is_zero() && config.max_age < settings.keep(),
            format!(
                "it forgets messages too soon: set `max_age` to {0}h or more, or `keep_hours` of the feed to less \
                 than {0}",
                settings.keep_hours
            ),
        ),
    ];
    match wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
        None => Ok(()),
        Some((_, why)) => Err(Trouble::Parked(format!("the stream `{}` does not suit: {why}", config.name))),
    }
}

/// What would be better. Not a reason to send nothing: whoever deletes messages does so on purpose, and what a purge
/// took is filled again.
pub fn warning(config: &Config) -> Option<String> {
    let missing = match (config.deny_delete, config.deny_purge) {
        (true, true) => return None,
        (false, true) => "`deny_delete` is",
        (true, false) => "`deny_purge` is",
        (false, false) => "`deny_delete` and `deny_purge` are",
    };
    Some(format!(
        "events arrive, but messages of the stream `{}` can be taken away: {missing} not set; make it anew with them, \
         or leave that to the feed",
        config.name
    ))
}

/// From where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// The index.
    pub index: u64,
    /// Index behind the last entry that the stream says it has, where that counts.
    pub arrived: Option<u64>,
}

/// From which index to go on: behind the stream's last message, or where someone wants it. An empty
/// stream gets everything that it would still keep.
pub async fn next_index(
    stream: &Stream,
    settings: &Settings,
    start: Start<'_>,
    purged: bool,
    now: Timestamp,
) -> Result<Next, Trouble> {
    if start.replay {
        return Ok(Next { index: start.index, arrived: None });
    }
    let state = &stream.cached_info().state;
    if state.messages == 0 || purged {
        let first = start.source.first_since(now - settings.keep()).await?;
        tracing::info!(
            from_index = first,
            "the stream of the audit feed is new or purged and is filled from the log"
        );
        return Ok(Next { index: first, arrived: None });
    }
    let message = stream
        .get_raw_message(state.last_sequence)
        .await
        .map_err(again("cannot read the stream's last message"))?;
    let index = message.headers.get(INDEX_HEADER).and_then(|value| value.as_str().parse::<u64>().ok());
    let foreign =
        || Trouble::Parked(format!("the last message of the stream `{}` is not ours", settings.stream));
    let next = index.ok_or_else(foreign)?.saturating_add(1);
    if next > start.size {
        return Err(Trouble::Parked(format!(
            "the stream `{}` is at {next}, but the log has only {} entries: is it the stream of another log, or was an \
             older log restored?",
            settings.stream, start.size
        )));
    }
    if next < start.index {
        tracing::warn!(
            next,
            remembered = start.index,
            "the stream of the audit feed lost messages and is refilled"
        );
    }
    Ok(Next { index: next.max(start.source.first_kept().await?), arrived: Some(next) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        toml::from_str(
            "servers = []\nca_file = \"a\"\ncertificate_file = \"b\"\nkey_file = \"c\"\nkeep_hours = 5",
        )
        .unwrap()
    }

    #[test]
    fn a_stream_that_we_make_suits_us_and_keeps_messages_for_the_time_that_was_set() {
        let config = config(&settings());
        assert_eq!(check(&config, &settings()), Ok(()));
        assert_eq!(config.max_age.as_secs(), 5 * 3_600);
        assert!(config.deny_delete && config.deny_purge);
    }

    #[test]
    fn a_stream_that_would_lose_events_is_refused() {
        type Spoil = fn(&mut Config);
        let spoilt: [Spoil; 9] = [
            |config| config.storage = StorageType::Memory,
            |config| config.retention = RetentionPolicy::WorkQueue,
            |config| config.discard = DiscardPolicy::New,
            |config| config.subjects.push("other.>".into()),
            |config| config.no_ack = true,
            |config| config.max_messages = 1_000_000_000,
            |config| config.max_bytes = 1 << 40,
            |config| config.max_messages_per_subject = 1_000_000_000,
            |config| config.max_age = settings().keep() - std::time::Duration::from_secs(1),
        ];
        for spoil in spoilt {
            let mut config = config(&settings());
            spoil(&mut config);
            assert!(matches!(check(&config, &settings()), Err(Trouble::Parked(_))));
        }
    }

    #[test]
    fn a_stream_that_keeps_more_than_is_wanted_suits_us() {
        let config = Config {
            max_messages: -1,
            max_bytes: -1,
            max_messages_per_subject: -1,
            max_age: std::time::Duration::ZERO,
            ..config(&settings())
        };
        assert_eq!(check(&config, &settings()), Ok(()));
        let longer = Config { max_age: 2 * settings().keep(), ..config };
        assert_eq!(check(&longer, &settings()), Ok(()));
    }

    #[test]
    fn a_stream_whose_messages_can_be_taken_away_is_warned_of() {
        let ours = config(&settings());
        assert_eq!(warning(&ours), None);
        for (deny_delete, deny_purge) in [(false, true), (true, false), (false, false)] {
            let config = Config { deny_delete, deny_purge, ..ours.clone() };
            assert_eq!(check(&config, &settings()), Ok(()));
            let words = warning(&config).unwrap();
            assert_eq!(words.contains("`deny_delete`"), !deny_delete, "{words}");
            assert_eq!(words.contains("`deny_purge`"), !deny_purge, "{words}");
        }
    }
}

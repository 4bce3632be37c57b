//! What the log has taken leaves the disk.

use super::*;

const NAME: &str = "Erika Mustermann-Gabler";

fn search_by_a_person() -> Event {
    let actor = Person { id: "user:erika".into(), name: NAME.into(), address: String::new() };
    Event { actor: Some(actor), ..event(&clock(), Outcome::Success, test("a search")) }
}

/// Whether a file in the folder has these bytes.
fn names(folder: &tempfile::TempDir) -> bool {
    let has = |path: std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(NAME.len()).any(|window| window == NAME.as_bytes())
    };
    std::fs::read_dir(folder.path()).unwrap().any(|entry| has(entry.unwrap().path()))
}

#[tokio::test]
async fn soon_after_the_log_has_taken_an_event_no_file_names_who_it_is_about() {
    let (log, folder) = (Log::default(), tempfile::tempdir().unwrap());
    let limits = Limits { forget_after: Duration::from_secs(1), ..Limits::default() };
    let outbox = Outbox::open(folder.path(), limits, clock()).await.unwrap();
    for _ in 0..2 {
        outbox.record_or_drop(search_by_a_person());
        outbox.flush().await;
        assert!(names(&folder), "it waits in clear");
        let running = serve(&log, anywhere()).await;
        outbox.send_to(client(&running));
        until_empty(&outbox).await;
        until(|| !names(&folder)).await;
    }
    outbox.close().await;
    assert_eq!(log.texts().len(), 2);
}

#[tokio::test]
async fn an_outbox_that_was_closed_keeps_only_what_waits() {
    let (log, folder) = (Log::default(), tempfile::tempdir().unwrap());
    let outbox = open(&folder).await;
    outbox.record_or_drop(search_by_a_person());
    outbox.flush().await;
    let running = serve(&log, anywhere()).await;
    outbox.send_to(client(&running));
    until_empty(&outbox).await;
    outbox.close().await;
    drop(outbox);
    assert!(!names(&folder));
    let outbox = open(&folder).await;
    assert_eq!(outbox.queued(), 0, "it was closed in good order");
    outbox.record_or_drop(search_by_a_person());
    outbox.close().await;
    assert!(names(&folder), "what waits is not lost");
}

/// Whoever starts on a file that a crash left writes it anew.
#[tokio::test]
async fn after_a_crash_what_the_log_has_taken_goes_with_the_next_start() {
    let (log, folder) = (Log::default(), tempfile::tempdir().unwrap());
    let outbox = open(&folder).await;
    outbox.record_or_drop(search_by_a_person());
    outbox.flush().await;
    let running = serve(&log, anywhere()).await;
    outbox.send_to(client(&running));
    until_empty(&outbox).await;
    outbox.flush().await;
    drop(outbox);
    assert!(names(&folder), "a crash leaves it");
    let outbox = open(&folder).await;
    outbox.flush().await;
    assert!(!names(&folder));
    outbox.close().await;
}

//! A disk that fails, and a process that dies, at each step.

use super::*;

/// Fails a step for the given number of times.
fn failing(at: Step, times: u32) -> crate::file::Gate {
    let left = AtomicU32::new(times);
    Box::new(move |step| {
        if step == at && strikes(&left) { Err(io::Error::other("no space left on device")) } else { Ok(()) }
    })
}

#[tokio::test]
async fn a_disk_that_fails_at_any_step_twice_loses_nothing_when_it_comes_back() {
    let steps =
        [Step::WriteAside, Step::SyncAside, Step::Rename, Step::SyncFolder, Step::Append, Step::SyncFile];
    for step in steps {
        let folder = tempfile::tempdir().unwrap();
        let gate = failing(step, 2);
        let outbox = Outbox::open_with(folder.path(), Limits::default(), clock(), gate).await.unwrap();
        for round in 0..4 {
            record(&outbox, round * 10..round * 10 + 10);
            outbox.flush().await;
        }
        outbox.close().await;
        drop(outbox);
        let outbox = open(&folder).await;
        assert_eq!(outbox.queued(), 40, "{step:?}");
        outbox.close().await;
    }
}

#[tokio::test]
async fn a_process_that_dies_at_any_step_twice_finds_what_was_durable() {
    let steps =
        [Step::WriteAside, Step::SyncAside, Step::Rename, Step::SyncFolder, Step::Append, Step::SyncFile];
    for step in steps {
        let folder = tempfile::tempdir().unwrap();
        let outbox = open(&folder).await;
        record(&outbox, 0..10);
        outbox.close().await;
        drop(outbox);
        for _ in 0..2 {
            // From that step on the disk does nothing any more, and then the process is gone.
            let gate = failing(step, u32::MAX);
            let outbox = Outbox::open_with(folder.path(), Limits::default(), clock(), gate).await.unwrap();
            record(&outbox, 10..12);
            outbox.flush().await;
            drop(outbox);
        }
        let log = Log::default();
        let running = serve(&log, anywhere()).await;
        let outbox = open(&folder).await;
        outbox.send_to(client(&running));
        until_empty(&outbox).await;
        let texts: Vec<_> = log.texts().into_iter().filter(|text| !text.is_empty()).collect();
        assert_eq!(texts[..10], numbers(0..10), "{step:?}");
    }
}

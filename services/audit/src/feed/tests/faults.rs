//! The table in the head of `feed.rs`, step by step: each fault twice, then everything is counted.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
};

use super::*;
use crate::feed::{
    runner::Runner,
    sink::{Sink, Start, Trouble},
};

/// What a receiver wrote down, and where it fails.
#[derive(Debug, Default)]
struct Receiver {
    received: Mutex<Vec<u64>>,
    open_faults: AtomicU32,
    /// Fails before anything is written down.
    send_faults: AtomicU32,
    /// Fails after it was written down, as when the answer is lost.
    answer_faults: AtomicU32,
    confirm_faults: AtomicU32,
    hangs: bool,
    /// Wants to be asked again after no time at all, a thousand times; then it hangs.
    is_pushy: bool,
    asked: AtomicU32,
    /// What it says itself that it has.
    arrived: Option<u64>,
}

struct FaultySink {
    receiver: Arc<Receiver>,
    next: u64,
}

fn fails(left: &AtomicU32) -> Result<(), Trouble> {
    let failed = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    if failed { Err(Trouble::Again("the test says so".into())) } else { Ok(()) }
}

#[async_trait]
impl Sink for FaultySink {
    async fn open(&mut self, start: Start<'_>) -> Result<u64, Trouble> {
        fails(&self.receiver.open_faults)?;
        self.next = start.index;
        Ok(start.index)
    }

    async fn send(&mut self, entries: &[Entry]) -> Result<usize, Trouble> {
        if self.receiver.hangs {
            std::future::pending::<()>().await;
        }
        if self.receiver.is_pushy {
            return self.pushes().await;
        }
        fails(&self.receiver.send_faults)?;
        let taken = entries.len().min(3);
        self.receiver.received.lock().unwrap().extend(entries[..taken].iter().map(|entry| entry.index));
        fails(&self.receiver.answer_faults)?;
        self.next = entries[taken - 1].index + 1;
        Ok(taken)
    }

    async fn confirmed(&mut self) -> Result<u64, Trouble> {
        fails(&self.receiver.confirm_faults)?;
        Ok(self.next)
    }

    fn arrived(&self) -> Option<u64> {
        self.receiver.arrived
    }
}

impl FaultySink {
    async fn pushes(&self) -> Result<usize, Trouble> {
        if self.receiver.asked.fetch_add(1, Ordering::Relaxed) >= 1_000 {
            std::future::pending::<()>().await;
        }
        Err(Trouble::Later("busy".into(), Duration::ZERO))
    }
}

fn spawn(log: &Arc<MemoryLog>, receiver: &Arc<Receiver>, name: &str) -> Running {
    let surroundings = surroundings(log);
    let sink = Box::new(FaultySink { receiver: receiver.clone(), next: 0 });
    let tasks = TaskTracker::new();
    let runner = Runner::new(name.to_owned(), sink, surroundings.clone());
    let handles = BTreeMap::from([(name.to_owned(), Handle::spawn(runner, &tasks))]);
    tasks.close();
    Running { feeds: Feeds { handles, tasks, source: log.clone() }, shutdown: surroundings.shutdown }
}

/// Everything came, and what came again came again from a place where it had stopped.
fn assert_complete_and_in_order(received: &[u64], size: u64) {
    let mut distinct = received.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct, (0..size).collect::<Vec<_>>());
    for pair in received.windows(2) {
        assert!(pair[1] <= pair[0] + 1, "{} came after {}", pair[1], pair[0]);
    }
}

#[tokio::test]
async fn whatever_fails_twice_nothing_is_lost_and_the_order_stays() {
    type Break = (&'static str, fn(&MemoryLog, &Receiver));
    let faults: [Break; 7] = [
        ("load", |log, _| log.load_faults.store(2, Ordering::Relaxed)),
        ("read", |log, _| log.read_faults.store(2, Ordering::Relaxed)),
        ("save", |log, _| log.save_faults.store(2, Ordering::Relaxed)),
        ("open", |_, receiver| receiver.open_faults.store(2, Ordering::Relaxed)),
        ("send", |_, receiver| receiver.send_faults.store(2, Ordering::Relaxed)),
        ("answer", |_, receiver| receiver.answer_faults.store(2, Ordering::Relaxed)),
        ("confirm", |_, receiver| receiver.confirm_faults.store(2, Ordering::Relaxed)),
    ];
    for (what, fault) in faults {
        let (log, receiver) = (MemoryLog::with(10), Arc::new(Receiver::default()));
        fault(&log, &receiver);
        let running = spawn(&log, &receiver, "feed");
        running.delivered(&log).await;
        // And once more in the middle of the work.
        fault(&log, &receiver);
        log.append(10);
        running.delivered(&log).await;
        log.save_faults.store(0, Ordering::Relaxed);
        running.stop().await;
        assert_complete_and_in_order(&receiver.received.lock().unwrap(), 20);
        assert_eq!(log.position("feed").unwrap().next_index, 20, "after faults at {what}");
    }
}

#[tokio::test]
async fn a_feed_goes_on_where_it_stopped_and_does_not_repeat_itself() {
    let (log, receiver) = (MemoryLog::with(7), Arc::new(Receiver::default()));
    for _ in 0..3 {
        let running = spawn(&log, &receiver, "feed");
        running.delivered(&log).await;
        running.stop().await;
        log.append(5);
    }
    assert_eq!(*receiver.received.lock().unwrap(), (0..17).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_feed_whose_position_was_lost_repeats_and_loses_nothing() {
    let (log, receiver) = (MemoryLog::with(9), Arc::new(Receiver::default()));
    let running = spawn(&log, &receiver, "feed");
    running.delivered(&log).await;
    running.stop().await;
    log.set_position("feed", 4);
    let running = spawn(&log, &receiver, "feed");
    running.delivered(&log).await;
    running.stop().await;
    assert_eq!(*receiver.received.lock().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_neither_the_log_nor_another_feed_nor_the_end() {
    let log = MemoryLog::with(1_000);
    let stuck = Arc::new(Receiver { hangs: true, ..Receiver::default() });
    let well = Arc::new(Receiver::default());
    let (stuck, well) = (spawn(&log, &stuck, "stuck"), spawn(&log, &well, "well"));
    log.append(1_000);
    well.delivered(&log).await;
    assert_eq!(stuck.status().next_index, 0);
    stuck.stop().await;
    well.stop().await;
}

#[tokio::test]
async fn a_feed_is_replayed_from_any_index_that_the_log_keeps() {
    let (log, receiver) = (MemoryLog::with(6), Arc::new(Receiver::default()));
    let running = spawn(&log, &receiver, "feed");
    running.delivered(&log).await;
    running.feeds.replay("feed", 2).await.unwrap();
    running.delivered(&log).await;
    assert_eq!(*receiver.received.lock().unwrap(), [0, 1, 2, 3, 4, 5, 2, 3, 4, 5]);
    *log.first_kept.lock().unwrap() = 3;
    for index in [2, 7] {
        let refused = running.feeds.replay("feed", index).await.unwrap_err();
        assert_eq!(refused, ReplayError::OutOfRange { index, first_kept: 3, size: 6 });
    }
    let unknown = running.feeds.replay("fed", 3).await.unwrap_err();
    assert_eq!(unknown, ReplayError::UnknownFeed("fed".into()));
    log.save_faults.store(1, Ordering::Relaxed);
    assert!(matches!(running.feeds.replay("feed", 3).await, Err(ReplayError::Unavailable(_))));
    running.stop().await;
}

#[tokio::test]
async fn what_was_pruned_before_it_was_sent_is_skipped_and_told_until_somebody_has_seen_it() {
    let (log, receiver) = (MemoryLog::with(6), Arc::new(Receiver::default()));
    log.set_position("feed", 1);
    *log.first_kept.lock().unwrap() = 4;
    // Before the alarm is in the log and the loss is remembered nothing goes on.
    log.alarm_faults.store(2, Ordering::Relaxed);
    receiver.open_faults.store(2, Ordering::Relaxed);
    let running = spawn(&log, &receiver, "feed");
    running.arrived(6).await;
    let words = "entries from 1 to 3 were pruned before they were sent";
    assert!(running.status().trouble.contains(words), "{:?}", running.status());
    running.stop().await;
    assert_eq!(*receiver.received.lock().unwrap(), [4, 5]);
    let lost = Lost { first: 1, last: 3 };
    assert_eq!(*log.lost.lock().unwrap(), [("feed".to_owned(), lost)]);
    assert_eq!(
        log.position("feed").unwrap(),
        Position { next_index: 6, trouble: String::new(), lost: Some(lost) }
    );
    // It is still said after a restart, and not told again.
    log.append(1);
    let running = spawn(&log, &receiver, "feed");
    running.arrived(7).await;
    assert!(running.status().trouble.contains(words), "{:?}", running.status());
    assert_eq!(log.lost.lock().unwrap().len(), 1);
    // Whoever replays it has seen it.
    running.feeds.replay("feed", 7).await.unwrap();
    running.delivered(&log).await;
    running.stop().await;
    assert_eq!(log.position("feed").unwrap().lost, None);
    assert_eq!(*receiver.received.lock().unwrap(), [4, 5, 6]);
}

#[tokio::test]
async fn a_loss_that_could_not_be_remembered_is_told_again_and_what_is_lost_later_is_added() {
    let (log, receiver) = (MemoryLog::with(9), Arc::new(Receiver::default()));
    log.set_position("feed", 1);
    *log.first_kept.lock().unwrap() = 3;
    // The first saves are those of the loss and of the trouble after it.
    log.save_faults.store(2, Ordering::Relaxed);
    let running = spawn(&log, &receiver, "feed");
    running.arrived(9).await;
    running.stop().await;
    let told: Vec<_> = log.lost.lock().unwrap().iter().map(|(_, lost)| *lost).collect();
    assert_eq!(told, [Lost { first: 1, last: 2 }; 2]);
    log.append(5);
    *log.first_kept.lock().unwrap() = 11;
    let running = spawn(&log, &receiver, "feed");
    running.arrived(14).await;
    running.stop().await;
    assert_eq!(log.lost.lock().unwrap().last().unwrap().1, Lost { first: 9, last: 10 });
    assert_eq!(log.position("feed").unwrap().lost, Some(Lost { first: 1, last: 10 }));
}

/// Of a receiver that says itself what it has.
#[tokio::test]
async fn what_a_receiver_has_is_not_lost_though_the_feed_forgot_it() {
    let log = MemoryLog::with(9);
    for (arrived, lost) in [(6, vec![]), (2, vec![("feed".to_owned(), Lost { first: 2, last: 3 })])] {
        let receiver = Arc::new(Receiver { arrived: Some(arrived), ..Receiver::default() });
        log.set_position("feed", 1);
        *log.first_kept.lock().unwrap() = 4;
        let running = spawn(&log, &receiver, "feed");
        running.arrived(9).await;
        running.stop().await;
        assert_eq!(*log.lost.lock().unwrap(), lost);
    }
}

/// Until something arrives it says the same after each failure, and what is lost is lost once.
#[tokio::test]
async fn what_is_lost_is_told_once_however_often_the_receiver_fails_afterwards() {
    let (log, receiver) =
        (MemoryLog::with(9), Arc::new(Receiver { arrived: Some(2), ..Receiver::default() }));
    log.set_position("feed", 2);
    *log.first_kept.lock().unwrap() = 4;
    receiver.send_faults.store(2, Ordering::Relaxed);
    let running = spawn(&log, &receiver, "feed");
    running.arrived(9).await;
    running.stop().await;
    assert_eq!(*log.lost.lock().unwrap(), [("feed".to_owned(), Lost { first: 2, last: 3 })]);
}

/// The time is that of tokio and stands while anything runs.
#[tokio::test(start_paused = true)]
async fn a_receiver_that_wants_to_be_asked_again_at_once_is_not_asked_all_the_time() {
    let (log, receiver) = (MemoryLog::with(1), Arc::new(Receiver { is_pushy: true, ..Receiver::default() }));
    let running = spawn(&log, &receiver, "feed");
    tokio::time::sleep(Duration::from_mins(5)).await;
    let asked = receiver.asked.load(Ordering::Relaxed);
    assert!((2..50).contains(&asked), "{asked} times in five minutes");
    running.stop().await;
}

#[tokio::test]
async fn a_feed_that_is_ahead_of_its_log_says_so_and_waits() {
    let (log, receiver) = (MemoryLog::with(6), Arc::new(Receiver::default()));
    log.set_position("feed", 7);
    let running = spawn(&log, &receiver, "feed");
    running.troubled("the log has only 6 entries").await;
    running.stop().await;
    assert!(receiver.received.lock().unwrap().is_empty());
    assert_eq!(log.position("feed").unwrap().next_index, 7);
}

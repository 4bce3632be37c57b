//! One supervised child: started, started again when it dies, and ended on order.
//!
//! What to do when is decided in [`keep_alive`], which knows neither processes nor files: it works on
//! the traits below, and its tests run on paused time.

use std::{io, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;

/// Starts the same thing again and again.
pub trait Launch: Send + 'static {
    /// What runs once started.
    type Running: Running;
    /// Starts it.
    fn launch(&mut self) -> io::Result<Self::Running>;
}

/// Something that was started.
pub trait Running: Send {
    /// Process id.
    fn pid(&self) -> u32;
    /// Asks it to end by itself.
    fn terminate(&mut self);
    /// Ends it.
    fn kill(&mut self);
    /// Waits for its end and says in words how it ended. May be dropped and called again.
    fn ended(&mut self) -> impl Future<Output = String> + Send;
}

/// What happened to a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It runs.
    Started {
        /// Process id.
        pid: u32,
    },
    /// It ended, or could not be started, without being asked to.
    Died {
        /// How, in words.
        how: String,
        /// When it is started again.
        again_in: Duration,
    },
    /// It ended as ordered.
    Stopped,
}

/// Orders to one child; each is given once and holds.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    /// End by yourself, and stay away.
    pub terminate: CancellationToken,
    /// The time for that is over.
    pub kill: CancellationToken,
}

/// Keeps one child alive until it is ordered to end.
pub async fn keep_alive<L: Launch>(mut launch: L, orders: Orders, tell: impl Fn(Event) + Send) {
    let mut backoff = Backoff::default();
    while !orders.terminate.is_cancelled() {
        let started = Instant::now();
        let Some(how) = one_life(&mut launch, &orders, &tell).await else { break };
        let again_in = backoff.after(started.elapsed(), rand::random());
        tell(Event::Died { how, again_in });
        tokio::select! {
            () = tokio::time::sleep(again_in) => {}
            () = orders.terminate.cancelled() => {}
        }
    }
    tell(Event::Stopped);
}

/// From start to end. `None` where the end was ordered, else how it ended.
async fn one_life<L: Launch>(launch: &mut L, orders: &Orders, tell: &impl Fn(Event)) -> Option<String> {
    let mut running = match launch.launch() {
        Ok(running) => running,
        Err(error) => return Some(format!("could not be started: {error}")),
    };
    tell(Event::Started { pid: running.pid() });
    tokio::select! {
        how = running.ended() => return Some(how),
        () = orders.terminate.cancelled() => {}
    }
    running.terminate();
    let ended_by_itself = tokio::select! {
        _how = running.ended() => true,
        () = orders.kill.cancelled() => false,
    };
    if !ended_by_itself {
        running.kill();
        running.ended().await;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Lives for a while, and takes its time to end when asked.
    #[derive(Clone)]
    struct Actor {
        lives: Duration,
        takes_to_end: Duration,
    }

    struct Acting {
        ends: Instant,
        takes_to_end: Duration,
    }

    impl Launch for Actor {
        type Running = Acting;

        fn launch(&mut self) -> io::Result<Acting> {
            if self.lives.is_zero() {
                return Err(io::Error::from(io::ErrorKind::NotFound));
            }
            Ok(Acting { ends: Instant::now() + self.lives, takes_to_end: self.takes_to_end })
        }
    }

    impl Running for Acting {
        fn pid(&self) -> u32 {
            7
        }

        fn terminate(&mut self) {
            self.ends = Instant::now() + self.takes_to_end;
        }

        fn kill(&mut self) {
            self.ends = Instant::now();
        }

        async fn ended(&mut self) -> String {
            tokio::time::sleep_until(self.ends).await;
            "ended".to_owned()
        }
    }

    const LONG: Duration = Duration::from_secs(3600);

    /// Events with the second at which they came, when `terminate` and `kill` are ordered.
    async fn play(actor: Actor, terminate: Duration, kill: Duration) -> Vec<(f32, Event)> {
        let events = Arc::new(Mutex::new(Vec::new()));
        let (orders, start, sink) = (Orders::default(), Instant::now(), events.clone());
        let tell = move |event| sink.lock().unwrap().push((start.elapsed().as_secs_f32(), event));
        let child = tokio::spawn(keep_alive(actor, orders.clone(), tell));
        tokio::time::sleep(terminate).await;
        orders.terminate.cancel();
        tokio::time::sleep(kill).await;
        orders.kill.cancel();
        child.await.unwrap();
        Arc::try_unwrap(events).unwrap().into_inner().unwrap()
    }

    fn starts(events: &[(f32, Event)]) -> usize {
        events.iter().filter(|(_, event)| matches!(event, Event::Started { .. })).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_that_dies_at_once_is_started_ever_more_rarely() {
        let actor = Actor { lives: Duration::from_millis(1), takes_to_end: Duration::ZERO };
        let events = play(actor, Duration::from_secs(60), Duration::ZERO).await;
        // 0.2 + 0.4 + 0.8 + 1.6 + 3.2 + 6.4 s and then every 7.5 to 10 s.
        assert!((10..=14).contains(&starts(&events)), "{events:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_that_lived_long_is_back_within_a_moment() {
        let actor = Actor { lives: Duration::from_secs(40), takes_to_end: Duration::ZERO };
        let events = play(actor, Duration::from_secs(205), Duration::ZERO).await;
        assert_eq!(starts(&events), 6, "{events:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_that_cannot_be_started_is_tried_again_and_says_why() {
        let actor = Actor { lives: Duration::ZERO, takes_to_end: Duration::ZERO };
        let events = play(actor, Duration::from_secs(1), Duration::ZERO).await;
        let Some((_, Event::Died { how, .. })) = events.first() else { panic!("{events:?}") };
        assert!(how.starts_with("could not be started"), "{how}");
        assert!(events.len() > 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_to_end_is_waited_for_and_not_followed_by_a_restart() {
        let actor = Actor { lives: LONG, takes_to_end: Duration::from_secs(3) };
        let events = play(actor, Duration::from_secs(5), Duration::from_secs(15)).await;
        assert_eq!(starts(&events), 1);
        let (at, last) = events.last().unwrap();
        assert_eq!((at.round(), last), (8.0, &Event::Stopped));
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_that_does_not_end_in_time_is_killed() {
        let actor = Actor { lives: LONG, takes_to_end: LONG };
        let events = play(actor, Duration::from_secs(5), Duration::from_secs(15)).await;
        let (at, last) = events.last().unwrap();
        assert_eq!((at.round(), last), (20.0, &Event::Stopped));
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_during_the_wait_for_a_restart_ends_the_wait() {
        let actor = Actor { lives: Duration::ZERO, takes_to_end: Duration::ZERO };
        let events = play(actor, Duration::from_secs(14), LONG).await;
        assert!(events.last().unwrap().0 < 15.0, "{events:?}");
    }
}

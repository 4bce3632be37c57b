use std::time::Duration;

use obscura_clock::{SharedClock, SimulatedClock, SystemClock};
use obscura_proto::{footage::v1::GapReason, ingest::v1 as proto};

use super::*;
use crate::{
    frame::Release,
    rtsp_camera::{self, small_picture},
};

async fn session(picture: fn(u64) -> Vec<u8>) -> Session {
    session_with(SystemClock::shared(), picture).await
}

async fn session_with(clock: SharedClock, picture: fn(u64) -> Vec<u8>) -> Session {
    let address = rtsp_camera::start(Duration::from_millis(5), picture).await;
    let url = format!("rtsp://{address}/video");
    let source = Source::try_new(proto::Source { url, ..proto::Source::default() }).unwrap();
    Session::open(&source, clock).await.unwrap()
}

async fn next_picture(session: &mut Session) -> Result<usize, Failure> {
    loop {
        if let Event::Frame(frame) = session.next().await? {
            return Ok(Release::Unmasked.release(frame).unwrap().picture().data.len());
        }
    }
}

#[tokio::test]
async fn a_picture_of_more_than_eight_mebibytes_ends_the_session_with_a_reason() {
    let large = |n| if n == 3 { [vec![0x65], vec![0xaa; 9 << 20]].concat() } else { small_picture(n) };
    let mut session = session(large).await;
    for _ in 0..3 {
        assert!(next_picture(&mut session).await.unwrap() < 1_000);
    }
    let failure = next_picture(&mut session).await.unwrap_err();
    assert_eq!(failure.reason, GapReason::ProtocolError);
    assert!(failure.finding.contains("a picture of 943"), "{}", failure.finding);
}

#[tokio::test]
async fn a_large_picture_below_that_is_taken_whole() {
    let large = |n| [vec![0x65], vec![0xaa; if n == 0 { 100 } else { 7 << 20 }]].concat();
    let mut session = session(large).await;
    assert_eq!(next_picture(&mut session).await.unwrap(), 4 + 101);
    assert_eq!(next_picture(&mut session).await.unwrap(), 4 + 1 + (7 << 20));
}

#[tokio::test]
async fn a_camera_that_falls_silent_is_left_with_a_reason() {
    let address = rtsp_camera::start(Duration::from_hours(1), small_picture).await;
    let source =
        Source::try_new(proto::Source { url: format!("rtsp://{address}/video"), ..proto::Source::default() });
    let mut session = Session::open(&source.unwrap(), SystemClock::shared()).await.unwrap();
    let silent = async {
        loop {
            if let Err(failure) = next_picture(&mut session).await {
                break failure;
            }
        }
    };
    let failure = tokio::time::timeout(Duration::from_secs(60), silent).await.expect("it is left");
    assert_eq!(failure.reason, GapReason::FrameTimeout);
    assert!(failure.finding.contains("10 s"), "{}", failure.finding);
}

#[tokio::test]
async fn a_recorder_that_stood_still_reads_what_waits_before_it_calls_a_camera_silent() {
    let clock = SimulatedClock::at(Timestamp::from_unix_nanos(0));
    let mut session = session_with(clock.clone(), small_picture).await;
    next_picture(&mut session).await.unwrap();
    for _ in 0..2 {
        clock.advance(Duration::from_secs(20));
        session.check_silence().expect("the watchdog is due, but pictures may wait");
        next_picture(&mut session).await.unwrap();
        session.check_silence().expect("a picture came");
    }
    clock.advance(Duration::from_secs(20));
    session.check_silence().expect("the last look");
    assert_eq!(session.check_silence().unwrap_err().reason, GapReason::FrameTimeout);
}

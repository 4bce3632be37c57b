//! Cameras as a person adds them: the source is sealed to the recorder before it goes anywhere.

use std::time::Duration;

use obscura_proto::{
    footage::v1::GapReason,
    ingest::v1::{GetSourceKeyRequest, TestSourceRequest, TestSourceResponse, test_source_request::Target},
    registry::v1::{AddCameraRequest, Camera, Purpose, SealedSource},
};
use obscura_seal::{RecipientPublicKey, SOURCE_INFO, wrap};
use prost::Message as _;
use serde::Serialize;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    problem::{Context as _, Problem, Result},
    services::{PATIENT, PROMPT, Services},
    source::Rtsp,
    words,
};

/// How long the demo camera may take to start after its first video file arrived.
const DEMO_CAMERA_STARTS: Duration = Duration::from_secs(10);

/// Seals a source so that only the recorder can read it.
pub async fn seal(services: &Services, source: &Rtsp) -> Result<SealedSource> {
    let mut ingest = services.ingest();
    let call = ingest.get_source_key(GetSourceKeyRequest {});
    let answer = services.ask("ingest", "get the key to which sources are sealed", PROMPT, call).await?;
    let key = answer.public_key.as_ref().try_into().doing("use the recorder's key: it is not 32 bytes")?;
    let message = source.to_message().encode_to_vec();
    let wrapped = wrap(&RecipientPublicKey(key), SOURCE_INFO, b"", &message).doing("seal the source")?;
    Ok(SealedSource {
        encapsulated_key: wrapped.encapsulated_key.into(),
        ciphertext: wrapped.ciphertext.into(),
    })
}

/// Has the recorder connect to a source and say what it found.
pub async fn test(services: &Services, target: Target) -> Result<Finding> {
    let mut ingest = services.ingest();
    let call = ingest.test_source(TestSourceRequest { target: Some(target) });
    services.ask("ingest", "test the camera", PATIENT, call).await.map(Finding::from)
}

/// Like [`test`], for a video file that was just handed to the demo camera: it takes a moment until
/// the file is seen there.
pub async fn test_video(services: &Services, sealed_source: &SealedSource) -> Result<Finding> {
    let deadline = Instant::now() + DEMO_CAMERA_STARTS;
    loop {
        let finding = test(services, Target::SealedSource(sealed_source.clone())).await?;
        let not_seen_yet = finding.reason == Some(words::gap_reason(GapReason::NoSuchStream));
        if !not_seen_yet {
            return Ok(finding);
        }
        if Instant::now() >= deadline {
            return Ok(finding.of_a_file());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Adds a camera.
pub async fn add(services: &Services, request: AddCameraRequest) -> Result<Camera> {
    let mut registry = services.registry();
    let answer = services.ask("registry", "add the camera", PROMPT, registry.add_camera(request)).await?;
    answer
        .camera
        .ok_or_else(|| Problem::new("cannot add the camera: the registry did not say what it stored"))
}

/// Waits until the demo camera of this machine listens.
pub async fn await_demo_camera(port: u16) -> Result<()> {
    let listens = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(DEMO_CAMERA_STARTS, listens).await.map_err(|_| {
        Problem::new(format_args!(
            "the demo camera, which plays video files, has not come up on port {port} within {} s",
            DEMO_CAMERA_STARTS.as_secs()
        ))
        .next("`obscura status` shows why; `cargo build -p obscura-demo-camera` builds it")
    })
}

/// What a test of a source found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Whether a key frame arrived.
    pub ok: bool,
    /// What was found.
    pub finding: String,
    /// What kind of trouble that is; absent where all is well.
    pub reason: Option<&'static str>,
    /// What to do; absent where all is well.
    pub next_step: Option<String>,
    /// RFC 6381 codec string.
    pub codec: Option<String>,
    /// Picture size in pixels.
    pub size: Option<[u32; 2]>,
    /// Milliseconds to the first key frame.
    pub first_key_frame_ms: Option<u32>,
    /// Not encrypted on the network.
    pub plaintext: bool,
}

impl From<TestSourceResponse> for Finding {
    fn from(answer: TestSourceResponse) -> Self {
        let reason = words::gap_reason(answer.reason());
        let filled = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            ok: answer.ok,
            finding: answer.finding,
            reason: (!answer.ok).then_some(reason),
            next_step: filled(answer.next_step),
            codec: filled(answer.codec),
            size: (answer.width > 0).then_some([answer.width, answer.height]),
            first_key_frame_ms: answer.ok.then_some(answer.first_key_frame_ms),
            plaintext: answer.plaintext,
        }
    }
}

impl Finding {
    /// What the recorder says of a camera makes no sense to someone who added a file.
    fn of_a_file(self) -> Self {
        Self {
            finding: "the demo camera cannot play this file as a video".to_owned(),
            next_step: Some("convert it: ffmpeg -i FILE -c:v libx264 -an video.mp4".to_owned()),
            ..self
        }
    }

    /// Nothing where all is well, else what a person is told.
    pub fn into_problem(self) -> Option<Problem> {
        if self.ok {
            return None;
        }
        let finding =
            if self.finding.is_empty() { self.reason.unwrap_or_default().to_owned() } else { self.finding };
        let problem = Problem::new(format_args!("the camera cannot be recorded: {finding}"));
        Some(match self.next_step {
            Some(step) => problem.next(step),
            None => problem,
        })
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.finding)?;
        if self.plaintext {
            f.write_str("\nNote: the stream is not encrypted on the network.")?;
        }
        Ok(())
    }
}

/// A purpose whose retention needs no reason, reviewed on this day.
pub fn demo_purpose(review_on: String) -> Purpose {
    let mut purpose = Purpose {
        text: "Showing what Obscura does".to_owned(),
        retention_hours: 24,
        owner: "demo".to_owned(),
        review_on,
        ..Purpose::default()
    };
    purpose.set_legal_basis(obscura_proto::registry::v1::LegalBasis::LegitimateInterests);
    purpose
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_test_ends_in_what_was_found_and_what_to_do() {
        let mut answer = TestSourceResponse {
            finding: "cam:554 answers but refuses the password".into(),
            next_step: "check user name and password".into(),
            ..TestSourceResponse::default()
        };
        answer.set_reason(GapReason::Unauthorized);
        let problem = Finding::from(answer).into_problem().unwrap();
        assert!(problem.what().ends_with("cam:554 answers but refuses the password"));
        assert_eq!(problem.next_step(), Some("check user name and password"));
    }

    #[test]
    fn without_words_of_the_recorder_the_reason_is_told() {
        let mut answer = TestSourceResponse::default();
        answer.set_reason(GapReason::Unreachable);
        let problem = Finding::from(answer).into_problem().unwrap();
        assert!(problem.what().ends_with("the camera cannot be reached"));
    }
}

//! Codes of messages in words for a person.

use std::path::Path;

use obscura_proto::{footage::v1::GapReason, ingest::v1::CameraState, registry::v1::LegalBasis};

/// Why nothing was recorded.
pub fn gap_reason(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Unspecified => "no reason was given",
        GapReason::Unreachable => "the camera cannot be reached",
        GapReason::Unauthorized => "the camera refuses the user name or password",
        GapReason::NoSuchStream => "the camera has no such stream",
        GapReason::UnsupportedCodec => "the camera offers no codec that can be recorded",
        GapReason::ConnectionLost => "the connection to the camera broke",
        GapReason::FrameTimeout => "the camera stayed connected but sent no frames",
        GapReason::PacketLoss => "packets were lost on the network",
        GapReason::SlowDisk => "the disk was too slow",
        GapReason::SpoolFull => "the spool was full",
        GapReason::RecorderStopped => "the recorder was not running",
        GapReason::NotPermitted => "the configuration does not permit recording",
        GapReason::ProtocolError => "the camera broke the RTSP protocol",
        GapReason::ClockStep => "the recorder's clock was set forward",
        GapReason::NotReady => "the camera answered that it is not ready",
        GapReason::DiskDamaged => "it was recorded, and the recorder's disk lost it",
    }
}

/// What a camera is doing.
pub fn camera_state(state: CameraState) -> &'static str {
    match state {
        CameraState::Unspecified => "unknown",
        CameraState::Connecting => "connecting",
        CameraState::Recording => "recording",
        CameraState::Waiting => "waiting to try again",
        CameraState::NotPermitted => "may not be recorded",
    }
}

/// What a camera has whose purpose names no priority, as the recorder takes it.
pub const USUAL_PRIORITY: u32 = 5;

/// Who is recorded longest when the spool runs full, from 1 to 9.
pub const fn priority(told: u32) -> u32 {
    if told == 0 { USUAL_PRIORITY } else { told }
}

/// The legal basis with its place in the GDPR.
pub fn legal_basis(basis: LegalBasis) -> &'static str {
    match basis {
        LegalBasis::Unspecified => "none",
        LegalBasis::Consent => "consent, Art. 6(1)(a)",
        LegalBasis::Contract => "contract, Art. 6(1)(b)",
        LegalBasis::LegalObligation => "legal obligation, Art. 6(1)(c)",
        LegalBasis::VitalInterests => "vital interests, Art. 6(1)(d)",
        LegalBasis::PublicTask => "public task, Art. 6(1)(e)",
        LegalBasis::LegitimateInterests => "legitimate interests, Art. 6(1)(f)",
    }
}

/// A number of bytes with a unit of 1,024.
pub fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// `1 segment`, `2 segments`.
pub fn count(number: impl Into<u64>, noun: &str) -> String {
    match number.into() {
        1 => format!("1 {noun}"),
        many => format!("{many} {noun}s"),
    }
}

/// A path quoted for a POSIX shell where that is needed, for commands that are printed to be copied.
pub fn shell(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reason_is_told_as_a_code() {
        for reason in (0..100).filter_map(|code| GapReason::try_from(code).ok()) {
            assert!(gap_reason(reason).contains(' ') && !gap_reason(reason).contains('_'));
        }
    }

    #[test]
    fn counted_nouns_agree_with_their_number() {
        assert_eq!((count(1u32, "gap"), count(0u32, "gap")), ("1 gap".to_owned(), "0 gaps".to_owned()));
    }

    #[test]
    fn a_printed_path_can_be_pasted_into_a_shell() {
        assert_eq!(shell(Path::new("/tmp/a-b_1")), "/tmp/a-b_1");
        assert_eq!(shell(Path::new("/tmp/it's here")), r"'/tmp/it'\''s here'");
    }
}

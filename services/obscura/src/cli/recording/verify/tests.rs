use super::*;
use crate::reader::{Cause, Fault, everything};

#[test]
fn a_verdict_names_place_and_cause_of_each_failure() {
    let time: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
    let cause = Cause::Swapped { what: "camera", named: "B".into(), expected: "A".into() };
    let fault = Fault { object_key: "eea/x.pack".into(), bytes: 100..200, time: Some(time), cause };
    let verdict =
        Verdict { segments: 2, verified: 1, faults: vec![fault], further_faults: 3, ..Verdict::default() };
    let camera = Camera { name: "door".into(), ..Camera::default() };
    let verified = Verified { camera: CameraId::generate(), verdict, gaps: 1, truncated: false };
    let compared = Compared { same: 3, not_yet: 1, ..Compared::default() };
    let log = LogLine::new(verified.camera, &compared, &vouched(), time);
    let found = Found::new(&camera, &verified, &compared, log);
    let text = found.in_words(&verified.verdict, &compared);
    assert!(text.starts_with("door: 1 of 2 segments verified"), "{text}");
    assert!(text.contains("FAILED\n  2026-11-23T10:00:00.000Z: object swapped: the header names camera B"));
    assert!(text.contains("in object eea/x.pack, bytes 100 to 199"), "{text}");
    assert!(text.contains("and 3 more faults"), "{text}");
    let log =
        "0 manifests read and proved; 3 packs as the log has them; 1 pack too new to be in a manifest yet";
    assert!(text.ends_with(log), "{text}");
}

fn vouched() -> Vouched {
    let manifests = Manifests::new(BTreeSet::new(), everything());
    let (destroyed, deletions) = (Destroyed::default(), Deletions::default());
    Vouched { manifests, destroyed, deletions, troubles: Vec::new() }
}

#[test]
fn what_is_wrong_with_a_manifest_fails_every_camera() {
    let (camera, compared) = (Camera::default(), Compared::default());
    let verified =
        Verified { camera: CameraId::generate(), verdict: Verdict::default(), gaps: 0, truncated: false };
    let good = vouched();
    let now = Timestamp::from_unix_nanos(0);
    let log = |vouched: &Vouched| LogLine::new(verified.camera, &compared, vouched, now);
    assert!(Found::new(&camera, &verified, &compared, log(&good)).ok);
    let bad = Vouched { troubles: vec!["entry 7 is not proved".into()], ..good };
    let found = Found::new(&camera, &verified, &compared, log(&bad));
    assert!(!found.ok && found.in_words(&verified.verdict, &compared).contains("entry 7 is not proved"));
}

#[test]
fn a_pack_that_nobody_knows_is_a_trouble_unless_its_deletion_is_logged_and_keys_of_its_hour_are_destroyed() {
    let mut manifests = Manifests::new(BTreeSet::new(), everything());
    let pack: obscura_ids::PackId = "0193d5a0-1c00-7000-8000-000000000000".parse().unwrap();
    manifests.unknown.push((pack, 7));
    let at = Timestamp::from_unix_nanos(0x0193_d5a0_1c00 * 1_000_000);
    let told = |destroyed: &Destroyed, deletions: &Deletions| troubles(&manifests, destroyed, deletions, at);
    let lost = told(&Destroyed::default(), &Deletions::default());
    assert!(lost[0].contains("entry 7 of the audit log names pack 0193d5a0"), "{lost:?}");
    let mut destroyed = Destroyed::default();
    let span = Span::try_new(at, at + Duration::from_secs(60)).unwrap();
    destroyed.add_inside(CameraId::generate(), obscura_ids::Layer::Original, span);
    assert_eq!(told(&destroyed, &Deletions::default()), lost, "no event names it");
    let named = Deletions::naming(pack);
    assert_eq!(told(&Destroyed::default(), &named), lost, "no key of that hour is destroyed");
    assert!(told(&destroyed, &named).is_empty());
}

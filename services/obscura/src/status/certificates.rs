//! Certificates that nobody renewed in time: recording goes on without, everything else ends with them.

use std::collections::BTreeMap;

use obscura_clock::Timestamp;
use obscura_identity::{Concern, Identity, Validity};

use crate::installation::{CLI, Installation, SERVICES};

/// When the certificate of each service, and that of this command line, counts.
pub fn read(installation: &Installation) -> BTreeMap<&'static str, Validity> {
    let validity = |name| Identity::load(&installation.identity_dir(name)).ok().map(|own| own.validity());
    let names = SERVICES.into_iter().chain([CLI]);
    names.filter_map(|name| validity(name).map(|validity| (name, validity))).collect()
}

/// When the authority counts that signed the certificate of this command line.
pub fn authority(installation: &Installation) -> Option<Validity> {
    Identity::load(&installation.identity_dir(CLI)).ok().map(|own| own.authority_validity())
}

/// The alarm about the authority of all certificates, where there is something to say of it.
pub fn authority_alarm(authority: Option<Validity>, now: Timestamp) -> Option<String> {
    let concern = authority?.concern(now)?;
    Some(format!(
        "The certificate authority in `ca`: {concern}, and every certificate ends with it. Stop `obscura up`, move `ca` \
         and `*/identity` out of the state directory and start it again: it makes them anew"
    ))
}

/// One alarm for all certificates of which the same is to be said.
pub fn alarms(certificates: &BTreeMap<&'static str, Validity>, now: Timestamp) -> Vec<String> {
    let mut concerns: BTreeMap<Concern, Vec<&str>> = BTreeMap::new();
    for (name, validity) in certificates {
        if let Some(concern) = validity.concern(now) {
            concerns.entry(concern).or_default().push(name);
        }
    }
    concerns.into_iter().map(|(concern, names)| alarm(concern, &names.join(", "))).collect()
}

fn alarm(concern: Concern, names: &str) -> String {
    let effect = if concern.is_refused() { "; recording goes on, nothing else works" } else { "" };
    format!("The certificates of {names}: {concern}{effect}. The notices say why they are not renewed")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_authority_of_all_certificates_is_an_alarm_from_a_month_before_its_end_on() {
        let not_before: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let day = Duration::from_secs(24 * 3600);
        let validity = Validity { not_before, not_after: not_before + day * 3_650 };
        let told = |left: u32| authority_alarm(Some(validity), validity.not_after - day * left);
        assert_eq!(told(31), None);
        for (left, words) in [(30, "within 30 days"), (7, "within 7 days"), (1, "within 24 h")] {
            let told = told(left).unwrap();
            assert!(told.contains(words) && told.contains("start it again"), "{told}");
        }
        assert_eq!(authority_alarm(None, not_before), None);
    }

    #[test]
    fn certificates_that_run_out_are_one_alarm_and_fresh_ones_none() {
        let not_before: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let hour = Duration::from_secs(3600);
        let validity = Validity { not_before, not_after: not_before + hour * 24 };
        let certificates = BTreeMap::from([("ingest", validity), ("keys", validity)]);
        assert!(alarms(&certificates, not_before + hour).is_empty());
        let soon = alarms(&certificates, not_before + hour * 20);
        assert!(soon.len() == 1 && soon.concat().contains("ingest, keys: expires within 8 h"), "{soon:?}");
        let late = alarms(&certificates, not_before + hour * 25);
        assert!(late.len() == 1 && late.concat().contains("recording goes on"), "{late:?}");
    }
}

//! Verdicts and decisions for the places named in the project's facts.

use std::sync::LazyLock;

use super::*;
use crate::{border::Borders, site::Coordinates};

static BORDERS: LazyLock<Borders> = LazyLock::new(|| Borders::load().unwrap());

/// The built-in zone, and one for the United Kingdom and Svalbard beside it.
fn zones() -> Zones {
    let zone = |name: &str, codes: &[&str]| Zone {
        id: name.parse().unwrap(),
        countries: codes.iter().map(|code| code.parse().unwrap()).collect(),
        bucket: format!("footage-{name}"),
    };
    Zones::try_new(vec![zone("eea", &EEA), zone("uk", &["GB", "SJ"])]).unwrap()
}

fn survey(latitude: f64, longitude: f64) -> Survey {
    BORDERS.survey(Coordinates::new(latitude, longitude).unwrap())
}

fn decision(zone: &str, country: &str) -> Option<Decision> {
    Some(Decision {
        zone: zone.parse().unwrap(),
        country: country.parse().unwrap(),
        decided_by: "Ada".into(),
        reason: "Measured on the spot.".into(),
    })
}

/// The verdict in a word or two.
fn verdict(latitude: f64, longitude: f64) -> String {
    match zones().judge(&survey(latitude, longitude)) {
        Verdict::Clear(place) => format!("{} {}", place.zone.id, place.country),
        Verdict::Outside(country) => format!("outside {country}"),
        Verdict::Unclear(unclear) => unclear.label().to_owned(),
    }
}

#[test]
fn every_place_of_the_facts_gets_its_verdict() {
    let places = [
        ("Berlin", 52.52, 13.405, "eea DE"),
        ("Ceuta", 35.8894, -5.3213, "eea ES"),
        ("Melilla", 35.2923, -2.9381, "eea ES"),
        ("Ceuta, at the fence", 35.872, -5.344, "border"),
        ("Las Palmas", 28.1235, -15.4363, "eea ES"),
        ("Belfast", 54.597, -5.93, "uk GB"),
        ("Kaliningrad", 54.71, 20.51, "outside RU"),
        ("Longyearbyen", 78.2232, 15.6267, "uk SJ"),
        ("Tórshavn", 62.0107, -6.7741, "outside FO"),
        ("Nuuk", 64.1814, -51.6941, "outside GL"),
        ("Saint-Denis on Réunion", -20.8789, 55.4481, "eea FR"),
        ("Cayenne", 4.9224, -52.3135, "eea FR"),
        ("Mamoudzou", -12.7806, 45.2279, "eea FR"),
        ("Nouméa", -22.2711, 166.4416, "outside NC"),
        ("Gustavia", 17.8962, -62.8498, "outside BL"),
        ("Marigot, 3 km from Sint Maarten", 18.0679, -63.0822, "eea FR"),
        ("Willemstad", 12.1091, -68.9316, "outside CW"),
        ("Mariehamn", 60.0973, 19.9348, "eea FI"),
        ("Funchal", 32.6669, -16.9241, "eea PT"),
        ("open North Sea", 56.0, 3.0, "at_sea"),
        ("20 km off the Dutch coast", 52.2, 4.05, "eea NL"),
        ("Simferopol", 44.952, 34.1024, "disputed"),
        ("East Jerusalem", 31.783, 35.24, "disputed"),
        ("Western Sahara", 27.1536, -13.2033, "disputed"),
        ("north Nicosia", 35.1917, 33.3625, "disputed"),
        ("Limassol", 34.6786, 33.0413, "eea CY"),
        ("Gibraltar", 36.1408, -5.3536, "outside GI"),
        ("La Línea, at the fence", 36.157, -5.347, "border"),
        ("Reykjavík", 64.1466, -21.9426, "eea IS"),
        ("Vaduz, 1 km from Switzerland", 47.141, 9.511, "border"),
        ("Oslo", 59.9139, 10.7522, "eea NO"),
        ("Vatican", 41.9022, 12.4533, "border"),
        ("Konstanz", 47.6603, 9.1751, "border"),
        ("Geneva", 46.2044, 6.1432, "outside CH"),
        ("Newry", 54.1751, -6.3402, "uk GB"),
        ("the bridge to Kehl", 48.5733, 7.801, "eea FR"),
        ("London", 51.5, -0.12, "uk GB"),
        ("the middle of Lake Constance", 47.6, 9.45, "disputed"),
    ];
    let wrong: Vec<_> = places
        .into_iter()
        .map(|(name, latitude, longitude, expected)| (name, verdict(latitude, longitude), expected))
        .filter(|(_, verdict, expected)| verdict != expected)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn a_clear_place_needs_no_decision_and_an_agreeing_one_is_not_recorded() {
    let berlin = survey(52.52, 13.405);
    for decision in [None, decision("eea", "DE")] {
        let zones = zones();
        let settled = zones.settle(&berlin, decision).unwrap();
        assert_eq!((settled.place.zone.id.as_str(), settled.place.country.as_str()), ("eea", "DE"));
        assert_eq!(settled.decision, None);
    }
}

#[test]
fn an_integral_part_agrees_with_a_decision_for_its_own_code() {
    assert!(zones().settle(&survey(-20.8789, 55.4481), decision("eea", "RE")).is_ok());
}

#[test]
fn a_clear_answer_cannot_be_overruled() {
    let zones = zones();
    for wrong in [decision("uk", "GB"), decision("eea", "FR")] {
        let verdict = zones.settle(&survey(52.52, 13.405), wrong);
        assert!(matches!(verdict, Err(Error::Overruled { .. })), "{verdict:?}");
    }
    let faroe = zones.settle(&survey(62.0107, -6.7741), decision("eea", "DK"));
    assert_eq!(faroe, Err(Error::Outside("FO".parse().unwrap())));
    let gibraltar = zones.settle(&survey(36.1408, -5.3536), decision("eea", "ES"));
    assert_eq!(gibraltar, Err(Error::Outside("GI".parse().unwrap())));
}

#[test]
fn an_unclear_place_is_refused_with_what_can_be_decided() {
    let message =
        |latitude, longitude| zones().settle(&survey(latitude, longitude), None).unwrap_err().to_string();
    let konstanz = message(47.6603, 9.1751);
    assert!(konstanz.contains("border of a zone"), "{konstanz}");
    assert!(konstanz.contains("CH (in no configured zone), DE (zone eea)"), "{konstanz}");
    let sea = message(56.0, 3.0);
    assert!(sea.contains("open sea") && sea.contains("any country of a configured zone"), "{sea}");
    let nicosia = message(35.1917, 33.3625);
    assert!(nicosia.contains("northern Cyprus") && nicosia.contains("Protocol 10"), "{nicosia}");
}

#[test]
fn a_place_outside_every_zone_says_why_and_what_to_do() {
    let error = zones().settle(&survey(62.0107, -6.7741), None).unwrap_err().to_string();
    assert!(error.contains("Art. 355(5)(a) TFEU") && error.contains("zones file"), "{error}");
}

#[test]
fn a_decision_about_an_unclear_place_is_kept() {
    let zones = zones();
    let cases =
        [(47.6603, 9.1751, "DE"), (56.0, 3.0, "NL"), (35.1917, 33.3625, "CY"), (35.872, -5.344, "EA")];
    for (latitude, longitude, code) in cases {
        let settled = zones.settle(&survey(latitude, longitude), decision("eea", code)).unwrap();
        assert_eq!(settled.place.zone.id.as_str(), "eea");
        assert_eq!(settled.decision, decision("eea", code));
        assert!(settled.place.zone.countries.contains(&settled.place.country), "the zone has the country");
    }
}

#[test]
fn a_decision_must_fit_the_place_and_the_zone() {
    let zones = zones();
    let konstanz = survey(47.6603, 9.1751);
    let settle = |zone: &str, country: &str| zones.settle(&konstanz, decision(zone, country)).unwrap_err();
    assert!(matches!(settle("eea", "FR"), Error::Implausible { .. }));
    assert!(matches!(settle("eea", "CH"), Error::NotInZone { .. }));
    assert!(matches!(settle("uk", "DE"), Error::NotInZone { .. }));
    assert!(matches!(settle("mars", "DE"), Error::NoSuchZone(_)));
}

#[test]
fn a_territory_that_a_zone_names_itself_leaves_the_zone_of_its_state() {
    let zone = |name: &str, code: &str| Zone {
        id: name.parse().unwrap(),
        countries: BTreeSet::from([code.parse().unwrap()]),
        bucket: "footage".into(),
    };
    let zones = Zones::try_new(vec![zone("france", "FR"), zone("reunion", "RE")]).unwrap();
    let place = zones.zone_of("RE".parse().unwrap()).unwrap();
    assert_eq!((place.zone.id.as_str(), place.country.as_str()), ("reunion", "RE"));
    assert_eq!(zones.zone_of("GP".parse().unwrap()).unwrap().zone.id.as_str(), "france");
}

#[test]
fn bucket_names_follow_the_s3_rule() {
    for good in ["abc", "footage-eea", "a.b-c.1"] {
        assert!(is_bucket_name(good), "{good}");
    }
    for wrong in ["", "ab", "Abc", "a..b", "-abc", "abc.", "a/b", "ä-b-c", &"x".repeat(64)] {
        assert!(!is_bucket_name(wrong), "{wrong}");
    }
}

proptest::proptest! {
    #[test]
    fn no_decision_places_a_camera_in_a_zone_without_its_country(
        latitude in -90.0..=90.0_f64,
        longitude in -180.0..=180.0_f64,
        code in "[A-Z]{2}",
        zone in proptest::sample::select(vec!["eea", "uk"]),
    ) {
        let zones = zones();
        if let Ok(settled) = zones.settle(&survey(latitude, longitude), decision(zone, &code)) {
            proptest::prop_assert_eq!(settled.place.zone.id.as_str(), zone);
            proptest::prop_assert!(settled.place.zone.countries.contains(&settled.place.country));
        }
    }
}

//! The places named in the project's facts, and what the survey must say about them.

use super::*;

fn survey(latitude: f64, longitude: f64) -> Survey {
    Borders::load().unwrap().survey(Coordinates::new(latitude, longitude).unwrap())
}

fn country(code: &str) -> Option<Country> {
    Some(code.parse().unwrap())
}

#[test]
fn the_most_specific_two_letter_territory_counts() {
    let borders = Borders::load().unwrap();
    let places = [
        ("Berlin", 52.52, 13.405, "DE"),
        ("Ceuta", 35.8894, -5.3213, "EA"),
        ("Melilla", 35.2923, -2.9381, "EA"),
        ("Las Palmas", 28.1235, -15.4363, "IC"),
        ("Funchal", 32.6669, -16.9241, "PT"),
        ("Belfast", 54.597, -5.93, "GB"),
        ("Kaliningrad", 54.71, 20.51, "RU"),
        ("Longyearbyen", 78.2232, 15.6267, "SJ"),
        ("Tórshavn", 62.0107, -6.7741, "FO"),
        ("Nuuk", 64.1814, -51.6941, "GL"),
        ("Saint-Denis on Réunion", -20.8789, 55.4481, "RE"),
        ("Mariehamn", 60.0973, 19.9348, "AX"),
        ("Kralendijk", 12.15, -68.2667, "BQ"),
        ("20 km off the Dutch coast", 52.2, 4.05, "NL"),
        ("Gibraltar", 36.1408, -5.3536, "GI"),
        ("Büsingen", 47.6973, 8.6910, "DE"),
        ("Campione", 45.9683, 8.9706, "IT"),
        ("Edinburgh of the Seven Seas", -37.1, -12.28, "TA"),
    ];
    for (name, latitude, longitude, code) in places {
        let survey = borders.survey(Coordinates::new(latitude, longitude).unwrap());
        assert_eq!(survey.here, country(code), "{name}");
    }
}

#[test]
fn the_open_sea_is_nobodys_territory() {
    assert_eq!(survey(56.0, 3.0), Survey { here: None, around: BTreeSet::from([None]), disputed: None });
}

#[test]
fn disputed_places_are_found_whatever_the_data_says() {
    let borders = Borders::load().unwrap();
    let places = [
        ("north Nicosia", 35.1917, 33.3625, "northern Cyprus"),
        ("Nicosia, Ledra Street", 35.174, 33.361, "northern Cyprus"),
        ("Kyrenia", 35.3367, 33.3173, "northern Cyprus"),
        ("Famagusta", 35.1149, 33.9192, "northern Cyprus"),
        ("Morphou", 35.1986, 32.993, "northern Cyprus"),
        ("Rizokarpaso", 35.60, 34.38, "northern Cyprus"),
        ("Louroujina", 35.0086, 33.4633, "northern Cyprus"),
        ("Kokkina", 35.177, 32.616, "northern Cyprus"),
        ("Akrotiri", 34.59, 32.98, "the Sovereign Base Areas on Cyprus"),
        ("Simferopol", 44.952, 34.1024, "Crimea and Sevastopol"),
        ("Sevastopol", 44.6166, 33.5254, "Crimea and Sevastopol"),
        ("Donetsk", 48.0159, 37.8028, "eastern and southern Ukraine"),
        ("Mariupol", 47.0971, 37.5434, "eastern and southern Ukraine"),
        ("East Jerusalem", 31.783, 35.24, "East Jerusalem"),
        ("Majdal Shams", 33.269, 35.77, "the Golan Heights"),
        ("Ramallah", 31.9038, 35.2034, "the West Bank and Gaza"),
        ("Laayoune", 27.1536, -13.2033, "Western Sahara"),
        ("Tiraspol", 46.8482, 29.5968, "Transnistria"),
        ("Sukhumi", 43.0015, 41.0234, "Abkhazia and South Ossetia"),
        ("Pristina", 42.6629, 21.1655, "Kosovo"),
        ("Perejil", 35.9139, -5.4178, "the Spanish places on the Moroccan coast"),
        ("Srinagar", 34.0837, 74.7973, "Kashmir"),
        ("Taipei", 25.033, 121.5654, "Taiwan"),
        ("Abyei", 9.595, 28.436, "Abyei"),
        ("Stanley", -51.6977, -57.8517, "the Falkland Islands, South Georgia and the South Sandwich Islands"),
        ("the middle of Lake Constance", 47.6, 9.45, "Lake Constance"),
    ];
    for (name, latitude, longitude, dispute) in places {
        let survey = borders.survey(Coordinates::new(latitude, longitude).unwrap());
        assert_eq!(survey.disputed.map(|disputed| disputed.name), Some(dispute), "{name}");
    }
}

#[test]
fn places_near_a_dispute_but_outside_it_are_left_alone() {
    let borders = Borders::load().unwrap();
    let places = [
        ("Strovolos", 35.14, 33.34),
        ("Larnaca", 34.9167, 33.6333),
        ("Paphos", 34.7754, 32.4245),
        ("Limassol", 34.6786, 33.0413),
        ("Peristerona", 35.13, 33.08),
        ("Kyiv", 50.4501, 30.5234),
        ("Odesa", 46.4825, 30.7233),
        ("Dnipro", 48.4647, 35.0462),
        ("Kharkiv", 49.9935, 36.2304),
        ("Tel Aviv", 32.0853, 34.7818),
        ("Agadir", 30.4278, -9.5981),
        ("Chișinău", 47.0105, 28.8638),
        ("Tbilisi", 41.7151, 44.8271),
        ("Niš", 43.3209, 21.8958),
        ("Ceuta", 35.8894, -5.3213),
        ("Konstanz", 47.6603, 9.1751),
        ("Friedrichshafen", 47.6567, 9.4756),
    ];
    for (name, latitude, longitude) in places {
        let survey = borders.survey(Coordinates::new(latitude, longitude).unwrap());
        assert_eq!(survey.disputed, None, "{name}");
    }
}

#[test]
fn a_border_within_a_kilometre_is_seen_and_one_farther_away_is_not() {
    let near = |latitude, longitude| survey(latitude, longitude).around;
    assert_eq!(near(47.66, 9.175), BTreeSet::from([country("CH"), country("DE")]), "Konstanz");
    assert_eq!(near(48.5734, 7.7521), BTreeSet::from([country("FR")]), "Strasbourg, 3 km from Kehl");
    assert_eq!(near(48.5733, 7.801), BTreeSet::from([country("DE"), country("FR")]), "bridge to Kehl");
    assert_eq!(near(52.52, 13.405), BTreeSet::from([country("DE")]), "Berlin");
}

/// Should a new version of the data draw two states over one another, someone must look at it.
#[test]
fn where_the_data_overlaps_two_states_the_table_knows_the_place() {
    let borders = Borders::load().unwrap();
    // Claimed waters around a smaller territory; the territory itself is clear.
    let known = |ids: &[&str]| ids.contains(&"GI") || ids.contains(&"EA");
    for (latitude, longitude) in (-240..=340)
        .flat_map(|north| (-720..720).map(move |east| (f64::from(north) / 4.0, f64::from(east) / 4.0)))
    {
        let ids = borders.0.ids(LatLon::new(latitude, longitude).unwrap());
        let first_state = ids.iter().find_map(|id| id.parse::<Country>().ok());
        let foreign = ids.iter().take_while(|id| id.len() > 2).any(|id| {
            let owner: Country = id[..2].parse().unwrap();
            Some(owner) != first_state && !ids.contains(&owner.as_str())
        });
        if foreign && !known(&ids) {
            let place = Coordinates::new(latitude, longitude).unwrap();
            assert!(disputed::find(&ids, place).is_some(), "{latitude} {longitude} {ids:?}");
        }
    }
}

#[test]
fn poles_and_the_antimeridian_are_survived() {
    for (latitude, longitude) in
        [(90.0, 0.0), (-90.0, 180.0), (-17.0, 180.0), (-17.0, -180.0), (66.0, 179.9999)]
    {
        let place = Coordinates::new(latitude, longitude).unwrap();
        assert_eq!(surroundings(place).count(), 32);
        let _ = survey(latitude, longitude);
    }
    assert_eq!(survey(-17.0, 180.0).here, country("FJ"));
}

#[test]
fn the_surroundings_are_half_a_kilometre_and_a_kilometre_away() {
    let centre = Coordinates::new(60.0, 20.0).unwrap();
    for (point, expected) in surroundings(centre).zip([500.0; 16].into_iter().chain([1_000.0; 16])) {
        let north = (point.latitude() - 60.0) * METRES_PER_DEGREE;
        let east = (point.longitude() - 20.0) * METRES_PER_DEGREE / 2.0;
        assert!((north.hypot(east) - expected).abs() < 5.0, "{point:?}");
    }
}

proptest::proptest! {
    #[test]
    fn any_place_on_earth_is_surveyed(latitude in -90.0..=90.0_f64, longitude in -180.0..=180.0_f64) {
        static BORDERS: std::sync::LazyLock<Borders> = std::sync::LazyLock::new(|| Borders::load().unwrap());
        let survey = BORDERS.survey(Coordinates::new(latitude, longitude).unwrap());
        proptest::prop_assert!(survey.around.contains(&survey.here));
    }
}

//! What the border data says about a place and its surroundings.
//!
//! The data is the crate `country-boundaries` (OpenStreetMap contributors, ODbL). It names
//! territories from the smallest to the largest, subdivisions among them (`ES-CE`, `EA`, `ES`); it
//! knows nothing about disputes and cannot measure distances. So: the most specific two-letter
//! code counts, points around the place are looked up too, and disputed places come from
//! [`disputed`].

pub mod disputed;

use std::{
    collections::BTreeSet,
    f64::consts::{PI, TAU},
};

use country_boundaries::{BOUNDARIES_ODBL_360X180, CountryBoundaries, LatLon, ReadError};

use crate::{country::Country, site::Coordinates};
pub use disputed::Disputed;

/// How near a border makes a place unclear, in metres: more than the data and a careful person
/// with a map are wrong together.
pub const NEAR_METRES: f64 = 1_000.0;
/// Rings around the place that are looked at, in metres; the inner one finds narrow slivers.
const RINGS_METRES: [f64; 2] = [NEAR_METRES / 2.0, NEAR_METRES];
/// Points on each ring, 390 m apart on the outer one.
const POINTS_PER_RING: u32 = 16;
/// Metres in one degree of latitude (WGS 84, mean).
const METRES_PER_DEGREE: f64 = 111_195.0;

/// The border data, loaded once.
#[derive(Debug)]
pub struct Borders(CountryBoundaries);

/// What the data says about one place; `None` stands for no state's territory: the open sea.
#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    /// The territory at the place itself.
    pub here: Option<Country>,
    /// The territories at the place and within [`NEAR_METRES`] of it.
    pub around: BTreeSet<Option<Country>>,
    /// The dispute that the place or its surroundings lie in.
    pub disputed: Option<&'static Disputed>,
}

impl Borders {
    /// Loads the built-in data: some 20 ms.
    ///
    /// # Errors
    /// Where the data in the binary is damaged.
    pub fn load() -> Result<Self, ReadError> {
        CountryBoundaries::from_reader(BOUNDARIES_ODBL_360X180).map(Self)
    }

    /// Looks at a place and around it.
    #[must_use]
    pub fn survey(&self, place: Coordinates) -> Survey {
        let (here, mut disputed) = self.look_up(place);
        let mut around = BTreeSet::from([here]);
        for point in surroundings(place) {
            let (territory, dispute) = self.look_up(point);
            around.insert(territory);
            disputed = disputed.or(dispute);
        }
        Survey { here, around, disputed }
    }

    fn look_up(&self, point: Coordinates) -> (Option<Country>, Option<&'static Disputed>) {
        let Ok(position) = LatLon::new(point.latitude(), point.longitude()) else { return (None, None) };
        let ids = self.0.ids(position);
        (ids.iter().find_map(|id| id.parse().ok()), disputed::find(&ids, point))
    }
}

/// Points on rings around `centre`. Distances are those of a sphere, right to half a per cent; near
/// the poles, where there is no border, the rings are cut off.
fn surroundings(centre: Coordinates) -> impl Iterator<Item = Coordinates> {
    let shrink = (centre.latitude() * PI / 180.0).cos().max(0.01);
    RINGS_METRES.into_iter().flat_map(move |metres| {
        (0..POINTS_PER_RING).filter_map(move |point| {
            let bearing = TAU * f64::from(point) / f64::from(POINTS_PER_RING);
            let degrees = metres / METRES_PER_DEGREE;
            let latitude = (centre.latitude() + degrees * bearing.cos()).clamp(-90.0, 90.0);
            let longitude = centre.longitude() + degrees * bearing.sin() / shrink;
            Coordinates::new(latitude, wrapped(longitude)).ok()
        })
    })
}

/// Longitude on the other side of the antimeridian.
fn wrapped(longitude: f64) -> f64 {
    if longitude > 180.0 {
        longitude - 360.0
    } else if longitude < -180.0 {
        longitude + 360.0
    } else {
        longitude
    }
}

#[cfg(test)]
mod tests;

//! Sites: places with coordinates that a named person attested.

use obscura_clock::Timestamp;
use obscura_ids::SiteId;
use obscura_proto::registry::v1::{
    AddSiteRequest, Attestation as AttestationMessage, Coordinates as CoordinatesMessage, Site as SiteMessage,
};

use crate::{
    country::Country,
    words::{self, Invalid, Name},
};

/// A point on the Earth, WGS 84.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coordinates {
    latitude: f64,
    longitude: f64,
}

impl Coordinates {
    /// The point at these degrees north and east.
    ///
    /// # Errors
    /// [`Invalid`] outside -90 to 90 and -180 to 180.
    pub fn new(latitude: f64, longitude: f64) -> Result<Self, Invalid> {
        // Comparisons with NaN are false, so NaN lands outside as well.
        if latitude.abs() <= 90.0 && longitude.abs() <= 180.0 {
            return Ok(Self { latitude, longitude });
        }
        Err(Invalid::new("the coordinates", "must be -90 to 90 degrees north and -180 to 180 degrees east"))
    }

    /// Degrees north.
    #[must_use]
    pub const fn latitude(self) -> f64 {
        self.latitude
    }

    /// Degrees east.
    #[must_use]
    pub const fn longitude(self) -> f64 {
        self.longitude
    }
}

impl From<Coordinates> for CoordinatesMessage {
    fn from(coordinates: Coordinates) -> Self {
        Self { latitude: coordinates.latitude, longitude: coordinates.longitude }
    }
}

/// A named person's word for coordinates.
#[derive(Clone, Debug, PartialEq)]
pub struct Attestation {
    /// The point.
    pub coordinates: Coordinates,
    /// Who says so.
    pub attested_by: String,
    /// When they said so.
    pub attested: Timestamp,
}

impl Attestation {
    /// Reads what came in a request at `now`, which becomes the time of the attestation.
    ///
    /// # Errors
    /// [`Invalid`] where there are no coordinates, where they are not on the Earth or exactly 0, 0
    /// (the mark of a form that nobody filled in), and where nobody attests them.
    pub fn read(message: &AttestationMessage, now: Timestamp) -> Result<Self, Invalid> {
        let missing = || Invalid::new("the coordinates", "are missing: say where, in degrees north and east");
        let point = message.coordinates.ok_or_else(missing)?;
        if point.latitude == 0.0 && point.longitude == 0.0 {
            return Err(missing());
        }
        let coordinates = Coordinates::new(point.latitude, point.longitude)?;
        let attested_by =
            words::person("the name of the person who attests the place", &message.attested_by)?;
        Ok(Self { coordinates, attested_by, attested: now })
    }
}

impl From<Attestation> for AttestationMessage {
    fn from(attestation: Attestation) -> Self {
        Self {
            coordinates: Some(attestation.coordinates.into()),
            attested_by: attestation.attested_by,
            attested_unix_ns: attestation.attested.unix_nanos(),
        }
    }
}

/// A place with coordinates and, where the border data is clear about it, a country.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// Its id.
    pub id: SiteId,
    /// Its name, unique without regard to case.
    pub name: Name,
    /// Where it is, and who says so.
    pub attestation: Attestation,
    /// The country it lies in; `None` where its cameras will need a decision.
    pub country: Option<Country>,
}

impl Site {
    /// Reads a request at `now`. The site gets a new id, and a country later.
    ///
    /// # Errors
    /// [`Invalid`] for the name or the attestation.
    pub fn read(request: &AddSiteRequest, now: Timestamp) -> Result<Self, Invalid> {
        let name = Name::read("the name of the site", &request.name)?;
        let attestation = Attestation::read(&request.attestation.clone().unwrap_or_default(), now)?;
        Ok(Self { id: SiteId::generate(), name, attestation, country: None })
    }
}

impl From<Site> for SiteMessage {
    fn from(site: Site) -> Self {
        Self {
            site_id: site.id.to_string(),
            name: site.name.to_string(),
            attestation: Some(site.attestation.into()),
            country: site.country.map(|country| country.to_string()).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(latitude: f64, longitude: f64, attested_by: &str) -> AddSiteRequest {
        let coordinates = Some(CoordinatesMessage { latitude, longitude });
        let attestation =
            AttestationMessage { coordinates, attested_by: attested_by.into(), attested_unix_ns: 99 };
        AddSiteRequest { name: " Shop ".into(), attestation: Some(attestation) }
    }

    fn read(request: &AddSiteRequest) -> Result<Site, Invalid> {
        Site::read(request, Timestamp::from_unix_nanos(7))
    }

    #[test]
    fn the_registry_sets_the_time_of_an_attestation() {
        let site = read(&request(52.52, 13.405, "Ada")).unwrap();
        assert_eq!(site.attestation.attested, Timestamp::from_unix_nanos(7));
        assert_eq!(SiteMessage::from(site).name, "Shop");
    }

    #[test]
    fn a_place_without_coordinates_or_without_a_person_is_refused() {
        assert!(read(&AddSiteRequest { name: "Shop".into(), attestation: None }).is_err());
        assert!(read(&request(0.0, 0.0, "Ada")).is_err());
        assert!(read(&request(91.0, 0.0, "Ada")).is_err());
        assert!(read(&request(0.0, f64::NAN, "Ada")).is_err());
        let error = read(&request(52.52, 13.405, " ")).unwrap_err();
        assert!(error.to_string().contains("who attests"), "{error}");
    }

    proptest! {
        #[test]
        fn any_numbers_are_a_point_on_the_earth_or_refused(latitude: f64, longitude: f64) {
            let on_earth = latitude.abs() <= 90.0 && longitude.abs() <= 180.0;
            prop_assert_eq!(Coordinates::new(latitude, longitude).is_ok(), on_earth);
        }
    }
}

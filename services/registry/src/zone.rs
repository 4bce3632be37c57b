//! Residency zones, and which of them a place belongs to.
//!
//! The zone decides where footage may rest, so nothing is guessed: a clear answer of the border
//! data cannot be overruled, an unclear one is refused until a named person decides, and what
//! they decide is recorded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use obscura_ids::ZoneId;
use obscura_proto::registry::v1::{Zone as ZoneMessage, ZoneDecision as DecisionMessage};

use crate::{
    border::{Disputed, Survey},
    country::Country,
    words::{self, Invalid},
};

/// The European Economic Area: 27 member states of the Union, then Iceland, Liechtenstein, Norway.
pub const EEA: [&str; 30] = [
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT",
    "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK", "IS", "LI", "NO",
];

/// A residency zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Its name.
    pub id: ZoneId,
    /// Its countries, at least one. An integral part of a country with a code of its own (Réunion,
    /// Åland) belongs to the zone of that country unless a zone names it.
    pub countries: BTreeSet<Country>,
    /// The bucket that takes its footage.
    pub bucket: String,
}

impl From<&Zone> for ZoneMessage {
    fn from(zone: &Zone) -> Self {
        Self {
            zone: zone.id.to_string(),
            countries: zone.countries.iter().map(ToString::to_string).collect(),
            bucket: zone.bucket.clone(),
        }
    }
}

/// All zones of the installation. No country is in two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zones(BTreeMap<ZoneId, Zone>);

impl Zones {
    /// Longest list of zones.
    pub const MAX: usize = 64;

    /// These zones.
    ///
    /// # Errors
    /// [`Invalid`] where there are none or too many, one comes twice, one has no country, a country
    /// is in two, or a bucket name is not an S3 bucket name.
    pub fn try_new(list: Vec<Zone>) -> Result<Self, Invalid> {
        if list.is_empty() || list.len() > Self::MAX {
            return Err(Invalid::new("the list of zones", format!("must have 1 to {} zones", Self::MAX)));
        }
        let mut zones = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for zone in list {
            check(&zone, &mut taken)?;
            if let Some(twice) = zones.insert(zone.id.clone(), zone) {
                return Err(Invalid::new("the list of zones", format!("names `{}` twice", twice.id)));
            }
        }
        Ok(Self(zones))
    }

    /// The zone with this name.
    #[must_use]
    pub fn get(&self, id: &ZoneId) -> Option<&Zone> {
        self.0.get(id)
    }

    /// The zones by name.
    pub fn iter(&self) -> impl Iterator<Item = &Zone> {
        self.0.values()
    }

    /// The zone of a territory, and the code under which the zone has it: for Réunion `FR`, unless
    /// a zone names `RE` itself.
    #[must_use]
    pub fn zone_of(&self, territory: Country) -> Option<Place<'_>> {
        let named = |country| {
            let zone = self.iter().find(|zone| zone.countries.contains(&country))?;
            Some(Place { zone, country })
        };
        named(territory).or_else(|| territory.state().and_then(named))
    }

    /// Which zone the surveyed place belongs to.
    #[must_use]
    pub fn judge(&self, survey: &Survey) -> Verdict<'_> {
        if let Some(disputed) = survey.disputed {
            return Verdict::Unclear(Unclear::Disputed(disputed));
        }
        let territories: BTreeSet<Country> = survey.around.iter().flatten().copied().collect();
        let zones: BTreeSet<_> =
            territories.iter().map(|country| self.zone_of(*country).map(|place| &place.zone.id)).collect();
        match survey.here {
            Some(here) if zones.iter().all(Option::is_none) => Verdict::Outside(here),
            None => Verdict::Unclear(Unclear::AtSea),
            Some(_) if survey.around.contains(&None) => Verdict::Unclear(Unclear::EdgeOfTheSea(territories)),
            Some(_) if zones.len() > 1 => Verdict::Unclear(Unclear::Border(territories)),
            Some(here) => self.zone_of(here).map_or(Verdict::Outside(here), Verdict::Clear),
        }
    }

    /// The zone of a camera at the surveyed place: what the border data says or, where that is
    /// unclear, what a person decided. A decision that only repeats a clear answer decides nothing
    /// and is not recorded.
    ///
    /// # Errors
    /// [`Error`], with what to do.
    pub fn settle(&self, survey: &Survey, decision: Option<Decision>) -> Result<Settled<'_>, Error> {
        match (self.judge(survey), decision) {
            (Verdict::Clear(place), None) => Ok(Settled { place, decision: None }),
            (Verdict::Clear(place), Some(decision)) if decision.agrees(place) => {
                Ok(Settled { place, decision: None })
            }
            (Verdict::Clear(place), Some(_)) => {
                Err(Error::Overruled { country: place.country, zone: place.zone.id.clone() })
            }
            (Verdict::Outside(country), _) => Err(Error::Outside(country)),
            (Verdict::Unclear(unclear), None) => {
                let choices = self.choices(&unclear);
                Err(Error::Unclear { unclear, choices })
            }
            (Verdict::Unclear(unclear), Some(decision)) => {
                let place = self.decided(&unclear, &decision)?;
                Ok(Settled { place, decision: Some(decision) })
            }
        }
    }

    fn decided(&self, unclear: &Unclear, decision: &Decision) -> Result<Place<'_>, Error> {
        let country = decision.country;
        if !self.0.contains_key(&decision.zone) {
            return Err(Error::NoSuchZone(decision.zone.clone()));
        }
        let place = self
            .zone_of(country)
            .filter(|place| place.zone.id == decision.zone)
            .ok_or_else(|| Error::NotInZone { country, zone: decision.zone.clone() })?;
        let possible = unclear.candidates();
        if possible.is_some_and(|possible| !possible.contains(&country) && !possible.contains(&place.country))
        {
            return Err(Error::Implausible { country, choices: self.choices(unclear) });
        }
        Ok(place)
    }

    /// What a person may choose from, in words.
    fn choices(&self, unclear: &Unclear) -> String {
        let Some(candidates) = unclear.candidates() else {
            return "any country of a configured zone".to_owned();
        };
        let named = candidates.into_iter().map(|country| match self.zone_of(country) {
            Some(place) => format!("{country} (zone {})", place.zone.id),
            None => format!("{country} (in no configured zone)"),
        });
        named.collect::<Vec<_>>().join(", ")
    }
}

fn check(zone: &Zone, taken: &mut BTreeSet<Country>) -> Result<(), Invalid> {
    let wrong = |why: &str| Err(Invalid::new("the list of zones", format!("zone `{}` {why}", zone.id)));
    if zone.countries.is_empty() {
        return wrong("has no countries");
    }
    if let Some(country) = zone.countries.iter().find(|country| !taken.insert(**country)) {
        return wrong(&format!("has {country}, which is in another zone already"));
    }
    if !is_bucket_name(&zone.bucket) {
        return wrong("needs a bucket name of 3 to 63 characters of a-z, 0-9, - and single dots");
    }
    Ok(())
}

/// The S3 rule.
fn is_bucket_name(name: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = name.bytes().next().is_some_and(alphanumeric) && name.bytes().last().is_some_and(alphanumeric);
    (3..=63).contains(&name.len())
        && ends
        && !name.contains("..")
        && name.bytes().all(|byte| alphanumeric(byte) || byte == b'-' || byte == b'.')
}

/// A zone, and the country through which a place belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'z> {
    /// The zone.
    pub zone: &'z Zone,
    /// One of its countries.
    pub country: Country,
}

/// The zone of a camera, and who decided it if anyone had to.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled<'z> {
    /// The zone and country.
    pub place: Place<'z>,
    /// Present where a person decided.
    pub decision: Option<Decision>,
}

/// What the border data says about a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict<'z> {
    /// It lies in this zone, and so does everything nearby.
    Clear(Place<'z>),
    /// It lies in this territory, which no configured zone has.
    Outside(Country),
    /// A person must decide.
    Unclear(Unclear),
}

/// Why the border data does not suffice.
#[derive(Clone, Debug, PartialEq)]
pub enum Unclear {
    /// Disputed or legally special.
    Disputed(&'static Disputed),
    /// No state's territory: the open sea, beyond territorial waters.
    AtSea,
    /// Within 1 km of where these territories end and the open sea begins.
    EdgeOfTheSea(BTreeSet<Country>),
    /// Within 1 km of a border between these territories, which are not in the same zone.
    Border(BTreeSet<Country>),
}

impl Unclear {
    /// A word for metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Disputed(_) => "disputed",
            Self::AtSea => "at_sea",
            Self::EdgeOfTheSea(_) => "edge_of_the_sea",
            Self::Border(_) => "border",
        }
    }

    /// Countries that a decision may name; `None` for any.
    fn candidates(&self) -> Option<BTreeSet<Country>> {
        match self {
            Self::Disputed(disputed) => {
                Some(disputed.claimants.iter().filter_map(|code| code.parse().ok()).collect())
            }
            Self::AtSea => None,
            Self::EdgeOfTheSea(territories) | Self::Border(territories) => Some(territories.clone()),
        }
    }
}

impl fmt::Display for Unclear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disputed(disputed) => {
                write!(f, "it lies in or within 1 km of {}: {}", disputed.name, disputed.remark)
            }
            Self::AtSea => f.write_str("it lies in the open sea, in no state's territory"),
            Self::EdgeOfTheSea(_) => f.write_str("it lies within 1 km of where territorial waters end"),
            Self::Border(_) => {
                f.write_str("it lies within 1 km of a border that is also the border of a zone")
            }
        }
    }
}

/// A person's decision about a place that the border data leaves unclear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The zone that was chosen.
    pub zone: ZoneId,
    /// The country that was chosen.
    pub country: Country,
    /// Who decided.
    pub decided_by: String,
    /// Why.
    pub reason: String,
}

impl Decision {
    /// Reads what came in a request.
    ///
    /// # Errors
    /// [`Invalid`] for the first field that makes no sense.
    pub fn read(message: &DecisionMessage) -> Result<Self, Invalid> {
        Ok(Self {
            zone: message.zone.parse().map_err(|error: obscura_ids::InvalidId| {
                Invalid::new("the zone of the decision", format!("is wrong: {error}"))
            })?,
            country: message.country.parse()?,
            decided_by: words::person("the name of the person who decided the zone", &message.decided_by)?,
            reason: words::explanation("the reason of the zone decision", &message.reason)?,
        })
    }

    fn agrees(&self, place: Place<'_>) -> bool {
        self.zone == place.zone.id
            && (self.country == place.country || self.country.state() == Some(place.country))
    }
}

impl From<Decision> for DecisionMessage {
    fn from(decision: Decision) -> Self {
        Self {
            zone: decision.zone.to_string(),
            country: decision.country.to_string(),
            decided_by: decision.decided_by,
            reason: decision.reason,
        }
    }
}

/// Why a place gets no zone, and what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// A clear place in no configured zone.
    #[error("the place lies in {0}, which is in no configured zone{remark}: correct the coordinates, or add a zone \
             that names {0} to the zones file", remark = Remark(*.0))]
    Outside(Country),
    /// A place that needs a decision, and there is none.
    #[error(
        "the zone of this place is unclear, because {unclear}. Correct the coordinates, or add a zone decision \
             that says which zone and country, who decides and why. Possible: {choices}"
    )]
    Unclear {
        /// Why it is unclear.
        unclear: Unclear,
        /// What can be decided.
        choices: String,
    },
    /// A decision against a clear answer.
    #[error(
        "a decision cannot overrule a clear place: it lies in {country}, zone {zone}, more than 1 km from any \
             border between zones. Leave the decision out, or correct the coordinates"
    )]
    Overruled {
        /// The country that the place lies in.
        country: Country,
        /// Its zone.
        zone: ZoneId,
    },
    /// A decision for a zone that is not configured.
    #[error("there is no zone `{0}`: add it to the zones file, or decide for a configured zone")]
    NoSuchZone(ZoneId),
    /// A decision for a country that is not in the zone it names.
    #[error("{country} does not belong to zone `{zone}`: choose a country of the zone")]
    NotInZone {
        /// The country that was chosen.
        country: Country,
        /// The zone that was chosen.
        zone: ZoneId,
    },
    /// A decision for a country that is nowhere near.
    #[error("the place is not in or near {country}. Possible: {choices}")]
    Implausible {
        /// The country that was chosen.
        country: Country,
        /// What can be decided.
        choices: String,
    },
}

/// In brackets, why a territory is not where its flag suggests; nothing where there is nothing to say.
struct Remark(Country);

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.remark().map_or(Ok(()), |remark| write!(f, " ({remark})"))
    }
}

#[cfg(test)]
mod tests;

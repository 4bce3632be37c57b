use clap::{Args, Subcommand};
use obscura_proto::registry::v1::{
    AddSiteRequest, Attestation, Coordinates, ListSitesRequest, Site as SiteMessage,
};
use serde::Serialize;

use super::Session;
use crate::{
    output::Table,
    problem::{Problem, Result},
    services::{PROMPT, Services, command},
};

/// Commands about sites.
#[derive(Debug, Subcommand)]
pub enum Site {
    /// Add a place; its country and zone follow from its coordinates
    Add(Add),
    /// List places by name
    List,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  obscura site add Shop --lat 52.5200 --lon 13.4050 --attested-by \"Ada Ventura\""
)]
pub struct Add {
    /// Unique name
    name: String,
    #[command(flatten)]
    place: Place,
}

/// A point and who attests it.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// Degrees north, -90 to 90
    #[arg(long, allow_hyphen_values = true, value_name = "DEGREES")]
    pub lat: f64,
    /// Degrees east, -180 to 180
    #[arg(long, allow_hyphen_values = true, value_name = "DEGREES")]
    pub lon: f64,
    /// Name of the person who attests the coordinates: footage is kept where this person says it belongs
    #[arg(long, value_name = "NAME")]
    pub attested_by: String,
}

impl Place {
    /// The time of the attestation is set by the registry.
    pub fn attestation(&self) -> Attestation {
        let coordinates = Some(Coordinates { latitude: self.lat, longitude: self.lon });
        Attestation { coordinates, attested_by: self.attested_by.clone(), attested_unix_ns: 0 }
    }
}

#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    name: String,
    country: String,
    latitude: f64,
    longitude: f64,
    attested_by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
}

impl Shown {
    fn new(site: &SiteMessage, zone: Option<String>) -> Self {
        let attestation = site.attestation.clone().unwrap_or_default();
        let Coordinates { latitude, longitude } = attestation.coordinates.unwrap_or_default();
        Self {
            id: site.site_id.clone(),
            name: site.name.clone(),
            country: site.country.clone(),
            latitude,
            longitude,
            attested_by: attestation.attested_by,
            zone,
        }
    }
}

impl Site {
    pub async fn run(self, session: &Session) -> Result<()> {
        let services = session.services()?;
        match self {
            Self::Add(Add { name, place }) => {
                let (site, zone) = add(&services, name, place.attestation()).await?;
                let words = added(&site, &zone, &services);
                session.out.result(&Shown::new(&site, Some(zone)), words)
            }
            Self::List => list(session, &services).await,
        }
    }
}

fn added(site: &SiteMessage, zone: &str, services: &Services) -> String {
    let SiteMessage { name, country, .. } = site;
    if zone.is_empty() {
        let country = if country.is_empty() { "no clear territory" } else { country };
        return format!(
            "Added site {name} ({country}). Its zone is unclear: each camera there needs a recorded decision, \
             see `obscura camera add --help`."
        );
    }
    let next = command(services.installation(), "camera add --help");
    format!("Added site {name} ({country}). Cameras there are recorded in zone {zone}.\nNext: {next}")
}

/// Adds a site; the site as stored and the zone of its cameras, empty where that is unclear.
pub async fn add(
    services: &Services,
    name: String,
    attestation: Attestation,
) -> Result<(SiteMessage, String)> {
    let request = AddSiteRequest { name, attestation: Some(attestation) };
    let mut registry = services.registry();
    let answer = services.ask("registry", "add the site", PROMPT, registry.add_site(request)).await?;
    let site = answer
        .site
        .ok_or_else(|| Problem::new("cannot add the site: the registry did not say what it stored"))?;
    Ok((site, answer.zone))
}

/// Sites by name.
pub async fn sites(services: &Services) -> Result<Vec<SiteMessage>> {
    let mut registry = services.registry();
    let call = registry.list_sites(ListSitesRequest {});
    Ok(services.ask("registry", "list sites", PROMPT, call).await?.sites)
}

async fn list(session: &Session, services: &Services) -> Result<()> {
    let shown: Vec<_> = sites(services).await?.iter().map(|site| Shown::new(site, None)).collect();
    if shown.is_empty() {
        let next = command(services.installation(), "site add --help");
        return session.out.result(&shown, format_args!("No sites. Next: {next}"));
    }
    let mut table = Table::with_heading(["SITE", "COUNTRY", "COORDINATES", "ATTESTED BY"]);
    for site in &shown {
        let coordinates = format!("{:.5}, {:.5}", site.latitude, site.longitude);
        table.row([site.name.clone(), site.country.clone(), coordinates, site.attested_by.clone()]);
    }
    session.out.result(&shown, table)
}

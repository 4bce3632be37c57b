//! Settings: the zones file and the zone authority's key.

use std::{collections::BTreeSet, fs, path::Path, path::PathBuf};

use anyhow::{Context as _, ensure};
use obscura_ids::ZoneId;
use obscura_snapshot::Authority;
use serde::Deserialize;

use crate::{
    country::Country,
    zone::{EEA, Zone, Zones},
};

/// File of the zone authority's key in the data directory, PKCS #8, mode 0600.
const AUTHORITY_FILE: &str = "zone-authority.pkcs8";
/// Longest zones file, in bytes.
const MAX_ZONES_FILE: u64 = 256 * 1024;
/// Bucket of the built-in zone.
const EEA_BUCKET: &str = "footage-eea";

/// The `[settings]` of the registry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A file with one line `postgres://...`; without it the database is a file of the data directory.
    pub database_url_file: Option<PathBuf>,
    /// A TOML file with one `[[zone]]` (name, countries, bucket) per zone; without it there is one
    /// zone `eea`.
    pub zones_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ZonesFile {
    zone: Vec<ZoneEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ZoneEntry {
    name: ZoneId,
    countries: BTreeSet<String>,
    bucket: String,
}

/// The zones in `file`, or the built-in zone `eea` where there is no file.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn zones(file: Option<&Path>) -> anyhow::Result<Zones> {
    let Some(file) = file else { return built_in() };
    read_zones(file).with_context(|| format!("the zones file {} cannot be used", file.display()))
}

fn built_in() -> anyhow::Result<Zones> {
    let countries = EEA.iter().map(|code| code.parse()).collect::<Result<_, _>>()?;
    Ok(Zones::try_new(vec![Zone { id: "eea".parse()?, countries, bucket: EEA_BUCKET.to_owned() }])?)
}

fn read_zones(file: &Path) -> anyhow::Result<Zones> {
    let length = fs::metadata(file)?.len();
    ensure!(
        length <= MAX_ZONES_FILE,
        "it has {length} bytes, more than the {MAX_ZONES_FILE} that are allowed"
    );
    parse_zones(&fs::read_to_string(file)?)
}

fn parse_zones(text: &str) -> anyhow::Result<Zones> {
    let parsed: ZonesFile = toml::from_str(text)?;
    let zones = parsed.zone.into_iter().map(|entry| {
        let countries =
            entry.countries.iter().map(|code| code.parse::<Country>()).collect::<Result<_, _>>()?;
        Ok(Zone { id: entry.name, countries, bucket: entry.bucket })
    });
    Ok(Zones::try_new(zones.collect::<anyhow::Result<_>>()?)?)
}

/// The zone authority's key.
///
/// # Errors
/// Where the file is missing, cannot be read, is open to others, or is not a key.
pub fn authority(data_dir: &Path) -> anyhow::Result<Authority> {
    let file = data_dir.join(AUTHORITY_FILE);
    let pkcs8 = read_private(&file).with_context(|| {
        format!(
            "the zone authority's key {} cannot be used: `obscura up` makes it once; if it was lost, restore it \
             from its backup, because consumers trust no other",
            file.display()
        )
    })?;
    Authority::from_pkcs8(&pkcs8).with_context(|| file.display().to_string())
}

fn read_private(file: &Path) -> anyhow::Result<Vec<u8>> {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = fs::metadata(file)?.permissions().mode();
    ensure!(mode & 0o077 == 0, "others can read it (mode {:o}): run `chmod 600` on it", mode & 0o777);
    Ok(fs::read(file)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_a_file_there_is_one_zone_with_the_thirty_countries_of_the_eea() {
        let zones = zones(None).unwrap();
        let eea = zones.get(&"eea".parse().unwrap()).unwrap();
        assert_eq!((eea.countries.len(), eea.bucket.as_str()), (30, "footage-eea"));
        assert_eq!(zones.iter().count(), 1);
    }

    #[test]
    fn a_zones_file_replaces_the_built_in_zone() {
        let text = r#"
            [[zone]]
            name = "eea"
            countries = ["DE", "FR"]
            bucket = "footage-eea"
            [[zone]]
            name = "uk"
            countries = ["GB"]
            bucket = "footage-uk"
        "#;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("zones.toml");
        fs::write(&file, text).unwrap();
        let zones = zones(Some(&file)).unwrap();
        let gb = zones.zone_of("GB".parse().unwrap()).unwrap();
        assert_eq!(gb.zone.bucket, "footage-uk");
    }

    #[test]
    fn a_wrong_zones_file_is_named_with_its_fault() {
        let zone = |name: &str, country: &str, bucket: &str| {
            format!("[[zone]]\nname = \"{name}\"\ncountries = [{country}]\nbucket = \"{bucket}\"\n")
        };
        let cases = [
            (String::new(), "missing field"),
            (zone("EEA", "\"DE\"", "abc"), "a-z"),
            (zone("eea", "\"Germany\"", "abc"), "two capital letters"),
            (zone("eea", "", "abc"), "no countries"),
            (zone("eea", "\"DE\"", "../x"), "bucket name"),
            (zone("eea", "\"DE\"", "abc").repeat(2), "another zone already"),
            (zone("eea", "\"DE\"", "abc") + &zone("eea", "\"FR\"", "abc"), "twice"),
            (zone("eea", "\"DE\"", "abc") + "colour = 1", "colour"),
        ];
        for (text, fault) in cases {
            let error = format!("{:#}", parse_zones(&text).unwrap_err());
            assert!(error.contains(fault), "{text}\n{error}");
        }
        let error = format!("{:#}", zones(Some(Path::new("/no/such/zones.toml"))).unwrap_err());
        assert!(error.contains("/no/such/zones.toml"), "{error}");
    }

    #[test]
    fn a_missing_or_open_authority_key_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let message = || format!("{:#}", authority(dir.path()).unwrap_err());
        assert!(message().contains("obscura up"), "{}", message());
        let file = dir.path().join(AUTHORITY_FILE);
        fs::write(&file, Authority::generate_pkcs8()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(message().contains("chmod 600"), "{}", message());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(authority(dir.path()).is_ok());
        fs::write(&file, b"damaged").unwrap();
        assert!(message().contains("PKCS #8"), "{}", message());
    }

    proptest! {
        #[test]
        fn any_text_is_a_zones_file_or_refused(text in any::<String>()) {
            let _ = parse_zones(&text);
        }
    }
}
